"""What one observation is: its shape, its integer grid, its labels, its unit of likelihood."""

import dataclasses
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domain:
    """A finite grid that every likelihood of a data set is a probability on.

    Grid point k of a dimension stands for the value `low + step * k`, recorded with the precision `step`; models see
    and return the integers k. `low`, `step`, `location` and `scale` hold one number for all dimensions or one each.

    Attributes:
        name: the data set's name.
        kind: "image" (shape `[C, H, W]`) or "vector" (shape `[D]`).
        shape: of one observation.
        levels: grid points a dimension.
        low: value of grid point 0.
        step: distance of two neighbouring grid points, in the data's unit.
        unit: what a value counts ("inch").
        labels: names of the classes; empty without labels.
        location, scale: the affine map to the models' working units, `(k - location) / scale`, in grid points. For
            images it fills [-1, 1]; for vectors it standardises the training data.
    """

    name: str
    kind: Literal["image", "vector"]
    shape: tuple[int, ...]
    levels: int
    low: tuple[float, ...]
    step: tuple[float, ...]
    unit: str
    labels: tuple[str, ...]
    location: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def dimensions(self) -> int:
        """Numbers in one observation."""
        return math.prod(self.shape)

    @property
    def likelihood_unit(self) -> str:
        """A bit a dimension, which for one dimension is a bit an observation."""
        return "bits/observation" if self.dimensions == 1 else "bits/dimension"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of stored values: 8-bit pixels as they are, vectors as float64."""
        return np.dtype(np.uint8 if self.kind == "image" else np.float64)

    def to_values(self, grid: Array) -> Array:
        """Grid points `[N, *shape]` to values of `dtype`, rounded to the decimals that `step` has."""
        if self.kind == "image":
            return grid.astype(self.dtype)
        decimals = max(0, *(-int(Decimal(repr(float(n))).as_tuple().exponent) for n in (*self.low, *self.step)))
        values: Array = np.round(np.asarray(self.low) + np.asarray(self.step) * grid, decimals)
        return values.astype(self.dtype)

    def to_grid(self, values: Array) -> Array:
        """Values `[N, *shape]` to grid points: uint8 for images, int64 for vectors.

        Raises:
            UserError: the values have another shape or type, are not finite, or do not lie on the grid.
        """
        if values.ndim != len(self.shape) + 1 or values.shape[1:] != self.shape:
            raise UserError(
                f"{self.name}: expected an array [N, {', '.join(map(str, self.shape))}], got {values.shape}"
            )
        if values.dtype != self.dtype:
            raise UserError(f"{self.name}: expected values of type {self.dtype}, got {values.dtype}")
        if self.kind == "image":
            if self.levels < 256 and values.size and values.max() >= self.levels:
                raise UserError(f"{self.name}: a value of {values.max()} where the grid ends at {self.levels - 1}")
            return values
        if not np.isfinite(values).all():
            raise UserError(f"{self.name}: {int((~np.isfinite(values)).sum())} values are NaN or infinite")
        exact = (values - np.asarray(self.low)) / np.asarray(self.step)
        grid: Array = np.round(exact).clip(-1, self.levels).astype(np.int64)
        off = (np.abs(exact - grid) > 1e-3) | (grid < 0) | (grid >= self.levels)
        if off.any():
            raise UserError(
                f"{self.name}: {int(off.sum())} values are not on the grid of {self.levels} points from {self.low} "
                f"in steps of {self.step}; the first is {values[off][0]}"
            )
        return grid

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Domain":
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**arguments)

    @classmethod
    def load(cls, path: Path) -> "Domain":
        return cls.from_dict(json.loads(path.read_text()))
