"""Figures of scores and losses, and all figures of a data set as files show them."""

from functools import partial
from typing import Any

import matplotlib.ticker
import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.catalogue import Metric
from lookalike.report import style
from lookalike.report.cells import Row, Table
from lookalike.report.clouds import CLOUD, fidelity_panels, likelihood_panels
from lookalike.report.panels import PANEL, Draw, Panels, is_wide, legend_above, logarithmic, sheet
from lookalike.report.ranking import rank
from lookalike.report.shown import shown

MARKERS = {"exact": "o", "lower bound": "<", "estimate": "D", "at least": ">"}
"""Marks by the kind of a likelihood: a bound points to the side on which the truth lies."""


def loss_panels(table: Table) -> Panels:
    """Return a panel for each family that was trained by gradient descent; the axes differ, as the losses do."""
    return Panels(draws={row.model: partial(draw_loss, row=row) for row in table.families if row.curves}, size=PANEL)


def draw_loss(axes: Any, *, row: Row) -> None:
    """Draw the training loss as a thin line and the validation loss as a strong one."""
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
    """Return the limits of an axis, which leave out high losses in the first twentieth of the training."""
    low = min(float(curve.min()) for curve in curves)
    high = max(float(curve[len(curve) // 20 :].max()) for curve in curves)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def score_panels(table: Table) -> Panels:
    """Return a panel for each metric of the first table that has a better side and that several families have."""
    ranking = rank(table)
    families = {row.model: row for row in table.families}
    order = [families[line.model] for line in ranking.lines if line.model in families]
    draws: dict[str, Draw] = {}
    for metric in ranking.metrics:
        rows = [row for row in order if metric.name in row.metrics]
        if metric.is_ranked and len(rows) > 1:
            draws[metric.title] = partial(draw_scores, rows=rows, real=table.real, metric=metric)
    return Panels(draws=draws, size=(PANEL[0], 0.75 + 0.24 * len(table.families)))


def draw_scores(axes: Any, *, rows: list[Row], real: Row, metric: Metric) -> None:
    """Draw a mark with a bar of two standard errors for each family, and a line at the value of real data."""
    entries = [row.metrics[metric.name] for row in rows]
    values = [entry["value"] for entry in entries]
    for y, entry in enumerate(entries):
        look = {"fmt": MARKERS[entry.get("kind", "exact")], "ms": 5.5, "elinewidth": 1.2, "capsize": 0}
        axes.errorbar(entry["value"], y, xerr=2 * (entry.get("error") or 0.0), color=style.MODEL, **look)
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
    arrow = {"lower": "← better", "higher": "better →"}.get(metric.better or "", metric.arrow)
    axes.set_xlabel(f"{entries[0].get('unit') or metric.title}  ({arrow})")


def figures_of(table: Table) -> dict[str, Panels]:
    """Return the panels of every figure of a data set by name, without those that show cost."""
    return {
        "scores": score_panels(table),
        "fidelity": Panels(draws=fidelity_panels(table), size=CLOUD),
        "likelihood": Panels(draws=likelihood_panels(table), size=CLOUD),
        "losses": loss_panels(table),
        **shown(table.prepared.domain).panels(table),
    }


def sheets(table: Table) -> dict[str, str]:
    """Return the SVGs of `results/<run>/figures/` by name, in light colours."""
    return {name: sheet(panels) for name, panels in figures_of(table).items() if panels.draws}
