"""A checkerboard: uniform on every other square, in two dimensions, known exactly.

    p(x) = 2 / (S² a²) on the squares of side a = 8 / S whose row and column add up to an even number, else 0

Squares are a whole number of grid points wide. A grid point's probability is 2 / LEVELS² or 0, so the entropy is
log(LEVELS² / 2). The label of an observation is the square that it lies on.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.readers.contract import Source
from lookalike.readers.densities.grids import PLANE, Floats
from lookalike.workspace.errors import UserError
from lookalike.workspace.ranges import AtLeastTwo, Seed, settings

LEVELS = PLANE.levels


@settings
class Checkerboard(TypedDict):
    """The number S of `squares` per row, an even divisor of the number of grid points."""

    squares: Annotated[int, Ge(2), Le(16)]


def squares_of(density: Checkerboard) -> NDArray[np.int64]:
    """Return the number of the square that each grid point lies on `[LEVELS, LEVELS]`; -1 where the density is 0.

    Raises:
        UserError: the squares are not a whole number of grid points wide, or not as many of both colours.
    """
    side = density["squares"]
    if side % 2 or LEVELS % side:
        raise UserError(f"data.reader.density.squares={side}: choose one of 2, 4, 8, 16")
    row, column = np.divmod(np.arange(side * side), side)
    numbers = np.where((row + column) % 2 == 0, np.arange(side * side) // 2, -1).reshape(side, side)
    return numbers.repeat(LEVELS // side, axis=0).repeat(LEVELS // side, axis=1)


def log_prob(grid: NDArray[Any], density: Checkerboard) -> Floats:
    """Exact log-probability in nats `[N]` of grid points `[N, 2]`; minus infinity where the density is 0."""
    is_possible = squares_of(density)[grid[:, 0], grid[:, 1]] >= 0
    return np.where(is_possible, np.log(2 / LEVELS**2), -np.inf)


def read(
    folder: Path,
    *,
    name: str,
    density: Checkerboard,
    train: AtLeastTwo,
    validation: AtLeastTwo,
    test: AtLeastTwo,
    seed: Seed,
) -> Source:
    """Draw observations; nothing is read from `folder`.

    Args:
        name: name of the data set.
        density: the board's settings.
        train, validation, test: number of observations per split.
        seed: seed of the draws.
    """
    numbers = squares_of(density)
    grid = np.random.default_rng(seed).choice(np.argwhere(numbers >= 0), train + validation + test)
    labels = numbers[grid[:, 0], grid[:, 1]]
    names = tuple(map(str, range(density["squares"] ** 2 // 2)))
    expected = {"density": density, "entropy in nats": float(np.log(LEVELS**2 / 2))}
    splits = [train, validation, test]
    return PLANE.source(name, grid, splits=splits, classes=(names, labels), expected=expected)
