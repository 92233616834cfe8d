"""Draws what the report shows: samples, losses, densities, scores. Functions of tables; nothing is written here."""

from functools import partial
from typing import Any, Literal

import matplotlib.ticker
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.data import Split
from lookalike.pictures import image_grid
from lookalike.report import style
from lookalike.report.cells import REAL, Row, Table
from lookalike.report.clouds import CLOUD, fidelity_panels, likelihood_panels
from lookalike.report.densities import density_panels
from lookalike.report.leaderboard import Metric, rank
from lookalike.report.maps import MAP, contour_panels, map_panels
from lookalike.report.panels import PANEL, Draw, is_wide, legend_above, logarithmic, sheet

SHOWN, COLUMNS = 40, 8
"""Images of a sample grid, and images in its row."""

PAIRS = 16
"""Samples that are shown with the training images nearest to them, and images where samples and test data part."""

MARKERS = {"exact": "o", "lower bound": "<", "estimate": "D", "at least": ">"}
"""A likelihood's bound in bits points to where the truth lies."""


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


def gap_grid(row: Row, table: Table, *, kind: Literal["missed", "made_up"], zoom: int) -> Image.Image | None:
    """The test images that are farthest from any of a row's samples, or its samples that are farthest from these."""
    rows = row.arrays.get(f"{kind}_rows")
    if rows is None:
        return None
    split: Split = row.metrics["coverage"]["reference"]
    images = row.samples if kind == "made_up" else table.prepared.values(split)
    return image_grid(images[rows[:PAIRS]], columns=COLUMNS, zoom=zoom)


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
    if is_wide(values):
        logarithmic(axes, "x", values)
    axes.margins(x=0.08)
    axes.set_yticks(range(len(rows)), [row.model for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    unit = rows[0].metrics[metric.name].get("unit")
    arrow = "← better" if metric.better == "lower" else "better →"
    axes.set_xlabel(f"{unit or metric.title}  ({arrow})")


def score_size(table: Table) -> tuple[float, float]:
    """Inches of a score panel: a line a family."""
    return PANEL[0], 0.75 + 0.24 * len(table.families)


def sheets(table: Table) -> dict[str, str]:
    """SVGs for `results/figures/` by kind, in light colours."""
    found = {
        "scores": (score_panels(table), score_size(table)),
        "fidelity": (fidelity_panels(table), CLOUD),
        "likelihood": (likelihood_panels(table), CLOUD),
        "losses": (loss_panels(table), PANEL),
        "densities": (density_panels(table), PANEL),
        "contours": (contour_panels(table), MAP),
        "maps": (map_panels(table), MAP),
    }
    return {kind: sheet(panels, size=size) for kind, (panels, size) in found.items() if panels}
