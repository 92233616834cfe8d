"""Rank families by one metric, where a rank claims no more than the numbers support.

Three things keep one family from being ranked behind another: their protocols differ, so that the numbers measure
different things; the numbers differ by no more than their errors, which is a tie; or the numbers are of different kinds
(exact, a bound, an estimate), and the true values may lie in the other order, which is open.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lookalike.metrics.catalogue import Better
from lookalike.report.numbers import central, settings

Entry = dict[str, Any]

SIDES = {"exact": "", "lower bound": "below", "at least": "above", "estimate": "below above"}
"""The sides of a number on which the truth may lie, errors aside, by the kind of the likelihood in it.

A lower bound on a likelihood makes the number of bits too high: the truth lies below.
"""

CONFIDENCE = 0.95
"""Confidence of the test over training seeds."""

NOT_SHARED = frozenset(
    {
        "value", "error", "p_value", "mean", "deviation", "seeds", "counts", "class", "chance", "short",  # results
        "reference_counts", "error_of", "source", "coarser",  # explanations of a result
        "kind", "exactness", "points", "of",  # the family's own: kind of its likelihood, number of points it affords
    }
)  # fmt: skip
"""Keys in which the entries of one ranking may differ. All other keys must agree.

Settings must agree too, except those of a likelihood, which are the family's own. The number of test points differs
because a budget of operations pays for more points of some families; differences are taken where both were scored.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entrant:
    """The number of a family in one metric.

    Attributes:
        entry: the entry of the leaderboard.
        trained: what all families that are ranked together must share in their training.
    """

    entry: Entry
    trained: Entry = dataclasses.field(default_factory=dict)

    @property
    def number(self) -> float:
        """The mean over training seeds where there are several."""
        return central(self.entry)

    @property
    def seeds(self) -> list[float]:
        """The value for every training seed, where there are several."""
        return list(self.entry.get("seeds", {}).values())

    @property
    def error(self) -> float:
        """The standard error of the number that comes from its evaluation.

        Each seed has samples of its own, so that their errors average out; held-out points are the same for all seeds.
        """
        draws = max(1, len(self.seeds)) if "samples" in self.entry else 1
        return float(self.entry.get("error") or 0.0) / math.sqrt(draws)

    @property
    def protocol(self) -> Entry:
        """Everything that must agree, by name; None where it does not apply, such as a split in a sum over a grid."""
        hidden = NOT_SHARED | ({"settings"} if "kind" in self.entry else set())
        return {"split": None} | self.trained | {key: value for key, value in self.entry.items() if key not in hidden}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a family in one metric.

    Attributes:
        rank: one more than the number of families that are certainly ahead of it; None where it is not ranked.
        tied: whether it is not distinguishable from the best.
        open: whether a family has a better number of another kind, which does not settle which is better.
        refused: the difference between its protocol and that of the ranking, which bars it from a rank.
    """

    rank: int | None
    tied: bool = False
    open: bool = False
    refused: str = ""

    @property
    def first(self) -> bool:
        """Whether it is the best, or not distinguishable from the best."""
        return self.rank == 1 and (self.tied or not self.open)

    def __str__(self) -> str:
        """Return `1`, `=1` for a tie with the best, `3?` where a better number of another kind leaves it open."""
        return "" if self.rank is None else f"{'=' * self.tied}{self.rank}{'?' * self.open}"


Paired = Callable[[str, str], tuple[float, float] | None]
"""The difference of the values of two families (the first less the second), given by name, and its standard error.

