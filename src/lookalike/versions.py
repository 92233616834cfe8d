"""The versions that numbers were computed with: part of the protocol that stands in every `metrics.json`."""

import platform
from importlib.metadata import version

COMPUTING = ("lookalike", "numpy", "scipy", "torch")
"""The packages whose code decides what a score is."""


def versions() -> dict[str, str]:
    """Python and the packages that compute scores, without importing any."""
    return {"python": platform.python_version()} | {name: version(name) for name in COMPUTING}
