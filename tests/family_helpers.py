"""What the tests of several families share: weights away from their start, data to learn from."""

from typing import Any

import torch
from torch import Tensor

from lookalike.core.domain import Domain


def shaken(model: Any, scale: float) -> Any:
    """The model with noise on all of its parameters, so that no layer of it is idle."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn_like(parameter)
    return model.eval()


def skewed(domain: Domain, n: int) -> Tensor:
    """Grid points `[n, *shape]` that are rare where they are high, another way in every dimension."""
    powers = torch.linspace(1, 3, domain.dimensions).view(domain.shape)
    u = torch.rand(n, *domain.shape, generator=torch.Generator().manual_seed(0))
    return (domain.levels * u**powers).long().clamp(max=domain.levels - 1)
