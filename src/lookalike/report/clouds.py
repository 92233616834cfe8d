"""Panels with all families as points: fidelity against diversity, likelihood against distance, quality against cost.

A family has the same mark in all panels of a data set, and its name beside them.
"""

import dataclasses
import itertools
import math
from functools import partial
from typing import Any, Literal

from lookalike.report import style
from lookalike.report.cells import Entry, Row, Table
from lookalike.report.leaderboard import BITS, COPIES, DISTANCES, SIGNS, TABLES, shown_metrics
from lookalike.report.panels import Draw, is_wide, logarithmic

SHAPES = "osD^vPXphd<>8H"
"""A shape a family."""

CLOUD = (3.9, 2.6)
"""Inches of a panel with all families and their names beside it."""

THOUSAND = 1000
"""Samples whose cost is shown."""

SHORTEST = 1e-3
"""Seconds are recorded to this; what took less is drawn as if it took as long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A family in a panel: its two numbers with their standard errors, its name, how its mark looks."""

    name: str
    x: Entry
    y: Entry
    look: dict[str, Any]


def looks(table: Table) -> dict[str, dict[str, Any]]:
    """How each family's mark looks, whatever order they come in; copies in another colour, a star for real data."""
    shapes = zip(sorted(row.model for row in table.families), itertools.cycle(SHAPES), strict=False)
    found: dict[str, dict[str, Any]] = {
        model: {"fmt": shape, "color": style.SAMPLES if model == COPIES else style.MODEL} for model, shape in shapes
    }
    return found | {table.real.model: {"fmt": "*", "color": style.BAR, "ms": 10}}


def draw_points(axes: Any, points: list[Point]) -> None:
    """Hollow marks with bars of two standard errors, and the names of all beside the panel.

    Those that lie beyond the axes' limits are named so: set limits first.
    """
    (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    for point in points:
        inside = left <= point.x["value"] <= right and low <= point.y["value"] <= high
        bars = {"xerr": 2 * (point.x.get("error") or 0), "yerr": 2 * (point.y.get("error") or 0)}
        hollow = {"mfc": "none", "mew": 1.3, "ms": 6, "elinewidth": 0.9, "capsize": 0, "ls": "none"}
        axes.errorbar(
            point.x["value"],
            point.y["value"],
            **(hollow | point.look),
            **bars,
            label=point.name if inside else f"{point.name} (off)",
        )
    handles, labels = axes.get_legend_handles_labels()
    marks = [getattr(handle, "lines", [handle])[0] for handle in handles]  # without their bars
    beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0, "handlelength": 1.0}
    axes.legend(marks, labels, labelspacing=0.35, **beside)


