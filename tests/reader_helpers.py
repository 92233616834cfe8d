"""Read configured data sets into memory, and write the raw files of small ones."""

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS, Prepared, Split
from lookalike.domain.variables import Array
from lookalike.readers.arrays import write
from lookalike.readers.contract import Source, from_arrays
from lookalike.workspace.arguments import arguments_of, check_arguments, target
from lookalike.workspace.configuration import compose


def read_data(data: str, folder: Path, **changes: Any) -> Source:
    """Return what the reader of a data set in conf/ finds below a folder of raw data, with changed arguments."""
    section = compose([f"data={data}"]).data.reader
    read = target(section, package="lookalike.readers")
    arguments = arguments_of(section) | {"folder": folder / section["folder"]} | changes
    arguments = check_arguments(read, arguments, section="data.reader", given=("name",))
    source: Source = read(name=data, **arguments)
    return source


def gathered(source: Source) -> tuple[dict[Split, Array], dict[Split, Array]]:
    """Return all values and labels of a source, by split."""
    chunks = list(source.chunks())
    values = {split: np.concatenate([chunk.values for chunk in chunks if chunk.split == split]) for split in SPLITS}
    labels = {split: np.concatenate([chunk.labels for chunk in chunks if chunk.split == split]) for split in SPLITS}
    return values, labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class InMemory:
    """A data set in memory: its fitted domain, values and labels by split, and what its reader expected."""

    domain: Domain
    values: dict[Split, Array]
    labels: dict[Split, Array]
    expected: dict[str, Any]

    def source(self) -> Source:
        """Return a source of these arrays."""
        return from_arrays(self.domain, self.values, self.labels, expected=self.expected)


def in_memory(source: Source, folder: Path) -> InMemory:
    """Return all that a source holds; its prepared arrays are written to a new folder, to fit the domain."""
    folder.mkdir(parents=True)
    write(source, folder)
    values, labels = gathered(source)
    expected = json.loads(json.dumps(source.expected))
    return InMemory(domain=Prepared(folder).domain, values=values, labels=labels, expected=expected)


def idx(array: NDArray[np.uint8]) -> bytes:
    """Return an array as the content of an IDX file."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
