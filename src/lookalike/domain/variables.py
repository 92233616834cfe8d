"""Variables: the values that one number of an observation can take."""

import dataclasses
import math
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.workspace.errors import UserError

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ordered:
    """A number on a grid of evenly spaced values: a pixel, a height, a price.

    Grid point k stands for the value `low + step * k`, recorded with the precision `step`.

    Attributes:
        levels: number of grid points.
        low: value of grid point 0.
        step: distance between two neighbouring grid points, in the unit of the data.
        unit: what a value counts ("inch").
        missing: whether one more outcome, after the last grid point, stands for a missing value (NaN).
        location, scale: the affine map to the working units of networks, `(k - location) / scale`, in grid points.
        at_ends: share of the training values that lie on the first or the last grid point.
    """

    levels: int
    low: float = 0.0
    step: float = 1.0
    unit: str = ""
    missing: bool = False
    location: float = 0.0
    scale: float = 1.0
    at_ends: float = 0.0

    @property
    def outcomes(self) -> int:
        """Number of possible outcomes, a missing value among them."""
        return self.levels + self.missing

    def to_values(self, grid: Array) -> Array:
        """Return the values of grid points, float64, rounded to the decimals that `low` and `step` have."""
        decimals = max(0, *(-int(Decimal(repr(float(n))).as_tuple().exponent) for n in (self.low, self.step)))
        values: Array = np.round(self.low + self.step * grid.astype(np.float64), decimals)
        return np.where(grid == self.levels, np.nan, values) if self.missing else values

    def to_grid(self, values: Array, *, name: str) -> Array:
        """Return the grid points of values, int64.

        Raises:
            UserError: values are missing where none may be, infinite, or not on the grid; the message begins with
                `name`.
        """
        lost = np.isnan(values) if self.missing else np.zeros(values.shape, dtype=bool)
        if bad := int((~np.isfinite(values) & ~lost).sum()):
            raise UserError(f"{name}: {bad} values are NaN or infinite")
        exact = (np.where(lost, self.low, values) - self.low) / self.step
        grid: Array = np.round(exact).clip(-1, self.levels).astype(np.int64)
        off = (np.abs(exact - grid) > 1e-3) | (grid < 0) | (grid >= self.levels)
        if off.any():
            raise UserError(
                f"{name}: {int(off.sum())} values are not on the grid of {self.levels} points from {self.low} in steps "
                f"of {self.step}; the first is {values[off][0]}"
            )
        return np.where(lost, self.levels, grid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Categorical:
    """One of several names without an order: a letter, a carrier, yes or no.

    Attributes:
        names: the categories; grid point k stands for `names[k]`.
        missing: whether one more outcome, after the last name, stands for a missing value.
    """

    names: tuple[str, ...]
    missing: bool = False

    @property
    def outcomes(self) -> int:
        """Number of possible outcomes, a missing value among them."""
        return len(self.names) + self.missing


Variable = Ordered | Categorical


def variable_to_dict(variable: Variable) -> dict[str, Any]:
    """Return the fields of a variable and the name of its type, for JSON."""
    return {"type": type(variable).__name__, **dataclasses.asdict(variable)}


def variable_from_dict(fields: dict[str, Any]) -> Variable:
    """Return the variable that `variable_to_dict` described."""
    arguments: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    kind = arguments.pop("type")
    return Ordered(**arguments) if kind == "Ordered" else Categorical(**arguments)


def fitted(variable: Ordered, *, count: int, total: float, squares: float, at_ends: int) -> Ordered:
    """Return a variable whose working units standardize the training data.

    Args:
        variable: the variable as its reader describes it.
        count: number of training values.
        total, squares: sums of their grid points and of the squares of these.
        at_ends: how many lie on the first or the last grid point.
    """
    mean = total / count
    std = math.sqrt(max(squares / count - mean**2, 0.0))
    return dataclasses.replace(variable, location=mean, scale=std if std > 0 else 1.0, at_ends=at_ends / count)
