"""The frozen feature extractor that scores images of one labelled data set: a small classifier trained on it."""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.likelihood import WorkingUnits
from lookalike.extractor import Extractor
from lookalike.models.build import load_weights
from lookalike.networks.blocks import reduced
from lookalike.processes import divided


class Classifier(nn.Module):
    """Three 3x3 convolutions after a 2x2 space-to-depth, `features` numbers, one linear layer.

    Args:
        domain: labelled images.
        widths: channels at a half and at a quarter of the resolution.
        features: numbers an image is scored by.
        shift: pixels that training images are moved by at most, at random.
        dropout: share of the features that training drops.
    """

    def __init__(self, *, domain: Domain, widths: list[int], features: int, shift: int, dropout: float) -> None:
        super().__init__()
        channels, height, width = domain.shape
        self.shift = shift
        self.units = WorkingUnits(domain)
        self.pad = (height % 2, width % 2)
        _, quarter = reduced(height, width)
        fine, coarse = widths
        self.body = nn.Sequential(
            nn.Conv2d(4 * channels, fine, 3, padding=1, bias=False),
            nn.BatchNorm2d(fine),
            nn.ReLU(),
            nn.Conv2d(fine, coarse, 3, padding=1, bias=False),
            nn.BatchNorm2d(coarse),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(coarse, coarse, 3, padding=1, bias=False),
            nn.BatchNorm2d(coarse),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(coarse * quarter[0] * quarter[1], features),
            nn.SiLU(),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, len(domain.labels)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Features `[N, features]` of grid points `[N, C, H, W]`."""
        y = functional.pad(self.units(x), (0, self.pad[1], 0, self.pad[0]), value=-1.0)
        y = functional.pixel_unshuffle(y, 2).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.body(y)
        return features

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


def extract(
    classifier: Classifier, images: NDArray[Any], *, batch_size: int, processes: int = 1
) -> Iterator[NDArray[np.float32]]:
    """Features of images `[N, C, H, W]` on the grid, a batch at a time; several processes share the batches."""
    classifier.eval()
    one = functools.partial(extract_batch, classifier, images, batch_size)
    yield from divided(one, range(-(-len(images) // batch_size)), processes=processes)


@torch.inference_mode()
def extract_batch(classifier: Classifier, images: NDArray[Any], batch_size: int, number: int) -> NDArray[np.float32]:
    """Features of a batch of images."""
    batch = torch.from_numpy(np.ascontiguousarray(images[number * batch_size : (number + 1) * batch_size]))
    features: NDArray[np.float32] = classifier(batch.to(classifier.units.scale.device)).float().cpu().numpy()
    return features


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names and bytes of weights, the first 16 hexadecimal digits: the extractor's name in a protocol."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def load(record: dict[str, Any], domain: Domain, folder: Path) -> Classifier:
    """The frozen extractor that a record describes.

    Raises:
        UserError: its weights are not those that the record names.
    """
    classifier = Classifier(domain=domain, **record["model"])
    load_weights(classifier, folder / "weights.safetensors")
    if digest(classifier.state_dict()) != record["digest"]:
        raise UserError(f"{folder}: the weights are not those of extractor {record['digest']}; run the features stage")
    return classifier


def features_of(extractor: Extractor, values: NDArray[Any], *, batch_size: int, processes: int = 1) -> NDArray[Any]:
    """What values `[N, *shape]` are compared by `[N, D]`; several processes share the batches."""
    if extractor.is_identity:
        return values
    classifier = load(extractor.record, extractor.prepared.domain, extractor.folder)
    return np.concatenate(list(extract(classifier, values, batch_size=batch_size, processes=processes)))
