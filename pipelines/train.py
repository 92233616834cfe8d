"""Train one family on one data set: `python pipelines/train.py data=mnist model=vae`."""

import own_checkout  # noqa: F401
from lookalike.stages.train import train
from lookalike.workspace.command_line import run

if __name__ == "__main__":
    run(train)
