"""Makes the extractor of one data set, and the features of all that samples are compared with."""

from pathlib import Path
from typing import Any

import numpy as np

from lookalike.core.config import Config, Section, arguments_of, check_arguments, target
from lookalike.core.errors import UserError
from lookalike.core.files import write_json
from lookalike.data import Prepared, Split
from lookalike.extractor import save_training, training_rows
from lookalike.features import load, whole
from lookalike.models.build import set_threads

UNTOLD: Section = {"_target_": "lookalike.extractors.self_supervised.make"}
"""What `data.features: null` means for images."""


def make_and_save(config: Config, prepared: Prepared, folder: Path) -> dict[str, Any]:
    """Write the extractor that `data.features` describes, its record, which is returned, and the features of the three
    splits.

    Where nothing is said, that is an encoder trained on the images without labels.

    Raises:
        UserError: an unknown kind or key, a value out of range, vectors with an extractor of images, or what the kind
            itself finds.
    """
    domain = prepared.domain
    if domain.kind != "image":
        raise UserError(f"data.features: an extractor needs images, {domain.name} has vectors; set it to null")
    section = config.data.features if config.data.features is not None else UNTOLD
    make = target(section, package="lookalike.extractors")
    arguments = check_arguments(
        make, arguments_of(section), section="data.features", given=("prepared", "config", "folder")
    )
    record: dict[str, Any] = make(prepared, config, folder, **arguments) | {"kind": make.__module__.rpartition(".")[2]}
    network = load(record, domain, folder)
    most = min(config.budget.training_images, record.get("training_images", config.budget.training_images))
    rows = training_rows(len(prepared.grid("train")), most=most)
    set_threads(config.trainer.threads, processes=config.trainer.devices)
    in_batches: dict[str, int] = {"batch_size": config.trainer.batch_size, "processes": config.trainer.devices}
    splits: tuple[Split, ...] = ("validation", "test", "train")
    for split in splits:
        images = prepared.grid(split) if split != "train" else prepared.grid(split)[rows]
        features = whole(network, images, record=record, **in_batches)
        np.save(folder / f"{split}.npy", features, allow_pickle=False)
    save_training(folder, rows, features)
    write_json(folder / "extractor.json", record)
    return record
