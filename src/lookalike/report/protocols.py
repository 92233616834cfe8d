"""The protocol of a number: everything that numbers must share to be ranked together."""

from typing import Any

from lookalike.report.numbers import settings

Entry = dict[str, Any]

NOT_SHARED = frozenset(
    {
        "value", "error", "error_samples", "error_reference", "p_value", "mean", "deviation", "seeds", "counts",
        "class", "chance", "short", "scored", "anchor",  # results
        "reference_counts", "error_of", "source", "coarser", "rankable", "why_not_ranked",  # explanations of a result
        "kind", "exactness", "points", "of",  # the family's own: kind of its likelihood, number of points it affords
    }
)  # fmt: skip
"""Keys in which the entries of one ranking may differ. All other keys must agree.

Settings must agree too, except those of a likelihood, which are the family's own. The number of test points differs
because a budget of operations pays for more points of some families; they are then compared on common points.
"""


def protocol_of(entry: Entry, trained: Entry | None = None) -> Entry:
    """Return everything that must agree, by name; None where it does not apply, such as a split in a sum over a grid.

    Args:
        entry: a number of the leaderboard.
        trained: what all families that are ranked together must share in their training.
    """
    hidden = NOT_SHARED | ({"settings"} if "kind" in entry else set())
    shared = {key: value for key, value in entry.items() if key not in hidden}
    return {"split": None} | (trained or {}) | shared


def shared_protocol(protocols: list[Entry]) -> Entry:
    """Return the most common value of every part of a protocol that applies to anybody, the first of several."""
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
