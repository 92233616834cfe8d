"""Sweeps: many trials of one configuration, each trained, sampled and scored in one process, on validation.

`command` is what `python pipelines/sweep.py` does: it checks everything first (`check`, `space`), has Hydra launch
`trial.run_trial` for every combination, and sums up (`summary`). `places` knows the files: they are all that a sweep
remembers, and what continues it. `study` searches with Optuna, `promote` writes a winner into `conf/`.
"""
