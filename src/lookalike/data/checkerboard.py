"""A checkerboard: uniform on every other square, in two dimensions, known exactly.

    p(x) = 2 / (S² a²) on the squares of side a = 8 / S whose row and column add up to an even number, else 0

Squares are whole numbers of grid points wide, so a grid point's probability is 2 / LEVELS² or none, and the entropy is
log(LEVELS² / 2). Which square an observation is on is its label.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.core.errors import UserError
from lookalike.core.ranges import AtLeastTwo, Seed, settings
from lookalike.data import Raw
from lookalike.data.densities import PLANE, Floats

LEVELS = PLANE.levels


@settings
class Checkerboard(TypedDict):
    """`squares` S in a row: an even divisor of the grid's points."""

    squares: Annotated[int, Ge(2), Le(16)]


def squares_of(density: Checkerboard) -> NDArray[np.int64]:
    """The number of the square that each grid point is on `[LEVELS, LEVELS]`, -1 for those that have no probability.

    Raises:
        UserError: squares that are not a whole number of grid points wide, or not as many of both colours.
    """
    side = density["squares"]
    if side % 2 or LEVELS % side:
        raise UserError(f"data.reader.density.squares={side}: choose one of 2, 4, 8, 16")
    row, column = np.divmod(np.arange(side * side), side)
    numbers = np.where((row + column) % 2 == 0, np.arange(side * side) // 2, -1).reshape(side, side)
    return numbers.repeat(LEVELS // side, axis=0).repeat(LEVELS // side, axis=1)


def log_prob(grid: NDArray[Any], density: Checkerboard) -> Floats:
    """Exact log-probability in nats `[N]` of grid points `[N, 2]`; minus infinity off the squares."""
    inked = squares_of(density)[grid[:, 0], grid[:, 1]] >= 0
    return np.where(inked, np.log(2 / LEVELS**2), -np.inf)


def read(
    folder: Path, *, density: Checkerboard, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw observations; `folder` holds nothing to read.

    Args:
        density: the board.
        train, validation, test: observations of each split.
        seed: of the draws.
    """
    numbers = squares_of(density)
    grid = np.random.default_rng(seed).choice(np.argwhere(numbers >= 0), train + validation + test)
    labels = numbers[grid[:, 0], grid[:, 1]]
    names = tuple(map(str, range(density["squares"] ** 2 // 2)))
    expected = {"density": density, "entropy in nats": float(np.log(LEVELS**2 / 2))}
    splits = [train, validation, test]
    return PLANE.raw("checkerboard", grid, splits=splits, classes=(names, labels), expected=expected)
