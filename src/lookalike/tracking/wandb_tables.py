"""The first samples of a run as a table of Weights & Biases, by the kind of the data."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.domain import Domain

Cells = tuple[list[str], list[list[Any]]]
"""The columns and the rows of a table."""


def sample_table(domain: Domain, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return a `wandb.Table` with one row per sample.

    Args:
        domain: the domain of the samples.
        arrays: `samples`, `[N, *shape]`, and `labels`, `[N]`, if they have classes.
    """
    import wandb

    columns, rows = TABLES[domain.kind](domain, arrays["samples"])
    if "labels" in arrays and domain.labels:
        columns = [*columns, "class"]
        rows = [[*row, domain.labels[label]] for row, label in zip(rows, arrays["labels"], strict=True)]
    return wandb.Table(columns=columns, data=rows)


def images(_: Domain, samples: NDArray[Any]) -> Cells:
    """Return a column of pictures."""
    import wandb

    return ["image"], [[wandb.Image(np.moveaxis(sample, 0, -1))] for sample in samples]


def values(domain: Domain, samples: NDArray[Any]) -> Cells:
    """Return one column per variable."""
    names = [domain.title_of(d) or f"x{d}" for d in range(domain.dimensions)]
    return names, samples.astype(np.float64).tolist()


TABLES: dict[str, Callable[[Domain, NDArray[Any]], Cells]] = {"image": images, "table": values}
"""The function that makes the cells, by the kind of the data."""
