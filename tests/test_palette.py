"""The palette: a row of an image has intervals as wide as its levels are common above it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from family_helpers import shaken
from torch import Tensor

from lookalike.core.domain import Domain
from lookalike.core.likelihood import LogisticMixture, OwnTones, Tones
from lookalike.networks.palette import Palette


@pytest.fixture
def palette() -> Palette:
    torch.manual_seed(0)
    return Palette(levels=64, hidden=16, outputs=5)


@pytest.fixture
def known(make_domain: Callable[..., Domain]) -> Tensor:
    """Edges of intervals in a training set."""
    tones = Tones(make_domain(1, 8, 8, levels=64))
    tones.fit(torch.randint(64, (500, 1, 8, 8), generator=torch.Generator().manual_seed(0)) ** 2 // 64)
    return tones.edges


def parts_of(known: Tensor) -> Tensor:
    """The part that each level between the ends belongs to: by the middle of its interval, all equally wide."""
    low, high = known[1:-2].double(), known[2:-1].double()
    along = ((low + high) / 2 - low[0]) / (high[-1] - low[0])
    return (along * Palette.PARTS).long()  # 62 levels are enough for all parts


@torch.no_grad()
def test_with_nothing_above_intervals_are_those_of_the_training_set(palette: Palette, known: Tensor) -> None:
    edges, told = palette(torch.zeros(3, 2, 64), known)
    torch.testing.assert_close(edges, known.expand(3, 2, 65))
    assert told.shape == (3, 2, 5)


@torch.no_grad()
def test_training_begins_with_how_often_a_level_came(palette: Palette, known: Tensor) -> None:
    counts = torch.zeros(1, 64)
    counts[0, [0, 3, 20, 21, 50, 63]] = torch.tensor([90.0, 2.0, 30.0, 1.0, 7.0, 80.0])
    edges, _ = palette(counts, known)
    before, after = (e.flatten().double().diff()[1:-1] for e in (known, edges))
    part, inner = parts_of(known), counts[0, 1:-1].double()
    assert len(part.unique()) == Palette.PARTS
    for number in part.unique():
        here = part == number
        room, common = before[here].sum(), before[here] / before[here].sum()
        share = (20 * common + inner[here]) / (20 + inner[here].sum())
        expected = room * ((1 - Palette.FLOOR) * share + Palette.FLOOR * common)
        torch.testing.assert_close(after[here], expected, atol=1e-6, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_whatever_it_has_learned_intervals_ascend_and_parts_stay_where_they_were(
    palette: Palette, known: Tensor, scale: float
) -> None:
    shaken(palette, scale)
    counts = torch.randint(40, (50, 64), generator=torch.Generator().manual_seed(0)).float()
    edges, _ = palette(counts, known)
    assert (edges.diff() > 0).all()
    ends = torch.cat([torch.tensor([0]), 2 + (parts_of(known).diff() > 0).nonzero().flatten(), torch.tensor([64])])
    torch.testing.assert_close(edges[:, ends], known[ends].expand(50, -1))
    assert not torch.equal(edges[:, 1:-1], known[1:-1].expand(50, -1))


@torch.no_grad()
def test_it_counts_all_rows_above_and_no_other(palette: Palette) -> None:
    rows = torch.randint(64, (5, 4, 12), generator=torch.Generator().manual_seed(0))
    above = palette.above(rows)
    assert (above[:, 0] == 0).all()
    for i in range(1, 4):
        expected = torch.stack([torch.bincount(x, minlength=64) for x in rows[:, :i].flatten(1)])
        assert torch.equal(above[:, i].long(), expected)
        assert torch.equal(palette.count(rows[:, :i].flatten(1)).long(), expected)


@torch.no_grad()
def test_grid_points_lie_in_intervals_of_their_own_and_probabilities_add_up(palette: Palette, known: Tensor) -> None:
    shaken(palette, 0.5)
    counts = torch.randint(9, (64, 64), generator=torch.Generator().manual_seed(0)).float()
    own = OwnTones(palette(counts, known)[0])
    every = torch.arange(64).expand(64, 64)
    low, high = own.interval(every)
    assert torch.equal(own.to_grid((low + high) / 2), every)
    torch.testing.assert_close(high[:, :-1], low[:, 1:], atol=0, rtol=0)
    parameters = torch.randn(64, 9, 1, generator=torch.Generator().manual_seed(1)).expand(-1, -1, 64)
    mass = LogisticMixture(parameters, own).log_prob(every).double().exp()
    torch.testing.assert_close(mass.sum(1), torch.ones(64, dtype=torch.float64), atol=1e-5, rtol=0)


def few_levels(count: int, *, own: bool) -> Tensor:
    """Images `[count, 1, 12, 12]` whose pixels have six levels, each image's own or at random from all."""
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
        model.palette = None
        cost[own, "without"] = model.losses(x[:100])["loss"].item()
    assert cost[True, "with"] < cost[True, "without"] - 0.3
    assert abs(cost[False, "with"] - cost[False, "without"]) < 0.1
