"""Panels of two dimensions: contours of P_model over P_data, and both as maps in one scale.

P_data is the truth where it is known, else a histogram of all the data. P_model is what the model itself says, else a
histogram of its samples. Both are drawn over the part of the grid where data are.
"""

import dataclasses
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.data import SPLITS
from lookalike.report import style
from lookalike.report.cells import REAL, Row, Table
from lookalike.report.panels import Draw

Floats = NDArray[np.float64]

MAP = (2.6, 2.5)
"""Inches of a panel."""

HELD = (0.5, 0.9)
"""Shares of the probability that contours hold, in the smallest region that does."""

SIDE = 64
"""Squares along each axis of a histogram of data or samples."""

COLOURS = "cividis"
"""Made for every kind of sight (Nuñez et al., Optimizing colormaps, 2018)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Map:
    """Probabilities of the squares of a plane.

    Attributes:
        shares: `[n, n]`, first dimension first.
        side: of a square, in grid points.
        counted: from data or samples, rather than told by a model or the truth.
    """

    shares: Floats
    side: int
    counted: bool

    @property
    def density(self) -> Floats:
        """Probability a grid point."""
        return self.shares / self.side**2


def is_plane(table: Table) -> bool:
    return table.prepared.domain.kind == "vector" and table.prepared.domain.dimensions == 2


def map_of(row: Row, table: Table) -> Map:
    """P_model of a family; P_data for real data."""
    levels = table.prepared.domain.levels
    if "density_map" in row.arrays:
        told = row.arrays["density_map"].astype(np.float64)
        return Map(shares=told, side=-(-levels // len(told)), counted=False)
    values = row.samples
    if row.model == REAL:
        values = np.concatenate([np.asarray(table.prepared.values(split)) for split in SPLITS])
    side = -(-levels // SIDE)
    edges = np.arange(-(-levels // side) + 1) * side - 0.5
    points = table.prepared.domain.to_grid(values)
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=(edges, edges))[0]
    return Map(shares=counts / len(values), side=side, counted=True)


def contour_panels(table: Table) -> dict[str, Draw]:
    """A panel for each family on a data set of two dimensions: all share their axes. None for other data."""
    if not is_plane(table):
        return {}
    data = map_of(table.real, table)
    return {
        row.model: partial(draw_contours, model=map_of(row, table), data=data, table=table) for row in table.families
    }


def map_panels(table: Table) -> dict[str, Draw]:
    """P_data and what each family makes of it, side by side in one scale. None for data of other dimensions."""
    if not is_plane(table):
        return {}
    data = map_of(table.real, table)
    top = float(data.density.max())
    title = "data" if data.counted else "truth"
    rows = {title: data} | {row.model: map_of(row, table) for row in table.families}
    return {name: partial(draw_map, shown=shown, top=top, table=table) for name, shown in rows.items()}


def draw_contours(axes: Any, *, model: Map, data: Map, table: Table) -> None:
    """P_data in grey, and lines around the smallest regions that hold shares of P_model."""
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
    """One map; what lies above the top of the scale is drawn as bright as that."""
    density = blurred(shown.density) if shown.counted else shown.density
    show(axes, np.sqrt(density / top), shown, table, cmap=COLOURS, vmin=0, vmax=1)
    axes.grid(visible=False)
    frame(axes, table)


def show(axes: Any, values: NDArray[Any], shown: Map, table: Table, **look: Any) -> None:
    """Squares where they lie, first dimension across."""
    edges: list[float] = []
    for d, step in enumerate(both(table.prepared.domain.step)):
        middles = places(shown, table, dimension=d)
        edges += [middles[0] - shown.side * step / 2, middles[-1] + shown.side * step / 2]
    axes.imshow(np.swapaxes(values, 0, 1), origin="lower", extent=edges, interpolation="none", aspect="auto", **look)


def both(numbers: tuple[float, ...]) -> tuple[float, float]:
    """A domain's numbers, of which there is one for all dimensions or one each."""
    return numbers[0], numbers[-1]


def places(shown: Map, table: Table, *, dimension: int) -> Floats:
    """Values in the middle of each square along a dimension."""
    domain = table.prepared.domain
    low, step = both(domain.low)[dimension], both(domain.step)[dimension]
    numbers = np.arange(len(shown.shares), dtype=np.float64)
    middles: Floats = low + step * (shown.side * numbers + (shown.side - 1) / 2)
    return middles


def frame(axes: Any, table: Table) -> None:
    """The same part of the plane in all panels: where data are, and a tenth more on each side."""
    values = np.concatenate([np.asarray(table.prepared.values(split)) for split in SPLITS])
    low, high = values.min(axis=0), values.max(axis=0)
    room = 0.1 * np.maximum(high - low, both(table.prepared.domain.step))
    axes.set_xlim(low[0] - room[0], high[0] + room[0])
    axes.set_ylim(low[1] - room[1], high[1] + room[1])
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=10)  # two stand side by side on a phone


def region_levels(shares: Floats) -> list[float]:
    """Levels above which the shares of `HELD` lie, lowest first; none where a map is flat."""
    falling = np.sort(shares.ravel())[::-1]
    held = np.searchsorted(falling.cumsum() / falling.sum(), HELD).clip(max=len(falling) - 1)
    # Just below the level itself, or a plateau would have its contour nowhere.
    found = {float(level) * (1 - 1e-6) for level in falling[held]}
    return sorted(level for level in found if shares.min() < level < shares.max())


def blurred(shares: Floats) -> Floats:
    """A histogram under a normal kernel of one square's width: what a few thousand points can show."""
    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    width = len(shares)
    # What the kernel lays on every square of a line, beyond whose ends nothing is.
    spread = sum(np.eye(width, k=offset) * weight for offset, weight in zip(range(-3, 4), kernel, strict=True))
    smooth: Floats = np.asarray(spread) @ shares @ np.asarray(spread) / kernel.sum() ** 2
    return smooth
