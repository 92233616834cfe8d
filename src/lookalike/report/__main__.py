"""Shows the leaderboard and where the report lies: `python -m lookalike.report`."""

import sys

from lookalike.core.config import compose
from lookalike.core.errors import UserError
from lookalike.report.results import show

if __name__ == "__main__":
    try:
        show(compose(sys.argv[1:]).path("results"))
    except UserError as error:
        sys.exit(f"error: {error}")
