"""The check of inputs that all metrics share: finite numbers in rows of the same width, and enough rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.workspace.errors import UserError


class TooFewPointsError(UserError):
    """There are too few points for one metric; others may need fewer."""


def check(*, min_rows: int = 2, **sets: NDArray[Any]) -> None:
    """Check sets of points `[N, D]`, given by their names.

    Raises:
        TooFewPointsError: a set has fewer rows than `min_rows`.
        UserError: a set is no matrix of finite numbers, or the widths differ.
    """
    for name, points in sets.items():
        if not isinstance(points, np.ndarray) or points.dtype.kind not in "buif":
            raise UserError(f"{name}: an array of numbers is needed, not {getattr(points, 'dtype', type(points))}")
        if points.ndim != 2 or not points.shape[1]:
            raise UserError(f"{name}: rows of features [N, D] are needed, not an array of shape {points.shape}")
        if len(points) < min_rows:
            raise TooFewPointsError(f"{name}: {len(points)} rows, and this metric needs at least {min_rows}")
        if points.dtype.kind == "f" and not (np.isfinite(points.min()) and np.isfinite(points.max())):
            bad = int((~np.isfinite(points)).any(axis=1).sum())
            raise UserError(f"{name}: {bad} of {len(points)} rows hold NaN or infinity. Fix the model that made them")
    widths = {name: points.shape[1] for name, points in sets.items()}
    if len(set(widths.values())) > 1:
        raise UserError(f"sets of different widths cannot be compared: {widths}")
