"""A small encoder, trained on the images that it will score without knowing what is on them.

Two random views of an image are to have the same code, and codes of different images to differ in every direction:
VICReg, Bardes, Ponce, LeCun, Variance-invariance-covariance regularization for self-supervised learning, 2022,
arXiv:2105.04906, equations 1 to 6. Codes are made by an expander that is left behind; images are scored by the
features before it, each scaled to mean zero and deviation one over the training data's views.

Views differ by what leaves an image what it is: turned a little, moved, stretched, partly covered, brighter or darker.
They do not differ by noise or sharpness, which samples are to be judged by.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lookalike.core.config import Config, Optimizer
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.ranges import AtLeastTwo, NonNegativeFloat, PositiveInt, Share
from lookalike.data import Prepared
from lookalike.extractors.trunk import Pair, Trunk
from lookalike.extractors.weights import digest, load_own
from lookalike.models.build import save_weights

SEEN = 1000
"""Images that are looked at for the record."""

LEAST = 8
"""Pixels on a side: of fewer, two views have too little in common."""

WIDTHS = [32, 64]

OPTIMIZER = Optimizer(lr=3e-3, weight_decay=0.01, warmup=0.1, clip=1.0, average=0.02, momentum=0.9, muon=0.0)

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
"""Weights of the three terms, as the authors have them."""


class Encoder(Trunk):
    """The trunk, and the expander that it is trained with.

    Args:
        domain: images.
        widths: channels at a half and at a quarter of the resolution.
        features: numbers an image is scored by.
        expanded: numbers of a code.
        turn: degrees that a view is turned by at most.
        stretch: share that a view is larger or smaller by at most, in each direction.
        shift: share of the image's size that a view is moved by at most.
        cover: side of the largest square that is covered, as a share of the smaller side.
        tone: share that a view is brighter or darker by at most.
    """

    def __init__(
        self,
        *,
        domain: Domain,
        widths: Pair,
        features: int,
        expanded: int,
        turn: float,
        stretch: float,
        shift: float,
        cover: float,
        tone: float,
    ) -> None:
        super().__init__(domain=domain, widths=widths, features=features, last=nn.BatchNorm1d(features, affine=False))
        self.turn, self.stretch, self.shift, self.cover, self.tone = turn, stretch, shift, cover, tone
        self.expander = nn.Sequential(
            nn.Linear(features, expanded), nn.BatchNorm1d(expanded), nn.ReLU(), nn.Linear(expanded, expanded)
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        """VICReg's loss of two views of each image, and its three terms."""
        first, second = self.expander(self(torch.cat([self.view(x), self.view(x)]))).chunk(2)
        return vicreg(first, second)

    def view(self, x: Tensor) -> Tensor:
        """A random view of each image `[N, C, H, W]`, in grid points, float."""
        y = toned(x.float(), most=self.tone)
        y = moved(y, turn=self.turn, stretch=self.stretch, shift=self.shift)
        return covered(y, most=round(self.cover * min(x.shape[-2:])))


