"""Numeric columns of a CSV file, whose first line names the columns.

A column's grid is known from its lowest value, its step and its number of grid points. What the configuration leaves
out is derived from the file: the step from the number of decimals that are written, the rest from the range.
"""

import contextlib
import csv
import dataclasses
import itertools
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.domain.table import Table
from lookalike.domain.variables import Ordered
from lookalike.readers.contract import (
    Chunk,
    Source,
    check_file,
    check_md5,
    in_chunks,
    rows_per_chunk,
    split_at_random,
)
from lookalike.workspace.errors import UserError
from lookalike.workspace.ranges import AtLeastTwo, Fraction, NonNegativeInt, PositiveFloat, settings

Floats = NDArray[np.float64]

MAX_LEVELS = 2**15
"""Largest number of grid points that a column's derived grid may have."""


@settings
class Column(TypedDict, total=False):
    """The grid of a column: lowest value, step between values, number of grid points; and its unit."""

    low: float
    step: PositiveFloat
    levels: AtLeastTwo
    unit: str


@settings
class Expected(TypedDict, total=False):
    """Expected content of the file: the number of rows, and the number of rows per class."""

    rows: int
    classes: dict[str, int]


@dataclasses.dataclass(kw_only=True)
class Scan:
    """One pass over a CSV file, which moves its numbers to a temporary file.

    Attributes:
        path: the file.
        columns: names of the numeric columns.
        label: name of the column of classes.
        is_derived: for each column, whether its step is derived from its decimals.
        numbers: the temporary file of the numbers, float64, row by row.
        labels: the class of each row, numbered in the order of occurrence.
        classes: the number of each class.
        low, high: least and greatest number per column.
        decimals: most decimals per column.
    """

    path: Path
    columns: list[str]
    label: str | None
    is_derived: list[bool]
    numbers: BinaryIO = dataclasses.field(default_factory=tempfile.TemporaryFile)
    labels: list[NDArray[np.int64]] = dataclasses.field(default_factory=list)
    classes: dict[str, int] = dataclasses.field(default_factory=dict)
    low: Floats = dataclasses.field(default_factory=lambda: np.array(math.inf))
    high: Floats = dataclasses.field(default_factory=lambda: np.array(-math.inf))
    decimals: list[int] = dataclasses.field(default_factory=list)

    def run(self, lines: Iterator[tuple[int, list[str]]], header: list[str]) -> None:
        """Read all rows; `lines` yields the number of a line and its cells."""
        places = [header.index(column) for column in self.columns]
        label = None if self.label is None else header.index(self.label)
        self.decimals = [0] * len(places)
        size = rows_per_chunk(100 * len(header))  # a cell takes about 100 bytes as a Python string
        while batch := list(itertools.islice(lines, size)):
            for line, cells in batch:
                if len(cells) != len(header):
                    raise UserError(
                        f"{self.path}, line {line}: {len(cells)} cells where the header names {len(header)} columns"
                    )
            numbers = self.numbers_of(batch, places)
            self.low, self.high = np.minimum(self.low, numbers.min(axis=0)), np.maximum(self.high, numbers.max(axis=0))
            for d, place in enumerate(places):
                if self.is_derived[d]:
                    self.decimals[d] = max(self.decimals[d], max(decimals(cells[place]) for _, cells in batch))
            self.numbers.write(numbers.tobytes())
            if label is not None:
                names = [cells[label] for _, cells in batch]
                self.labels.append(np.array([self.classes.setdefault(name, len(self.classes)) for name in names]))

    def numbers_of(self, batch: list[tuple[int, list[str]]], places: list[int]) -> Floats:
        """Return the numbers in the cells of some lines, `[lines, columns]`.

        Raises:
            UserError: a cell is empty, or holds something else than a finite number.
        """
        with contextlib.suppress(ValueError):
            numbers = np.array([[cells[place] for place in places] for _, cells in batch], dtype=np.float64)
            if np.isfinite(numbers).all():
                return numbers
        line, column, cell = next(
            (line, column, cells[place])
            for line, cells in batch
            for column, place in zip(self.columns, places, strict=True)
            if not is_number(cells[place])
        )
        raise UserError(
            f"{self.path}, line {line}: {column} is {cell!r}, which is not a number. Missing values and text are not "
            f"supported; list the numeric columns under data.reader.columns, and remove rows without a value"
        )

    def class_numbers(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Return the sorted names of the classes and the class number of each row; both are empty without classes."""
        is_numbered = all(name.isdecimal() for name in self.classes)
        names = sorted(self.classes, key=(lambda name: int(name)) if is_numbered else None)
        if not names:
            return (), np.zeros(0, dtype=np.int64)
        rank = np.argsort([self.classes[name] for name in names])
        return tuple(names), rank[np.concatenate(self.labels)]


def is_number(cell: str) -> bool:
    """Return whether a cell holds a finite number."""
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def decimals(cell: str) -> int:
    """Return how many decimals a number is written with."""
    mantissa, _, exponent = cell.strip().lower().partition("e")
    return max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))


def variable_of(column: str, grid: Column, *, low: float, high: float, decimals: int) -> Ordered:
    """Return the variable of a column of numbers between `low` and `high`, on a grid that may leave things open.

    Raises:
        UserError: the derived grid has too many grid points.
    """
    step = grid.get("step", float(f"1e-{decimals}"))
    start = grid.get("low", low)
    levels = grid.get("levels", round((high - start) / step) + 1)
    if levels > MAX_LEVELS and "levels" not in grid:
        raise UserError(
            f"data.reader.columns.{column}: {levels} grid points from {start:g} to {high:g} in steps of {step:g}, of "
            f"which there may be {MAX_LEVELS}; round the numbers, or set its step"
        )
    return Ordered(levels=max(levels, 2), low=start, step=step, unit=grid.get("unit", ""))


def variables_of(scan: Scan, grids: list[Column]) -> tuple[Ordered, ...]:
    """Return the variables of all columns, which share the largest number of grid points."""
    variables = [
        variable_of(column, grids[d], low=float(scan.low[d]), high=float(scan.high[d]), decimals=scan.decimals[d])
        for d, column in enumerate(scan.columns)
    ]
    most = max(variable.levels for variable in variables)
    return tuple(dataclasses.replace(variable, levels=most) for variable in variables)


def scanned(path: Path, columns: dict[str, Column] | None, label: str | None) -> tuple[Scan, list[Column]]:
    """Return what a file holds, and the configured grids of its numeric columns.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            grids = {name: Column() for name in header if name != label} if columns is None else columns
            for name in (*grids, *([] if label is None else [label])):
                if header.count(name) != 1:
                    raise UserError(f"{path}: {header.count(name)} columns are named {name!r}; there are {header}")
            if not grids:
                raise UserError(f"{path}: there is no column to read besides {label!r}")
            is_derived = ["step" not in grid for grid in grids.values()]
            scan = Scan(path=path, columns=list(grids), label=label, is_derived=is_derived)
            scan.run(((reader.line_num, cells) for cells in reader if cells), header)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}, line {reader.line_num}: not a CSV file in UTF-8 ({error})") from None
    return scan, list(grids.values())


