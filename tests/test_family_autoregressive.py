"""Tests of the autoregressive family: it is causal, and sampling and scoring compute the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from family_helpers import shaken
from lookalike.distributions.logistics import LogisticMixture
from lookalike.distributions.tones import Tones
from lookalike.domain.domain import Domain
from lookalike.networks import pixels, table
from lookalike.networks.causal import CausalConv, CausalMixer, CausalResidual, Sequential

IMAGES = [(1, 6, 6), (1, 7, 5), (3, 4, 3)]


@pytest.fixture(params=IMAGES, ids=["x".join(map(str, shape)) for shape in IMAGES])
def reader(request: pytest.FixtureRequest, small_model: Callable[..., Any], make_domain: Callable[..., Domain]) -> Any:
    return shaken(small_model("autoregressive", make_domain(*request.param, levels=8)), 0.3)


def reading_order(domain: Domain) -> list[tuple[int, int, int] | None]:
    """Return the pixels block by block, and in a block channel by channel; None stands for one beyond the border."""
    colours, height, width = domain.shape
    order = [
        (c, i + di, j + dj)
        for i in range(0, height, 2) for j in range(0, width, 2)
        for c in range(colours) for di in (0, 1) for dj in (0, 1)
    ]  # fmt: skip
    return [pixel if pixel[1] < height and pixel[2] < width else None for pixel in order]


@torch.no_grad()
def test_a_pixel_depends_on_those_before_it_and_on_no_others(reader: Any) -> None:
    order = reading_order(reader.domain)
    inside = torch.tensor([pixel is not None for pixel in order])
    x = torch.randint(8, (4, *reader.domain.shape), generator=torch.Generator().manual_seed(0))
    before = reader.log_probs(x)
    assert (before[:, ~inside] == 0).all()
    for place, pixel in enumerate(order):
        if pixel is None:
            continue
        changed = x.clone()
        changed[:, *pixel] = (x[:, *pixel] + 3) % 8
        moved = (reader.log_probs(changed) - before).abs().amax(dim=0)
        assert (moved[:place] < 1e-5).all()
        assert (moved[place:][inside[place:]] > 1e-5).all()


@torch.no_grad()
def test_the_start_of_a_row_depends_on_the_end_of_the_row_above(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    model = shaken(small_model("autoregressive", make_domain(1, 4, 12, levels=8)), 0.3)
    x = torch.randint(8, (4, 1, 4, 12), generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, 0, 1, 11] = (x[:, 0, 1, 11] + 3) % 8
    moved = (model.log_probs(changed) - model.log_probs(x)).abs().amax(dim=0)
    assert (moved[:23] == 0).all()
    assert (moved[24:] > 1e-5).all()


@torch.no_grad()
def test_a_row_of_a_table_is_read_from_its_first_column_to_its_last(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    model = shaken(small_model("autoregressive", make_domain(4, levels=16)), 0.3)
    x = torch.randint(16, (6, 4), generator=torch.Generator().manual_seed(0))
    for d in range(4):
        changed = x.clone()
        changed[:, d] = (x[:, d] + 5) % 16
        moved = (model.log_probs(changed) - model.log_probs(x)).abs()
        assert (moved[:, :d] == 0).all()
        assert (moved[:, d:].amax(dim=0) > 1e-5).all()


@torch.no_grad()
@pytest.mark.parametrize("shape", [*IMAGES, (4,)], ids=lambda shape: "x".join(map(str, shape)))
def test_the_sampler_draws_from_the_distributions_that_score(
    shape: tuple[int, ...], small_model: Callable[..., Any], make_domain: Callable[..., Domain],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Given observations replace what the sampler draws, dimension by dimension."""
    domain = make_domain(*shape, levels=8)
    model = shaken(small_model("autoregressive", domain), 0.2)
    x = torch.randint(8, (3, *shape), generator=torch.Generator().manual_seed(0))
    order = reading_order(domain) if len(shape) == 3 else [(d,) for d in range(shape[0])]
    beyond = torch.zeros(3, dtype=torch.int64)
    given = iter([beyond if place is None else x[:, *place] for place in order])
    log_probs: list[Tensor] = []

    class Given(LogisticMixture):
        def sample(self) -> Tensor:
            # One pixel of all images at a time, along either axis, or all columns of a table, of which one is kept.
            value = next(given).view(len(self.means), -1).expand(-1, self.means.shape[2])
            log_prob = self.log_prob(value)
            log_probs.append(log_prob.flatten() if len(shape) == 3 else log_prob[:, len(log_probs)])
            return value

    for module in (pixels, table):
        monkeypatch.setattr(module, "LogisticMixture", Given)
    assert torch.equal(model.sample(3), x)
    inside = torch.tensor([place is not None for place in order])
    torch.testing.assert_close(
        torch.stack(log_probs, dim=1)[:, inside], model.log_probs(x)[:, inside], atol=3e-4, rtol=1e-5
    )


