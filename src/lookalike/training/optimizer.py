"""AdamW for most weights, Muon for the kernels between hidden layers.

A plain step follows the few largest singular values of a kernel's momentum. Muon takes the nearest orthogonal matrix
U Vᵀ of the momentum U S Vᵀ instead, which moves along all singular vectors alike. Newton–Schulz iterations, an odd
polynomial of the matrix, approximate it without a decomposition (Jordan et al., Muon: An optimizer for hidden layers in
neural networks, 2024). Steps are scaled to the length of AdamW's steps, so both share one learning rate (Liu et al.,
Muon is scalable for LLM training, 2025, arXiv:2502.16982).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.workspace.configuration import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)

ITERATIONS = 5

MOMENTUM = 0.95


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return matrices `[..., m, n]` with the same singular vectors and singular values between about 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[-2] > matrix.shape[-1]
    x: Tensor = matrix.mT if is_tall else matrix
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


def groups(model: Any, settings: Optimizer) -> list[dict[str, Any]]:
    """Return the parameter groups of a model.

    Weight decay applies to weights of two dimensions or more (matrices, kernels, tables by position), and not to
    biases and gains. `stretch` is how much longer a group's orthogonal steps are than AdamW's; 0 means AdamW.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    orthogonal = set(model.muon_weights()) if settings.muon else set()
    kinds = (
        ([p for p in trained if p in orthogonal], settings.weight_decay, settings.muon),
        ([p for p in trained if p.ndim > 1 and p not in orthogonal], settings.weight_decay, 0.0),
        ([p for p in trained if p.ndim <= 1], 0.0, 0.0),
    )
    return [{"params": p, "weight_decay": decay, "stretch": stretch} for p, decay, stretch in kinds if p]


class Muon(torch.optim.AdamW):
    """AdamW, with orthogonal steps in the groups that have a `stretch` above 0.

    Args:
        groups: parameter groups as `groups` returns them. Weights with a stretch are matrices or convolution kernels
            `[outputs, inputs, ...]`, or stacks of matrices `[n, inputs, outputs]`, each with a step of its own.
        others: arguments of AdamW.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **others: Any) -> None:
        super().__init__(groups, **others)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step of every group."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group["stretch"]:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self.orthogonal_step(weight, group)
        self.param_groups = [group for group in groups if not group["stretch"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def orthogonal_step(self, weight: nn.Parameter, group: dict[str, Any]) -> None:
        """Take one step of one weight, with Nesterov momentum and decoupled weight decay."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["momentum"] = torch.zeros_like(weight)
        state["step"] += 1
        momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
        ahead = weight.grad.lerp(momentum, MOMENTUM)
        if weight.ndim == 3:
            step = orthogonalized(ahead)
            longest = max(weight.shape[1:])
        else:
            # Kernels are stored with channels last; in this order `flatten` copies nothing.
            ahead = ahead.movedim(1, -1)
            step = orthogonalized(ahead.flatten(1)).view(ahead.shape).movedim(-1, 1)
            longest = max(len(weight), weight[0].numel())
        length = 0.2 * math.sqrt(longest)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(step, alpha=-group["lr"] * group["stretch"] * length)