def moved(x: Tensor, *, turn: float, stretch: float, shift: float) -> Tensor:
    """Each image turned, stretched and moved by amounts of its own; its border goes on outside."""
    n = len(x)
    angle = between(-math.radians(turn), math.radians(turn), n, x)
    across, down = (between(-math.log1p(stretch), math.log1p(stretch), n, x).exp() for _ in range(2))
    dx, dy = (between(-2 * shift, 2 * shift, n, x) for _ in range(2))
    rows = [across * angle.cos(), -down * angle.sin(), dx, across * angle.sin(), down * angle.cos(), dy]
    grid = functional.affine_grid(torch.stack(rows, dim=1).view(n, 2, 3), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def covered(x: Tensor, *, most: int) -> Tensor:
    """Each image with a square of up to `most` pixels a side, somewhere, of the image's own mean."""
    n, _, height, width = x.shape
    side = torch.randint(0, most + 1, (n, 1, 1, 1), device=x.device)
    top, left = (torch.randint(0, size, (n, 1, 1, 1), device=x.device) - side // 2 for size in (height, width))
    row = torch.arange(height, device=x.device).view(1, 1, -1, 1)
    column = torch.arange(width, device=x.device).view(1, 1, 1, -1)
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return torch.where(inside, x.mean(dim=(2, 3), keepdim=True), x)


def toned(x: Tensor, *, most: float) -> Tensor:
    """Each image times a number near one."""
    return x * between(1 - most, 1 + most, len(x), x).view(-1, 1, 1, 1)


def between(low: float, high: float, n: int, like: Tensor) -> Tensor:
    """`n` numbers uniform between two."""
    return torch.rand(n, device=like.device) * (high - low) + low


def vicreg(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """The loss of codes of two views `[N, D]`, and its terms: how far apart the two are, how little of a deviation of
    one each number has, how much the numbers say the same."""
    invariance = functional.mse_loss(first, second)
    variance, covariance = invariance.new_zeros(()), invariance.new_zeros(())
    for code in (first, second):
        centred = code - code.mean(dim=0)
        products = centred.T @ centred / (len(code) - 1)
        diagonal = products.diagonal()
        variance = variance + functional.relu(1 - (diagonal + 1e-4).sqrt()).mean() / 2
        covariance = covariance + (products.pow(2).sum() - diagonal.pow(2).sum()) / code.shape[1]
    loss = INVARIANCE * invariance + VARIANCE * variance + COVARIANCE * covariance
    return {"loss": loss, "invariance": invariance, "variance": variance, "covariance": covariance}


def make(
    prepared: Prepared,
    config: Config,
    folder: Path,
    *,
    steps: PositiveInt = 600,
    batch_size: AtLeastTwo = 128,
    widths: Pair = WIDTHS,
    features: PositiveInt = 64,
    expanded: PositiveInt = 256,
    turn: NonNegativeFloat = 15.0,
    stretch: Share = 0.25,
    shift: Share = 0.1,
    cover: Share = 0.3,
    tone: Share = 0.3,
    optimizer: Optimizer = OPTIMIZER,
) -> dict[str, Any]:
    """Train an encoder on the training images and write its weights.

    Args:
        steps: of the optimizer; `budget.features` multiplies them.
        batch_size: images a step, each in two views.
        widths, features, expanded, turn, stretch, shift, cover, tone: arguments of `Encoder`.
        optimizer: its settings.

    Raises:
        UserError: images of fewer pixels than a view takes, or fewer images than a batch.
    """
    from lookalike.extractors.training import learn

    domain = prepared.domain
    if min(domain.shape[-2:]) < LEAST:
        raise UserError(
            f"data.features: a self-supervised encoder takes images of {LEAST}x{LEAST} pixels at least, {domain.name} "
            f"has {domain.shape[-2]}x{domain.shape[-1]}"
        )
    model: dict[str, Any] = {
        "widths": widths,
        "features": features,
        "expanded": expanded,
        "turn": turn,
        "stretch": stretch,
        "shift": shift,
        "cover": cover,
        "tone": tone,
    }
    torch.manual_seed(config.seed)
    network = Encoder(domain=domain, **model)
    learn(
        network,
        (prepared.grid("train"),),
        (prepared.grid("validation"),),
        prepared=prepared,
        config=config,
        steps=steps,
        batch_size=batch_size,
        optimizer=optimizer,
    )
    save_weights(network, folder / "weights.safetensors")
    record = {
        "name": f"{domain.name} self-supervised encoder",
        "digest": digest(network.state_dict()),
        "classes": False,
        "effective_rank": effective_rank(network, prepared.grid("validation")[:SEEN]),
        "features": features,
        "model": model,
    }
    print(f"{record['name']} {record['digest']}: {record['effective_rank']:.1f} directions of {features} are in use")
    return record


def load(record: dict[str, Any], domain: Domain, folder: Path) -> Encoder:
    """The frozen encoder that a record describes.

    Raises:
        UserError: its weights are not those that the record names.
    """
    return load_own(Encoder(domain=domain, **record["model"]), record, folder)


@torch.inference_mode()
def effective_rank(network: Encoder, images: NDArray[Any]) -> float:
    """(Σλ)² / Σλ² of the eigenvalues λ of the covariance of features: near 1 for an encoder that has collapsed."""
    network.eval()
    covariance = np.atleast_2d(np.cov(network(torch.from_numpy(np.array(images))).numpy(), rowvar=False))
    return float(np.trace(covariance) ** 2 / (covariance**2).sum())
