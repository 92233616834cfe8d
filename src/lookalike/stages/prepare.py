"""Check the raw data, split them and write arrays: `lookalike prepare data=mnist`."""

import os

from lookalike.domain.prepared import Prepared
from lookalike.readers.arrays import write
from lookalike.workspace.arguments import arguments_of, check_arguments, target
from lookalike.workspace.configuration import Config
from lookalike.workspace.cost import Cost
from lookalike.workspace.outputs import writing
from lookalike.workspace.places import Cell

SHOWN = 50_000
"""Largest number of training observations that the picture of a data set is drawn from."""


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
            prepared = Prepared(folder)
            shown = prepared.domain.to_values(prepared.grid("train")[:SHOWN])
            prepared.domain.save_picture(shown, pictures / "summary.png", title=f"{config.data.name}: training data")
        cost.save(pictures)
    checked = ", ".join(summary["expected"])
    print(
        f"{summary['name']}: {f'as expected ({checked})' if checked else 'there is no checksum or count to check it'}"
    )
    for split, found in summary["splits"].items():
        print(
            f"  {split}: {found['count']} observations, {found['minimum']:g} to {found['maximum']:g}, "
            f"mean {found['mean']:g} ± {found['standard_deviation']:g}"
        )
