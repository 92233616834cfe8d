"""The contract of readers, and the checks that they share.

A reader is for a format. Its file holds one function,

    def read(folder: Path, *, name: str, **arguments) -> Source

which describes the data set `name` that lies in `folder` and yields it in chunks. The arguments stand under
`data.reader` in the data set's file in `conf/data/`.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS, Split
from lookalike.domain.variables import Array
from lookalike.workspace.errors import UserError

CHUNK_BYTES = 2**20
"""Size of the values of one chunk. It bounds the memory that preparing a data set takes."""

RESTORE = "Delete the file and run `lookalike data`, or put back your own original"
"""Advice on a damaged file."""

Rows = NDArray[np.int64]


class Chunk(NamedTuple):
    """Some observations of one split, in the order in which they are stored.

    Attributes:
        split: the split that they belong to.
        values: `[N, *shape]`, of the domain's `dtype`.
        labels: class numbers `[N]`; an array of length 0 if the data have no classes.
    """

    split: Split
    values: Array
    labels: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The data that a reader found.

    Attributes:
        domain: what one observation is. Whatever has to be learned from the training data, such as a column's location
            and scale, is fitted later, while the chunks are written.
        chunks: returns the chunks from the first one on; each split takes as many as it needs.
        expected: what the reader compared the data with, for the summary.
    """

    domain: Domain
    chunks: Callable[[], Iterator[Chunk]]
    expected: dict[str, Any]


def in_chunks(
    domain: Domain, split: Split, rows: Rows, values: Callable[[Rows], Array], labels: Array
) -> Iterator[Chunk]:
    """Yield the chunks of one split.

    Args:
        domain: the domain of the values.
        split: the split that the rows belong to.
        rows: numbers of the observations `[N]`, in the order in which they are stored.
        values: returns the values `[n, *shape]` of some rows `[n]`.
        labels: class numbers of all observations, indexed by row; an array of length 0 if there are no classes.
    """
    size = rows_per_chunk(domain.dimensions * domain.dtype.itemsize)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield Chunk(split, values(part), labels[part] if len(labels) else labels)


def rows_per_chunk(row_bytes: int) -> int:
    """Return how many rows of a given size a chunk holds."""
    return max(1, CHUNK_BYTES // row_bytes)


def from_arrays(
    domain: Domain, values: Mapping[Split, Array], labels: Mapping[Split, Array], *, expected: dict[str, Any]
) -> Source:
    """Return a source of data that are in memory: values `[N, *shape]` and class numbers `[N]` by split."""

    def chunks() -> Iterator[Chunk]:
        for split in SPLITS:
            yield from in_chunks(domain, split, np.arange(len(values[split])), values[split].__getitem__, labels[split])

    return Source(domain=domain, chunks=chunks, expected=expected)


def split_at_random(count: int, sizes: list[int], *, seed: int) -> list[Rows]:
    """Cut a random permutation of `range(count)` into parts of the given sizes; the rest is the last part."""
    order = np.random.default_rng(seed).permutation(count)
    return np.split(order, np.cumsum(sizes))


def check_file(path: Path) -> None:
    """Raise a UserError that says how to get the raw data if a file of it is missing."""
    if not path.is_file():
        raise UserError(
            f"raw data missing: {path}. `lookalike data` brings the bundled data sets; put your own files there"
        )


def check_md5(path: Path, content: BinaryIO, expected: str) -> None:
    """Raise a UserError that names the file if the MD5 sum of its content is not the expected one."""
    content.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while part := content.read(2**20):
        digest.update(part)
    if (actual := digest.hexdigest()) != expected:
        raise UserError(f"raw data altered: {path} has md5 {actual}, expected is {expected}. {RESTORE}")
