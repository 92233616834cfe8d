"""A small encoder, trained without labels on the images whose samples it scores.

Two random views of an image should have the same code, and codes of different images should differ in every direction:
VICReg (Bardes, Ponce, LeCun, Variance-invariance-covariance regularization for self-supervised learning, 2022,
arXiv:2105.04906, equations 1 to 6). An expander makes the codes and is dropped after training; images are compared in
the features before it, each scaled to mean 0 and standard deviation 1 over the views of the training data.

Views differ in ways that keep the content of an image: they are turned a little, moved, stretched, partly covered,
brighter or darker. They do not differ in noise, sharpness or hue, because samples are judged by these.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import Prepared
from lookalike.features.trunk import Pair, Trunk
from lookalike.features.weights import digest, load_own
from lookalike.networks.weights import save_weights
from lookalike.workspace.configuration import Config, Optimizer
from lookalike.workspace.devices import device_in_use
from lookalike.workspace.errors import UserError
from lookalike.workspace.ranges import AtLeastTwo, NonNegativeFloat, PositiveInt, Share

KINDS = frozenset({"image"})
"""Kinds of data that it takes."""

RANK_IMAGES = 1000
"""Images that the effective rank is computed from."""

MIN_SIDE = 8
"""Smallest side of an image in pixels: two views of a smaller one have too little in common."""

WIDTHS = [32, 64]

OPTIMIZER = Optimizer(lr=3e-3, weight_decay=0.01, warmup=0.1, clip=1.0, ema_horizon=0.02, beta1=0.9, muon=0.0)

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
"""Weights of the three terms in the paper."""


class Encoder(Trunk):
    """The trunk, and the expander that it is trained with.

    Args:
        domain: a domain of images.
        widths: channels at a half and at a quarter of the resolution.
        features: number of features per image.
        expanded: size of a code.
        turn: largest rotation of a view, in degrees.
        stretch: largest relative change of a view's size, in each direction.
        shift: largest shift of a view, as a share of the image's size.
        cover: side of the largest covered square, as a share of the smaller side.
        tone: largest relative change of brightness.
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
        """Return the VICReg loss of two views of each image, and its three terms."""
        first, second = self.expander(self(torch.cat([self.view(x), self.view(x)]))).chunk(2)
        return vicreg(first, second)

    def view(self, x: Tensor) -> Tensor:
        """Return a random view of each image `[N, C, H, W]`, in grid points, float."""
        y = toned(x.float(), max_change=self.tone)
        y = moved(y, turn=self.turn, stretch=self.stretch, shift=self.shift)
        return covered(y, max_side=round(self.cover * min(x.shape[-2:])))


def moved(x: Tensor, *, turn: float, stretch: float, shift: float) -> Tensor:
    """Return each image rotated, stretched and shifted by random amounts; the border pixels are repeated outside."""
    n = len(x)
    angle = between(-math.radians(turn), math.radians(turn), n, x)
    across, down = (between(-math.log1p(stretch), math.log1p(stretch), n, x).exp() for _ in range(2))
    dx, dy = (between(-2 * shift, 2 * shift, n, x) for _ in range(2))
    rows = [across * angle.cos(), -down * angle.sin(), dx, across * angle.sin(), down * angle.cos(), dy]
    grid = functional.affine_grid(torch.stack(rows, dim=1).view(n, 2, 3), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def covered(x: Tensor, *, max_side: int) -> Tensor:
    """Return each image with a random square, of up to `max_side` pixels per side, set to the image's mean."""
    n, _, height, width = x.shape
    side = torch.randint(0, max_side + 1, (n, 1, 1, 1), device=x.device)
    top, left = (torch.randint(0, size, (n, 1, 1, 1), device=x.device) - side // 2 for size in (height, width))
    row = torch.arange(height, device=x.device).view(1, 1, -1, 1)
    column = torch.arange(width, device=x.device).view(1, 1, 1, -1)
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return torch.where(inside, x.mean(dim=(2, 3), keepdim=True), x)


def toned(x: Tensor, *, max_change: float) -> Tensor:
    """Return each image multiplied by a random number near 1, the same for all channels, which keeps its hues."""
    return x * between(1 - max_change, 1 + max_change, len(x), x).view(-1, 1, 1, 1)


def between(low: float, high: float, n: int, like: Tensor) -> Tensor:
    """Draw n numbers uniformly between `low` and `high`, on the device of `like`."""
    return torch.rand(n, device=like.device) * (high - low) + low


def vicreg(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Return the VICReg loss of the codes `[N, D]` of two views, and its terms.

    These are the distance between the two codes, how far the standard deviation of each number falls short of 1, and
    the covariances between the numbers.
    """
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
        prepared: the data set.
        config: the configuration of the stage.
        folder: where to write.
        steps: optimizer steps, multiplied by `budget.features`.
        batch_size: images per step, each in two views.
        widths, features, expanded, turn, stretch, shift, cover, tone: arguments of `Encoder`.
        optimizer: settings of the optimizer.

    Raises:
        UserError: the images are too small, or fewer than in a batch.
    """
    from lookalike.features.training import SEED, learn

    domain = prepared.domain
    if min(domain.shape[-2:]) < MIN_SIDE:
        raise UserError(
            f"data.features: a self-supervised encoder needs images of at least {MIN_SIDE}x{MIN_SIDE} pixels, "
            f"{domain.name} has {domain.shape[-2]}x{domain.shape[-1]}"
        )
    views = {"turn": turn, "stretch": stretch, "shift": shift, "cover": cover, "tone": tone}
    model: dict[str, Any] = {"widths": widths, "features": features, "expanded": expanded, **views}
    torch.manual_seed(SEED)
    network = Encoder(domain=domain, **model)
    images, held_out = ((prepared.grid(split),) for split in ("train", "validation"))
    learn(
        network, images, held_out,
        prepared=prepared, config=config, steps=steps, batch_size=batch_size, optimizer=optimizer,
    )  # fmt: skip
    save_weights(network, folder / "weights.safetensors")
    record = {
        "name": f"{domain.name} self-supervised encoder",
        "digest": digest(network.state_dict()),
        "classes": False,
        "effective_rank": effective_rank(network, prepared.grid("validation")[:RANK_IMAGES]),
        "features": features,
        "model": model,
    }
    print(f"{record['name']} {record['digest']}: {record['effective_rank']:.1f} directions of {features} are in use")
    return record


def load(record: dict[str, Any], domain: Domain, folder: Path) -> Encoder:
    """Return the frozen encoder that a record describes.

    Raises:
        UserError: its weights are not those that the record names.
    """
    return load_own(Encoder(domain=domain, **record["model"]), record, folder)


@torch.inference_mode()
def effective_rank(network: Encoder, images: NDArray[Any]) -> float:
    """Return (Σλ)² / Σλ² of the eigenvalues λ of the covariance of features: near 1 for a collapsed encoder."""
    network.eval()
    codes = network(torch.from_numpy(np.array(images)).to(device_in_use(network))).cpu().numpy()
    covariance = np.atleast_2d(np.cov(codes, rowvar=False))
    return float(np.trace(covariance) ** 2 / (covariance**2).sum())
