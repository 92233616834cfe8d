"""Who is ahead of whom in one metric, and who can't be told: a rank that claims no more than the numbers hold.

Three things keep one family from being ranked behind another. Their protocols differ: then the numbers are not of one
thing. The numbers differ by no more than their errors: a tie. Or the numbers differ, but are of different kinds (exact,
a bound, an estimate), and the truth behind them may lie the other way round: the order is open.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

Entry = dict[str, Any]
Better = Literal["lower", "higher"]

SIDES = {"exact": "", "lower bound": "below", "at least": "above", "estimate": "below above"}
"""On which sides of a number the truth may lie, by the kind of the likelihood in it; errors aside.

A likelihood's lower bound makes a number of bits that is too high: the truth lies below.
"""

CONFIDENCE = 0.95
"""Of the test over training seeds."""

NOT_SHARED = frozenset(
    {
        "value", "error", "p_value", "mean", "deviation", "seeds", "counts", "class", "chance", "short",  # results
        "reference_counts", "error_of", "source", "coarser",  # said of a result
        "kind", "exactness", "points", "of",  # the family's: of what kind its likelihood is, how many points it affords
    }
)  # fmt: skip
"""What results in one ranking need not share of what their entries hold. All else must agree.

So must settings, but for those of a likelihood, which are the family's own. Test points differ in number because a
budget of operations pays for more points of some families; differences are taken where both were scored.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entrant:
    """A family's number in one metric.

    Attributes:
        entry: as the leaderboard has it.
        trained: of its training, what all who are ranked together must share.
    """

    entry: Entry
    trained: Entry = dataclasses.field(default_factory=dict)

    @property
    def number(self) -> float:
        """The mean over training seeds where there are several."""
        return float(self.entry["mean"] if "mean" in self.entry else self.entry["value"])

    @property
    def seeds(self) -> list[float]:
        """The value of every training seed, if there are several."""
        return list(self.entry.get("seeds", {}).values())

    @property
    def error(self) -> float:
        """The standard error of the number by its evaluation.

        Each seed has samples of its own, so that their errors average out; held-out points are the same for all.
        """
        draws = max(1, len(self.seeds)) if "samples" in self.entry else 1
        return float(self.entry.get("error") or 0.0) / math.sqrt(draws)

    @property
    def protocol(self) -> Entry:
        """All that must agree, by name; None where it does not apply, as a split to a sum over a whole grid."""
        hidden = NOT_SHARED | ({"settings"} if "kind" in self.entry else set())
        return {"split": None} | self.trained | {key: value for key, value in self.entry.items() if key not in hidden}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a family stands in one metric.

    Attributes:
        rank: one more than the families that are ahead of it for certain; None where it is not ranked.
        tied: not told from the best.
        open: a family has a better number, but of a kind that does not settle who is better.
        refused: why it is not ranked: how its protocol differs from that of the ranking.
    """

    rank: int | None
    tied: bool = False
    open: bool = False
    refused: str = ""

    @property
    def first(self) -> bool:
        """Whether it is the best, or not told from it."""
        return self.rank == 1 and (self.tied or not self.open)

    def __str__(self) -> str:
        """`1`, `=1` for a tie, `3?` where a better number of another kind leaves it open."""
        return "" if self.rank is None else f"{'=' * self.tied}{self.rank}{'?' * self.open}"


Paired = Callable[[str, str], tuple[float, float] | None]
"""Of two families, by name, the difference of their values (the first less the second) and its error, taken at each
point that both were scored on; None where there are no such points."""


def places(entrants: dict[str, Entrant], *, better: Better, paired: Paired | None = None) -> dict[str, Place]:
    """The place of every family in one metric.

    Args:
        entrants: by the family's name. The ranking is of the protocol that most of them share (of several, the one that
            comes first).
        better: which numbers are.
        paired: for a metric whose errors are shared by the families, point by point.
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
    """Where one stands to another: `tied`, `ahead`, `behind`.

    Where the kinds of two numbers leave the order open, the worse one is `open` and the better one `unsettled`.
    """
    gap, error = one.number - other.number, math.hypot(one.error, other.error)
    if paired:
        # Where there are several seeds, the pairs are those of the cells themselves: their means lie elsewhere.
        shift = (one.number - one.entry["value"]) - (other.number - other.entry["value"])
        gap, error = paired[0] + shift, paired[1]
    told = abs(gap) > 2 * error
    if min(len(one.seeds), len(other.seeds)) >= 2:
        told = told and seeds_differ(one.seeds, other.seeds)
    if not told:
        return "tied"
    wins = (gap < 0) == (better == "lower")
    first, second = (one, other) if wins else (other, one)
    if settles(first.entry.get("kind", "exact"), second.entry.get("kind", "exact"), better=better):
        return "ahead" if wins else "behind"
    return "unsettled" if wins else "open"


def settles(kind: str, other: str, *, better: Better) -> bool:
    """Whether a better number of one kind is conclusive against a worse number of another kind.

    It is if the truth can lie neither on the worse side of the first nor on the better side of the second: a bound on
    bits beats an exact number of bits for certain, the reverse is open. Numbers of one kind are ranked as they are.
    """
    if kind == other:
        return True
    worse, improved = ("above", "below") if better == "lower" else ("below", "above")
    return worse not in SIDES[kind] and improved not in SIDES[other]


def seeds_differ(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two sets of at least two seeds differ in their means: Welch's t-test, two-sided.

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
    """What most entrants have of every part of a protocol, the first of several; only parts that apply to somebody."""
    protocols = [entrant.protocol for entrant in entrants]
    common = {}
    for key in dict.fromkeys(key for protocol in protocols for key in protocol):
        found = [protocol[key] for protocol in protocols if protocol.get(key) is not None]
        if found:
            common[key] = max(found, key=found.count)
    return common


def difference(protocol: Entry, common: Entry) -> str:
    """What of a protocol differs from another, in words: `samples 200, not 10,000`; empty where they agree.

    None stands for what does not apply, and agrees with everything.
    """
    return ", ".join(
        f"{key.replace('_', ' ')} {told(protocol.get(key))}, not {told(common.get(key))}"
        for key in dict.fromkeys([*protocol, *common])
        if protocol.get(key) != common.get(key) and protocol.get(key, 0) is not None and common.get(key, 0) is not None
    )


def told(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {told(inner)}" for key, inner in value.items()) + ")"
    return "none" if value is None else f"{value:,}" if type(value) is int else str(value)
