"""Tests of the VAE: its prior is a density and is sampled as it scores; its decoder is causal inside a block only."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from family_helpers import shaken
from lookalike.domain.domain import Domain
from lookalike.families.build import build
from lookalike.families.vae import Prior, StandardPrior
from lookalike.workspace.errors import UserError

ONE_HOT = torch.eye(3)


def prior(*, latent: int, classes: int = 0) -> Any:
    torch.manual_seed(0)
    return shaken(Prior(latent=latent, classes=classes, hidden=8, components=3), 0.1).eval()


@torch.no_grad()
@pytest.mark.parametrize("classes", [0, 3])
def test_a_prior_is_a_density(classes: int) -> None:
    axis = torch.linspace(-12, 12, 601)
    z = torch.cartesian_prod(axis, axis)
    for c in range(max(1, classes)):
        one_hot = ONE_HOT[c].expand(len(z), -1) if classes else None
        mass = prior(latent=2, classes=classes).log_prob(z, one_hot).double().exp().sum() * (24 / 600) ** 2
        assert mass == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_a_prior_depends_on_what_comes_before_and_on_the_class() -> None:
    model = prior(latent=4, classes=3)
    z = torch.randn(1, 4, requires_grad=False)
    parameters = model.network(ONE_HOT[:1], z)[0]
    assert not torch.allclose(parameters, model.network(ONE_HOT[1:2], z)[0])
    for j in range(4):
        changed = z.clone()
        changed[:, j] += 1
        same = (model.network(ONE_HOT[:1], changed)[0] == parameters).all(dim=1)
        assert same[: j + 1].all()
        assert not same[j + 1 :].any()


@torch.no_grad()
def test_a_prior_draws_what_it_scores() -> None:
    """Compare the mass of the four quadrants around the median, and the mean log-density, drawn and integrated."""
    model = prior(latent=2)
    torch.manual_seed(1)
    drawn = model.sample(torch.empty(40_000, 2), None)
    axis = torch.linspace(-12, 12, 601)
    z = torch.cartesian_prod(axis, axis)
    mass = model.log_prob(z, None).double().exp() * (24 / 600) ** 2
    middle = drawn.median(dim=0).values
    for signs in itertools.product((-1, 1), repeat=2):
        sign = torch.tensor(signs)
        there = ((z - middle) * sign > 0).all(dim=1)
        often = ((drawn - middle) * sign > 0).all(dim=1).double().mean().item()
        assert often == pytest.approx(mass[there].sum().item(), abs=0.02)
    entropy = -(mass * model.log_prob(z, None)).sum().item()
    log_prob = model.log_prob(drawn, None).double()
    assert -log_prob.mean().item() == pytest.approx(entropy, abs=4 * log_prob.std().item() / math.sqrt(40_000))


@torch.no_grad()
@pytest.mark.parametrize("learned", [False, True])
def test_the_rate_is_the_divergence_of_codes_from_the_prior(learned: bool) -> None:
    """Its mean over codes is E_q[log q(z | x) - log p(z)]; with a standard normal prior every code gives this mean."""
    model = prior(latent=2) if learned else StandardPrior(2)
    torch.manual_seed(2)
    mean, log_std = torch.tensor([0.4, -1.0]), torch.tensor([-0.7, 0.2])
    posterior = torch.distributions.Normal(mean, log_std.exp())
    z = posterior.sample((200_000,))
    gaps = posterior.log_prob(z).sum(1) - model.log_prob(z, None)
    rate = model.rate(mean.expand(len(z), -1), log_std.expand(len(z), -1), z, None)
    assert rate.mean().item() == pytest.approx(gaps.mean().item(), abs=0.01)
    if not learned:
        assert rate.std() < 1e-5
        standard = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
        expected = torch.distributions.kl_divergence(posterior, standard).sum().item()
        assert rate[0].item() == pytest.approx(expected, abs=1e-5)


def test_a_prior_learns_codes_that_are_not_normal() -> None:
    """Two clusters far apart cost log 2 more than one; a normal distribution would cost 2 nats more."""
    torch.manual_seed(0)
    model = Prior(latent=2, classes=0, hidden=16, components=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def codes(n: int) -> Tensor:
        side = torch.randint(0, 2, (n, 1)) * 6.0 - 3.0
        return torch.cat([side, -side], dim=1) + 0.5 * torch.randn(n, 2)

    for _ in range(400):
        optimizer.zero_grad()
        (-model.log_prob(codes(256), None).mean()).backward()
        optimizer.step()
    entropy = math.log(2) + 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.5))
    with torch.no_grad():
        assert -model.log_prob(codes(20_000), None).mean().item() == pytest.approx(entropy, abs=0.05)


@torch.no_grad()
def test_pixels_depend_on_those_before_them_in_their_block_and_on_no_others(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    model = shaken(small_model("vae", make_domain(1, 5, 4, levels=8)), 0.3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(8, (3, 1, 5, 4), generator=generator)
    code = torch.randn(3, model.latent, generator=generator)
    before = model.decoder.log_prob(x, code).view(3, 3, 2, 4)
    assert (before[:, 2, :, 2:] == 0).all(), "beyond the border"
    for i, j in itertools.product(range(5), range(4)):
        changed = x.clone()
        changed[:, 0, i, j] = (x[:, 0, i, j] + 3) % 8
        moved = (model.decoder.log_prob(changed, code).view(3, 3, 2, 4) - before).abs().amax(dim=0) > 1e-6
        d = 2 * (i % 2) + j % 2
        block = moved[i // 2, j // 2].clone()
        assert block[d]
        assert not block[:d].any()
        assert block[d + 1 : 2 if i == 4 else 4].all()
        moved[i // 2, j // 2] = False
        assert not moved.any()


@torch.no_grad()
def test_a_width_of_0_gives_the_standard_normal_prior(
    small_config: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(1, 4, 4, levels=8)
    section = small_config("vae").model
    model: Any = build(section | {"prior": {"image": 0}}, domain, seed=0)
    assert isinstance(model.prior, StandardPrior)
    x = torch.randint(8, (2, 1, 4, 4))
    assert model.log_likelihood(x, importance_samples=2).isfinite().all()
    with pytest.raises(UserError, match="prior"):
        build(section | {"prior": {"image": -1}}, domain, seed=0)
