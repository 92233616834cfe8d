"""The classes of labelled data: how often each occurs, how a network is told one, and how to do without being told."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError


class Classes(nn.Module):
    """The shares of a domain's classes, learned with the weights and kept among them.

    With p(c) a class's share, a model of x given a class is one of x alone, p(x) = Σ_c p(c) p(x | c), whose samples
    draw the class first. What is exact or an estimate given the class is so of the sum, and so is a bound that is one
    in probability; for one in log-probability alone there is `lower_bound`.

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

    def lower_bound(self, bounds: Callable[[Tensor], tuple[Tensor, Tensor]], n: int) -> Tensor:
        """A lower bound on log p(x) `[n]` in expectation, from estimates that are lower bounds on log p(x | c).

        The exponential of an estimate without bias is too large on average, and so would be the logarithm of a sum of
        them. For any weights w_c that add up to one, log p(x) ≥ Σ_c w_c (log p(c) + log p(x | c) - log w_c), which is
        linear in the estimates where the weights know nothing of their errors. The best weights, in proportion to
        p(c) p(x | c), are taken from the other one of two estimates, each for the other.

        Args:
            bounds: of class numbers `[n]`, two independent estimates `[n]` of the same bound.
            n: points.
        """
        joint: tuple[list[Tensor], list[Tensor]] = ([], [])
        for c, share in enumerate(self.shares.tolist()):
            if share > 0:
                labels = torch.full((n,), c, device=self.shares.device)
                for part, estimate in zip(joint, bounds(labels), strict=True):
                    part.append(estimate + math.log(share))
        one, other = (torch.stack(part) for part in joint)
        found = torch.zeros_like(one[0])
        for first, second in ((one, other), (other, one)):
            log_weights = torch.log_softmax(first, dim=0)
            found += 0.5 * (log_weights.exp() * (second - log_weights)).sum(0)
        return found


# The same for a family that may have classes or none.


def told(classes: Classes | None, labels: Tensor | None) -> Tensor | None:
    """What a network is told of class numbers `[N]`: `[N, classes]`, or None where there are no classes."""
    assert (classes is None) == (labels is None), "class numbers go with a conditional model, and with no other"
    return None if classes is None or labels is None else classes.one_hot(labels)


def chosen(classes: Classes | None, labels: Tensor | None, n: int) -> Tensor | None:
    """The class numbers `[n]` that were asked for, or drawn ones; None where there are no classes."""
    return classes.draw(n) if classes is not None and labels is None else labels


def marginal(classes: Classes | None, log_likelihood: Callable[[Tensor | None], Tensor], n: int) -> Tensor:
    """log p(x) `[n]`, from a function of class numbers `[n]`, or of None, that gives log p(x | c)."""
    return log_likelihood(None) if classes is None else classes.marginal(log_likelihood, n)
