"""Make and freeze the feature extractor of a data set: `lookalike features data=mnist`."""

from lookalike.domain.prepared import Prepared
from lookalike.features.extractor import VALUES, save_identity
from lookalike.workspace.command_line import show
from lookalike.workspace.configuration import Config
from lookalike.workspace.cost import Cost
from lookalike.workspace.devices import place
from lookalike.workspace.outputs import writing
from lookalike.workspace.places import Cell
from lookalike.workspace.processes import spread


def features(config: Config) -> None:
    """Write the extractor of one data set and the features of its splits."""
    domain = Prepared(Cell(config).prepared).domain
    has_extractor = config.data.features is not None or domain.default_features is not None
    spread(make_and_write, config, alone=not has_extractor)


def make_and_write(config: Config) -> None:
    """Make the extractor in this process, one of several perhaps; rank 0 writes."""
    cell, cost = Cell(config), Cost()
    prepared = Prepared(cell.prepared)
    if place().rank:
        from lookalike.features.making import make_and_save

        make_and_save(config, prepared, None)
        return
    with writing(cell.features) as folder:
        (folder / "extractor").mkdir()
        with cost.work():
            if config.data.features is None and prepared.domain.default_features is None:
                record = save_identity(folder / "extractor", prepared)
            else:
                from lookalike.features.making import make_and_save

                record = make_and_save(config, prepared, folder / "extractor")
        cost.save(folder)
    what = "their values" if record["name"] == VALUES else f"features of {record['name']}"
    seconds, path = cost.record["work_seconds"], cell.features / "extractor"
    show(f"{prepared.domain.name}: observations are compared in {what}, made in {seconds:.1f} s, written to {path}")
