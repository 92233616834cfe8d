"""The classes of labelled data: how often each occurs, how a network is told one, and how to do without being told."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.domain import Domain
from lookalike.errors import UserError


class Classes(nn.Module):
    """The shares of a domain's classes, learned with the weights and kept among them.

    With p(c) a class's share, a model of x given a class is one of x alone, p(x) = Σ_c p(c) p(x | c), whose samples
    draw the class first. What is exact, a bound or an estimate given the class is so of the sum.

    Raises:
        UserError: the domain has no labels.
    """

    shares: Tensor

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        if not domain.labels:
            raise UserError(f"model.conditional=true: {domain.name} has no labels; set it to false")
        self.count = len(domain.labels)
        self.register_buffer("shares", torch.full((self.count,), 1 / self.count))

    def start(self, labels: Tensor) -> None:
        """Learn the shares from the training set's class numbers `[N]`."""
        self.shares.copy_(torch.bincount(labels.long(), minlength=self.count) / len(labels))

    def draw(self, n: int) -> Tensor:
        """Class numbers `[n]` by their shares, from torch's global generator."""
        return torch.multinomial(self.shares, n, replacement=True)

    def one_hot(self, labels: Tensor) -> Tensor:
        """Class numbers `[N]` as `[N, classes]`, float."""
        return functional.one_hot(labels.long(), self.count).float()

    def marginal(self, log_likelihood: Callable[[Tensor], Tensor], n: int) -> Tensor:
        """log Σ_c p(c) p(x | c) `[n]`, from a function of class numbers `[n]` that gives log p(x | c) `[n]`."""
        given = []
        for c, share in enumerate(self.shares.tolist()):
            if share > 0:
                labels = torch.full((n,), c, device=self.shares.device)
                given.append(log_likelihood(labels) + math.log(share))
        return torch.logsumexp(torch.stack(given), dim=0)
