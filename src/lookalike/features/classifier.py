"""A small classifier, trained on the labelled images whose samples it scores."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import Prepared
from lookalike.features.trunk import Pair, Trunk
from lookalike.features.weights import digest, load_own
from lookalike.networks.weights import save_weights
from lookalike.workspace.arguments import check_arguments
from lookalike.workspace.configuration import Config, Optimizer
from lookalike.workspace.devices import device_in_use
from lookalike.workspace.errors import UserError
from lookalike.workspace.ranges import NonNegativeInt, PositiveInt, Share

KINDS = frozenset({"image"})
"""Kinds of data that it takes."""


class Classifier(Trunk):
    """The trunk and one linear layer.

    Args:
        domain: a domain of labelled images.
        widths: channels at a half and at a quarter of the resolution.
        features: number of features per image.
        shift: largest random shift of training images, in pixels.
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
        """Return the cross-entropy in nats, and the accuracy."""
        if self.training and self.shift:
            x = shifted(x, self.shift)
        logits = self.head(self(x))
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return {"loss": functional.cross_entropy(logits, labels.long()), "accuracy": accuracy}


def shifted(x: Tensor, max_shift: int) -> Tensor:
    """Return each image of `[N, C, H, W]` shifted at random by up to `max_shift` pixels per axis.

    Pixels from outside the image repeat its border, whose colour may be any.
    """
    height, width = x.shape[-2:]
    dy = torch.randint(-max_shift, max_shift + 1, (len(x), 1, 1, 1), device=x.device)
    dx = torch.randint(-max_shift, max_shift + 1, (len(x), 1, 1, 1), device=x.device)
    rows = (torch.arange(height, device=x.device).view(1, 1, -1, 1) + dy).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device).view(1, 1, 1, -1) + dx).clamp(0, width - 1)
    return x.gather(2, rows.expand_as(x)).gather(3, columns.expand_as(x))


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
        prepared: the data set.
        config: the configuration of the stage.
        folder: where to write.
        steps: optimizer steps, multiplied by `budget.features`.
        batch_size: images per step.
        model: arguments of `Classifier`.
        optimizer: settings of the optimizer.

    Raises:
        UserError: the data have no labels, or there are fewer images than in a batch.
    """
    from lookalike.features.training import SEED, learn

    domain = prepared.domain
    if not domain.labels:
        raise UserError(f"data.features: a classifier needs labels, {domain.name} has none; set it to null")
    check_arguments(Classifier.__init__, model, section="data.features.model", given=("domain",))
    torch.manual_seed(SEED)
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
    print(f"{record['name']} {record['digest']}: {record['test_accuracy']:.2%} accuracy on the test images")
    return record


def load(record: dict[str, Any], domain: Domain, folder: Path) -> Classifier:
    """Return the frozen classifier that a record describes.

    Raises:
        UserError: its weights are not those that the record names.
    """
    return load_own(Classifier(domain=domain, **record["model"]), record, folder)


@torch.inference_mode()
def test_accuracy(classifier: Classifier, prepared: Prepared, *, batch_size: int) -> float:
    """Return the share of the test images that the classifier labels correctly."""
    right, images, labels = 0, prepared.grid("test"), prepared.labels("test")
    device = device_in_use(classifier)
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        logits = classifier.head(classifier(torch.from_numpy(images[part]).to(device)))
        right += int((logits.argmax(dim=1).cpu() == torch.from_numpy(labels[part])).sum())
    return right / len(images)
