"""Draws what the report shows: samples, losses, densities, scores. Functions of tables; nothing is written here."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lookalike.core.domain import Domain
from lookalike.data import SPLITS
from lookalike.pictures import image_grid
from lookalike.report import style
from lookalike.report.cells import REAL, Row, Table
from lookalike.report.leaderboard import COPIES, Metric, rank

Draw = Callable[[Any], None]
"""Draws one panel on given axes."""

PANEL = (3.3, 2.1)
"""Inches of a panel."""

SHOWN, COLUMNS = 40, 8
"""Images of a sample grid, and images in its row."""

PAIRS = 16
"""Samples that are shown with the training images nearest to them."""

MARKERS = {"exact": "o", "lower bound": "<", "estimate": "D", "at least": ">"}
"""A likelihood's bound in bits points to where the truth lies."""

SHAPES = "osD^vPXphd<>8H"
"""A shape a family, where all are in one panel."""

CLOUD = (3.9, 2.6)
"""Inches of a panel with all families and their names beside it."""


def sample_grid(row: Row, *, zoom: int) -> Image.Image:
    """A row's first images, the same number of every family."""
    return image_grid(row.samples[:SHOWN], columns=COLUMNS, zoom=zoom)


def nearest_grid(row: Row, table: Table, *, zoom: int) -> Image.Image | None:
    """Lines of a row's first samples, below each line the training images that are nearest to them."""
    if "nearest_training_rows" not in row.arrays:
        return None
    found = row.arrays["nearest_training_rows"][:PAIRS]
    samples, training = row.samples[: len(found)], table.prepared.values("train")[found]
    lines = range(0, len(found), COLUMNS)
    images = [part for i in lines for part in (samples[i : i + COLUMNS], training[i : i + COLUMNS])]
    return image_grid(np.concatenate(images), columns=COLUMNS, zoom=zoom)


def fidelity_panels(table: Table) -> dict[str, Draw]:
    """A panel for each pair of a fidelity and a diversity that several families have."""
    panels: dict[str, Draw] = {}
    for up, across in (("precision", "recall"), ("density", "coverage")):
        rows = [row for row in table.families if up in row.metrics and across in row.metrics]
        if len(rows) > 1:
            title = f"{up.capitalize()} and {across}"
            panels[title] = partial(draw_fidelity, rows=rows, real=table.real, up=up, across=across)
    return panels


def draw_fidelity(axes: Any, *, rows: list[Row], real: Row, up: str, across: str) -> None:
    """A shape a family with bars of two standard errors, copies in another colour; a star for real data."""
    shapes = dict(zip((row.model for row in rows), itertools.cycle(SHAPES), strict=False))
    looks: list[tuple[Row, str, dict[str, Any]]] = [
        (row, row.model, {"fmt": shapes[row.model], "color": style.SAMPLES if row.model == COPIES else style.MODEL})
        for row in rows
    ]
    if {up, across} <= real.metrics.keys():
        looks.append((real, "real data", {"fmt": "*", "color": style.BAR, "ms": 10}))
    highest = 1.0
    for row, label, look in looks:
        x, y = row.metrics[across], row.metrics[up]
        bars = {"xerr": 2 * (x.get("error") or 0), "yerr": 2 * (y.get("error") or 0)}
        hollow = {"mfc": "none", "mew": 1.3, "ms": 6, "elinewidth": 0.9, "capsize": 0, "ls": "none"}
        axes.errorbar(x["value"], y["value"], **(hollow | look), **bars, label=label)
        highest = max(highest, y["value"])
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.05 * highest, 1.08 * highest)
    axes.set_xlabel(f"{across}  (more of it there →)")
    axes.set_ylabel(f"{up}  (looks right →)")
    handles, labels = axes.get_legend_handles_labels()
    beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0, "handlelength": 1.0}
    # The marks alone, without their bars.
    axes.legend([handle[0] for handle in handles], labels, labelspacing=0.35, **beside)


