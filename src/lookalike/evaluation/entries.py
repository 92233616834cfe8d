"""Entries of `metrics.json`: a score with its error and its protocol."""

from collections.abc import Callable
from typing import Any, TypeVar

from numpy.typing import NDArray

from lookalike.domain.prepared import MIN_POINTS
from lookalike.features.extractor import Extractor
from lookalike.metrics import Score
from lookalike.metrics.inputs import TooFewPointsError
from lookalike.metrics.resamples import Resampled, deviation
from lookalike.workspace.errors import UserError
from lookalike.workspace.versions import versions

Entry = dict[str, Any]

T = TypeVar("T")

Arrays = dict[str, NDArray[Any]]

OF_SAMPLES = "samples"
"""What the error of a mean over samples is of, as `error_of` in `metrics.json` begins."""


def attempt(metric: Callable[..., T], *sets: Any) -> T | TooFewPointsError:
    """Return what a metric returns for two sets and their weights, or the reason why it needs more points."""
    try:
        return metric(*sets)
    except TooFewPointsError as reason:
        return reason


def entry(
    score: Score | Resampled | TooFewPointsError,
    protocol: Entry,
    *,
    error_of: str | None = None,
    why_not_ranked: str = "",
    **more: Any,
) -> Entry:
    """Return a score as `metrics.json` holds it, or why it is missing; its replicates are in `resampled`.

    Args:
        score: the score, with replicates if its errors come from resamples.
        protocol: what it was measured with.
        error_of: what the standard error is of; by default the samples and the points of `protocol["reference"]`.
        why_not_ranked: why the intervals of the score do not hold, so that it gets no rank; empty if they hold.
        **more: further parts of the entry.
    """
    if isinstance(score, TooFewPointsError):
        return {"missing": str(score)}
    found: Entry = {"value": score.value, "standard_error": score.error}
    of = error_of or f"samples and {protocol.get('reference', 'reference')} points"
    if isinstance(score, Resampled):
        found |= {"error_samples": deviation(score.samples), "error_reference": deviation(score.reference)}
        found |= {"p_value": score.p_value} if score.p_value is not None else {}
        of = f"{of}, {'' if error_of else 'joint '}bootstrap of {len(score.joint)}"
    found |= {**protocol, "error_of": of, **more}
    if why_not_ranked:
        return found | {"rankable": False, "why_not_ranked": why_not_ranked}
    return found | ({"resampled": score} if isinstance(score, Resampled) else {})


def with_versions(entries: dict[str, Entry]) -> dict[str, Any]:
    """Return the content of `metrics.json`: the scores, reasons for those that are missing, and versions."""
    missing = {name: scored["missing"] for name, scored in entries.items() if "missing" in scored}
    found = {name: scored for name, scored in entries.items() if name not in missing}
    return found | ({"missing": missing} if missing else {}) | {"versions": versions()}


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
