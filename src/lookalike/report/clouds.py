"""Panels with every family as a point: fidelity against diversity, likelihood against distance, quality against cost.

A family has the same mark in all panels of a data set, and its name stands beside the panel.
"""

import dataclasses
import itertools
import math
from functools import partial
from typing import Any, Literal

from lookalike.metrics.catalogue import LIKELIHOOD, MAIN_DISTANCE, title_of
from lookalike.report import style
from lookalike.report.cells import Entry, Row, Table
from lookalike.report.numbers import SIGNS
from lookalike.report.panels import Draw, is_wide, logarithmic
from lookalike.report.ranking import shown_metrics

SHAPES = "osD^vPXphd<>8H"
"""Shapes of the marks, one per family."""

CLOUD = (3.9, 2.6)
"""Size in inches of a panel with the names of all families beside it."""

SAMPLES_TIMED = 1000
"""Number of samples whose cost is shown."""

MIN_SECONDS = 1e-3
"""Resolution of recorded seconds; shorter times are drawn as this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A family in a panel: its two numbers with their standard errors, its name, the look of its mark.

    `is_rival` says whether it takes part in what the panel compares.
    """

    name: str
    x: Entry
    y: Entry
    look: dict[str, Any]
    is_rival: bool


def points_of(rows: list[Row], table: Table, *, x: list[Entry], y: str) -> list[Point]:
    """Return the points of some rows, with their numbers along x and the name of their metric along y."""
    own = looks(table)
    return [
        Point(name=row.title, x=entry, y=row.metrics[y], look=own[row.model], is_rival=not row.is_floor)
        for row, entry in zip(rows, x, strict=True)
    ]


def looks(table: Table) -> dict[str, dict[str, Any]]:
    """Return the look of every mark, whatever the order of rows: floors in another colour, real data as a star."""
    shapes = zip(sorted(table.families, key=lambda row: row.model), itertools.cycle(SHAPES), strict=False)
    found: dict[str, dict[str, Any]] = {
        row.model: {"fmt": shape, "color": style.SAMPLES if row.is_floor else style.MODEL} for row, shape in shapes
    }
    return found | {table.real.model: {"fmt": "*", "color": style.BAR, "ms": 10}}


def draw_points(axes: Any, points: list[Point]) -> None:
    """Draw hollow marks with bars of two standard errors, and all names beside the panel.

    Set the limits of the axes first: names of points outside them end in "(off)".
    """
    (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    for point in points:
        inside = left <= point.x["value"] <= right and low <= point.y["value"] <= high
        bars = {"xerr": 2 * (point.x.get("error") or 0), "yerr": 2 * (point.y.get("error") or 0)}
        hollow = {"mfc": "none", "mew": 1.3, "ms": 6, "elinewidth": 0.9, "capsize": 0, "ls": "none"}
        label = point.name if inside else f"{point.name} (off)"
        axes.errorbar(point.x["value"], point.y["value"], **(hollow | point.look), **bars, label=label)
    handles, labels = axes.get_legend_handles_labels()
    marks = [getattr(handle, "lines", [handle])[0] for handle in handles]  # Leave out the bars.
    beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0, "handlelength": 1.0}
    axes.legend(marks, labels, labelspacing=0.35, **beside)


