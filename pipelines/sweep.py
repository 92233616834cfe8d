"""Train and score many configurations on validation: `python pipelines/sweep.py -m model=vae,flow seed=0,1,2`."""

from lookalike.sweeps.command import main

if __name__ == "__main__":
    main()
