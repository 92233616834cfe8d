"""Tests of every family on extreme domains: it works, or it refuses at once with a clear message."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lookalike.distributions import histogram
from lookalike.domain.domain import Domain
from lookalike.families.build import build, for_domain
from lookalike.networks.causal import CausalConv, CausalMixer
from lookalike.training.learning import count_parameters, masked
from lookalike.workspace.configuration import Config, choices
from lookalike.workspace.errors import UserError

DOMAINS = {
    "image of one pixel": ((1, 1, 1), 256),
    "image of one pixel in three colours": ((3, 1, 1), 256),
    "image of two pixels": ((1, 1, 2), 256),
    "image of 2x2 pixels": ((1, 2, 2), 256),
    "image of one row": ((1, 1, 9), 256),
    "image of 5x7 pixels in three colours": ((3, 5, 7), 256),
    "image of two levels": ((1, 4, 4), 2),
    "number of two levels": ((1,), 2),
    "table of 5 columns of two levels": ((5,), 2),
    "number of 65,536 levels": ((1,), 65536),
    "table of 3 columns of 65,536 levels": ((3,), 65536),
}
REFUSED = {("flow", "image of one pixel"), ("flow", "image of one pixel in three colours")}


def skewed(domain: Domain, n: int) -> Tensor:
    u = torch.rand(n, *domain.shape, generator=torch.Generator().manual_seed(0))
    x = (domain.levels * u**2).long().clamp(max=domain.levels - 1)
    return x.to(torch.uint8) if domain.kind == "image" else x


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("family", choices("model"))
def test_a_family_models_a_domain_or_refuses_it_by_name_before_training(
    family: str, name: str, small_config: Callable[..., Config], make_domain: Callable[..., Domain]
) -> None:
    shape, levels = DOMAINS[name]
    domain = make_domain(*shape, levels=levels)
    config = for_domain(small_config(family), domain)
    if (family, name) in REFUSED:
        with pytest.raises(UserError, match=f"^model={family}: {domain.name} has ") as refusal:
            build(config.model, domain, seed=0)
        assert "\n" not in str(refusal.value)
        return
    model, x = build(config.model, domain, seed=0), skewed(domain, 60)
    if model.is_fitted:
        model.fit(x)
    else:
        model.start(x)
        model.losses(x)["loss"].backward()
        torch.optim.SGD(model.parameters(), lr=1e-4).step()
    model.eval()
    with torch.no_grad():
        samples = model.sample(7, **config.sampling)
        assert samples.shape == (7, *shape)
        assert samples.min() >= 0
        assert samples.max() < levels
        if config.likelihood is not None:
            assert model.log_likelihood(x[:5], **config.likelihood).isfinite().all()


@pytest.mark.parametrize("bandwidth", [0.0, 0.5, 4.0, 24.0])
def test_a_kernel_that_is_cut_off_smooths_like_the_matrix(bandwidth: float, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = torch.bincount(skewed_numbers(300, 5000), minlength=300).double().expand(2, -1)
    smooth, own = histogram.convolved(counts, bandwidth)
    monkeypatch.setattr(histogram, "DENSE", 10)
    again, own_again = histogram.convolved(counts, bandwidth)
    torch.testing.assert_close(again, smooth, atol=1e-9, rtol=1e-12)
    torch.testing.assert_close(own_again, own, atol=1e-14, rtol=1e-12)


def skewed_numbers(levels: int, n: int) -> Tensor:
    return (levels * torch.rand(n, generator=torch.Generator().manual_seed(0)) ** 2).long()


def test_the_buffers_of_a_fitted_family_count_as_learned(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    image, table = make_domain(1, 2, 3, levels=8), make_domain(2, levels=16)
    assert count_parameters(small_model("independent", image)) == 6 * 8
    assert count_parameters(small_model("uniform", image)) == 6
    mixture = small_model("mixture", table, width=2)
    assert count_parameters(mixture) == 2 + 2 * 2 + 2 * 2 * 2
    vae = small_model("vae", table)
    assert count_parameters(vae) == sum(p.numel() for p in vae.parameters()) > 0


def test_weights_under_a_mask_do_not_count_as_learned(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    model = small_model("autoregressive", make_domain(1, 4, 4, levels=8), width=3)
    x = torch.randint(0, 8, (8, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    model.start(x)
    moved = [torch.zeros_like(weight, dtype=torch.bool) for weight in model.parameters()]
    for _ in range(3):
        for weight in model.parameters():  # a weight that starts at 0 hides others
            weight.data += 0.1 * torch.randn(weight.shape)
        model.zero_grad()
        model.losses(x)["loss"].backward()
        for seen, weight in zip(moved, model.parameters(), strict=True):
            seen |= weight.grad != 0
    reached = sum(int(seen.sum()) for seen in moved)
    assert reached <= count_parameters(model) < sum(p.numel() for p in model.parameters())
    mixer = CausalMixer(channels=2, places=5, width=3)
    assert masked(mixer) == 3**2 * (5 * 4 // 2)
    conv = CausalConv(inputs=2, outputs=3, rows=1, reach=1, itself=True)
    assert masked(conv) == conv.weight.numel() - 3 * 2 * 5
