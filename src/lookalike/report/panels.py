"""What every panel is: a function that draws on axes, its size, its letters, and how panels stand side by side."""

from collections.abc import Callable
from typing import Any, Literal

import matplotlib.ticker
from matplotlib.figure import Figure

from lookalike.report import style

Draw = Callable[[Any], None]
"""Draws one panel on given axes."""

PANEL = (3.3, 2.1)
"""Inches of a panel."""


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


def legend_above(axes: Any, *, columns: int) -> None:
    """A legend where no curve can run through it."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}
    axes.legend(ncols=columns, handlelength=1.2, columnspacing=1.2, **place)


def is_wide(values: list[float]) -> bool:
    """Whether values are so far apart that only a logarithmic axis shows them all."""
    return min(values) > 0 and max(values) > 10 * min(values)


def logarithmic(axes: Any, which: Literal["x", "y"], values: list[float]) -> None:
    """Make an axis of values logarithmic; what is named are powers of ten, and thrice these where there are few."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    named = (1, 3) if max(values) < 100 * min(values) else (1,)
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=named, numticks=6))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