It is taken at each point that both were scored on; None where there are no such points.
"""


def places(entrants: dict[str, Entrant], *, better: Better, paired: Paired | None = None) -> dict[str, Place]:
    """Return the place of every family in one metric.

    Args:
        entrants: entrants by the name of the family. Those with the protocol that most of them share are ranked; of
            several such protocols the first one counts.
        better: which numbers are better.
        paired: differences point by point, for a metric that all families have on the same points.
    """
    common = shared_protocol(list(entrants.values()))
    refusals = {name: difference(entrant.protocol, common) for name, entrant in entrants.items()}
    ranked = {name: entrant for name, entrant in entrants.items() if not refusals[name]}

    def verdict(one: str, other: str) -> str:
        found = paired(one, other) if paired else None
        return order(ranked[one], ranked[other], better=better, paired=found)

    verdicts = {name: {other: verdict(name, other) for other in ranked if other != name} for name in ranked}
    ranks = {name: 1 + list(found.values()).count("behind") for name, found in verdicts.items()}
    sign = 1 if better == "lower" else -1
    best = min(ranked, key=lambda name: (ranks[name], sign * ranked[name].number), default="")

    def place(name: str) -> Place:
        if name not in ranked:
            return Place(rank=None, refused=refusals[name])
        if tied := name != best and verdicts[name][best] == "tied":
            return Place(rank=1, tied=tied)
        return Place(rank=ranks[name], open="open" in verdicts[name].values())

    return {name: place(name) for name in entrants}


def order(one: Entrant, other: Entrant, *, better: Better, paired: tuple[float, float] | None = None) -> str:
    """Return where one entrant stands relative to another: `tied`, `ahead` or `behind`.

    Where the kinds of two numbers leave the order open, the worse one is `open` and the better one `unsettled`.
    """
    gap, error = one.number - other.number, math.hypot(one.error, other.error)
    if paired:
        # The pairs belong to the first seed; with several seeds the mean difference lies elsewhere.
        shift = (one.number - one.entry["value"]) - (other.number - other.entry["value"])
        gap, error = paired[0] + shift, paired[1]
    differs = abs(gap) > 2 * error
    if min(len(one.seeds), len(other.seeds)) >= 2:
        differs = differs and seeds_differ(one.seeds, other.seeds)
    if not differs:
        return "tied"
    wins = (gap < 0) == (better == "lower")
    first, second = (one, other) if wins else (other, one)
    if settles(first.entry.get("kind", "exact"), second.entry.get("kind", "exact"), better=better):
        return "ahead" if wins else "behind"
    return "unsettled" if wins else "open"


def settles(kind: str, other: str, *, better: Better) -> bool:
    """Return whether a better number of one kind is conclusive against a worse number of another kind.

    It is if the truth can lie neither on the worse side of the first nor on the better side of the second: an upper
    bound on bits certainly beats an exact number of bits; the reverse is open. Numbers of one kind are ranked as they
    are.
    """
    if kind == other:
        return True
    worse, improved = ("above", "below") if better == "lower" else ("below", "above")
    return worse not in SIDES[kind] and improved not in SIDES[other]


def seeds_differ(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether the means of two sets of at least two seeds differ by Welch's t-test, two-sided.

    Welch (1947), "The generalization of 'Student's' problem when several different population variances are involved".
    """
    from scipy.special import stdtrit

    a, b = (np.var(values, ddof=1) / len(values) for values in (one, other))
    gap = abs(float(np.mean(one) - np.mean(other)))
    if a + b == 0:
        return gap > 0
    freedom = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    return bool(gap > stdtrit(freedom, (1 + CONFIDENCE) / 2) * math.sqrt(a + b))


def shared_protocol(entrants: list[Entrant]) -> Entry:
    """Return the most common value of every part of a protocol that applies to anybody, the first of several."""
    protocols = [entrant.protocol for entrant in entrants]
    common = {}
    for key in dict.fromkeys(key for protocol in protocols for key in protocol):
        found = [protocol[key] for protocol in protocols if protocol.get(key) is not None]
        if found:
            common[key] = max(found, key=found.count)
    return common


def difference(protocol: Entry, common: Entry) -> str:
    """Return in words how a protocol differs from another, `samples 200, not 10,000`; an empty text where they agree.

    None stands for what does not apply, and agrees with everything.
    """
    return ", ".join(
        f"{key.replace('_', ' ')} {in_words(protocol.get(key))}, not {in_words(common.get(key))}"
        for key in dict.fromkeys([*protocol, *common])
        if protocol.get(key) != common.get(key) and protocol.get(key, 0) is not None and common.get(key, 0) is not None
    )


def in_words(value: Any) -> str:
    """Return a part of a protocol in words."""
    return "none" if value is None else f"({settings(value)})" if isinstance(value, dict) else settings(value)
