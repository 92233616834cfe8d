"""Pictures of images: samples, the training images nearest to them, the places where samples and test data differ."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.domain.image import contact_sheet
from lookalike.report.cells import Row, Table

SHOWN, COLUMNS = 40, 8
"""Images of a grid of samples, and images per line."""

PAIRS = 16
"""Samples that are shown with the training images nearest to them, and images where samples and test data differ."""


def image_pictures(row: Row, table: Table, *, zoom: int = 1) -> dict[str, Image.Image]:
    """Return the pictures of a row of images, by name; a pixel of an image is `zoom` pixels wide.

    `samples` are its first samples; `nearest` shows samples above the training images nearest to them; `missed` are the
    test images farthest from any sample, and `made_up` the samples farthest from any test image. The last three are
    left out where the row has no rows of them.
    """
    shown = {"samples": row.samples[:SHOWN]}
    if (found := row.arrays.get("nearest_training_rows")) is not None:
        shown["nearest"] = above_nearest(row.samples, table.prepared.values("train"), found[:PAIRS])
    if "missed_rows" in row.arrays:
        split = row.metrics["coverage"]["reference"]
        shown["missed"] = table.prepared.values(split)[row.arrays["missed_rows"][:PAIRS]]
        shown["made_up"] = row.samples[row.arrays["made_up_rows"][:PAIRS]]
    return {name: contact_sheet(images, columns=COLUMNS, zoom=zoom) for name, images in shown.items()}


def above_nearest(samples: NDArray[Any], training: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """Return lines of samples, each followed by the line of training images of the given rows."""
    lines = [slice(start, min(start + COLUMNS, len(rows))) for start in range(0, len(rows), COLUMNS)]
    return np.concatenate([part for line in lines for part in (samples[line], training[rows[line]])])


def data_uri(image: Image.Image) -> str:
    """Return a picture as a data URI, one pixel per pixel; the page enlarges it."""
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
