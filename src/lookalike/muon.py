"""An optimizer for short trainings: kernels between hidden layers take steps that are orthogonal matrices.

The momentum of a kernel, a matrix of outputs by inputs, has a few large singular values, which is where a plain step
goes. Muon moves along all of them alike, by the nearest orthogonal matrix U Vᵀ of the momentum U S Vᵀ, which a few
rounds of an odd polynomial approach without a decomposition (Jordan et al., Muon, 2024; the polynomial's coefficients
and, from Liu et al., Muon is scalable for LLM training, 2025, arXiv:2502.16982, the factor that makes steps as long as
AdamW's, so that both share a learning rate).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
MOMENTUM = 0.95


def orthogonalized(matrix: Tensor) -> Tensor:
    """A matrix `[..., m, n]` with the same singular vectors, and singular values between about 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x: Tensor = matrix.mT if tall else matrix
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def turned(model: nn.Module) -> list[nn.Parameter]:
    """The weights of a model that take orthogonal steps: those that it names, else kernels between hidden layers."""
    named: Any = getattr(model, "kernels", None)
    if named is not None:
        return list(named())
    return [weight for weight in model.parameters() if is_hidden_kernel(weight)]


def is_hidden_kernel(weight: Tensor) -> bool:
    """Whether a weight leads from a layer to one of as many channels: neither a first layer, nor a last, nor a bias."""
    return weight.ndim == 4 and weight.shape[0] == weight.shape[1] and weight.shape[2:].numel() > 1


class Muon(torch.optim.AdamW):
    """AdamW, and in groups with a `stretch` above 0 orthogonal steps, longer than AdamW's by that factor.

    Args:
        groups: of parameters, with `stretch` each; those of a stretch are kernels `[outputs, inputs, ...]`.
        others: of AdamW.

    A weight of three dimensions is a stack of matrices, each of which takes a step of its own.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **others: Any) -> None:
        super().__init__(groups, **others)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every group."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group["stretch"]:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self.turn(weight, group)
        self.param_groups = [group for group in groups if not group["stretch"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def turn(self, weight: nn.Parameter, group: dict[str, Any]) -> None:
        """An orthogonal step of one kernel, after Nesterov's momentum and a decay of the weight itself."""
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
            # Convolutions keep their channels last: in this order the matrix is not copied.
            ahead = ahead.movedim(1, -1)
            step = orthogonalized(ahead.flatten(1)).view(ahead.shape).movedim(-1, 1)
            longest = max(len(weight), weight[0].numel())
        length = 0.2 * math.sqrt(longest)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(step, alpha=-group["lr"] * group["stretch"] * length)
