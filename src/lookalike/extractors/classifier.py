"""A small classifier, trained on a labelled data set to score images of it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.core.config import Config, Optimizer, check_arguments
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.ranges import NonNegativeInt, PositiveInt, Share
from lookalike.data import Prepared
from lookalike.extractors.trunk import Pair, Trunk
from lookalike.extractors.weights import digest, load_own
from lookalike.models.build import save_weights


class Classifier(Trunk):
    """The trunk and one linear layer.

    Args:
        domain: labelled images.
        widths: channels at a half and at a quarter of the resolution.
        features: numbers an image is scored by.
        shift: pixels that training images are moved by at most, at random.
        dropout: share of the features that training drops.
    """

    def __init__(
        self, *, domain: Domain, widths: Pair, features: PositiveInt, shift: NonNegativeInt, dropout: Share
    ) -> None:
        super().__init__(domain=domain, widths=widths, features=features, last=nn.SiLU())
        self.shift = shift
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, len(domain.labels)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy in nats, and the share that is right."""
        if self.training and self.shift:
            x = shifted(x, self.shift)
        logits = self.head(self(x))
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return {"loss": functional.cross_entropy(logits, labels.long()), "accuracy": accuracy}


def shifted(x: Tensor, most: int) -> Tensor:
    """Each image of a batch `[N, C, H, W]` moved by its own -most..most pixels in both directions, zeros moved in."""
    height, width = x.shape[-2:]
    padded = functional.pad(x, (most, most, most, most))
    dy = torch.randint(0, 2 * most + 1, (len(x), 1, 1, 1), device=x.device)
    dx = torch.randint(0, 2 * most + 1, (len(x), 1, 1, 1), device=x.device)
    rows = torch.arange(height, device=x.device).view(1, 1, -1, 1) + dy
    columns = torch.arange(width, device=x.device).view(1, 1, 1, -1) + dx
    padded = padded.gather(2, rows.expand(-1, padded.shape[1], -1, padded.shape[3]))
    return padded.gather(3, columns.expand(-1, padded.shape[1], height, -1))


def make(
    prepared: Prepared,
    config: Config,
    folder: Path,
    *,
    steps: PositiveInt,
    batch_size: PositiveInt,
    model: dict[str, Any],
    optimizer: Optimizer,
) -> dict[str, Any]:
    """Train a classifier on the training images and write its weights.

    Args:
        steps: of the optimizer; `budget.features` multiplies them.
        batch_size: images a step.
        model: arguments of `Classifier`.
        optimizer: its settings.

    Raises:
        UserError: the data have no labels or are no images, or there are fewer of them than a batch takes.
    """
    from lookalike.extractors.training import learn

    domain = prepared.domain
    if domain.kind != "image" or not domain.labels:
        raise UserError(f"data.features: a classifier needs labelled images, {domain.name} has none; set it to null")
    check_arguments(Classifier.__init__, model, section="data.features.model", given=("domain",))
    torch.manual_seed(config.seed)
    network = Classifier(domain=domain, **model)
    learn(
        network,
        (prepared.grid("train"), prepared.labels("train")),
        (prepared.grid("validation"), prepared.labels("validation")),
        prepared=prepared,
        config=config,
        steps=steps,
        batch_size=batch_size,
        optimizer=optimizer,
    )
    save_weights(network, folder / "weights.safetensors")
    record = {
        "name": f"{domain.name} classifier",
        "digest": digest(network.state_dict()),
        "classes": True,
        "test_accuracy": test_accuracy(network, prepared, batch_size=config.trainer.batch_size),
        "features": model["features"],
        "model": model,
    }
    print(f"{record['name']} {record['digest']}: {record['test_accuracy']:.2%} of the test images right")
    return record


def load(record: dict[str, Any], domain: Domain, folder: Path) -> Classifier:
    """The frozen classifier that a record describes.

    Raises:
        UserError: its weights are not those that the record names.
    """
    return load_own(Classifier(domain=domain, **record["model"]), record, folder)


@torch.inference_mode()
def test_accuracy(classifier: Classifier, prepared: Prepared, *, batch_size: int) -> float:
    """Share of the test images that the classifier names."""
    right, images, labels = 0, prepared.grid("test"), prepared.labels("test")
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        logits = classifier.head(classifier(torch.from_numpy(images[part])))
        right += int((logits.argmax(dim=1) == torch.from_numpy(labels[part])).sum())
    return right / len(images)
