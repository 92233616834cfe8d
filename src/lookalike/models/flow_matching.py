"""Flow matching: a velocity field that carries noise to data along straight lines.

    y_t = (1 - t) y_0 + t y_1,   y_0 ~ N(0, I),   y_1 ~ data;   loss = E |v(y_t, t) - (y_1 - y_0)|²

(Lipman et al., Flow matching for generative modeling, 2023, arXiv:2210.02747; Liu et al., Flow straight and fast, 2023,
arXiv:2209.03003.) The network predicts the data point ŷ_1 that a noisy one comes from, which lies on a simpler set than
a velocity does, and v = (ŷ_1 - y_t) / (1 - t) (Li & He, Back to basics: let denoising generative models denoise, 2025,
arXiv:2511.13720). Times are drawn from a logistic-normal distribution, where there is most to decide (Esser et al.,
Scaling rectified flow transformers, 2024, arXiv:2403.03206).

A sample is y_0 carried from t = 0 to t = 1. The density follows from the instantaneous change of variables, log p(y_1)
= log N(y_0) - ∫ tr ∂v/∂y dt (Chen et al., Neural ordinary differential equations, 2018, arXiv:1806.07366), with the
trace estimated by random signs (Grathwohl et al., FFJORD, 2019, arXiv:1810.01367) or, where dimensions are few,
computed. Data are dequantized uniformly; a solver's error has no sign that is known, so the likelihood is an estimate.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from lookalike.domain import Domain
from lookalike.likelihood import Kind, WorkingUnits, log_mean_exp, row_noise
from lookalike.networks.mlp import TimeMLP
from lookalike.networks.ode import Solver, check_solver, integrate
from lookalike.networks.unet import UNet
from lookalike.ranges import Fraction, NonNegativeInt, PositiveFloat, PositiveInt, Share, Widths, settings


@settings
class ImageSize(TypedDict):
    widths: Widths
    depth: PositiveInt
    hidden: PositiveInt


@settings
class VectorSize(TypedDict):
    hidden: Widths


@settings
class Times(TypedDict):
    mean: float
    spread: PositiveFloat
    uniform: Share


class FlowMatching(nn.Module):
    """
    Args:
        domain: what one observation is.
        times: `mean` and `spread` of the logistic-normal distribution of training times; a share `uniform` of each
            batch has uniform times instead, so that no part of the path goes unlearned.
        gap: the least 1 - t that the velocity is divided by: past it, points move straight to the prediction.
        image: `widths`, `depth` and `hidden` of the U-Net.
        vector: `hidden` (layer widths of the network).
    """

    likelihood_kind: ClassVar[Kind | None] = "estimate"

    def __init__(self, *, domain: Domain, times: Times, gap: Fraction, image: ImageSize, vector: VectorSize) -> None:
        super().__init__()
        self.domain, self.times, self.gap = domain, times, gap
        self.units = WorkingUnits(domain)
        self.denoise: nn.Module
        if domain.kind == "image":
            self.denoise = UNet(
                shape=domain.shape,
                out_channels=domain.shape[0],
                widths=image["widths"],
                depth=image["depth"],
                hidden=image["hidden"],
            )
        else:
            self.denoise = TimeMLP(dimensions=domain.dimensions, hidden=vector["hidden"])

    def velocity(self, y: Tensor, t: Tensor) -> Tensor:
        """v(y_t, t) for points `[N, *shape]` in working units and times `[N]`."""
        left = (1 - t).clamp(min=self.gap).view(-1, *[1] * (y.ndim - 1))
        velocity: Tensor = (self.denoise(y, t) - y) / left
        return velocity

    def draw_times(self, count: int, device: torch.device) -> Tensor:
        """Training times `[count]`, stratified over the batch: the same expectation, less noise."""
        u = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
        share = self.times["uniform"]
        normal = torch.special.ndtri(((u - share) / (1 - share)).clamp(1e-4, 1 - 1e-4))
        return torch.where(
            u < share, u / max(share, 1e-6), torch.sigmoid(self.times["mean"] + self.times["spread"] * normal)
        )

    def check(self, section: dict[str, Any]) -> None:
        """Raise a UserError where a section gives its solver other settings than that takes."""
        check_solver(section["solver"], steps=section["steps"], tolerance=section["tolerance"])

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        """The mean squared error of the velocity, a dimension, in working units."""
        y1 = self.units.dequantize(x, torch.rand(x.shape, device=x.device))
        y0 = torch.randn_like(y1)
        t = self.draw_times(len(x), x.device)
        shaped = t.view(-1, *[1] * (y1.ndim - 1))
        loss = ((self.velocity((1 - shaped) * y0 + shaped * y1, t) - (y1 - y0)) ** 2).mean()
        return {"loss": loss}

    def sample(self, n: int, *, solver: Solver, steps: PositiveInt | None, tolerance: PositiveFloat | None) -> Tensor:
        """Grid points `[n, *shape]`, int64: noise carried to t = 1."""
        device = self.units.scale.device
        y0 = torch.randn(n, *self.domain.shape, device=device)

        def field(t: Tensor, y: Tensor) -> Tensor:
            return self.velocity(y, t.expand(len(y)))

        return self.units.to_grid(integrate(field, y0, solver=solver, steps=steps, tolerance=tolerance, device=device))

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
        """An estimate of the log-probability in nats `[N]`.

        Args:
            x: grid points `[N, *shape]`.
            solver, steps, tolerance: of the equation from t = 1 to t = 0. A fixed-step solver's error doesn't depend
                on the other points of the batch.
            probes: random signs that the trace's estimate averages over; 0 computes the trace, a pass a dimension.
            dequantizations: places in the grid interval to average the density over.
        """
        places = row_noise(x, (dequantizations, *self.domain.shape), distribution="uniform", seed=0)
        signs = row_noise(x, (probes, *self.domain.shape), distribution="sign", seed=1) if probes else None

        def field(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                # A copy: torch's operation counter can't follow a gradient that ends in a leaf.
                y = state[0].detach().requires_grad_().clone()
                v = self.velocity(y, t.expand(len(y)))
                trace = divergence(v, y, signs)
            return v.detach(), trace.detach()

        log_weights = []
        for u in places.unbind(dim=1):
            start = (self.units.dequantize(x, u), torch.zeros(len(x), device=x.device))
            y0, gained = integrate(
                field, start, solver=solver, steps=steps, tolerance=tolerance, device=x.device, reverse=True
            )
            flat = y0.flatten(1).double()
            log_base = -0.5 * (flat**2).sum(1) - 0.5 * flat.shape[1] * math.log(2 * math.pi)
            log_weights.append(log_base + gained)
        return log_mean_exp(torch.stack(log_weights, dim=1), dim=1) + self.units.log_jacobian


def divergence(v: Tensor, y: Tensor, signs: Tensor | None) -> Tensor:
    """tr ∂v/∂y `[N]`: its estimate mean_s sᵀ (∂v/∂y) s over signs `[N, probes, *shape]`, or exactly without signs."""
    if signs is not None:
        probes = signs.unbind(dim=1)
        products = (torch.autograd.grad(v, y, s, retain_graph=True)[0] * s for s in probes)
        return sum((p.flatten(1).sum(1) for p in products), start=torch.zeros(len(y), device=y.device)) / len(probes)
    columns = v.flatten(1).unbind(dim=1)
    rows = (torch.autograd.grad(column.sum(), y, retain_graph=True)[0].flatten(1) for column in columns)
    return sum((row[:, i] for i, row in enumerate(rows)), start=torch.zeros(len(y), device=y.device))
