"""The likelihoods of a table: bits of every scored point, and their means on common test points."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from lookalike.metrics.catalogue import LIKELIHOOD
from lookalike.report.common_points import Scored, anchored

if TYPE_CHECKING:
    from lookalike.report.cells import Row

Entry = dict[str, Any]


def scored_bits(rows: list["Row"]) -> dict[str, Scored]:
    """Return the bits of every scored point, by family, of the families with a likelihood on the split of the first."""
    found: dict[str, Scored] = {}
    splits = [row.metrics[LIKELIHOOD].get("split", "test") for row in rows if LIKELIHOOD in row.metrics]
    for row in rows:
        if LIKELIHOOD in row.metrics and (split := row.metrics[LIKELIHOOD].get("split", "test")) == splits[0]:
            own = row.arrays[f"log_likelihood_{split}"]
            nats = own[None] if row.log_likelihoods is None else row.log_likelihoods
            bits = nats * (as_scored(row.metrics[LIKELIHOOD])["value"] / own.mean())
            found[row.model] = Scored(rows=row.arrays[f"rows_{split}"], bits=bits)
    return found


def as_scored(entry: Entry) -> Entry:
    """Return the numbers of an entry as `evaluate` wrote them, before a likelihood was anchored."""
    scored: Entry = entry | entry.get("scored", {})
    return scored


def on_common_points(rows: list["Row"]) -> list["Row"]:
    """Return families whose likelihoods are those over the points of the family that was scored on most of them."""
    means = anchored(scored_bits(rows))
    found = []
    for row in rows:
        if (mean := means.get(row.model)) is None or not mean.anchor:
            found.append(row)
            continue
        entry = row.metrics[LIKELIHOOD]
        moved: Entry = {key: entry[key] + mean.shift for key in ("value", "mean") if key in entry}
        if "seeds" in entry:
            moved["seeds"] = {seed: value + mean.shift for seed, value in entry["seeds"].items()}
        scored = {key: entry[key] for key in ("value", "error", "mean", "seeds") if key in entry}
        of_seeds = entry["deviation"] / math.sqrt(len(entry["seeds"])) if "seeds" in entry else 0.0
        changed = entry | moved | {"error": math.hypot(mean.error, of_seeds), "anchor": mean.anchor, "scored": scored}
        found.append(dataclasses.replace(row, metrics=row.metrics | {LIKELIHOOD: changed}))
    return found
