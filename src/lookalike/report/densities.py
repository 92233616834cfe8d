"""Panels of one dimension: histogram of the data, probabilities of a model, its samples, the truth if it is known."""

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS
from lookalike.report import style
from lookalike.report.cells import Row, Table
from lookalike.report.panels import Draw, legend_above

Floats = NDArray[np.float64]


def density_panels(table: Table) -> dict[str, Draw]:
    """Return a panel for each family on a data set of one dimension, with the same axes; no panel for other data."""
    domain = table.prepared.domain
    if domain.dimensions != 1:
        return {}
    data = np.concatenate([np.asarray(table.prepared.values(split))[:, 0] for split in SPLITS])
    edges = bins(data, step=domain.ordered[0].step)
    top = 1.45 * float(np.histogram(data, edges, density=True)[0].max())
    if "density_probabilities" in table.real.arrays:
        # Show the whole truth, unless it is so narrow that nothing else would be seen beside it.
        highest = 1.05 * float(table.real.arrays["density_probabilities"].max()) / domain.ordered[0].step
        top = min(max(top, highest), 3 * top)
    shared: dict[str, Any] = {"domain": domain, "data": data, "edges": edges, "top": top, "truth": table.real.arrays}
    return {row.model: partial(draw_density, row=row, **shared) for row in table.families}


def bins(data: NDArray[Any], *, step: float) -> Floats:
    """Return the edges of about 24 bins of a round width, a multiple of the grid's step, with room on both sides.

    They lie half a step off the grid, so that no value lies on an edge.
    """
    least = max(float(data.max() - data.min()), step) / 24
    power = 10.0 ** math.floor(math.log10(least))
    width = next(m * power for m in (1, 2, 5, 10) if m * power >= least)
    width = max(1, round(width / step)) * step
    low, high = float(data.min()) - 3 * width, float(data.max()) + 3 * width
    return np.arange(math.floor(low / width), math.ceil(high / width) + 1, dtype=np.float64) * width - step / 2


def draw_density(
    axes: Any, *, row: Row, domain: Domain, data: Floats, edges: Floats, top: float, truth: dict[str, NDArray[Any]]
) -> None:
    """Draw the histogram of the data, the probabilities of the model at the same resolution, the histogram of samples.

    The true density is drawn where it is among the arrays of `truth`.
    """
    step, width = domain.ordered[0].step, edges[1] - edges[0]
    axes.hist(data, edges, density=True, color=style.DATA, label="data")
    samples = row.samples[:, 0]
    inside = (samples >= edges[0]) & (samples <= edges[-1])
    # Divide by the number of all samples, so that outliers count.
    heights = np.histogram(samples, edges)[0] / (len(samples) * width)
    axes.stairs(heights, edges, color=style.SAMPLES, lw=1.2, label="samples")
    if "density_values" in truth:
        look = {"color": style.BAR, "lw": 1.3, "ls": (0, (4, 2)), "label": "truth"}
        axes.plot(truth["density_values"], truth["density_probabilities"] / step, **look)
    if "density_values" in row.arrays:
        values, density = row.arrays["density_values"], row.arrays["density_probabilities"] / step
        window = max(1, round(width / step))
        smooth = np.convolve(density, np.full(window, 1 / window), mode="same")
        if np.abs(smooth - density).max() > 0.1 * smooth.max():
            axes.plot(values, density, color=style.MODEL, lw=0.4, alpha=0.5)
        axes.plot(values, smooth, color=style.MODEL, lw=1.6, label="model")
    if not inside.all():
        note = f"{(~inside).sum():,} of {len(samples):,} samples\nlie outside"
        box = {"facecolor": style.SURFACE, "edgecolor": "none", "alpha": 0.8, "pad": 2}
        axes.text(0.98, 0.95, note, transform=axes.transAxes, ha="right", va="top", color=style.MUTED, bbox=box)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, top)
    axes.set_yticks([])
    axes.set_xlabel(domain.ordered[0].unit)
    legend_above(axes, columns=4)
