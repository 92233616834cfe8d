"""The few scores of a cell that DVC compares: `headline.json`."""

import math
from typing import Any

from lookalike.metrics.catalogue import LIKELIHOOD, main_distance


def headline(entries: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the likelihood and the main distance, as far as they are there, rounded by their errors."""
    scored = {name: entry for name, entry in entries.items() if "value" in entry}
    names = [name for name in (LIKELIHOOD, main_distance(scored)) if name in scored]
    return {name: rounded(scored[name]["value"], scored[name]["standard_error"]) for name in names}


def rounded(value: float, error: float) -> float:
    """Return a value rounded to two significant digits of its error; without an error, to four of its own."""
    return round(value, 1 - math.floor(math.log10(error))) if error else float(f"{value:.4g}")
