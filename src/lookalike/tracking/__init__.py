"""Views of the files that the stages write: the only package that imports MLflow and W&B.

The files are the truth. `content` reads them, `mlflow_run` and `wandb_runs` show them, `workspace` goes over all cells,
and `python -m lookalike.tracking` is the recorder that a stage starts (see `views`). No stage imports this package, and
nothing that it does can change a result.
"""
