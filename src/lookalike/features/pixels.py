"""Convert images of any domain to what published networks expect."""

import torch
from torch import Tensor

from lookalike.domain.domain import Domain
from lookalike.workspace.errors import UserError


def check(domain: Domain, *, network: str) -> None:
    """Raise a UserError unless images have one channel or three."""
    if domain.shape[0] not in (1, 3):
        raise UserError(
            f"data.features: {network} takes images of one channel or three, {domain.name} has shape {domain.shape}"
        )


def to_rgb(x: Tensor, domain: Domain) -> Tensor:
    """Return grid points `[N, C, H, W]` as colours `[N, 3, H, W]`, uint8, from 0 to 255; grey is repeated."""
    if domain.levels != 256:
        x = (x.float() * (255 / (domain.levels - 1))).round().to(torch.uint8)
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
