"""Tests of the palette: intervals of a row are as wide as its levels are common in the rows above."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from family_helpers import shaken
from lookalike.distributions.logistics import LogisticMixture
from lookalike.distributions.palette import Palette
from lookalike.distributions.tones import Intervals, Tones
from lookalike.domain.domain import Domain


@pytest.fixture
def palette() -> Palette:
    torch.manual_seed(0)
    return Palette(channels=2, levels=64, hidden=16, outputs=5)


@pytest.fixture
def known(make_domain: Callable[..., Domain]) -> Tensor:
    """Return edges of the intervals of two channels that differ, `[2, 65]`."""
    tones = Tones(make_domain(2, 8, 8, levels=64))
    x = torch.randint(64, (500, 2, 64), generator=torch.Generator().manual_seed(0))
    x[:, 0] = x[:, 0] ** 2 // 64
    tones.fit(torch.stack([torch.bincount(channel.flatten(), minlength=64) for channel in x.unbind(1)]))
    return tones.edges


def parts_of(known: Tensor) -> Tensor:
    """Return the part `[62]` of each level of a channel between the ends: by its middle, all parts equally wide."""
    low, high = known[1:-2].double(), known[2:-1].double()
    along = ((low + high) / 2 - low[0]) / (high[-1] - low[0])
    return (along * Palette.PARTS).long()  # 62 levels are enough for all parts


@torch.no_grad()
def test_with_nothing_above_intervals_are_those_of_the_training_set(palette: Palette, known: Tensor) -> None:
    edges, context = palette(torch.zeros(3, 5, 2, 64), known)
    torch.testing.assert_close(edges, known.expand(3, 5, 2, 65))
    assert context.shape == (3, 5, 5)


@torch.no_grad()
def test_training_begins_with_the_counts_of_each_channel(palette: Palette, known: Tensor) -> None:
    counts = torch.zeros(1, 2, 64)
    counts[0, 0, [0, 3, 20, 21, 50, 63]] = torch.tensor([90.0, 2.0, 30.0, 1.0, 7.0, 80.0])
    counts[0, 1, [0, 30, 31]] = torch.tensor([5.0, 12.0, 3.0])
    edges, _ = palette(counts, known)
    for channel in range(2):
        before, after = (e.flatten().double().diff()[1:-1] for e in (known[channel], edges[0, channel]))
        part, inner = parts_of(known[channel]), counts[0, channel, 1:-1].double()
        assert len(part.unique()) == Palette.PARTS
        for number in part.unique():
            here = part == number
            room, common = before[here].sum(), before[here] / before[here].sum()
            share = (20 * common + inner[here]) / (20 + inner[here].sum())
            expected = room * ((1 - Palette.FLOOR) * share + Palette.FLOOR * common)
            torch.testing.assert_close(after[here], expected, atol=1e-6, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_intervals_always_ascend_and_parts_stay_where_they_are(palette: Palette, known: Tensor, scale: float) -> None:
    shaken(palette, scale)
    counts = torch.randint(40, (50, 2, 64), generator=torch.Generator().manual_seed(0)).float()
    both, _ = palette(counts, known)
    assert (both.diff() > 0).all()
    for before, edges in zip(known, both.unbind(1), strict=True):
        inner = 2 + (parts_of(before).diff() > 0).nonzero().flatten()
        ends = torch.cat([torch.tensor([0]), inner, torch.tensor([64])])
        torch.testing.assert_close(edges[:, ends], before[ends].expand(50, -1))
        assert not torch.equal(edges[:, 1:-1], before[1:-1].expand(50, -1))


@torch.no_grad()
def test_the_palette_counts_all_rows_above_and_no_other(palette: Palette) -> None:
    rows = torch.randint(64, (5, 4, 2, 12), generator=torch.Generator().manual_seed(0))
    above = palette.above(rows)
    assert (above[:, 0] == 0).all()
    for i in range(1, 4):
        seen = rows[:, :i].transpose(1, 2).flatten(2)
        expected = torch.stack([torch.bincount(x, minlength=64) for x in seen.flatten(0, 1)]).view(5, 2, 64)
        assert torch.equal(above[:, i], expected)
        assert torch.equal(palette.count(seen), expected)


@torch.no_grad()
def test_grid_points_lie_in_intervals_of_their_own_and_probabilities_sum_to_one(
    palette: Palette, known: Tensor
) -> None:
    shaken(palette, 0.5)
    counts = torch.randint(9, (64, 2, 64), generator=torch.Generator().manual_seed(0)).float()
    own = Intervals(palette(counts, known)[0].flatten(0, 1))
    every = torch.arange(64).expand(128, 64)
    low, high = own.interval(every)
    assert torch.equal(own.to_grid((low + high) / 2), every)
    torch.testing.assert_close(high[:, :-1], low[:, 1:], atol=0, rtol=0)
    parameters = torch.randn(128, 9, 1, generator=torch.Generator().manual_seed(1)).expand(-1, -1, 64)
    mass = LogisticMixture(parameters, own).log_prob(every).double().exp()
    torch.testing.assert_close(mass.sum(1), torch.ones(128, dtype=torch.float64), atol=1e-5, rtol=0)


def few_levels(count: int, *, own: bool) -> Tensor:
    """Return images `[count, 1, 12, 12]` with six levels of their own each, or with levels at random from all."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(count, 62, generator=generator).argsort(1)[:, :6] + 1
    index = torch.randint(6, (count, 144), generator=generator)
    x = chosen.gather(1, index) if own else torch.randint(1, 63, (count, 144), generator=generator)
    return x.view(-1, 1, 12, 12).to(torch.uint8)


@torch.no_grad()
def test_an_image_of_few_levels_costs_less_and_any_other_no_more_than_a_little(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(1, 12, 12, levels=64)
    cost = {}
    for own in (True, False):
        x = few_levels(300, own=own)
        model = small_model("autoregressive", domain)
        model.start(x)
        cost[own, "with"] = model.losses(x[:100])["loss"].item()
        model.network.palette = None
        cost[own, "without"] = model.losses(x[:100])["loss"].item()
    assert cost[True, "with"] < cost[True, "without"] - 0.3
    assert abs(cost[False, "with"] - cost[False, "without"]) < 0.1
