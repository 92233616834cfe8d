"""Compare the cells that conf/pipeline.yaml lists, as far as they exist: `python pipelines/compare.py`."""

import own_checkout  # noqa: F401
from lookalike.stages.compare import compare
from lookalike.workspace.command_line import run

if __name__ == "__main__":
    run(compare)
