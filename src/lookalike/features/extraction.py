"""Compute the features in which observations are compared, with the frozen extractor of their data set."""

import functools
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lookalike.domain.domain import Domain
from lookalike.features.extractor import Extractor
from lookalike.workspace.devices import device_in_use, place
from lookalike.workspace.errors import UserError
from lookalike.workspace.processes import shared
from lookalike.workspace.progress import progress


def load(record: dict[str, Any], domain: Domain, folder: Path) -> nn.Module:
    """Return the frozen extractor that a record describes: grid points `[N, C, H, W]` to features `[N, D]`.

    Raises:
        UserError: the weights are not those that the record names, or the record names no kind of extractor.
    """
    try:
        load_kind = importlib.import_module(f"lookalike.features.{record.get('kind')}").load
    except (ImportError, AttributeError):
        raise UserError(
            f"damaged: {folder / 'extractor.json'} (kind {record.get('kind')!r}). Run the features stage again"
        ) from None
    network: nn.Module = load_kind(record, domain, folder)
    return network.eval()


def features_of(
    extractor: Extractor, values: NDArray[Any], *, batch_size: int, device: torch.device | None = None
) -> NDArray[Any]:
    """Return what values `[N, *shape]` are compared in, `[N, D]`; the processes of a stage share the batches.

    Args:
        extractor: of the data set.
        values: observations.
        batch_size: observations per batch.
        device: where the extractor computes; the CPU by default.

    Raises:
        UserError: the extractor's weights are damaged, or features are NaN or infinite.
    """
    if extractor.is_identity:
        return values
    network = load(extractor.record, extractor.prepared.domain, extractor.folder).to(device)
    return extract(network, values, record=extractor.record, batch_size=batch_size)


def extract(
    network: nn.Module,
    images: NDArray[Any],
    *,
    record: dict[str, Any],
    batch_size: int,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Return the features `[N, D]` of images `[N, C, H, W]` on the grid; the processes of a stage share the batches.

    Args:
        network: the extractor, on the device to compute on.
        images: grid points, read batch by batch.
        record: of the extractor; its `batch_size` is an upper bound.
        batch_size: images per batch.
        rows: rows of the images to extract; None for all.

    Raises:
        UserError: some features are NaN or infinite.
    """
    batch_size = min(batch_size, record.get("batch_size", batch_size))
    rows = np.arange(len(images)) if rows is None else rows
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    one, shown = functools.partial(extract_batch, network, images), place().rank == 0
    with progress(shared(one, batches), "features", total=len(batches), unit="batch", shown=shown) as parts:
        features = np.concatenate(list(parts))
    if not (finite := np.isfinite(features).all(axis=1)).all():
        raise UserError(
            f"{record['name']} {record['digest']}: the features of {int((~finite).sum())} of {len(rows)} images are "
            f"NaN or infinite, the first is image {rows[finite.argmin()]}. Run the features stage again, with a "
            f"smaller learning rate or with other weights"
        )
    return features


@torch.inference_mode()
def extract_batch(network: nn.Module, images: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the features of some rows of the images."""
    batch = torch.from_numpy(images[rows])
    features: NDArray[np.float32] = network(batch.to(device_in_use(network))).float().cpu().numpy()
    return features
