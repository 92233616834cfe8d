"""What values are compared by: themselves, or features in the frozen extractor of their data set."""

import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.progress import progress
from lookalike.extractor import Extractor
from lookalike.processes import divided


def load(record: dict[str, Any], domain: Domain, folder: Path) -> nn.Module:
    """The frozen extractor that a record describes: images `[N, C, H, W]` on the grid to features `[N, D]`.

    Raises:
        UserError: its weights are not those that the record names, or it is of a kind that there is not.
    """
    try:
        kind = importlib.import_module(f"lookalike.extractors.{record['kind']}")
    except ImportError:
        raise UserError(
            f"damaged: {folder / 'extractor.json'} (kind {record['kind']!r}). Run the features stage again"
        ) from None
    network: nn.Module = kind.load(record, domain, folder)
    return network


def extract(
    network: nn.Module, images: NDArray[Any], *, batch_size: int, processes: int = 1
) -> Iterator[NDArray[np.float32]]:
    """Features of images `[N, C, H, W]` on the grid, a batch at a time; several processes share the batches."""
    network.eval()
    one, numbers = functools.partial(extract_batch, network, images, batch_size), range(-(-len(images) // batch_size))
    yield from progress(divided(one, numbers, processes=processes), "features", total=len(numbers), unit="batch")


@torch.inference_mode()
def extract_batch(network: nn.Module, images: NDArray[Any], batch_size: int, number: int) -> NDArray[np.float32]:
    """Features of one batch of images."""
    batch = torch.from_numpy(np.array(images[number * batch_size : (number + 1) * batch_size]))
    features: NDArray[np.float32] = network(batch.to(next(network.parameters()).device)).float().cpu().numpy()
    return features


def features_of(extractor: Extractor, values: NDArray[Any], *, batch_size: int, processes: int = 1) -> NDArray[Any]:
    """What values `[N, *shape]` are compared by `[N, D]`; several processes share the batches.

    Raises:
        UserError: the extractor's weights are damaged, or features are NaN or infinite.
    """
    if extractor.is_identity:
        return values
    network = load(extractor.record, extractor.prepared.domain, extractor.folder)
    return whole(network, values, record=extractor.record, batch_size=batch_size, processes=processes)


def whole(
    network: nn.Module, images: NDArray[Any], *, record: dict[str, Any], batch_size: int, processes: int = 1
) -> NDArray[np.float32]:
    """Features `[N, D]` of all images, in batches as large as the record allows.

    Raises:
        UserError: some are NaN or infinite.
    """
    at_a_time = min(batch_size, record.get("batch_size", batch_size))
    features = np.concatenate(list(extract(network, images, batch_size=at_a_time, processes=processes)))
    if not (finite := np.isfinite(features).all(axis=1)).all():
        raise UserError(
            f"{record['name']} {record['digest']}: the features of {int((~finite).sum())} of {len(images)} images are "
            f"NaN or infinite, the first is image {int(finite.argmin())}. Run the features stage again, with a smaller "
            f"learning rate or with other weights"
        )
    return features
