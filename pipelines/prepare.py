"""Check the raw data, split them, write arrays: `python pipelines/prepare.py data=mnist`."""

from lookalike.core.config import Config, arguments_of, check_arguments, target
from lookalike.core.errors import UserError
from lookalike.core.stage import Cell, Cost, run, writing
from lookalike.data.prepare import write
from lookalike.pictures import save_picture


def main(config: Config) -> None:
    read = target(config.data.reader, package="lookalike.data")
    arguments = arguments_of(config.data.reader)
    arguments["folder"] = config.path("data") / str(arguments.get("folder"))
    check_arguments(read, arguments, section="data.reader", given=())
    cell, cost = Cell(config), Cost()
    with writing(cell.prepared) as folder, writing(cell.summary) as pictures:
        with cost.work():
            raw = read(**arguments)
            if raw.domain.name != config.data.name:
                raise UserError(f"data.name={config.data.name}: its reader reads {raw.domain.name}")
            summary = write(raw, folder)
            title = f"{raw.domain.name}: training data"
            save_picture(raw.values["train"], raw.domain, pictures / "summary.png", title=title)
        cost.save(pictures)
    checked = ", ".join(summary["expected"])
    print(f"{summary['name']}: {f'as expected ({checked})' if checked else 'its reader knew nothing to expect'}")
    for split, found in summary["splits"].items():
        print(
            f"  {split}: {found['count']} observations, {found['minimum']:g} to {found['maximum']:g}, "
            f"mean {found['mean']:g} ± {found['standard_deviation']:g}"
        )


if __name__ == "__main__":
    run(main)