def end_of(values: list[float]) -> float:
    """Return where an axis ends on its worse side: at the last value before a gap of three times what lies before it.

    A family that is so far off, as a floor may be, would leave no room for the others. For values that need a
    logarithmic axis the gaps are those of their logarithms. At least two thirds of the values, and three, are shown.
    """
    ends = sorted(values)
    rising = [math.log(value) for value in ends] if is_wide(values) else ends
    for i in range(max(3, -(-2 * len(rising) // 3)) - 1, len(rising) - 1):
        if rising[i + 1] - rising[i] > 3 * (rising[i] - rising[0]) > 0:
            return ends[i]
    return ends[-1]


def fit(axes: Any, which: Literal["x", "y"], entries: list[Entry], *, whole: bool = False) -> None:
    """Set the limits of an axis around numbers and their bars, without those beyond its end unless `whole` is set."""
    end = (max if whole else end_of)([entry["value"] for entry in entries])
    shown = [entry for entry in entries if entry["value"] <= end]
    values = [entry["value"] for entry in shown]
    if is_wide(values):
        logarithmic(axes, which, values)
        low, high = min(values) / 1.6, max(values) * 1.6
    else:
        bars = [(entry["value"], 2 * (entry.get("error") or 0)) for entry in shown]
        low, high = min(value - bar for value, bar in bars), max(value + bar for value, bar in bars)
        room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = low - room, high + room
    getattr(axes, f"set_{which}lim")(low, high)


def distance_of(table: Table) -> str | None:
    """Return the main distance that several families of a data set have; None where there is none."""
    names = MAIN_DISTANCE.values()
    return next((name for name in names if sum(name in row.metrics for row in table.families) > 1), None)


def title_on(metric: str, table: Table) -> str:
    """Return the title of a metric on a data set."""
    return next((m.title for m in shown_metrics(table) if m.name == metric), title_of(metric))


# Fidelity against diversity


def fidelity_panels(table: Table) -> dict[str, Draw]:
    """Return a panel for each pair of a fidelity and a diversity that several families have."""
    panels: dict[str, Draw] = {}
    for up, across in (("precision", "recall"), ("density", "coverage")):
        rows = [row for row in [*table.families, table.real] if {up, across} <= row.metrics.keys()]
        if sum(row is not table.real for row in rows) > 1:
            points = points_of(rows, table, x=[row.metrics[across] for row in rows], y=up)
            panels[f"{up.capitalize()} and {across}"] = partial(draw_fidelity, points=points, up=up, across=across)
    return panels


def draw_fidelity(axes: Any, *, points: list[Point], up: str, across: str) -> None:
    """Draw both numbers from zero; density may lie above one."""
    highest = max(1.0, *(point.y["value"] for point in points))
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.05 * highest, 1.08 * highest)
    axes.set_xlabel(f"{across}  (→ real data)")
    axes.set_ylabel(f"{up}  (→ real data)")
    draw_points(axes, points)


# Likelihood against distance


def likelihood_panels(table: Table) -> dict[str, Draw]:
    """Return one panel, where several families have both a likelihood and a distance."""
    metric = distance_of(table)
    if metric is None or sum({LIKELIHOOD, metric} <= row.metrics.keys() for row in table.families) < 2:
        return {}
    title = f"{title_on(LIKELIHOOD, table)} and {title_of(metric)}"
    return {title: partial(draw_likelihood, table=table, metric=metric)}


def draw_likelihood(axes: Any, *, table: Table, metric: str) -> None:
    """Draw bits along x and distance along y; families without a likelihood in a strip of their own."""
    rows = [row for row in table.families if metric in row.metrics]
    scored = [row.metrics[LIKELIHOOD] for row in rows if LIKELIHOOD in row.metrics]
    real = [table.real.metrics[metric]] if metric in table.real.metrics else []
    fit(axes, "x", scored)
    fit(axes, "y", [*(row.metrics[metric] for row in rows), *real])
    if real:
        axes.axhline(real[0]["value"], color=style.BAR, lw=1.2, ls=(0, (4, 3)), label="real data")
    left, right = axes.get_xlim()
    strip = right + 0.06 * (right - left)
    if len(scored) < len(rows):
        axes.axvline(right, color=style.RULE, lw=0.8)
        axes.set_xlim(left, strip + strip - right)
        at = {"transform": axes.get_xaxis_transform(), "ha": "right", "va": "bottom", "color": style.MUTED}
        axes.text(axes.get_xlim()[1], 1.02, "no likelihood", **at)
    points = points_of(rows, table, x=[row.metrics.get(LIKELIHOOD, {"value": strip}) for row in rows], y=metric)
    draw_points(axes, [dataclasses.replace(p, name=SIGNS[p.x.get("kind", "exact")] + p.name) for p in points])
    axes.set_xlabel(f"{scored[0].get('unit') or title_on(LIKELIHOOD, table)}  (← better)")
    axes.set_ylabel(f"{title_of(metric)}  (← better)")


# Quality against cost


def cost_panels(table: Table) -> dict[str, Draw]:
    """Return a panel for each pair of a score and the seconds of training or sampling that several families have.

    Seconds differ from run to run, and so do these figures.
    """
    metric = distance_of(table)
    panels: dict[str, Draw] = {}
    for name, cost in ((metric, "training"), (metric, "sampling"), (LIKELIHOOD, "training")):
        rows = [row for row in table.families if name in row.metrics]
        if name is not None and len(rows) > 1:
            points = points_of(rows, table, x=[{"value": seconds_of(row)[cost]} for row in rows], y=name)
            if cost == "training":
                points = [
                    p if row.is_trained or row.is_floor else fitted(p) for p, row in zip(points, rows, strict=True)
                ]
            title = title_on(name, table)
            panels[f"{title} and cost of {cost}"] = partial(draw_cost, points=points, title=title, cost=cost)
    return panels


def fitted(point: Point) -> Point:
    """Return the point of a family that is fitted without steps.

    It did not get the compute of the trained families, so that its seconds are not comparable with theirs.
    """
    look = point.look | {"color": style.MUTED}
    return dataclasses.replace(point, name=f"{point.name} (fitted)", look=look, is_rival=False)


def seconds_of(row: Row) -> dict[str, float]:
    """Return the seconds of the training of a family, and of drawing a thousand samples."""
    rate = max(row.costs["sample"]["samples_per_second"], MIN_SECONDS)
    found = {"training": row.costs["train"]["work_seconds"], "sampling": SAMPLES_TIMED / rate}
    return {cost: max(seconds, MIN_SECONDS) for cost, seconds in found.items()}


def front(places: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names of the Pareto front, by the first number: no other point is as good in both and better in one.

    Less is better for both numbers. Points with the same two numbers are all named.
    """

    def beaten(name: str) -> bool:
        x, y = places[name]
        return any(a <= x and b <= y and (a, b) != (x, y) for a, b in places.values())

    return sorted((name for name in places if not beaten(name)), key=lambda name: (places[name], name))


def draw_cost(axes: Any, *, points: list[Point], title: str, cost: str) -> None:
    """Draw cost along x and a score along y, and steps along the front, whose marks are filled."""
    places = {point.name: (point.x["value"], point.y["value"]) for point in points if point.is_rival}
    best = front(places)
    fit(axes, "x", [point.x for point in points], whole=True)
    fit(axes, "y", [point.y for point in points])
    filled = {"mfc": style.MODEL}
    draw_points(axes, [dataclasses.replace(p, look=p.look | (filled if p.name in best else {})) for p in points])
    (left, right), (low, top) = axes.get_xlim(), axes.get_ylim()
    if best:
        xs, ys = zip(*(places[name] for name in best), strict=True)
        # Draw the line down to the first point, in steps to the last one, and on to the right.
        line = {"where": "post", "color": style.MUTED, "lw": 1.0, "ls": (0, (2, 2)), "zorder": 1}
        axes.step([xs[0], *xs, right], [max(top, ys[0]), *ys, ys[-1]], **line)
    axes.set_xlim(left, right)
    axes.set_ylim(low, top)
    seconds = "seconds of training" if cost == "training" else f"seconds for {SAMPLES_TIMED:,} samples"
    axes.set_xlabel(f"{seconds}  (← better)")
    axes.set_ylabel(f"{title}  (← better)")
