"""Grid points and mixtures of logistics for the tests of likelihoods."""

import torch
from torch import Tensor

from lookalike.domain.domain import Domain


def all_points(domain: Domain) -> Tensor:
    """Return every grid point, in all dimensions at once: `[levels, *shape]`."""
    return torch.arange(domain.levels).view(-1, *[1] * len(domain.shape)).expand(-1, *domain.shape)


def mixture(domain: Domain, *, logits: list[float], means: list[float], log_scales: list[float], n: int) -> Tensor:
    """Return parameters `[n, 3 components, *shape]` of the same mixture for every dimension."""
    row = torch.tensor([*logits, *means, *log_scales]).view(1, -1, *[1] * len(domain.shape))
    return row.expand(n, -1, *domain.shape).clone()


ORDINARY = {"logits": [0.0, 1.0, -1.0], "means": [-0.5, 0.1, 0.9], "log_scales": [-2.0, -1.0, 0.0]}
EXTREME = {
    "needles": {"logits": [0.0, 0.0], "means": [0.3, -0.3], "log_scales": [-7.0, -6.0]},
    "narrower than the floor of scales": {"logits": [0.0], "means": [0.123], "log_scales": [-30.0]},
    "broader than the grid": {"logits": [0.0, 3.0], "means": [0.0, 5.0], "log_scales": [5.0, 12.0]},
    "beyond the grid": {"logits": [0.0], "means": [40.0], "log_scales": [-3.0]},
    "far below the grid": {"logits": [0.0], "means": [-40.0], "log_scales": [-7.0]},
    "one component only": {"logits": [0.0, 80.0], "means": [0.0, 0.5], "log_scales": [0.0, -4.0]},
    "on the border of two points": {"logits": [0.0], "means": [0.0], "log_scales": [-7.0]},
}
