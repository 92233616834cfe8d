"""The flows are invertible maps with known Jacobian determinants."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from family_helpers import shaken, skewed
from lookalike.domain.domain import Domain

jacobian_of: Callable[..., Tensor] = torch.autograd.functional.jacobian


def image_to_noise(density: Any, x: Tensor, u: Tensor) -> Tensor:
    """Return the images in [0, 1] of places u in the intervals of grid points, `[N, D]` in the order of pixels."""
    low, high = (end.view(x.shape) for end in density.marginals.interval(x))
    uniform = (low + (high - low) * u).float()
    values = 2 * (x + u - 0.5) / (density.domain.levels - 1) - 1
    pixels = torch.arange(density.domain.dimensions).view(1, *density.domain.shape)
    where, noise = [], []
    for scale, couplings in enumerate(density.scales):
        known, changed = density.lattices(values, scale), density.lattices(uniform, scale)
        places = density.lattices(pixels, scale, beyond=-1)
        seen = [known[0]]
        for coupling, part in zip(couplings, density.parts[scale], strict=True):
            noise.append(coupling.splines(torch.cat(seen, dim=1)).forward(changed[part])[0].flatten(1))
            where.append(places[part].flatten())
            seen.append(known[part])
        values, uniform, pixels = known[0], changed[0], places[0]
    index = torch.cat([*where, pixels.flatten()])
    flat = torch.cat([*noise, uniform.flatten(1)], dim=1)[:, index >= 0]
    return flat[:, index[index >= 0].argsort()]


FLOWN = [(1, 3, 3), (2, 2, 3), (1, 1, 5)]


@pytest.fixture(params=FLOWN, ids=["x".join(map(str, shape)) for shape in FLOWN])
def image_flow(
    request: pytest.FixtureRequest, small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> Any:
    domain = make_domain(*request.param, levels=8)
    model = small_model("flow", domain)
    model.start(skewed(domain, 500))
    return shaken(model, 0.3).density


def test_a_flow_of_images_knows_the_determinant_of_its_jacobian(image_flow: Any) -> None:
    dimensions, shape = image_flow.domain.dimensions, image_flow.domain.shape
    x, u = skewed(image_flow.domain, 4), torch.rand(4, *shape, generator=torch.Generator().manual_seed(1))
    ours = image_flow.log_prob(x, u)
    untouched = torch.stack([end.log() for end in (lambda low, high: high - low)(*image_flow.marginals.interval(x))])
    assert (ours - untouched.sum(dim=1)).abs().min() > 0.01, "idle splines would prove nothing"
    for i in range(4):
        jacobian = jacobian_of(lambda u, i=i: image_to_noise(image_flow, x[i : i + 1], u)[0], u[i : i + 1])
        log_determinant = jacobian.reshape(dimensions, dimensions).double().slogdet().logabsdet
        assert ours[i].item() == pytest.approx(log_determinant.item(), abs=2e-3)


@torch.no_grad()
def test_a_sampled_image_is_the_one_whose_noise_was_drawn(image_flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    n, dimensions = 200, image_flow.domain.dimensions
    u = torch.full((n, dimensions), torch.nan)
    locate = image_flow.marginals.locate

    def watched(places: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        points, rest = locate(places, pixels)
        u[:, pixels] = rest.float()
        return points, rest

    monkeypatch.setattr(image_flow.marginals, "locate", watched)
    torch.manual_seed(3)
    x = image_flow.sample(n)
    torch.manual_seed(3)
    noise = torch.rand(n, dimensions)
    ours = image_to_noise(image_flow, x, u.view(x.shape))
    torch.testing.assert_close(ours, noise, atol=1e-3, rtol=0)
    assert (x.flatten(1).float().std(dim=0) > 0).all()


def test_an_untrained_flow_of_images_is_independent_pixels(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(2, 3, 3, levels=16)
    x = skewed(domain, 300)
    independent, model = small_model("independent", domain), small_model("flow", domain)
    independent.fit(x)
    model.start(x)
    ours = model.log_likelihood(x, dequantizations=3)
    torch.testing.assert_close(ours, independent.log_likelihood(x), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_a_flow_of_tables_knows_the_determinant_of_its_jacobian(
    dimensions: int, small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    density = shaken(small_model("flow", make_domain(dimensions, levels=64)), 0.3).density
    x = torch.randint(64, (5, dimensions), generator=torch.Generator().manual_seed(0))
    u = torch.rand(5, dimensions, generator=torch.Generator().manual_seed(1))

    def to_noise(u: Tensor, i: int) -> Tensor:
        noise: Tensor = density.flow().transform((x[i] + u - 0.5 - density.units.location) / density.units.scale)
        return noise

    for i, ours in enumerate(density.log_prob(x, u)):
        log_determinant = jacobian_of(lambda u, i=i: to_noise(u, i), u[i]).double().slogdet().logabsdet
        standard: Any = torch.distributions.Normal(0, 1)
        expected = standard.log_prob(to_noise(u[i], i).double()).sum() + log_determinant
        assert ours.item() == pytest.approx(expected.item(), abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("dimensions", [1, 3])
def test_a_sampled_row_is_the_one_whose_noise_was_drawn(
    dimensions: int, small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    density = shaken(small_model("flow", make_domain(dimensions, levels=100_000)), 0.1).density
    torch.manual_seed(0)
    x = density.sample(1000)
    torch.manual_seed(0)
    noise = density.flow().base.sample((1000,))
    inside = ((x > 0) & (x < 99_999)).all(dim=1)
    assert inside.sum() > 100
    torch.testing.assert_close(density.flow().transform(density.units(x))[inside], noise[inside], atol=1e-2, rtol=0)
