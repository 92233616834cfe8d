"""Trains the feature extractor of one labelled data set and freezes it."""

from pathlib import Path

import numpy as np
import torch

from lookalike.core.config import Config, check_arguments
from lookalike.core.errors import UserError
from lookalike.core.files import write_json
from lookalike.data import Prepared, Split
from lookalike.extractor import save_training, training_rows
from lookalike.features import Classifier, digest, extract
from lookalike.history import Silent
from lookalike.models.build import save_weights, set_threads
from lookalike.training import train


def train_and_save(config: Config, prepared: Prepared, folder: Path) -> None:
    """Train the classifier; write its weights, its record, and the features of all images that are compared with."""
    settings, domain = config.data.features, prepared.domain
    assert settings is not None
    if domain.kind != "image" or not domain.labels:
        raise UserError(f"data.features: a classifier needs labelled images, {domain.name} has none; set it to null")
    check_arguments(Classifier.__init__, settings.model, section="data.features.model", given=("domain",))
    if settings.batch_size > (count := len(prepared.labels("train"))):
        raise UserError(f"data.features.batch_size={settings.batch_size}: the training set holds {count} images")
    torch.manual_seed(config.seed)
    # In one process, whatever the trainer: it normalizes over a batch, and scores go by it on every machine.
    trainer = config.trainer.model_copy(update={"devices": 1})
    classifier = Classifier(domain=domain, **settings.model)
    train(
        classifier,
        (prepared.grid("train"), prepared.labels("train")),
        (prepared.grid("validation"), prepared.labels("validation")),
        optimizer=settings.optimizer,
        steps=max(1, round(settings.steps * config.budget.features)),
        batch_size=settings.batch_size,
        trainer=trainer,
        seed=config.seed,
        scratch=config.path("scratch") / f"features-{prepared.digest[:16]}",
        observer=Silent(),
        preview=None,
    )
    save_weights(classifier, folder / "weights.safetensors")
    rows = training_rows(len(prepared.grid("train")))
    set_threads(config.trainer.threads, processes=config.trainer.devices)
    in_batches: dict[str, int] = {"batch_size": config.trainer.batch_size, "processes": config.trainer.devices}
    splits: tuple[Split, ...] = ("validation", "test", "train")
    for split in splits:
        images = prepared.grid(split) if split != "train" else prepared.grid(split)[rows]
        features = np.concatenate(list(extract(classifier, images, **in_batches)))
        np.save(folder / f"{split}.npy", features, allow_pickle=False)
    save_training(folder, rows, features)
    accuracy = test_accuracy(classifier, prepared, batch_size=config.trainer.batch_size)
    record = {
        "name": f"{domain.name} classifier",
        "digest": digest(classifier.state_dict()),
        "test_accuracy": accuracy,
        "features": settings.model["features"],
        "model": settings.model,
    }
    write_json(folder / "extractor.json", record)
    print(f"{record['name']} {record['digest']}: {accuracy:.2%} of the test images right")


@torch.inference_mode()
def test_accuracy(classifier: Classifier, prepared: Prepared, *, batch_size: int) -> float:
    """Share of the test images that the classifier names."""
    right, images, labels = 0, prepared.grid("test"), prepared.labels("test")
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        logits = classifier.head(classifier(torch.from_numpy(images[part])))
        right += int((logits.argmax(dim=1) == torch.from_numpy(labels[part])).sum())
    return right / len(images)