def check_expected(path: Path, expected: Expected, *, rows: int, classes: dict[str, int]) -> None:
    """Raise a UserError if a file has another number of rows than expected."""
    found: dict[str, Any] = {"rows": rows, "classes": classes}
    for key, value in expected.items():
        if found[key] != value:
            raise UserError(f"{path}: data.reader.expected.{key} is {value}, the file has {found[key]}")


def read(
    folder: Path,
    *,
    name: str,
    file: str,
    md5: str | None,
    columns: dict[str, Column] | None,
    label: str | None,
    validation: Fraction,
    test: Fraction,
    expected: Expected | None,
    seed: NonNegativeInt,
) -> Source:
    """Read a table and split it at random.

    Args:
        folder: the folder of the file.
        name: name of the data set.
        file: name of the file.
        md5: MD5 sum of the file in hexadecimal; null if it is not checked.
        columns: the grid of each numeric column, by name; null reads all columns but the label.
        label: name of the column of classes; null if there is none.
        validation, test: shares of the rows that are held out.
        expected: numbers of rows that the file must have; null if they are not checked.
        seed: seed of the split, and of the order of the training rows.

    Raises:
        UserError: the file is missing, altered or no table of numbers, or too small to split.
    """
    path = folder / file
    check_file(path)
    if md5 is not None:
        with path.open("rb") as content:
            check_md5(path, content, md5)
    scan, grids = scanned(path, columns, label)
    count = scan.numbers.tell() // (8 * len(grids))
    sizes = [round(count * validation), round(count * test)]
    if min(*sizes, count - sum(sizes)) < 2:
        raise UserError(
            f"data.reader.validation={validation}, data.reader.test={test}: of {count} rows, each split needs two"
        )
    values = np.memmap(scan.numbers, dtype=np.float64, mode="r", shape=(count, len(grids)))
    names, labels = scan.class_numbers()
    balance = dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))
    check_expected(path, expected or {}, rows=count, classes=balance)
    variables = variables_of(scan, grids)
    domain = Table(name=name, shape=(len(grids),), variables=variables, labels=names, columns=tuple(scan.columns))
    held_out, tested, kept = split_at_random(count, sizes, seed=seed)

    def chunks() -> Iterator[Chunk]:
        yield from in_chunks(domain, "train", kept, values.__getitem__, labels)
        yield from in_chunks(domain, "validation", held_out, values.__getitem__, labels)
        yield from in_chunks(domain, "test", tested, values.__getitem__, labels)

    checked = ({} if md5 is None else {"md5": md5}) | dict(expected or {})
    return Source(domain=domain, chunks=chunks, expected=checked)
