"""The Inception-v3 that FID and KID are defined in, by torch-fidelity.

Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash equilibrium, 2017,
arXiv:1706.08500; Bińkowski et al., Demystifying MMD GANs, 2018, arXiv:1801.01401. Features are the 2048 of the last
pooling. torch-fidelity itself scales images to 299x299 as TensorFlow 1 did and takes them to [-1, 1].

Only with the published weights are the distances called FID and KID.
"""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.core.config import ROOT, Config
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.ranges import PositiveInt
from lookalike.data import Prepared
from lookalike.extractors import pixels
from lookalike.extractors.weights import bring, first_line, free, needs, read_brought

PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of weights-inception-2015-12-05-6726825d.pth, which torch-fidelity converted from the original graph."""


class Inception(nn.Module):
    """torch-fidelity's network behind the domain's grid.

    Args:
        domain: images of one channel or three.
        state: its weights by name.

    Raises:
        UserError: torch-fidelity is not installed, or the weights are of another network.
    """

    def __init__(self, *, domain: Domain, state: dict[str, Tensor]) -> None:
        super().__init__()
        with needs("torch-fidelity", extra="inception"):
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        self.domain = domain
        # Its constructor reads a file, and would run what a pickle in it says: it is given tensors that have been read.
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        try:
            self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], file)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"data.features.weights: not weights of Inception-v3 ({first_line(error)})") from None

    def forward(self, x: Tensor) -> Tensor:
        """Features `[N, 2048]` of grid points `[N, C, H, W]`."""
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
    """Bring the weights into the folder.

    Args:
        weights: a file, from the repository's folder; none for the published one, in torch's cache or downloaded.
        batch_size: images at a time: what bounds the memory, for each becomes 299x299.
        training_images: among which copies are looked for, at most.

    Raises:
        UserError: torch-fidelity is not installed; the weights can't be had, or are not Inception-v3's; the images
            have neither one channel nor three.
    """
    pixels.check(prepared.domain, network="Inception-v3")
    path = published() if weights is None else ROOT / weights
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
    """The published weights, in torch's cache; downloaded where they are not.

    Raises:
        UserError: they can't be had.
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
                f"data.features.weights=null: {URL_INCEPTION_V3} can't be had ({first_line(error)}). Put the file at "
                f"{path}, or name another place of it in data.features.weights"
            ) from None
    return path


def load(record: dict[str, Any], domain: Domain, folder: Path) -> nn.Module:
    """The frozen network that a record describes.

    Raises:
        UserError: torch-fidelity is not installed, or the weights are not those that the record names.
    """
    return free(Inception(domain=domain, state=read_brought(record, folder)))
