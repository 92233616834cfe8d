"""Draw samples from a trained model: `python pipelines/sample.py data=mnist model=vae`."""

import own_checkout  # noqa: F401
from lookalike.stages.sample import sample
from lookalike.workspace.command_line import run

if __name__ == "__main__":
    run(sample)
