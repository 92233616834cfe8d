"""Entries of `metrics.json`: a score with its error and its protocol."""

from collections.abc import Callable
from typing import Any, TypeVar

from numpy.typing import NDArray

from lookalike.domain.prepared import MIN_POINTS
from lookalike.features.extractor import Extractor
from lookalike.metrics import Score, ScoredTest
from lookalike.metrics.inputs import TooFewPointsError
from lookalike.workspace.errors import UserError

Entry = dict[str, Any]

T = TypeVar("T")

Arrays = dict[str, NDArray[Any]]

OF_MEAN = "samples, mean over them"
"""Source of the error of a mean over samples, as `error_of` in `metrics.json` names it."""

OF_GROUPS = "samples, jackknife over 20 groups"
"""Source of the error of a jackknife over groups of samples."""


def attempt(metric: Callable[[NDArray[Any], NDArray[Any]], T], *sets: NDArray[Any]) -> T | TooFewPointsError:
    """Return what a metric returns for two sets, or the reason why it needs more points."""
    try:
        return metric(*sets)
    except TooFewPointsError as reason:
        return reason


def entry(score: Score | ScoredTest | TooFewPointsError, protocol: Entry, *, error_of: str, **more: Any) -> Entry:
    """Return a score as `metrics.json` holds it, or why it is missing."""
    if isinstance(score, TooFewPointsError):
        return {"missing": str(score)}
    test = {"p_value": score.p_value} if isinstance(score, ScoredTest) else {}
    return {"value": score.value, "standard_error": score.error, **test, **protocol, "error_of": error_of, **more}


def content_of(entries: dict[str, Entry]) -> dict[str, Any]:
    """Return the content of `metrics.json`: the scores, and the reasons for those that are missing."""
    missing = {name: scored["missing"] for name, scored in entries.items() if "missing" in scored}
    found = {name: scored for name, scored in entries.items() if name not in missing}
    return found | ({"missing": missing} if missing else {})


def named(extractor: Extractor) -> Entry:
    """Return the part of a protocol that names the extractor."""
    digest = {} if extractor.is_identity else {"extractor_digest": extractor.record["digest"]}
    return {"extractor": extractor.record["name"], **digest}


def check_enough(**sets: NDArray[Any]) -> None:
    """Raise a UserError if a set, given by its name, has fewer points than the metrics need."""
    for name, points in sets.items():
        if len(points) < MIN_POINTS:
            remedy = "raise budget.samples" if name == "samples" else f"hold out more data for {name}"
            raise UserError(f"{len(points)} points of {name}, and scoring needs at least {MIN_POINTS}: {remedy}")
