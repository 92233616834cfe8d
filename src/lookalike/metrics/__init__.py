"""Pure functions from samples and a reference to a number and its error, one idea per file."""

from typing import NamedTuple


class Score(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


class ScoredTest(NamedTuple):
    """A number, its standard error, and the probability that two draws of one distribution differ as much."""

    value: float
    error: float
    p_value: float
