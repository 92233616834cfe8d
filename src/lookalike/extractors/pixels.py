"""Images of any domain as published networks want them."""

import torch
from torch import Tensor

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError


def check(domain: Domain, *, network: str) -> None:
    """Raise a UserError unless a domain's images can be shown to a network that looks at colour photographs."""
    if domain.kind != "image" or domain.shape[0] not in (1, 3):
        raise UserError(
            f"data.features: {network} sees images of one channel or three, {domain.name} has shape {domain.shape}"
        )


def to_rgb(x: Tensor, domain: Domain) -> Tensor:
    """Grid points `[N, C, H, W]` as colours `[N, 3, H, W]`, uint8: the grid's ends are 0 and 255, grey is repeated."""
    if domain.levels != 256:
        x = (x.float() * (255 / (domain.levels - 1))).round().to(torch.uint8)
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
