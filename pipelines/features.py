"""Make and freeze the feature extractor of a data set: `python pipelines/features.py data=mnist`."""

import own_checkout  # noqa: F401
from lookalike.stages.features import features
from lookalike.workspace.command_line import run

if __name__ == "__main__":
    run(features)
