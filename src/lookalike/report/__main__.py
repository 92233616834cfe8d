"""Shows the leaderboard and where the report lies: `python -m lookalike.report`.

`python -m lookalike.report check [DATA]` looks whether conf/pipeline.yaml lists what there is, and a data set, instead.
"""

import sys

from lookalike.core.config import CONF, compose
from lookalike.core.errors import UserError
from lookalike.report.cells import read_listed
from lookalike.report.results import show


def main(arguments: list[str]) -> None:
    if arguments[:1] != ["check"]:
        show(compose(arguments).path("results"))
        return
    listed = read_listed(CONF / "pipeline.yaml")
    listed.check()
    for data in arguments[1:]:
        listed.of(data)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
