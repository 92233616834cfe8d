"""Numbers in words: values rounded by their errors, shares in per cent, settings, seconds."""

import math
from typing import Any

SIGNS = {"exact": "", "lower bound": "≤ ", "estimate": "≈ ", "at least": "≥ "}
"""The sign before a number, by the kind of the likelihood in it.

A lower bound on a likelihood is an upper bound on bits (≤). In KL(P_model‖P_data) the likelihood of the model counts
with the other sign, so that its lower bound makes the number too low (≥).
"""

KINDS = {
    "exact": "The number itself, up to the error of averaging over test points.",
    "lower bound": "The likelihood is at least this high, so the bits are at most this many (≤). The truth is better.",
    "estimate": "The number comes from a numerical solver or random probes (≈). It can err to either side.",
}
"""What the kinds of a likelihood mean."""


def central(entry: dict[str, Any]) -> float:
    """Return the mean over training seeds of an entry, or its value where there is one seed."""
    return float(entry["mean"] if "mean" in entry else entry["value"])


def describe(entry: dict[str, Any]) -> str:
    """Return `≤ 1.234 ± 0.012`, whose sign shows the kind of a likelihood; of several seeds `1.23 ± 0.01, 3 seeds`."""
    value, error = rounded(central(entry), entry.get("error"))
    seeds = f", {len(entry['seeds'])} seeds" if "seeds" in entry else ""
    return SIGNS.get(entry.get("kind", "exact"), "") + (f"{value} ± {error}" if error else value) + seeds


def rounded(value: float, error: float | None) -> tuple[str, str]:
    """Return a value and its error, both to two significant digits of the error; without an error to four digits."""
    if not error or error < 1e-12:
        return f"{value:.4g}".replace("-", "−"), ""
    kept = 1 - int(f"{error:.1e}".partition("e")[2])
    return f"{round(value, kept):.{max(0, kept)}f}".replace("-", "−"), f"{round(error, kept):.{max(0, kept)}f}"


def combined_error(entry: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the standard error of the difference of two independent entries."""
    return math.hypot(entry.get("error") or 0, other.get("error") or 0)


def in_per_cent(entry: dict[str, Any], *, rest: bool = False) -> str:
    """Return a share, or one minus the share, and its error, both times 100."""
    value = 1 - entry["value"] if rest else entry["value"]
    return describe({"value": 100 * value, "error": 100 * (entry.get("error") or 0)})


def p_value(p: float) -> str:
    """Return a p-value with two significant digits; below a thousandth only that it is."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.095 else f"p = {p:.3f}"


def settings(value: Any) -> str:
    """Return `solver midpoint, steps 20` for a dictionary, the items of a list, anything else as it is."""
    if isinstance(value, dict):
        words = ((key.replace("_", " "), settings(inner)) for key, inner in value.items() if inner is not None)
        return ", ".join(f"{key} {inner}" for key, inner in words)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if type(value) is int else str(value)


def protocol(entry: dict[str, Any]) -> str:
    """Return everything that an entry holds beside value and error, in words."""
    others = {key: value for key, value in entry.items() if key not in ("value", "error") and value not in ({}, None)}
    return "; ".join(f"{key.replace('_', ' ')}: {settings(value)}" for key, value in others.items())


def seconds(value: float) -> str:
    """Return seconds with as many digits as are of interest."""
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s" if value >= 0.1 else f"{value:.3f} s"


def si(value: float) -> str:
    """Return three digits and a prefix: 12.3 k, 10 T."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"