@torch.no_grad()
def test_training_begins_with_the_spikes_of_the_training_set_s_levels(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(1, 4, 4, levels=256)
    common = torch.ones(256) + 60.0 * (torch.arange(256) % 40 == 3)
    x = torch.multinomial(common, 16 * 2000, replacement=True, generator=torch.Generator().manual_seed(0))
    x = x.view(-1, 1, 4, 4).to(torch.uint8)
    model, vae = (small_model(family, domain) for family in ("autoregressive", "vae"))
    for family in (model, vae):
        family.start(x[:1000])
    assert torch.equal(vae.decoder.pixels.tones.edges, model.network.pixels.tones.edges)
    entropy = -(common / common.sum() * (common / common.sum()).log()).sum().item()
    assert model.losses(x[1000:])["loss"].item() < entropy + 0.2
    model.network.pixels.tones.edges.copy_(Tones(domain).edges)
    assert model.losses(x[1000:])["loss"].item() > entropy + 1


def test_hidden_matrices_of_images_take_orthogonal_steps_except_the_last_and_the_dense_ones(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    model = small_model("autoregressive", make_domain(1, 6, 6, levels=8))
    chosen, network = {id(weight) for weight in model.muon_weights()}, model.network
    left = [name for name, p in network.named_parameters() if p.ndim > 1 and id(p) not in chosen]
    dense = [f"far.{i}.{part}" for i in range(len(network.far)) for part in ("weight", "shrink.weight", "grow.weight")]
    inside = [f"pixels.inside.{name}" for name in ("weight", "second", "outer", "third")]
    levels = ["pixels.look", *(f"palette.{name}.weight" for name in ("read", "write", "describe"))]
    assert sorted(left) == sorted(["position", "first", *dense, *inside, *levels])
    assert small_model("autoregressive", make_domain(4, levels=8)).muon_weights() == []


@torch.no_grad()
@pytest.mark.parametrize("itself", [False, True])
def test_a_causal_convolution_is_the_same_at_one_place_as_at_all(itself: bool) -> None:
    torch.manual_seed(0)
    layer = shaken(CausalConv(inputs=3, outputs=5, rows=2, reach=2, itself=itself), 0.1)
    h = torch.randn(2, 4, 5, 3)
    buffer = layer.buffer(h, 4, 5)
    for place, expected in enumerate(layer(h).flatten(1, 2).unbind(dim=1)):
        i, j = divmod(place, 5)
        if itself:
            layer.put(buffer, h[:, i, j], i, j)
        torch.testing.assert_close(layer.at(buffer, i, j), expected)
        layer.put(buffer, h[:, i, j], i, j)


@torch.no_grad()
def test_a_causal_residual_is_the_same_at_one_place_as_at_all() -> None:
    torch.manual_seed(0)
    layer = shaken(CausalResidual(channels=6), 0.1)
    h = torch.randn(2, 4, 5, 6)
    buffer = layer.conv.buffer(h, 4, 5)
    for place, expected in enumerate(layer(h).flatten(1, 2).unbind(dim=1)):
        i, j = divmod(place, 5)
        torch.testing.assert_close(layer.at(buffer, h[:, i, j], i, j), expected)


@torch.no_grad()
def test_a_causal_mixer_is_the_same_at_one_place_as_at_all() -> None:
    torch.manual_seed(0)
    layer = shaken(CausalMixer(channels=6, places=12, width=4), 0.1)
    h = torch.randn(2, 3, 4, 6)
    buffer = torch.zeros(2, 48)
    for place, expected in enumerate(layer(h).flatten(1, 2).unbind(dim=1)):
        torch.testing.assert_close(layer.at(buffer, h.flatten(1, 2)[:, place], place), expected)


@torch.no_grad()
@pytest.mark.parametrize("dimensions", [1, 4])
@pytest.mark.parametrize("context", [0, 5])
def test_networks_in_a_row_are_the_same_one_by_one_as_all_at_once(context: int, dimensions: int) -> None:
    torch.manual_seed(0)
    layer = shaken(Sequential(context=context, dimensions=dimensions, features=3, hidden=8, outputs=7), 0.1)
    given, described = torch.randn(6, context) if context else None, torch.randn(6, dimensions * 3)
    for d, expected in enumerate(layer(given, described).unbind(dim=1)):
        seen = described.clone()
        seen[:, 3 * d :] = torch.nan
        torch.testing.assert_close(layer.at(given, seen, d), expected)
