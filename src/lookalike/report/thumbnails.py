"""Small pictures of the first samples of many runs, at one scale, so that runs can be compared by eye."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lookalike.domain.domain import Domain
from lookalike.domain.image import contact_sheet
from lookalike.report import style
from lookalike.report.densities import bins
from lookalike.report.pictures import data_uri

Array = NDArray[Any]

SIZES = ((None, 1), (40, 1), (24, 1), (16, 1), (16, 2), (8, 2), (8, 4))
"""How small pictures get until a page is small enough: the number of images, None for all, and the divisor of sides."""

TRIED = 4
"""Pictures from which the size of all is estimated."""

COLUMNS = 8
"""Images per line."""

PLANES = 3
"""Columns of a table whose pairs are shown."""

POINTS = 500
"""Points of the data behind the samples."""

BINS = 24
"""Bins of a histogram of samples, over the range of the data."""


def picture(image: Image.Image, *, label: str) -> Markup:
    """Return an image element that needs no other file."""
    return Markup('<img src="{}" alt="{}" loading="lazy" width="{}" height="{}">').format(
        data_uri(image), label, *image.size
    )


def image_thumbnails(domain: Domain, drawn: dict[str, Array], data: Array | None, *, room: int) -> dict[str, Markup]:
    """Return a contact sheet of the first samples of each run, as large as all of them together have room for."""
    shown = drawn | ({} if data is None else {"": data[: max(map(len, drawn.values()))]})
    found: dict[str, Markup] = {}
    for count, divisor in SIZES:
        drawings = {run: partial(sheet, values[:count], divisor=divisor) for run, values in shown.items()}
        tried = [len(draw()) for draw in list(drawings.values())[:TRIED]]
        if (count, divisor) == SIZES[-1] or sum(tried) * len(shown) <= room * len(tried):
            found = within(room, drawings)
            if len(found) == len(shown):
                break
    return found


def within(room: int, drawings: Mapping[str, Callable[[], Markup]]) -> dict[str, Markup]:
    """Return the first pictures, as many as there is room for in bytes."""
    found: dict[str, Markup] = {}
    for run, draw in drawings.items():
        markup = draw()
        room -= len(markup)
        if room < 0:
            break
        found[run] = markup
    return found


def sheet(values: Array, *, divisor: int) -> Markup:
    """Return the contact sheet of images, whose sides are divided by a number."""
    image = contact_sheet(values, columns=COLUMNS, zoom=1)
    if divisor > 1:
        image = image.resize((image.width // divisor, image.height // divisor), Image.Resampling.BOX)
    return picture(image, label=f"the first {len(values)} samples")


def table_thumbnails(domain: Domain, drawn: dict[str, Array], data: Array | None, *, room: int) -> dict[str, Markup]:
    """Return a histogram of one column, or the first columns against each other, over the data where they are here.

    All runs have the same axes: the range of the data, or that of all samples where the data are not here.
    """
    shown = drawn | ({} if data is None else {"": data})
    behind = np.concatenate(list(drawn.values())) if data is None else data
    draw: Callable[..., list[Callable[[Any], None]]] = columns if domain.dimensions == 1 else planes
    panels = {run: draw(domain, None if run == "" else values, data, behind) for run, values in shown.items()}
    return within(room, {run: partial(drawing, own, name=f"run-{i}") for i, (run, own) in enumerate(panels.items())})


def drawing(panels: list[Callable[[Any], None]], *, name: str) -> Markup:
    """Return panels side by side as SVG for a page, under a name that is unique in it."""
    with style.styled(text="none"):
        figure = Figure(figsize=(2.6 if len(panels) == 1 else 1.7 * len(panels), 1.8), layout="constrained")
        for axes, draw in zip(np.ravel(figure.subplots(1, len(panels), squeeze=False)), panels, strict=True):
            draw(axes)
            axes.tick_params(labelsize=7)
        return Markup(style.inline(style.to_svg(figure, transparent=True), name=name))  # our own drawing


def columns(domain: Domain, values: Array | None, data: Array | None, behind: Array) -> list[Callable[[Any], None]]:
    """Return the histogram of the only column."""
    edges = bins(behind[:, 0].astype(np.float64), step=domain.ordered[0].step)
    top = 1.6 * max(np.histogram(behind[:, 0], edges, density=True)[0])
    return [partial(draw_column, values=values, data=data, edges=edges, top=top, title=domain.title_of(0))]


def draw_column(
    axes: Any, *, values: Array | None, data: Array | None, edges: NDArray[np.float64], top: float, title: str
) -> None:
    """Draw the histogram of samples over that of the data."""
    if data is not None:
        axes.stairs(np.histogram(data[:, 0], edges, density=True)[0], edges, fill=True, color=style.DATA)
    if values is not None:
        heights = np.histogram(values[:, 0], edges)[0] / (len(values) * np.diff(edges))
        axes.stairs(heights, edges, color=style.SAMPLES, lw=1.2)
        # Outliers are not within the axes; every sample has its mark at the bottom, also where bars hide each other.
        axes.plot(values[:, 0], np.zeros(len(values)), "|", color=style.SAMPLES, ms=5, mew=0.6)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, top)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(title)


def planes(domain: Domain, values: Array | None, data: Array | None, behind: Array) -> list[Callable[[Any], None]]:
    """Return the first columns against each other, pair by pair."""
    pairs = combinations(range(min(domain.dimensions, PLANES)), 2)
    return [partial(draw_plane, values=values, data=data, behind=behind, pair=pair, domain=domain) for pair in pairs]


def draw_plane(
    axes: Any, *, values: Array | None, data: Array | None, behind: Array, pair: tuple[int, int], domain: Domain
) -> None:
    """Draw samples as points over some points of the data."""
    if data is not None:
        axes.plot(*data[:POINTS, pair].T, ".", color=style.DATA, ms=2, mew=0)
    if values is not None:
        axes.plot(*values[:, pair].T, ".", color=style.SAMPLES, ms=4, mew=0)
    for which, d in zip("xy", pair, strict=True):
        low, high = behind[:, d].min(), behind[:, d].max()
        getattr(axes, f"set_{which}lim")(low - 0.1 * (high - low) - 1e-9, high + 0.1 * (high - low) + 1e-9)
        getattr(axes, f"set_{which}label")(domain.title_of(d))
    axes.locator_params(nbins=4)
