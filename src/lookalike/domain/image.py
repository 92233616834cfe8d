"""Images: pixels of 8 bits or fewer, in one or three channels."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image as Pillow

from lookalike.domain.domain import Domain
from lookalike.domain.variables import Array, Ordered
from lookalike.workspace.errors import UserError

GAP = 2
"""Pixels between the images of a contact sheet."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image(Domain):
    """Images `[C, H, W]` whose pixels share one ordered variable; values are the grid points themselves, uint8."""

    kind: ClassVar[str] = "image"
    preview_count: ClassVar[int] = 48
    default_features: ClassVar[dict[str, Any] | None] = {"_target_": "lookalike.features.self_supervised.make"}

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def likelihood_unit(self) -> str:
        return "bits/dimension" if self.dimensions > 1 else "bits/observation"

    def to_values(self, grid: Array) -> Array:
        return grid.astype(np.uint8, copy=False)

    def to_grid(self, values: Array) -> Array:
        self.check_array(values)
        if self.levels < 256 and values.size and values.max() >= self.levels:
            raise UserError(f"{self.name}: a value of {values.max()} where the grid ends at {self.levels - 1}")
        return values

    def fitted(self, *, count: int, totals: Array, squares: Array, at_ends: Array) -> "Image":
        """Return this domain with the share of pixels at the ends of the grid; working units stay the middle ones."""
        shares = (at_ends / count).tolist()
        variables = [dataclasses.replace(v, at_ends=share) for v, share in zip(self.ordered, shares, strict=True)]
        return dataclasses.replace(self, variables=tuple(variables))

    def save_picture(self, values: Array, path: Path, *, title: str) -> None:
        """Write a contact sheet of the first 48 images."""
        contact_sheet(values[:48], columns=12, zoom=2 if self.shape[-1] <= 32 else 1).save(path)


def pixel(*, levels: int = 256, at_ends: float = 0.0) -> Ordered:
    """Return the variable of a pixel, whose working units fill [-1, 1]."""
    middle = (levels - 1) / 2
    return Ordered(levels=levels, unit="intensity", location=middle, scale=middle, at_ends=at_ends)


def contact_sheet(images: Array, *, columns: int, zoom: int = 2) -> "Pillow.Image":
    """Return images `[N, C, H, W]`, uint8, side by side in rows as one PIL image; a pixel is `zoom` pixels wide."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), 96, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = GAP + i // columns * (height + GAP), GAP + i % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    picture = Pillow.fromarray(sheet[:, :, 0] if channels == 1 else sheet[:, :, :3])
    return picture.resize((picture.width * zoom, picture.height * zoom), Pillow.Resampling.NEAREST)
