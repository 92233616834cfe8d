"""Tests of ranks: ties by errors and by seeds, kinds that settle nothing, protocols that exclude a family."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from lookalike.report.contest import Entrant, Place, difference, order, places, seeds_differ, settles


def entrant(value: float, error: float = 0.1, *, seeds: list[float] | None = None, **more: Any) -> Entrant:
    entry = {"value": value, "error": error} | more
    if seeds:
        summary = {"mean": float(np.mean(seeds)), "deviation": float(np.std(seeds, ddof=1))}
        entry |= summary | {"seeds": {str(i): one for i, one in enumerate(seeds)}}
    return Entrant(entry=entry)


def marks(entrants: dict[str, Entrant], *, better: Any = "lower", paired: Any = None) -> dict[str, str]:
    return {name: str(place) for name, place in places(entrants, better=better, paired=paired).items()}


def test_a_rank_counts_the_families_that_are_better_for_certain() -> None:
    values = {"a": entrant(5.0), "b": entrant(5.2), "c": entrant(6.0), "d": entrant(6.1), "e": entrant(9.0)}
    assert marks(values) == {"a": "1", "b": "=1", "c": "3", "d": "3", "e": "5"}
    assert marks(values, better="higher") == {"a": "4", "b": "4", "c": "2", "d": "2", "e": "1"}


def test_what_is_not_distinguishable_from_the_best_is_tied_even_if_it_is_distinguishable_from_another() -> None:
    found = places({"a": entrant(5.0, 1.0), "b": entrant(5.1, 0.01), "c": entrant(5.3, 0.01)}, better="lower")
    assert {name: str(place) for name, place in found.items()} == {"a": "1", "b": "=1", "c": "=1"}
    assert all(place.first for place in found.values())


def test_nobody_and_one_alone() -> None:
    assert places({}, better="lower") == {}
    assert marks({"a": entrant(5.0)}) == {"a": "1"}


# Likelihood kinds


@pytest.mark.parametrize(
    ("kind", "other", "settled"),
    [
        ("lower bound", "exact", True), ("exact", "lower bound", False), ("exact", "exact", True),
        ("lower bound", "lower bound", True), ("estimate", "exact", False), ("exact", "estimate", False),
        ("lower bound", "estimate", False), ("estimate", "estimate", True), ("exact", "at least", True),
        ("at least", "exact", False), ("lower bound", "at least", True), ("at least", "lower bound", False),
    ],
)  # fmt: skip
def test_a_better_number_settles_the_order_only_if_the_truth_can_t_lie_the_other_way_round(
    kind: str, other: str, settled: bool
) -> None:
    assert settles(kind, other, better="lower") is settled
    sides = {"exact": (0, 0), "lower bound": (-9, 0), "at least": (0, 9), "estimate": (-9, 9)}
    (_, highest), (lowest, _) = sides[kind], sides[other]
    assert settled is (kind == other or 1 + highest < 2 + lowest)


def test_a_bound_that_beats_an_exact_value_is_ahead_and_the_reverse_is_open() -> None:
    exact: dict[str, Any] = {"kind": "exact"}
    bound: dict[str, Any] = {"kind": "lower bound"}
    assert marks({"a": entrant(1.0, 0.01, **bound), "b": entrant(2.0, 0.01, **exact)}) == {"a": "1", "b": "2"}
    found = places({"a": entrant(1.0, 0.01, **exact), "b": entrant(2.0, 0.01, **bound)}, better="lower")
    assert {name: str(place) for name, place in found.items()} == {"a": "1", "b": "1?"}
    assert [place.first for place in found.values()] == [True, False]


def test_numbers_of_three_kinds_in_one_ranking() -> None:
    values = {
        "autoregressive": entrant(1.09, 0.003, kind="exact"), "flow": entrant(1.15, 0.006, kind="lower bound"),
        "vae": entrant(1.20, 0.004, kind="lower bound"), "flow_matching": entrant(1.19, 0.01, kind="estimate"),
        "independent": entrant(1.69, 0.004, kind="exact"), "uniform": entrant(8.0, 0.0, kind="exact"),
    }  # fmt: skip
    assert marks(values) == {
        "autoregressive": "1", "flow": "1?", "vae": "2?", "flow_matching": "1?", "independent": "4?", "uniform": "5?"
    }  # fmt: skip


def test_numbers_of_other_kinds_that_do_not_differ_are_tied() -> None:
    assert marks({"a": entrant(7.0, kind="exact"), "b": entrant(7.1, kind="lower bound")}) == {"a": "1", "b": "=1"}


# Errors


def test_paired_differences_decide_where_there_are_any() -> None:
    values = {"a": entrant(7.0, 0.3), "b": entrant(7.1, 0.3)}
    assert marks(values) == {"a": "1", "b": "=1"}
    assert marks(values, paired=lambda one, other: (-0.1 if one == "a" else 0.1, 0.02)) == {"a": "1", "b": "2"}
    assert marks(values, paired=lambda one, other: None) == {"a": "1", "b": "=1"}


def test_with_several_seeds_the_seeds_must_differ_too() -> None:
    close = {"a": entrant(5.0, 0.01, seeds=[5.0, 5.6, 5.3]), "b": entrant(5.5, 0.01, seeds=[5.5, 5.9, 5.4])}
    assert marks(close) == {"a": "1", "b": "=1"}
    far = {"a": entrant(5.0, 0.01, seeds=[5.0, 5.1, 5.05]), "b": entrant(5.5, 0.01, seeds=[5.5, 5.6, 5.4])}
    assert marks(far) == {"a": "1", "b": "2"}
    one_seed = {"a": close["a"], "b": entrant(5.6, 0.01)}
    assert marks(one_seed) == {"a": "1", "b": "2"}


def test_seeds_that_agree_to_the_digit_do_not_outdo_the_error_of_the_evaluation() -> None:
    """Fitted families have the same likelihood with every seed: the test points still are a sample."""
    values = {"a": entrant(7.0, 0.3, seeds=[7.0, 7.0]), "b": entrant(7.1, 0.3, seeds=[7.1, 7.1])}
    assert marks(values, paired=lambda one, other: (-0.1 if one == "a" else 0.1, 0.08)) == {"a": "1", "b": "=1"}
    assert marks(values, paired=lambda one, other: (-0.1 if one == "a" else 0.1, 0.02)) == {"a": "1", "b": "2"}


def test_errors_of_samples_average_out_over_seeds_and_those_of_held_out_points_do_not() -> None:
    drawn: dict[str, Any] = {"samples": 1000}
    held_out: dict[str, Any] = {"split": "test"}
    for protocol, mark in ((drawn, "2"), (held_out, "=1")):
        values = {"a": entrant(5.0, 0.2, seeds=[5.0, 5.01, 5.02], **protocol)}
        values["b"] = entrant(5.5, 0.2, seeds=[5.5, 5.51, 5.52], **protocol)
        assert marks(values) == {"a": "1", "b": mark}


def test_means_over_seeds_are_ranked_and_not_the_cells_own_numbers() -> None:
    values = {"a": entrant(5.0, 0.01, seeds=[5.0, 7.0, 7.1]), "b": entrant(5.5, 0.01, seeds=[5.5, 5.6, 5.4])}
    assert places(values, better="lower")["b"] == Place(rank=1)
    shifted = order(values["a"], values["b"], better="lower", paired=(-0.5, 0.01))
    assert shifted == "tied"  # of a mean difference of 0.87, which the seeds of `a` do not bear out


def test_the_test_over_seeds_is_welch_s() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        one, other = rng.normal(0, 1, rng.integers(2, 6)), rng.normal(1, 3, rng.integers(2, 6))
        p = stats.ttest_ind(one, other, equal_var=False).pvalue
        assert seeds_differ(list(one), list(other)) == (p < 0.05)
        found.append(p < 0.05)
    assert 0 < sum(found) < 200
    assert not seeds_differ([1.0, 1.0], [1.0, 1.0])
    assert seeds_differ([1.0, 1.0], [2.0, 2.0])


# Protocols


def test_a_number_of_another_protocol_is_refused_a_place_and_the_difference_is_named() -> None:
    common: dict[str, Any] = {"samples": 10000, "extractor_digest": "abc", "settings": {"neighbours": 5}}
    found = places(
        {"odd": entrant(1.0, **common | {"samples": 200}), "a": entrant(5.0, **common), "b": entrant(6.0, **common),
         "other": entrant(2.0, **common | {"settings": {"neighbours": 3}})}, better="lower",
    )  # fmt: skip
    assert found["odd"] == Place(rank=None, refused="samples 200, not 10,000")
    assert found["other"].refused == "settings (neighbours 3), not (neighbours 5)"
    assert (str(found["a"]), str(found["b"]), str(found["odd"])) == ("1", "2", "")


@pytest.mark.parametrize(
    "protocol",
    [
        {"kind": "exact", "points": 10, "settings": {}, "split": "test"},
        {"kind": "lower bound", "points": 9, "settings": {"importance_samples": 50}, "split": "test"},
    ],
)
def test_kind_points_and_settings_of_a_likelihood_are_the_family_s_own(protocol: dict[str, Any]) -> None:
    other: dict[str, Any] = {"kind": "estimate", "points": 5, "settings": {"steps": 20}, "split": "test"}
    assert not places({"a": entrant(1.0, **protocol), "b": entrant(2.0, **other)}, better="lower")["b"].refused
    other["split"] = "validation"
    assert places({"a": entrant(1.0, **protocol), "b": entrant(2.0, **other)}, better="lower")["b"].refused


def test_what_a_number_does_not_have_at_all_is_a_difference_unless_it_does_not_apply() -> None:
    assert difference({"extractor": "dino"}, {"extractor": "dino", "pixels": 224}) == "pixels none, not 224"
    assert difference({"pixels": 224}, {}) == "pixels 224, not none"
    assert difference({"split": None, "samples": 5}, {"split": "test", "samples": 5}) == ""
    summed: dict[str, Any] = {"kind": "exact", "reference": "the known density"}
    over_points = entrant(2.0, **summed, split="test")
    assert not any(
        place.refused for place in places({"a": entrant(1.0, **summed), "b": over_points}, better="lower").values()
    )


def test_what_training_may_cost_must_agree_between_the_trained_alone() -> None:
    def trained(value: float, scale: float | None) -> Entrant:
        return Entrant(entry={"value": value, "error": 0.1}, trained={"budget.scale": scale})

    found = places(
        {"independent": trained(5, None), "vae": trained(4, 1.0), "gan": trained(3, 1.0), "flow": trained(1, 10.0)},
        better="lower",
    )
    assert found["flow"].refused == "budget.scale 10.0, not 1.0"
    assert [str(found[name]) for name in ("gan", "vae", "independent")] == ["1", "2", "3"]