def end_of(values: list[float]) -> float:
    """Where an axis ends on its worse side: at the last value before a gap of thrice what lies before it, if any.

    A family that is that far off, as a floor may be, would leave the others no room. Of values that need a logarithmic
    axis the gaps are those of their logarithms. Two thirds are shown at least, and three.
    """
    ends = sorted(values)
    rising = [math.log(value) for value in ends] if is_wide(values) else ends
    for i in range(max(3, -(-2 * len(rising) // 3)) - 1, len(rising) - 1):
        if rising[i + 1] - rising[i] > 3 * (rising[i] - rising[0]) > 0:
            return ends[i]
    return ends[-1]


def fit(axes: Any, which: Literal["x", "y"], entries: list[Entry], *, whole: bool = False) -> None:
    """Let an axis hold numbers and their bars, all or but for those beyond its end; logarithmic if they need that."""
    end = (max if whole else end_of)([entry["value"] for entry in entries])
    shown = [entry for entry in entries if entry["value"] <= end]
    values = [entry["value"] for entry in shown]
    if is_wide(values):
        logarithmic(axes, which, values)
        low, high = min(values) / 1.6, max(values) * 1.6
    else:
        bars = [2 * (entry.get("error") or 0) for entry in shown]
        low = min(value - bar for value, bar in zip(values, bars, strict=True))
        high = max(value + bar for value, bar in zip(values, bars, strict=True))
        room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = low - room, high + room
    getattr(axes, f"set_{which}lim")(low, high)


def distance_of(table: Table) -> str | None:
    """The distance that most of a data set's families are told apart by."""
    return next((name for name in DISTANCES if sum(name in row.metrics for row in table.families) > 1), None)


def title_of(metric: str, table: Table) -> str:
    """What a metric is called on a data set."""
    known = [*shown_metrics(table), *(m for metrics in TABLES for m in metrics)]
    return next((m.title for m in known if m.name == metric), metric)


# Fidelity against diversity


def fidelity_panels(table: Table) -> dict[str, Draw]:
    """A panel for each pair of a fidelity and a diversity that several families have."""
    panels: dict[str, Draw] = {}
    for up, across in (("precision", "recall"), ("density", "coverage")):
        rows = [row for row in [*table.families, table.real] if {up, across} <= row.metrics.keys()]
        if sum(row is not table.real for row in rows) > 1:
            points = [
                Point(name=called(row, table), x=row.metrics[across], y=row.metrics[up], look=looks(table)[row.model])
                for row in rows
            ]
            title = f"{up.capitalize()} and {across}"
            panels[title] = partial(draw_fidelity, points=points, up=up, across=across)
    return panels


def called(row: Row, table: Table) -> str:
    return "real data" if row is table.real else row.model


def draw_fidelity(axes: Any, *, points: list[Point], up: str, across: str) -> None:
    """Both numbers from zero; density may lie above one."""
    highest = max(1.0, *(point.y["value"] for point in points))
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.05 * highest, 1.08 * highest)
    axes.set_xlabel(f"{across}  (more of it there →)")
    axes.set_ylabel(f"{up}  (looks right →)")
    draw_points(axes, points)


# Likelihood against distance


def likelihood_panels(table: Table) -> dict[str, Draw]:
    """One panel, where several families have both a likelihood and a distance."""
    metric = distance_of(table)
    if metric is None or sum({BITS, metric} <= row.metrics.keys() for row in table.families) < 2:
        return {}
    title = f"{title_of(BITS, table)} and {title_of(metric, table)}"
    return {title: partial(draw_likelihood, table=table, metric=metric)}


def draw_likelihood(axes: Any, *, table: Table, metric: str) -> None:
    """Bits across and distance up; families without a likelihood in a strip of their own; a line for real data."""
    rows = [row for row in table.families if metric in row.metrics]
    scored = [row.metrics[BITS] for row in rows if BITS in row.metrics]
    bar = [table.real.metrics[metric]] if metric in table.real.metrics else []
    fit(axes, "x", scored)
    fit(axes, "y", [*(row.metrics[metric] for row in rows), *bar])
    if bar:
        axes.axhline(bar[0]["value"], color=style.BAR, lw=1.2, ls=(0, (4, 3)), label="real data")
    left, right = axes.get_xlim()
    strip = right + 0.06 * (right - left)
    if len(scored) < len(rows):
        axes.axvline(right, color=style.RULE, lw=0.8)
        axes.set_xlim(left, strip + strip - right)
        at = {"transform": axes.get_xaxis_transform(), "ha": "right", "va": "bottom", "color": style.MUTED}
        axes.text(axes.get_xlim()[1], 1.02, "no likelihood", **at)
    points = [
        Point(
            name=SIGNS[row.metrics[BITS]["kind"]] + row.model if BITS in row.metrics else row.model,
            x=row.metrics.get(BITS, {"value": strip}),
            y=row.metrics[metric],
            look=looks(table)[row.model],
        )
        for row in rows
    ]
    draw_points(axes, points)
    unit = next(row.metrics[BITS].get("unit") for row in rows if BITS in row.metrics)
    axes.set_xlabel(f"{unit or title_of(BITS, table)}  (← better)")
    axes.set_ylabel(f"{title_of(metric, table)}  (← better)")


# Quality against cost


def cost_panels(table: Table) -> dict[str, Draw]:
    """What seconds of training and of sampling buy: a panel for each pair that several families have.

    Seconds differ from run to run, and so do these figures.
    """
    metric = distance_of(table)
    costs = {row.model: seconds_of(row) for row in table.families}
    wanted = [(metric, "training"), (metric, "sampling"), (BITS, "training")]
    panels: dict[str, Draw] = {}
    for name, cost in wanted:
        rows = [row for row in table.families if name in row.metrics]
        if name is not None and len(rows) > 1:
            points = [
                Point(
                    name=row.model,
                    x={"value": costs[row.model][cost]},
                    y=row.metrics[name],
                    look=looks(table)[row.model],
                )
                for row in rows
            ]
            title = title_of(name, table)
            panels[f"{title} and cost of {cost}"] = partial(draw_cost, points=points, title=title, cost=cost)
    return panels


def seconds_of(row: Row) -> dict[str, float]:
    """What a family's training took, and what a thousand samples take."""
    return {
        "training": max(row.costs["train"]["work_seconds"], SHORTEST),
        "sampling": max(THOUSAND / max(row.costs["sample"]["samples_per_second"], SHORTEST), SHORTEST),
    }


def front(places: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points that no other is as good as in both numbers and better in one, by the first number.

    Less is better of both; of points that are the same in both all are named.
    """

    def beaten(name: str) -> bool:
        x, y = places[name]
        return any(a <= x and b <= y and (a, b) != (x, y) for a, b in places.values())

    return sorted((name for name in places if not beaten(name)), key=lambda name: (places[name], name))


def draw_cost(axes: Any, *, points: list[Point], title: str, cost: str) -> None:
    """Cost across and a score up, less of both is better; a line of steps along the front, whose marks are filled.

    Copies are no part of the front: what they cost buys nothing.
    """
    places = {p.name: (p.x["value"], p.y["value"]) for p in points if p.name != COPIES}
    best = front(places)
    fit(axes, "x", [point.x for point in points], whole=True)
    fit(axes, "y", [point.y for point in points])
    filled = {"mfc": style.MODEL}
    draw_points(axes, [dataclasses.replace(p, look=p.look | (filled if p.name in best else {})) for p in points])
    (left, right), (low, top) = axes.get_xlim(), axes.get_ylim()
    xs, ys = zip(*(places[name] for name in best), strict=True)
    # Down to the first, in steps to the last, and on from there: what lies on the far side of it was not reached.
    line = {"where": "post", "color": style.MUTED, "lw": 1.0, "ls": (0, (2, 2)), "zorder": 1}
    axes.step([xs[0], *xs, right], [max(top, ys[0]), *ys, ys[-1]], **line)
    axes.set_xlim(left, right)
    axes.set_ylim(low, top)
    what = "seconds of training" if cost == "training" else f"seconds for {THOUSAND:,} samples"
    axes.set_xlabel(f"{what}  (← better)")
    axes.set_ylabel(f"{title}  (← better)")


def on_front(table: Table) -> dict[str, list[str]]:
    """The families on the front of distance against the cost of training and of sampling, cheapest first."""
    metric = distance_of(table)
    rows = [row for row in table.families if metric in row.metrics and row.model != COPIES]
    return {
        cost: front({row.model: (seconds_of(row)[cost], row.metrics[str(metric)]["value"]) for row in rows})
        for cost in ("training", "sampling")
        if len(rows) > 1
    }
