"""The classes of labelled data: how often each occurs, and likelihoods without the class."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.domain.domain import Domain
from lookalike.workspace.errors import UserError


class Classes(nn.Module):
    """The probabilities of a domain's classes, learned from the training set and stored with the weights.

    With p(c) the probability of a class, a model of x given a class is a model of x alone, p(x) = Σ_c p(c) p(x | c),
    whose samples draw the class first. The sum is exact or an estimate where the likelihood given the class is. It is
    a lower bound where that is one in probability; for a bound in log-probability there is `lower_bound`.

    Raises:
        UserError: the domain has no labels.
    """

    class_probs: Tensor

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        if not domain.labels:
            raise UserError(f"model.conditional=true: {domain.name} has no labels; set it to false")
        self.count = len(domain.labels)
        self.register_buffer("class_probs", torch.full((self.count,), 1 / self.count))

    def start(self, labels: Tensor) -> None:
        """Learn the probabilities from the training set's class numbers `[N]`."""
        self.class_probs.copy_(torch.bincount(labels.long(), minlength=self.count) / len(labels))

    def draw(self, n: int) -> Tensor:
        """Draw class numbers `[n]` by their probabilities, with torch's global generator."""
        return torch.multinomial(self.class_probs, n, replacement=True)

    def one_hot(self, labels: Tensor) -> Tensor:
        """Return class numbers `[N]` as `[N, classes]`, float."""
        return functional.one_hot(labels.long(), self.count).float()

    def marginal(self, log_likelihood: Callable[[Tensor], Tensor], n: int) -> Tensor:
        """Return log Σ_c p(c) p(x | c) `[n]`, from a function of class numbers `[n]` that returns log p(x | c)."""
        joint = [log_likelihood(labels) + log_prob for labels, log_prob in self.each(n)]
        return torch.logsumexp(torch.stack(joint), dim=0)

    def each(self, n: int) -> list[tuple[Tensor, float]]:
        """Return, for every class that occurs, its number repeated n times and its log-probability."""
        probs = enumerate(self.class_probs.tolist())
        return [(torch.full((n,), c, device=self.class_probs.device), math.log(p)) for c, p in probs if p > 0]

    def lower_bound(self, bounds: Callable[[Tensor], tuple[Tensor, Tensor]], n: int) -> Tensor:
        """Return a lower bound on log p(x) `[n]` in expectation, from estimates of lower bounds on log p(x | c).

        The exponential of an unbiased estimate is too large on average, and so would be the logarithm of a sum of
        such exponentials. For any weights w_c that add up to one, log p(x) ≥ Σ_c w_c (log p(c) + log p(x | c) -
        log w_c), which is linear in the estimates if the weights are independent of their errors. The best weights,
        proportional to p(c) p(x | c), are therefore computed from the other one of two estimates.

        Args:
            bounds: returns two independent estimates `[n]` of the bound given class numbers `[n]`.
            n: number of observations.
        """
        pairs = [(bounds(labels), log_prob) for labels, log_prob in self.each(n)]
        one, other = (torch.stack([pair[i] + log_prob for pair, log_prob in pairs]) for i in (0, 1))
        bound = torch.zeros_like(one[0])
        for first, second in ((one, other), (other, one)):
            log_weights = torch.log_softmax(first, dim=0)
            bound += 0.5 * (log_weights.exp() * (second - log_weights)).sum(0)
        return bound


# The same for a family that may have classes or none.


def one_hot(classes: Classes | None, labels: Tensor | None) -> Tensor | None:
    """Return class numbers `[N]` as `[N, classes]` for a conditional model, None for another."""
    if (classes is None) != (labels is None):
        raise ValueError("class numbers go with a conditional model, and with no other")
    return None if classes is None or labels is None else classes.one_hot(labels)


def labels_or_sample(classes: Classes | None, labels: Tensor | None, n: int) -> Tensor | None:
    """Return the class numbers `[n]` that were asked for, or drawn ones; None for a model without classes."""
    return classes.draw(n) if classes is not None and labels is None else labels


def marginal(classes: Classes | None, log_likelihood: Callable[[Tensor | None], Tensor], n: int) -> Tensor:
    """Return log p(x) `[n]`, from a function of class numbers `[n]`, or of None, that returns log p(x | c)."""
    return log_likelihood(None) if classes is None else classes.marginal(log_likelihood, n)
