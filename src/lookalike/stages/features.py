"""Make and freeze the feature extractor of a data set: `lookalike features data=mnist`."""

from inspect import signature

from lookalike.domain.prepared import Prepared
from lookalike.features.extractor import VALUES, save_identity
from lookalike.workspace.arguments import Section, target
from lookalike.workspace.command_line import show
from lookalike.workspace.configuration import Config
from lookalike.workspace.cost import Cost
from lookalike.workspace.devices import place
from lookalike.workspace.errors import UserError
from lookalike.workspace.outputs import writing
from lookalike.workspace.places import Cell
from lookalike.workspace.processes import spread

SMALLER = "{_target_: lookalike.features.self_supervised.make, batch_size: 32, features: 16}"
"""An extractor for a small set of images, as a user would write it in YAML."""


def features(config: Config) -> None:
    """Write the extractor of one data set and the features of its splits."""
    prepared = Prepared(Cell(config).prepared)
    section = config.data.features or prepared.domain.default_features
    if section is not None:
        check_enough(section, prepared)
    spread(make_and_write, config, alone=section is None)


def check_enough(section: Section, prepared: Prepared) -> None:
    """Raise a UserError if the training set is smaller than a batch of an extractor that is trained."""
    parameters = signature(target(section, package="lookalike.features")).parameters
    chosen = {name: parameter.default for name, parameter in parameters.items()} | section | section.get("model", {})
    name, batch_size = prepared.domain.name, chosen.get("batch_size")
    if isinstance(batch_size, int) and batch_size > (count := len(prepared.grid("train"))):
        raise UserError(
            f"{name}: data.features.batch_size={batch_size}: an extractor trains on batches of {batch_size} images, "
            f"the training set holds {count}: add data, hold out another share (data.reader.validation, "
            f"data.reader.test), or set data.features to a smaller extractor: {SMALLER}"
        )


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
