"""Check the raw data, split them and write arrays: `lookalike prepare data=mnist`."""

import os
from typing import Any

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import MIN_POINTS, Prepared
from lookalike.readers.arrays import write
from lookalike.workspace.arguments import arguments_of, check_arguments, target
from lookalike.workspace.configuration import Config
from lookalike.workspace.cost import Cost
from lookalike.workspace.errors import UserError
from lookalike.workspace.outputs import writing
from lookalike.workspace.places import Cell

SHOWN = 50_000
"""Largest number of training observations that the picture of a data set is drawn from."""

COLUMNS = 6
"""Largest number of columns that are described on the terminal."""


def prepare(config: Config) -> None:
    """Read the raw data of one data set, and write its arrays, a summary and a picture of its training data."""
    read = target(config.data.reader, package="lookalike.readers")
    arguments = arguments_of(config.data.reader)
    if "folder" in arguments:
        arguments["folder"] = config.path("data") / os.path.expanduser(str(arguments["folder"]))
    arguments = check_arguments(read, arguments, section="data.reader", given=("name",))
    cell, cost = Cell(config), Cost()
    with writing(cell.prepared) as folder, writing(cell.summary) as pictures:
        with cost.work():
            summary = write(read(name=config.data.name, **arguments), folder)
            check_held_out(summary, config)
            prepared = Prepared(folder)
            shown = prepared.domain.to_values(prepared.grid("train")[:SHOWN])
            prepared.domain.save_picture(shown, pictures / "summary.png", title=f"{config.data.name}: training data")
        cost.save(pictures)
    checked = ", ".join(summary["expected"])
    print(
        f"{summary['name']}: {f'as expected ({checked})' if checked else 'there is no checksum or count to check it'}"
    )
    for split, found in summary["splits"].items():
        print(f"  {split}: {found['count']} observations{'' if 'columns' in found else in_words(found)}")
        if split == "train":
            describe_columns(found.get("columns", []), prepared.domain)


def check_held_out(summary: dict[str, Any], config: Config) -> None:
    """Raise a UserError if a split is too small to score samples against it."""
    for split in ("validation", "test"):
        if (count := summary["splits"][split]["count"]) < MIN_POINTS:
            key = f"data.reader.{split}"
            asked = f"{key}={config.data.reader[split]}: " if config.data.reader.get(split) is not None else ""
            raise UserError(
                f"{asked}the {split} split of {config.data.name} has {count} observations, and scoring needs at least "
                f"{MIN_POINTS}; hold out more, or add data"
            )


def in_words(found: dict[str, float]) -> str:
    """Return range, mean and standard deviation of a split or a column in words."""
    low, high, mean, std = (found[key] for key in ("minimum", "maximum", "mean", "standard_deviation"))
    return f", {low:g} to {high:g}, mean {mean:g} ± {std:g}"


def describe_columns(columns: list[dict[str, float]], domain: Domain) -> None:
    """Print one line per column of the training data, as far as there is room."""
    for d, found in enumerate(columns[:COLUMNS]):
        print(f"    {domain.title_of(d)}{in_words(found)}")
    if len(columns) > COLUMNS:
        print(f"    and {len(columns) - COLUMNS} more columns")
