"""Make the extractor of one data set, and the features of all that samples are compared with."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.domain.prepared import Prepared, Split
from lookalike.features.extraction import extract, load
from lookalike.features.extractor import save_training, training_rows
from lookalike.workspace.arguments import Section, arguments_of, check_arguments, target
from lookalike.workspace.configuration import Config
from lookalike.workspace.devices import device_of
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import write_json
from lookalike.workspace.processes import agreed
from lookalike.workspace.threads import set_threads


def make_and_save(config: Config, prepared: Prepared, folder: Path | None) -> dict[str, Any]:
    """Write the extractor of a data set, its record and the features of the three splits; return the record.

    Rank 0 makes the extractor, on one device, while the other processes wait. All of them extract features.

    Args:
        config: `data.features` describes the extractor; null means the default of the kind of data.
        prepared: the data set.
        folder: where to write; None in every process but the one of rank 0.

    Raises:
        UserError: an unknown kind of extractor or key, a value out of range, or data that no extractor takes.
    """
    record: dict[str, Any] = make(config, prepared, folder) if folder is not None else {}
    record, place = agreed((record, folder))
    assert place is not None
    network = load(record, prepared.domain, place).to(device_of(config.trainer))
    most = min(config.budget.training_images, record.get("training_images", config.budget.training_images))
    rows = training_rows(len(prepared.grid("train")), most=most)
    set_threads(config.trainer)
    splits: tuple[Split, ...] = ("validation", "test", "train")
    for split in splits:
        features = extract(
            network,
            prepared.grid(split),
            record=record,
            batch_size=config.trainer.batch_size,
            rows=rows if split == "train" else None,
        )
        if folder is not None:
            np.save(folder / f"{split}.npy", features, allow_pickle=False)
            if split != "train" and len(features) <= (width := features.shape[1]):
                print(
                    f"note: no Fréchet distance on {split} data: it needs {width + 1} images in {width} features, and "
                    f"there are {len(features)}",
                    file=sys.stderr,
                )
    if folder is not None:
        save_training(folder, rows, features)
        write_json(folder / "extractor.json", record)
    return record


def make(config: Config, prepared: Prepared, folder: Path) -> dict[str, Any]:
    """Write the extractor that `data.features` describes and return its record."""
    domain = prepared.domain
    section: Section | None = config.data.features or domain.default_features
    assert section is not None, "data without an extractor are compared in their values"
    function = target(section, package="lookalike.features")
    module = sys.modules[function.__module__]
    if domain.kind not in module.KINDS:
        takes = ", ".join(sorted(module.KINDS))
        raise UserError(f"data.features: this extractor takes data of kind {takes}, {domain.name} is {domain.kind}")
    arguments = check_arguments(
        function, arguments_of(section), section="data.features", given=("prepared", "config", "folder")
    )
    record: dict[str, Any] = function(prepared, config, folder, **arguments)
    return record | {"kind": function.__module__.rpartition(".")[2]}
