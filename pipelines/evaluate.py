"""Score a trained model and its samples: `python pipelines/evaluate.py data=mnist model=vae`."""

import own_checkout  # noqa: F401
from lookalike.stages.evaluate import evaluate
from lookalike.workspace.command_line import run

if __name__ == "__main__":
    run(evaluate)
