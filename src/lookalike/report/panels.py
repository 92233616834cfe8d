"""Panels: a function that draws on axes, its size, and how several panels stand side by side."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import matplotlib.ticker
from matplotlib.figure import Figure

from lookalike.report import style

Draw = Callable[[Any], None]
"""Draws one panel on given axes."""

PANEL = (3.3, 2.1)
"""Size of a panel in inches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panels:
    """The panels of one figure, by title, and the size of each in inches."""

    draws: dict[str, Draw]
    size: tuple[float, float]


def panel(draw: Draw, *, size: tuple[float, float] = PANEL) -> str:
    """Return one panel as SVG for a page, with text in the reader's fonts."""
    with style.styled(text="none"):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        return style.to_svg(figure, transparent=True)


def sheet(panels: Panels) -> str:
    """Return all panels of a figure as one SVG, with their titles above them."""
    count = len(panels.draws)
    columns = 2 if count == 4 else min(3, count)
    rows = -(-count // columns)
    with style.styled(text="path"):
        size = (panels.size[0] * columns, (panels.size[1] + 0.25) * rows)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[count:]:
            axes.set_axis_off()
        for axes, (title, draw) in zip(grid, panels.draws.items(), strict=False):
            draw(axes)
            axes.set_title(title, pad=14)
        return style.to_svg(figure)


def legend_above(axes: Any, *, columns: int) -> None:
    """Put the legend above the axes, where no curve runs through it."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}
    axes.legend(ncols=columns, handlelength=1.2, columnspacing=1.2, **place)


def is_wide(values: list[float]) -> bool:
    """Return whether values are so far apart that only a logarithmic axis shows them all."""
    return min(values) > 0 and max(values) > 10 * min(values)


def logarithmic(axes: Any, which: Literal["x", "y"], values: list[float]) -> None:
    """Make an axis logarithmic, with labels at powers of ten, and at three times these where there are few."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    labelled = (1, 3) if max(values) < 100 * min(values) else (1,)
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=labelled, numticks=6))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
