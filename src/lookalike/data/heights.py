"""Galton's heights: 934 adults, in inches, recorded to a tenth of an inch (Francis Galton, 1886).

The table GaltonFamilies of the R package HistData; 453 women (mean 64.10, standard deviation 2.36) and 481 men
(69.23, 2.62).
"""

import csv
import io
from pathlib import Path

import numpy as np

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.ranges import Fraction, NonNegativeInt
from lookalike.data import Raw, check_file, check_md5, split_at_random

FILE = "galton_families.csv"
MD5 = "c4cd3ded0497e9649d9e33d5257c29ce"
SEXES = ("female", "male")
# From nobody to 12.7 cm above the tallest man on record (Robert Wadlow, 272 cm), so that no model is given the range
# of these data for free.
LEVELS, LOW, STEP = 1120, 0.0, 0.1


def read(folder: Path, *, validation: Fraction, test: Fraction, seed: NonNegativeInt) -> Raw:
    """Read the table and split it at random.

    Args:
        folder: the folder that holds the table.
        validation, test: shares of the people held out.
        seed: of that choice.
    """
    path = folder / FILE
    check_file(path)
    content = path.read_bytes()
    check_md5(path, content, MD5)
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    heights = np.array([[float(row["height_in"])] for row in rows])
    sexes = np.array([SEXES.index(row["sex"]) for row in rows], dtype=np.uint8)
    sizes = [round(len(rows) * validation), round(len(rows) * test)]
    if min(*sizes, len(rows) - sum(sizes)) < 2:
        raise UserError(
            f"data.reader.validation={validation}, data.reader.test={test}: of {len(rows)} people, each split needs two"
        )
    held_out, tested, kept = split_at_random(len(rows), sizes, seed=seed)
    grid = np.round((heights[kept] - LOW) / STEP)
    return Raw(
        domain=Domain(
            name="heights",
            kind="vector",
            shape=(1,),
            levels=LEVELS,
            low=(LOW,),
            step=(STEP,),
            unit="inch",
            labels=SEXES,
            location=(float(grid.mean()),),
            scale=(float(grid.std()),),
        ),
        values={"train": heights[kept], "validation": heights[held_out], "test": heights[tested]},
        labels={"train": sexes[kept], "validation": sexes[held_out], "test": sexes[tested]},
        expected={"md5": MD5, "people": 934, "women": 453, "men": 481},
    )
