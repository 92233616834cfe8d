"""What every metric asks of its input: finite numbers in rows of one width, and enough of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError


def check(*, least: int = 2, **sets: NDArray[Any]) -> None:
    """Refuse sets of points `[N, D]`, given by their names, that no number can be made of.

    Raises:
        UserError: not a matrix of finite numbers, of different widths, or fewer rows than `least`.
    """
    for name, points in sets.items():
        if not isinstance(points, np.ndarray) or points.dtype.kind not in "buif":
            raise UserError(f"{name}: an array of numbers is needed, not {getattr(points, 'dtype', type(points))}")
        if points.ndim != 2 or not points.shape[1]:
            raise UserError(f"{name}: rows of features [N, D] are needed, not an array of shape {points.shape}")
        if len(points) < least:
            raise UserError(f"{name}: {len(points)} rows, and this metric needs at least {least}")
        if points.dtype.kind == "f" and not (np.isfinite(points.min()) and np.isfinite(points.max())):
            bad = int((~np.isfinite(points)).any(axis=1).sum())
            raise UserError(f"{name}: {bad} of {len(points)} rows hold NaN or infinity. Fix the model that made them")
    widths = {name: points.shape[1] for name, points in sets.items()}
    if len(set(widths.values())) > 1:
        raise UserError(f"sets of different widths cannot be compared: {widths}")
