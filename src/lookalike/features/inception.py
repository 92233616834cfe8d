"""The Inception-v3 that FID and KID are defined in, by torch-fidelity.

Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash equilibrium, 2017,
arXiv:1706.08500; Bińkowski et al., Demystifying MMD GANs, 2018, arXiv:1801.01401. The features are the
2048 outputs of the last pooling. torch-fidelity itself resizes images to 299x299 as TensorFlow 1 did and maps them to
[-1, 1].

The distances are called FID and KID only with the published weights.
"""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import Prepared
from lookalike.features import pixels
from lookalike.features.weights import bring, first_line, free, needs, read_brought
from lookalike.workspace.configuration import Config, absolute
from lookalike.workspace.errors import UserError
from lookalike.workspace.ranges import PositiveInt

KINDS = frozenset({"image"})
"""Kinds of data that it takes."""

PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of weights-inception-2015-12-05-6726825d.pth, which torch-fidelity converted from the original graph."""


class Inception(nn.Module):
    """torch-fidelity's network, for images on the domain's grid.

    Args:
        domain: a domain of images with one channel or three.
        state: weights by name.

    Raises:
        UserError: torch-fidelity is not installed, or the weights are of another network.
    """

    def __init__(self, *, domain: Domain, state: dict[str, Tensor]) -> None:
        super().__init__()
        with needs("torch-fidelity", extra="inception"):
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        self.domain = domain
        # The constructor loads a file and would run code that a pickle in it names: pass it tensors, read safely.
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        try:
            self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], file)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"data.features.weights: not weights of Inception-v3 ({first_line(error)})") from None

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[N, 2048]` of grid points `[N, C, H, W]`."""
        features: Tensor = self.network(pixels.to_rgb(x, self.domain))[0]
        return features


def make(
    prepared: Prepared,
    config: Config,
    folder: Path,
    *,
    weights: str | None = None,
    batch_size: PositiveInt = 32,
    training_images: PositiveInt = 50_000,
) -> dict[str, Any]:
    """Copy the weights into the folder and return the extractor's record.

    Args:
        prepared: the data set.
        config: the configuration of the stage.
        folder: where to write.
        weights: a file, relative to the checkout; None for the published one, downloaded or from torch's cache.
        batch_size: images per batch, which bounds the memory, since each becomes 299x299.
        training_images: largest number of training images among which copies are searched.

    Raises:
        UserError: torch-fidelity is not installed; the weights are not available or not those of Inception-v3; the
            images have neither one channel nor three.
    """
    pixels.check(prepared.domain, network="Inception-v3")
    path = published() if weights is None else absolute(weights)
    record = bring(path, folder)
    is_published = record["sha256"] == PUBLISHED
    name = "Inception-v3" if is_published else "Inception-v3 with weights of its own"
    record |= {
        "name": f"{name} (torch-fidelity)",
        "classes": False,
        "features": 2048,
        "batch_size": batch_size,
        "training_images": training_images,
    }
    return record | ({"known_as": {"frechet_distance": "FID", "kernel_distance": "KID"}} if is_published else {})


def published() -> Path:
    """Return the file of the published weights, in torch's cache or downloaded to it.

    Raises:
        UserError: they are not available.
    """
    with needs("torch-fidelity", extra="inception"):
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    path = Path(torch.hub.get_dir()) / "checkpoints" / str(URL_INCEPTION_V3).rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=PUBLISHED)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"data.features.weights=null: {URL_INCEPTION_V3} is not available ({first_line(error)}). Put the file "
                f"at {path}, or name its place in data.features.weights"
            ) from None
    return path


def load(record: dict[str, Any], domain: Domain, folder: Path) -> nn.Module:
    """Return the frozen network that a record describes.

    Raises:
        UserError: torch-fidelity is not installed, or the weights are not those that the record names.
    """
    return free(Inception(domain=domain, state=read_brought(record, folder)))
