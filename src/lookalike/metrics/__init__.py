"""Pure functions from samples and a reference to a number and its error, one idea a file."""

from typing import NamedTuple


class Score(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


class ScoredTest(NamedTuple):
    """A number, its standard error, and how often two draws of one distribution would differ as much."""

    value: float
    error: float
    p_value: float
