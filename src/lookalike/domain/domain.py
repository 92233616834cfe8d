"""The description of one observation: shape, variables, labels, and the finite grid of all likelihoods."""

import dataclasses
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lookalike.domain.variables import Array, Ordered, Variable, variable_to_dict
from lookalike.workspace.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domain(ABC):
    """A finite grid: every likelihood of a data set is a probability on it.

    Models see and return grid points, integers `[N, *shape]`; users see values. There is one subclass per kind of
    data, in a file of its own beside this one, listed in `kinds.py`.

    Attributes:
        name: the data set's name.
        shape: shape of one observation.
        variables: one variable for all places of the shape, or one each.
        labels: names of the classes; empty without labels.
    """

    name: str
    shape: tuple[int, ...]
    variables: tuple[Variable, ...]
    labels: tuple[str, ...] = ()

    kind: ClassVar[str]
    preview_count: ClassVar[int]
    """Number of samples that a preview during training shows."""
    default_features: ClassVar[dict[str, Any] | None]
    """The feature extractor where `data.features` is null; None compares values as they are."""

    @property
    def dimensions(self) -> int:
        """Number of places in one observation."""
        return math.prod(self.shape)

    @property
    def levels(self) -> int:
        """Number of outcomes per place; the largest one where variables differ."""
        return max(variable.outcomes for variable in self.variables)

    @property
    def ordered(self) -> tuple[Ordered, ...]:
        """The variables, all of them ordered, with the same number of levels and none with missing values.

        Raises:
            UserError: a variable is categorical, has missing values or another number of levels.
        """
        found = tuple(v for v in self.variables if isinstance(v, Ordered) and not v.missing and v.levels == self.levels)
        if len(found) < len(self.variables):
            raise UserError(
                f"{self.name} has categorical columns, missing values or columns of unequal grids, which no family "
                f"models yet"
            )
        return found

    @property
    def grid_dtype(self) -> np.dtype[Any]:
        """The smallest type that torch computes with and that holds every grid point."""
        most = self.levels - 1
        return np.dtype(np.uint8 if most < 2**8 else np.int16 if most < 2**15 else np.int32)

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of stored values."""

    @property
    @abstractmethod
    def likelihood_unit(self) -> str:
        """The unit of a likelihood divided by the number of places, such as "bits/dimension"."""

    @abstractmethod
    def to_values(self, grid: Array) -> Array:
        """Return the values `[N, *shape]`, of `dtype`, of grid points."""

    @abstractmethod
    def to_grid(self, values: Array) -> Array:
        """Return the grid points `[N, *shape]` of values.

        Raises:
            UserError: the values have another shape or type, or do not lie on the grid.
        """

    @abstractmethod
    def save_picture(self, values: Array, path: Path, *, title: str) -> None:
        """Write a PNG of observations `[N, *shape]`; the same values give the same bytes."""

    def fitted(self, *, count: int, totals: Array, squares: Array, at_ends: Array) -> "Domain":
        """Return this domain with what its variables learn from the training data; by default nothing.

        Args:
            count: number of training values per variable.
            totals, squares: sums of their grid points and of the squares of these, `[variables]`.
            at_ends: how many lie on the first or the last grid point, `[variables]`.
        """
        return self

    def title_of(self, d: int) -> str:
        """Return what variable d is called; empty where all places share one variable."""
        return ""

    def check_array(self, values: Array) -> None:
        """Raise a UserError unless values have the shape and the type of this domain."""
        if values.ndim != len(self.shape) + 1 or values.shape[1:] != self.shape:
            raise UserError(
                f"{self.name}: expected an array [N, {', '.join(map(str, self.shape))}], got {values.shape}"
            )
        if values.dtype != self.dtype:
            raise UserError(f"{self.name}: expected values of type {self.dtype}, got {values.dtype}")

    def read(self, data: list[Any]) -> Array:
        """Return the grid points `[N, *shape]` of nested lists of values, such as JSON holds.

        Raises:
            UserError: the lists have another shape, or values do not lie on the grid.
        """
        try:
            values = np.array(data, dtype=np.float64)
        except (ValueError, TypeError):
            shape = ", ".join(map(str, self.shape))
            raise UserError(f"data: lists of unequal length; give an array [N, {shape}]") from None
        stored = values.astype(self.dtype, casting="unsafe")
        if (off := (stored != values) & ~np.isnan(values)).any():
            raise UserError(f"data: {values[off][0]:g} is not on the grid of {self.name}")
        return self.to_grid(stored)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that `kinds.load_domain` needs to make this domain again, for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "variables": [variable_to_dict(variable) for variable in self.variables],
            "labels": list(self.labels),
        }
