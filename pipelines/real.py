"""Score real data outside the test set, the row that a model tries to reach: `python pipelines/real.py data=mnist`."""

import own_checkout  # noqa: F401
from lookalike.stages.real import real
from lookalike.workspace.command_line import run

if __name__ == "__main__":
    run(real)
