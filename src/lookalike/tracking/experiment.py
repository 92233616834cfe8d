"""The DVC experiment that a stage runs in: its name, and the checkout that it was started from."""

import os
from pathlib import Path

from lookalike.workspace.fingerprint import SOURCE

ROOT = SOURCE.parent
"""The checkout. `content` defines it too, but imports metrics, which stages that train do not use."""


def workspace() -> Path:
    """Return the checkout whose stores record the runs of this one: itself, unless it is a copy that DVC deletes.

    `dvc exp run --queue` and `--temp` run in a copy of the checkout below its `.dvc/tmp/`, and delete the copy with
    everything in it. DVC_ROOT names the checkout that the copy was made from.
    """
    origin = Path(os.environ.get("DVC_ROOT") or ROOT).resolve()
    return origin if ROOT.is_relative_to(origin / ".dvc" / "tmp") else ROOT


def experiment_tags() -> dict[str, str]:
    """Return the name of the DVC experiment as a tag of its runs; no tag outside an experiment."""
    name = os.environ.get("DVC_EXP_NAME")
    return {"dvc_experiment": name} if name else {}


def with_experiment(name: str) -> str:
    """Return the name of a run, followed by that of the DVC experiment in brackets."""
    return " ".join([name, *(f"[{experiment}]" for experiment in experiment_tags().values())])
