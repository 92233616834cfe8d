"""Write a sweep's winner into conf/model/<model>.yaml: `python pipelines/promote.py SWEEP`, or `… SWEEP trial=…`."""

from lookalike.sweeps.promote import main

if __name__ == "__main__":
    main()
