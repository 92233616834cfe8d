"""Panels of two dimensions: contours of P_model over P_data, and both as maps with the same scale.

P_data is the true distribution where it is known, else a histogram of all the data. P_model comes from the likelihood
of the model where it has one, else from a histogram of its samples. Both are drawn where the data lie.
"""

import dataclasses
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.prepared import SPLITS
from lookalike.report import style
from lookalike.report.cells import Row, Table
from lookalike.report.panels import Draw, Panels

Floats = NDArray[np.float64]

MAP = (2.6, 2.5)
"""Size of a panel in inches."""

HELD = (0.5, 0.9)
"""Shares of the probability inside the contours, each of which encloses the smallest region with its share."""

SIDE = 64
"""Squares per axis in a histogram of data or samples."""

COLOURS = "cividis"
"""A colour map for every kind of colour vision (Nuñez et al., Optimizing colormaps, 2018)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Map:
    """Probabilities of the squares of a plane.

    Attributes:
        shares: probabilities `[n, n]`, first dimension first.
        side: grid points along the side of a square.
        counted: whether they are counts of data or samples rather than probabilities of a model or of the truth.
    """

    shares: Floats
    side: int
    counted: bool

    @property
    def density(self) -> Floats:
        """Probability per grid point."""
        return self.shares / self.side**2


def map_of(row: Row, table: Table) -> Map:
    """Return P_model of a family, or P_data for the row of real data."""
    levels = table.prepared.domain.levels
    if "density_map" in row.arrays:
        shares = row.arrays["density_map"].astype(np.float64)
        return Map(shares=shares, side=-(-levels // len(shares)), counted=False)
    values = everything(table) if row is table.real else row.samples
    side = -(-levels // SIDE)
    edges = np.arange(-(-levels // side) + 1) * side - 0.5
    points = table.prepared.domain.to_grid(values)
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=(edges, edges))[0]
    return Map(shares=counts / len(values), side=side, counted=True)


def everything(table: Table) -> NDArray[Any]:
    """Return the values of all splits."""
    return np.concatenate([np.asarray(table.prepared.values(split)) for split in SPLITS])


def plane_panels(table: Table) -> dict[str, Panels]:
    """Return contours of every P_model over P_data, and maps of all with the same scale; nothing for other dimensions.

    All panels of a figure have the same axes.
    """
    if table.prepared.domain.dimensions != 2:
        return {}
    data, models = map_of(table.real, table), {row.model: map_of(row, table) for row in table.families}
    top, title = float(data.density.max()), "data" if data.counted else "truth"
    contours: dict[str, Draw] = {
        name: partial(draw_contours, model=model, data=data, table=table) for name, model in models.items()
    }
    maps: dict[str, Draw] = {
        name: partial(draw_map, shown=shown, top=top, table=table) for name, shown in ({title: data} | models).items()
    }
    return {"contours": Panels(draws=contours, size=MAP), "maps": Panels(draws=maps, size=MAP)}


def draw_contours(axes: Any, *, model: Map, data: Map, table: Table) -> None:
    """Draw P_data in grey, and lines around the smallest regions that hold the shares `HELD` of P_model."""
    grey = np.zeros((*data.shares.shape, 4))
    grey[..., :3] = [int(style.DATA_MAP[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    grey[..., 3] = np.sqrt(data.density / data.density.max())
    show(axes, grey, data, table)
    smooth = blurred(model.shares) if model.counted else model.shares
    levels = region_levels(smooth)
    if levels:
        across, up = (places(model, table, dimension=d) for d in (0, 1))
        look = {"colors": style.SAMPLES if model.counted else style.MODEL, "linewidths": (0.9, 1.5)[-len(levels) :]}
        axes.contour(across, up, smooth.T, levels=levels, **look)
    else:
        axes.text(0.5, 0.98, "the same everywhere", transform=axes.transAxes, ha="center", va="top", color=style.MODEL)
    frame(axes, table)


def draw_map(axes: Any, *, shown: Map, top: float, table: Table) -> None:
    """Draw one map; values above the top of the scale are as bright as the top."""
    density = blurred(shown.density) if shown.counted else shown.density
    show(axes, np.sqrt(density / top), shown, table, cmap=COLOURS, vmin=0, vmax=1)
    axes.grid(visible=False)
    frame(axes, table)


def show(axes: Any, values: NDArray[Any], shown: Map, table: Table, **look: Any) -> None:
    """Draw squares at their places, with the first dimension along the x-axis."""
    edges: list[float] = []
    for d, variable in enumerate(table.prepared.domain.ordered):
        step, middles = variable.step, places(shown, table, dimension=d)
        edges += [middles[0] - shown.side * step / 2, middles[-1] + shown.side * step / 2]
    axes.imshow(np.swapaxes(values, 0, 1), origin="lower", extent=edges, interpolation="none", aspect="auto", **look)


def places(shown: Map, table: Table, *, dimension: int) -> Floats:
    """Return the values at the centres of the squares along a dimension."""
    variable = table.prepared.domain.ordered[dimension]
    low, step = variable.low, variable.step
    numbers = np.arange(len(shown.shares), dtype=np.float64)
    middles: Floats = low + step * (shown.side * numbers + (shown.side - 1) / 2)
    return middles


def frame(axes: Any, table: Table) -> None:
    """Show the same part of the plane in all panels: the range of the data and a tenth more on each side."""
    values = everything(table)
    low, high = values.min(axis=0), values.max(axis=0)
    room = 0.1 * np.maximum(high - low, [variable.step for variable in table.prepared.domain.ordered])
    axes.set_xlim(low[0] - room[0], high[0] + room[0])
    axes.set_ylim(low[1] - room[1], high[1] + room[1])
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=10)  # Two panels stand side by side on a phone.


def region_levels(shares: Floats) -> list[float]:
    """Return the levels above which the shares `HELD` lie, lowest first; none where a map is flat."""
    falling = np.sort(shares.ravel())[::-1]
    held = np.searchsorted(falling.cumsum() / falling.sum(), HELD).clip(max=len(falling) - 1)
    # Draw just below the level itself, because a plateau has no contour at its own height.
    found = {float(level) * (1 - 1e-6) for level in falling[held]}
    return sorted(level for level in found if shares.min() < level < shares.max())


def blurred(shares: Floats) -> Floats:
    """Return a histogram smoothed by a normal kernel one square wide, because a few thousand points show no more."""
    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    lines = [sum(np.eye(n, k=k) * weight for k, weight in zip(range(-3, 4), kernel, strict=True)) for n in shares.shape]
    smooth: Floats = np.asarray(lines[0]) @ shares @ np.asarray(lines[1]) / kernel.sum() ** 2
    return smooth
