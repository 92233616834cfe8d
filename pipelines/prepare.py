"""Check the raw data, split them and write arrays: `python pipelines/prepare.py data=mnist`."""

import own_checkout  # noqa: F401
from lookalike.stages.prepare import prepare
from lookalike.workspace.command_line import run

if __name__ == "__main__":
    run(prepare)
