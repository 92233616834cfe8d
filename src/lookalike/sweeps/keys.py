"""Names of trials that are known before anything is composed, and the line that is printed for each trial."""

from collections.abc import Sequence

from lookalike.sweeps.places import Record, title
from lookalike.workspace.fingerprint import fingerprint

IRRELEVANT = ("sweep.", "objective=", "hydra", "tracking")
"""Beginnings of overrides that cannot change the results of a trial."""


def relevant(overrides: Sequence[str]) -> list[str]:
    """Return, in order, the overrides that can change the results of a trial."""
    return [item for item in overrides if not item.lstrip("+").startswith(IRRELEVANT)]


def key_of(overrides: Sequence[str], base: str) -> str:
    """Return a name of a trial that is known before it is composed.

    Args:
        overrides: those of the trial.
        base: digest of everything else that the trial could depend on.
    """
    return fingerprint(configuration={"overrides": sorted(relevant(overrides))}, data=base, code="")


def print_state(state: Record, about: Record) -> None:
    """Print one line about a trial that ended or is remembered."""
    result = f"{state['state']}: {state['error']}" if state["error"] else state["state"]
    if state["values"]:
        pairs = zip(about["objective"], state["values"], strict=True)
        result = ", ".join(f"{name} {value:.5g}" for name, value in pairs)
        result += f" ({state['seconds']:.1f} s)" if state["seconds"] is not None else ""
    print(f"{state['fingerprint'][:8]} {title(state['overrides'], about['space'])}: {result}", flush=True)
