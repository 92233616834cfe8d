"""Flow matching: a velocity field that carries noise to data along straight lines.

    y_t = (1 - t) y_0 + t y_1,   y_0 ~ N(0, I),   y_1 ~ data;   loss = E ‖v(y_t, t) - (y_1 - y_0)‖²

(Lipman et al., Flow matching for generative modeling, 2023, arXiv:2210.02747; Liu et al., Flow straight and fast, 2023,
arXiv:2209.03003.) The network predicts the distribution of the data point that a noisy one comes from, and v = (ŷ_1 -
y_t) / (1 - t) with its mean (see `lookalike.paths.posterior`). Times are drawn from a logistic-normal distribution,
which favours those that decide most (Esser et al., Scaling rectified flow transformers, 2024, arXiv:2403.03206).

A sample is y_0 carried along the path to its end, where it becomes a grid point. The density at the end follows from
the instantaneous change of variables, log p(y) = log N(y_0) - ∫ tr ∂v/∂y dt (Chen et al., Neural ordinary
differential equations, 2018, arXiv:1806.07366), with the trace estimated by random signs (Grathwohl et al., FFJORD,
2019, arXiv:1810.01367) or computed, where there are few places. For a grid point x and noise q(y | x) at the path's
end,

    log P(x) ≥ E_q [log p(y) + log P(x | y) - log q(y | x)],

which averaging over several y tightens. The sign of a solver's error is unknown, so the likelihood is an estimate;
scores say how far `coarser` steps of the solver change it.

With `optimal` coupling y_0 depends on y_1: within a batch noise goes to the nearest data, so paths cross less and are
straighter, and a solver needs fewer steps (Pooladian et al., Multisample flow matching, 2023, arXiv:2304.14772; Tong et
al., Improving and generalizing flow-based generative models with minibatch optimal transport, 2024, arXiv:2302.00482).
y_t = t y_1 + (1 - t) y_0 holds for every pair, so E[y_1 - y_0 | y_t] = (E[y_1 | y_t] - y_t) / (1 - t) as before: loss
and field remain right, and the field carries noise to the path's end as it is under the coupling. Bayes' rule needs
independent noise. In the network's prediction it is then only a way to write a function, which the network corrects;
in the last step from y to a grid point it is an approximation, whose error is at most the noise that is left there,
half a grid step. The likelihood remains that of what `sample` draws: p(y) and P(x | y) are the model's own, and
q(y | x) may be any density. But q is further from the model's own p(y | x), so the same number of y leaves a wider gap.
"""

import functools
import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lookalike.distributions.classes import labels_or_sample, marginal, one_hot
from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind, log_mean_exp, row_noise
from lookalike.families.contract import Family
from lookalike.networks import roles
from lookalike.networks.denoiser import Denoiser
from lookalike.paths.coupling import optimal_coupling
from lookalike.paths.ode import Solver, check_solver, integrate
from lookalike.paths.path import Times, shaped
from lookalike.paths.posterior import Posterior
from lookalike.workspace.ranges import NonNegativeInt, PositiveFloat, PositiveInt


