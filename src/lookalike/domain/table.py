"""Tables: one number per column, each on the grid of its own variable."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lookalike.domain.domain import Domain
from lookalike.domain.variables import Array, fitted

SHOWN = 6
"""Columns that a picture shows at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(Domain):
    """Rows `[columns]` with one variable per column; values are float64.

    Attributes:
        columns: names of the columns; empty where they have none.
    """

    columns: tuple[str, ...] = ()

    kind: ClassVar[str] = "table"
    preview_count: ClassVar[int] = 500
    default_features: ClassVar[dict[str, Any] | None] = None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def likelihood_unit(self) -> str:
        return "bits/dimension" if self.dimensions > 1 else "bits/observation"

    def to_values(self, grid: Array) -> Array:
        columns = [variable.to_values(grid[..., d]) for d, variable in enumerate(self.ordered)]
        return np.stack(columns, axis=-1).astype(self.dtype)

    def to_grid(self, values: Array) -> Array:
        self.check_array(values)
        names = [f"{self.name}, {column}" for column in self.columns] or [self.name] * self.dimensions
        columns = [variable.to_grid(values[..., d], name=names[d]) for d, variable in enumerate(self.ordered)]
        return np.stack(columns, axis=-1).astype(self.grid_dtype)

    def fitted(self, *, count: int, totals: Array, squares: Array, at_ends: Array) -> "Table":
        """Return this domain with working units that standardize every column of the training data."""
        variables = [
            fitted(variable, count=count, total=float(totals[d]), squares=float(squares[d]), at_ends=int(at_ends[d]))
            for d, variable in enumerate(self.ordered)
        ]
        return dataclasses.replace(self, variables=tuple(variables))

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"columns": list(self.columns)}

    def title_of(self, d: int) -> str:
        """Return what the axis of column d is called: its name, or its number where there are several, and its unit."""
        unit = self.ordered[d].unit
        name = self.columns[d] if self.columns else f"column {d}" if self.dimensions > 1 else ""
        return f"{name} ({unit})" if name and unit else name or unit

    def save_picture(self, values: Array, path: Path, *, title: str) -> None:
        """Write histograms, one panel for each of the first six columns."""
        from matplotlib.figure import Figure

        shown = min(values.shape[1], SHOWN)
        figure = Figure(figsize=(4.8 * min(shown, 3), 3.2 * -(-shown // 3)), layout="constrained")
        panels = np.ravel(figure.subplots(-(-shown // 3), min(shown, 3), squeeze=False))
        for d, axes in enumerate(panels[:shown]):
            # The range spans at least one grid step, so that a model that draws a single value is shown too.
            half = self.ordered[d].step / 2
            edges = np.linspace(values[:, d].min() - half, values[:, d].max() + half, 61)
            axes.hist(values[:, d], bins=edges, color="#3b6ea5")
            axes.set_xlabel(self.title_of(d))
            axes.set_ylabel("count")
        figure.suptitle(title)
        figure.savefig(path, dpi=110, metadata={"Software": None})
