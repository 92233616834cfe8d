"""The versions that a stage computed with, which stand in its `cost.json`."""

import platform
from importlib.metadata import version

COMPUTING = ("lookalike", "numpy", "scipy", "torch")
"""The packages whose code determines a score."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute scores, without importing any."""
    return {"python": platform.python_version()} | {name: version(name) for name in COMPUTING}
