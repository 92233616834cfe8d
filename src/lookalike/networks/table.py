"""Networks for rows of a table."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from lookalike.distributions.counts import place_counts
from lookalike.distributions.gaussians import FullCovariance
from lookalike.distributions.logistics import LogisticMixture
from lookalike.distributions.marginal_mixture import marginal_mixture
from lookalike.domain.domain import Domain
from lookalike.domain.units import WorkingUnits
from lookalike.networks.causal import Sequential
from lookalike.networks.mlp import MLP, RowEncoder, TimeMLP
from lookalike.workspace.ranges import AtLeastTwo, PositiveInt, Widths, settings

PI_OVER_ROOT_3 = torch.pi / 3**0.5
"""Standard deviation of a logistic distribution of scale 1."""


@settings
class Hidden(TypedDict):
    """Layer widths."""

    hidden: Widths


@settings
class CausalSize(TypedDict):
    """Logistics per column, and width of each column's network."""

    components: PositiveInt
    hidden: PositiveInt


@settings
class FlowSize(TypedDict):
    """Bins of the splines, transforms in a row, and layer widths of each one's network."""

    bins: AtLeastTwo
    transforms: PositiveInt
    hidden: Widths


@settings
class MixtureSize(TypedDict):
    """Normal distributions, and rounds of fitting at most."""

    components: PositiveInt
    rounds: PositiveInt


def encoder(domain: Domain, size: Hidden, *, outputs: int, classes: int = 0) -> nn.Module:
    """Return a multilayer perceptron from rows and classes to codes."""
    return RowEncoder(inputs=domain.dimensions, classes=classes, hidden=size["hidden"], outputs=outputs)


def decoder(domain: Domain, size: Hidden, *, inputs: int, components: int) -> "RowDecoder":
    """Return a distribution of rows whose columns are independent given the code."""
    return RowDecoder(domain=domain, inputs=inputs, components=components, hidden=size["hidden"])


def generator(domain: Domain, size: Hidden, *, inputs: int) -> nn.Module:
    """Return a multilayer perceptron from codes to rows."""
    return MLP(inputs=inputs, hidden=size["hidden"], outputs=domain.dimensions)


def denoiser(domain: Domain, size: Hidden, *, outputs: int) -> nn.Module:
    """Return a multilayer perceptron of rows and times."""
    network = TimeMLP(inputs=domain.dimensions, outputs=outputs * domain.dimensions, hidden=size["hidden"])
    network.ends = []  # type: ignore[assignment]
    return network


def causal(domain: Domain, size: CausalSize, *, classes: int) -> "ColumnsInOrder":
    """Return an autoregressive model of rows, column by column."""
    return ColumnsInOrder(domain=domain, classes=classes, components=size["components"], hidden=size["hidden"])


def flow(domain: Domain, size: FlowSize) -> "SplineFlow":
    """Return a neural spline flow."""
    return SplineFlow(domain=domain, bins=size["bins"], transforms=size["transforms"], hidden=size["hidden"])


def mixture(domain: Domain, size: MixtureSize) -> FullCovariance:
    """Return normal distributions with full covariances."""
    return FullCovariance(domain, components=size["components"], rounds=size["rounds"])


class RowDecoder(nn.Module):
    """Rows given codes: every column has a mixture of discretized logistics of its own."""

    def __init__(self, *, domain: Domain, inputs: int, components: int, hidden: list[int]) -> None:
        super().__init__()
        self.units, self.columns = WorkingUnits(domain), domain.dimensions
        self.network = MLP(inputs=inputs, hidden=hidden, outputs=3 * components * domain.dimensions)

    def start(self, x: Tensor) -> None:
        """Do nothing: working units standardize the columns already."""

    def mixture(self, code: Tensor) -> LogisticMixture:
        """Return the distribution of the columns given codes `[N, inputs]`."""
        return LogisticMixture(self.network(code).view(len(code), -1, self.columns), self.units)

    def log_prob(self, x: Tensor, code: Tensor) -> Tensor:
        """Return the log-probability in nats of every column, `[N, D]`."""
        return self.mixture(code).log_prob(x)

    def sample(self, code: Tensor) -> Tensor:
        """Draw rows `[N, D]`, int64, one per code."""
        return self.mixture(code).sample()


class ColumnsInOrder(nn.Module):
    """One column after the other: a mixture of discretized logistics given the class and the columns before."""

    def __init__(self, *, domain: Domain, classes: int, components: int, hidden: int) -> None:
        super().__init__()
        self.units, self.columns, self.components = WorkingUnits(domain), domain.dimensions, components
        self.inside = Sequential(
            context=classes, dimensions=self.columns, features=1, hidden=hidden, outputs=3 * components
        )
        self.first = nn.Parameter(torch.zeros(self.columns, 3 * components))

    def start(self, x: Tensor) -> None:
        """Begin with the mixture that each column has in the training set, whatever came before."""
        counts = place_counts(x, levels=self.units.levels)
        k = torch.arange(self.units.levels, device=x.device)
        values = (k - self.units.location[:, None]) / self.units.scale[:, None]
        logits, means, stds = marginal_mixture(
            counts, values, components=self.components, ends=False, step=1 / self.units.scale
        )
        self.first.data.copy_(torch.cat([logits, means, torch.log(stds / PI_OVER_ROOT_3)]).T)
        nn.init.zeros_(self.inside.outer)
        nn.init.zeros_(self.inside.third)

    def muon_weights(self) -> list[nn.Parameter]:
        """Return no weights: networks this small are trained by AdamW alone."""
        return []

    def log_probs(self, x: Tensor, one_hot: Tensor | None) -> Tensor:
        """Return log p(x_d | x_<d) in nats, `[N, D]`."""
        parameters = self.inside(one_hot, self.units(x)) + self.first
        return LogisticMixture(parameters.transpose(1, 2), self.units).log_prob(x)

    def sample(self, n: int, one_hot: Tensor | None) -> Tensor:
        """Draw rows `[n, D]`, int64."""
        x = torch.zeros(n, self.columns, dtype=torch.int64, device=self.first.device)
        for d in range(self.columns):
            # Sample all columns with column d's parameters; keep only d, whose working units are right.
            parameters = (self.inside.at(one_hot, self.units(x), d) + self.first[d])[:, :, None]
            x[:, d] = LogisticMixture(parameters.expand(-1, -1, self.columns), self.units).sample()[:, d]
        return x


class SplineFlow(nn.Module):
    """A neural spline flow on rows in working units (Durkan et al., 2019, arXiv:1906.04032), by zuko."""

    def __init__(self, *, domain: Domain, bins: int, transforms: int, hidden: list[int]) -> None:
        super().__init__()
        from zuko.flows import NSF

        self.units = WorkingUnits(domain)
        self.flow: Any = NSF(features=domain.dimensions, bins=bins, transforms=transforms, hidden_features=hidden)

    def start(self, x: Tensor) -> None:
        """Do nothing: working units standardize the columns already."""

    def log_prob(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the log-density `[N]` per grid step at places `u` of the intervals of grid points `[N, D]`."""
        log_density: Tensor = self.flow().log_prob(self.units.dequantize(x, u))
        return log_density + self.units.log_jacobian

    def sample(self, n: int) -> Tensor:
        """Draw rows `[n, D]`, int64."""
        drawn: Tensor = self.flow().sample((n,))
        return self.units.to_grid(drawn)