def loss_panels(table: Table) -> dict[str, Draw]:
    """A panel for each family that was trained by gradient descent; losses differ in unit, so axes are not shared."""
    return {row.model: partial(draw_loss, row=row) for row in table.families if row.curves}


def draw_loss(axes: Any, *, row: Row) -> None:
    """Training loss as a thin line, validation as a strong one."""
    several = any(len(curves) > 1 for curves in row.curves.values())
    looks = {
        "train": {"color": style.SAMPLES, "lw": 0.9, "alpha": 0.65, "label": "training"},
        "validation": {"color": style.MODEL, "lw": 1.8, "label": "validation"},
    }
    for split, curves in row.curves.items():
        for dashes, (name, curve) in zip(("-", "--", ":", "-."), curves.items(), strict=False):
            look: dict[str, Any] = looks[split] | ({"label": f"{looks[split]['label']}: {name}"} if several else {})
            axes.plot(*curve.T, linestyle=dashes, **look)
    axes.set_ylim(*loss_range([curve[:, 1] for curves in row.curves.values() for curve in curves.values()]))
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    legend_above(axes, columns=2)


def loss_range(curves: list[NDArray[np.float64]]) -> tuple[float, float]:
    """From the lowest loss to what is left of the highest ones after the first twentieth of the training."""
    low = min(float(curve.min()) for curve in curves)
    high = max(float(curve[len(curve) // 20 :].max()) for curve in curves)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def density_panels(table: Table) -> dict[str, Draw]:
    """A panel for each family on a one-dimensional data set: all share their axes. None for other data."""
    domain = table.prepared.domain
    if domain.kind != "vector" or domain.dimensions != 1:
        return {}
    data = np.concatenate([np.asarray(table.prepared.values(split))[:, 0] for split in SPLITS])
    edges = bins(data, step=domain.step[0])
    top = 1.45 * float(np.histogram(data, edges, density=True)[0].max())
    return {
        row.model: partial(draw_density, row=row, domain=domain, data=data, edges=edges, top=top)
        for row in table.families
    }


def bins(data: NDArray[Any], *, step: float) -> NDArray[np.float64]:
    """Edges of about 24 bins of a round width, a multiple of the grid's step, with room on both sides.

    They lie half a step off the grid, so that no value sits on an edge.
    """
    spread = max(float(data.max() - data.min()), step)
    power = 10.0 ** math.floor(math.log10(spread / 24))
    width = next(m * power for m in (1, 2, 5, 10) if m * power >= spread / 24)
    width = max(1, round(width / step)) * step
    low, high = float(data.min()) - 3 * width, float(data.max()) + 3 * width
    return np.arange(math.floor(low / width), math.ceil(high / width) + 1, dtype=np.float64) * width - step / 2


def draw_density(
    axes: Any, *, row: Row, domain: Domain, data: NDArray[Any], edges: NDArray[np.float64], top: float
) -> None:
    """The data's histogram, the model's own density at the same resolution, and its samples' histogram."""
    step, width = domain.step[0], edges[1] - edges[0]
    axes.hist(data, edges, density=True, color=style.DATA, label="data")
    samples = row.samples[:, 0]
    inside = (samples >= edges[0]) & (samples <= edges[-1])
    # Outliers count: what is drawn is the share of all samples.
    heights = np.histogram(samples, edges)[0] / (len(samples) * width)
    axes.stairs(heights, edges, color=style.SAMPLES, lw=1.2, label="samples")
    if "density_values" in row.arrays:
        values, density = row.arrays["density_values"], row.arrays["density_probabilities"] / step
        window = max(1, round(width / step))
        smooth = np.convolve(density, np.full(window, 1 / window), mode="same")
        if np.abs(smooth - density).max() > 0.1 * smooth.max():
            axes.plot(values, density, color=style.MODEL, lw=0.4, alpha=0.5)
        axes.plot(values, smooth, color=style.MODEL, lw=1.6, label="model's density")
    if not inside.all():
        note = f"{(~inside).sum():,} of {len(samples):,} samples\nlie outside"
        box = {"facecolor": style.SURFACE, "edgecolor": "none", "alpha": 0.8, "pad": 2}
        axes.text(0.98, 0.95, note, transform=axes.transAxes, ha="right", va="top", color=style.MUTED, bbox=box)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, top)
    axes.set_yticks([])
    axes.set_xlabel(domain.unit)
    legend_above(axes, columns=3)


def legend_above(axes: Any, *, columns: int) -> None:
    """A legend where no curve can run through it."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}
    axes.legend(ncols=columns, handlelength=1.2, columnspacing=1.2, **place)


def score_panels(table: Table) -> dict[str, Draw]:
    """A panel, by its title, for each metric that says which way is better and that several families have."""
    ranking = rank(table)
    families = {row.model: row for row in table.families}
    order = [families[line.model] for line in ranking.lines if line.model != REAL]
    panels: dict[str, Draw] = {}
    for metric in ranking.metrics:
        rows = [row for row in order if metric.name in row.metrics]
        if metric.better and len(rows) > 1:
            panels[metric.title] = partial(draw_scores, rows=rows, real=table.real, metric=metric)
    return panels


def draw_scores(axes: Any, *, rows: list[Row], real: Row, metric: Metric) -> None:
    """A dot a family with a bar of two standard errors; a line where real data stands."""
    values = [row.metrics[metric.name]["value"] for row in rows]
    for y, row in enumerate(rows):
        entry = row.metrics[metric.name]
        marker = MARKERS[entry.get("kind", "exact")]
        error = 2 * (entry.get("error") or 0.0)
        axes.errorbar(entry["value"], y, xerr=error, fmt=marker, color=style.MODEL, ms=5.5, elinewidth=1.2, capsize=0)
    if metric.name in real.metrics:
        bar = real.metrics[metric.name]["value"]
        values.append(bar)
        axes.axvline(bar, color=style.BAR, lw=1.2, ls=(0, (4, 3)))
        at = {"transform": axes.get_xaxis_transform(), "va": "bottom", "color": style.BAR}
        axes.text(bar, 1.02, "real data", ha="center", **at)
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.set_yticks(range(len(rows)), [row.model for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    unit = rows[0].metrics[metric.name].get("unit")
    arrow = "← better" if metric.better == "lower" else "better →"
    axes.set_xlabel(f"{unit or metric.title}  ({arrow})")


def panel(draw: Draw, *, size: tuple[float, float] = PANEL) -> str:
    """One panel as SVG for a page, its letters left to the reader's fonts."""
    with style.styled(text="none"):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        return style.to_svg(figure, transparent=True)


def sheet(panels: dict[str, Draw], *, size: tuple[float, float]) -> str:
    """All panels of a kind as one SVG, their names above them."""
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    with style.styled(text="path"):
        figure = Figure(figsize=(size[0] * columns, (size[1] + 0.25) * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes, (name, draw) in zip(grid, panels.items(), strict=False):
            draw(axes)
            axes.set_title(name, pad=14)
        return style.to_svg(figure)


def score_size(table: Table) -> tuple[float, float]:
    """Inches of a score panel: a line a family."""
    return PANEL[0], 0.75 + 0.24 * len(table.families)


def sheets(table: Table) -> dict[str, str]:
    """SVGs for `results/figures/` by kind, in light colours."""
    found = {
        "scores": (score_panels(table), score_size(table)),
        "fidelity": (fidelity_panels(table), CLOUD),
        "losses": (loss_panels(table), PANEL),
        "densities": (density_panels(table), PANEL),
    }
    return {kind: sheet(panels, size=size) for kind, (panels, size) in found.items() if panels}