class FlowMatching(Family):
    """
    Args:
        domain: what one observation is.
        components: normal distributions in the prediction for a place.
        times: distribution of the training times.
        coupling: of noise and data in a training batch; `optimal` minimizes the squared distance, within each class
            where there are classes.
        conditional: whether the network is given an observation's class.
        sizes: sizes of the network.
    """

    needs: ClassVar[tuple[roles.Role, ...]] = (roles.denoiser,)
    likelihood_kind: ClassVar[LikelihoodKind | None] = "estimate"

    def __init__(
        self,
        *,
        domain: Domain,
        components: PositiveInt,
        times: Times,
        coupling: Literal["independent", "optimal"],
        conditional: bool,
        sizes: dict[str, Any],
    ) -> None:
        super().__init__(domain=domain, conditional=conditional)
        self.times, self.coupling = times, coupling
        self.denoise = Denoiser(domain=domain, components=components, size=sizes, classes=self.class_count)
        self.units, self.path = self.denoise.units, self.denoise.path

    def field(self, s: Tensor, y: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return dy/ds of points `[N, *shape]` at a solver's time s (a scalar), given classes, if any: see `Path`."""
        posterior: Posterior = self.denoise(y, self.path.time(s).expand(len(y)), classes)
        return self.path.speed(s) * (posterior.mean() - y)

    def check_section(self, section: dict[str, Any]) -> None:
        """Raise a UserError if a section gives its solver other settings than the solver takes."""
        check_solver(section["solver"], steps=section["steps"], tolerance=section["tolerance"])

    def coarser(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Return a likelihood's settings with half of the solver's steps, or ten times its tolerance."""
        if settings["steps"] is not None:
            return settings | {"steps": max(1, settings["steps"] // 2)}
        return settings | {"tolerance": 10 * settings["tolerance"]}

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Let the network start from the training set's marginal distributions."""
        super().start(x, labels)
        self.denoise.start(x)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the mean squared error of the velocity per dimension, in working units."""
        classes = one_hot(self.classes, labels)
        y1 = self.units(x)
        t = self.path.draw(len(x), self.times, x.device)
        noise = torch.randn_like(y1)
        if self.coupling == "optimal":
            noise = noise[optimal_coupling(noise, y1, labels)]
        y = self.path.noisy(y1, noise, t)
        loss = (((self.denoise(y, t, classes).mean() - y1) / (1 - shaped(t, y1))) ** 2).mean()
        return {"loss": loss}

    def sample(
        self,
        n: int,
        labels: Tensor | None = None,
        *,
        solver: Solver,
        steps: PositiveInt | None,
        tolerance: PositiveFloat | None,
    ) -> Tensor:
        """Draw grid points `[n, *shape]`, int64: noise carried to the end of the path."""
        device = self.units.scale.device
        classes = one_hot(self.classes, labels_or_sample(self.classes, labels, n))
        noise = torch.randn(n, *self.domain.shape, device=device)
        field = functools.partial(self.field, classes=classes)
        y = integrate(field, noise, solver=solver, steps=steps, tolerance=tolerance, device=device)
        posterior: Posterior = self.denoise(y, torch.full((n,), self.path.end, device=device), classes)
        return posterior.grid_sample()

    def log_likelihood(
        self,
        x: Tensor,
        *,
        solver: Solver,
        steps: PositiveInt | None,
        tolerance: PositiveFloat | None,
        probes: NonNegativeInt,
        dequantizations: PositiveInt,
    ) -> Tensor:
        """Return an estimate of the log-probability in nats `[N]`.

        Args:
            x: grid points `[N, *shape]`.
            solver, steps, tolerance: how to solve the equation from the path's end to its start. The error of a
                fixed-step solver does not depend on the other points of the batch.
            probes: random signs that the estimate of the trace averages over; 0 computes the trace, one pass per
                dimension.
            dequantizations: noisy points to average over.
        """
        noise = row_noise(x, (dequantizations, *self.domain.shape), distribution="normal", seed=0)
        signs = row_noise(x, (probes, *self.domain.shape), distribution="sign", seed=1) if probes else None
        end = torch.full((len(x),), self.path.end, device=x.device)

        def given(labels: Tensor | None) -> Tensor:
            classes = one_hot(self.classes, labels)

            def field(s: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
                with torch.enable_grad():
                    # A clone, because torch's operation counter cannot follow a gradient that ends in a leaf.
                    y = state[0].detach().requires_grad_().clone()
                    v = self.field(s, y, classes)
                    trace = divergence(v, y, signs)
                return v.detach(), trace.detach()

            log_weights = []
            for eps in noise.unbind(dim=1):
                y = self.path.noisy(self.units(x), eps, end)
                start = (y, torch.zeros(len(x), device=x.device))
                y0, gained = integrate(
                    field, start, solver=solver, steps=steps, tolerance=tolerance, device=x.device, reverse=True
                )
                posterior: Posterior = self.denoise(y, end, classes)
                log_posterior = posterior.grid_log_prob(x).flatten(1).sum(1, dtype=torch.float64)
                log_noise = normal_log_prob(eps) - self.domain.dimensions * math.log(1 - self.path.end)
                log_weights.append(normal_log_prob(y0) + gained + log_posterior - log_noise)
            return log_mean_exp(torch.stack(log_weights, dim=1), dim=1)

        return marginal(self.classes, given, len(x))


def normal_log_prob(y: Tensor) -> Tensor:
    """Return log N(y; 0, I) `[N]`, float64, of `[N, *shape]`."""
    flat = y.flatten(1).double()
    return -0.5 * (flat**2).sum(1) - 0.5 * flat.shape[1] * math.log(2 * math.pi)


def divergence(v: Tensor, y: Tensor, signs: Tensor | None) -> Tensor:
    """Return tr ∂v/∂y `[N]`: the estimate mean_s sᵀ (∂v/∂y) s over signs `[N, probes, *shape]`, exact without signs."""
    if signs is not None:
        probes = signs.unbind(dim=1)
        products = (torch.autograd.grad(v, y, s, retain_graph=True)[0] * s for s in probes)
        return sum((p.flatten(1).sum(1) for p in products), start=torch.zeros(len(y), device=y.device)) / len(probes)
    columns = v.flatten(1).unbind(dim=1)
    rows = (torch.autograd.grad(column.sum(), y, retain_graph=True)[0].flatten(1) for column in columns)
    return sum((row[:, i] for i, row in enumerate(rows)), start=torch.zeros(len(y), device=y.device))
