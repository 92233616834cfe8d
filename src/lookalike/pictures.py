"""Pictures of observations, made the same way wherever they are shown."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.core.domain import Domain

GAP = 2
"""Pixels between the images of a grid."""


def image_grid(images: NDArray[Any], *, columns: int, zoom: int = 2) -> Image.Image:
    """Images `[N, C, H, W]` (uint8, one or three channels) side by side, row by row, each pixel `zoom` pixels wide."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), 96, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = GAP + i // columns * (height + GAP), GAP + i % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    picture = Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet[:, :, :3])
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def histogram(values: NDArray[Any], domain: Domain, *, title: str) -> Any:
    """Histograms of vectors `[N, D]`, a panel for each of the first six dimensions: a matplotlib figure."""
    from matplotlib.figure import Figure

    shown = min(values.shape[1], 6)
    figure = Figure(figsize=(4.8 * min(shown, 3), 3.2 * -(-shown // 3)), layout="constrained")
    for d, axes in enumerate(np.ravel(figure.subplots(-(-shown // 3), min(shown, 3), squeeze=False))[:shown]):
        # At least a grid step wide, so that a model that draws one value is shown too.
        step = domain.step[d % len(domain.step)]
        edges = np.linspace(values[:, d].min() - step / 2, values[:, d].max() + step / 2, 61)
        axes.hist(values[:, d], bins=edges, color="#3b6ea5")
        axes.set_xlabel(domain.unit if shown == 1 else f"dimension {d} ({domain.unit})")
        axes.set_ylabel("count")
    figure.suptitle(title)
    return figure


def save_picture(values: NDArray[Any], domain: Domain, path: Any, *, title: str) -> None:
    """A PNG of observations: a grid of the first 48 images, or histograms. The same values give the same bytes."""
    if domain.kind == "image":
        image_grid(values[:48], columns=12).save(path)
    else:
        histogram(values, domain, title=title).savefig(path, dpi=110, metadata={"Software": None})
