"""Pure functions from samples and a reference to a number and its error, one idea a file."""

from typing import NamedTuple


class Score(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float
