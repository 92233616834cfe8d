"""Tests of ranks: how often they claim too much, what they find, kinds, goals, common points, protocols."""

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lookalike.metrics.catalogue import METRICS, Metric
from lookalike.report.cells import REAL, Row
from lookalike.report.columns import Place, Standings, standings_of
from lookalike.report.common_points import Scored, anchored, resampled
from lookalike.report.protocols import difference, protocol_of
from lookalike.report.ranks import Column, certain, contrasts, over_seeds, ranks, slack

Floats = NDArray[np.float64]

B = 500


def column(values: Any, errors: Any, **more: Any) -> Column:
    """Return a column of independent values with errors that are known."""
    values, errors = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    drawn = np.random.default_rng(0).normal(size=(B, len(values)))
    whitened = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T if len(values) > 1 else drawn
    nothing = np.zeros(len(values))
    given: dict[str, Any] = {
        "values": values, "deviations": whitened * errors, "seed_variances": nothing, "seed_freedom": nothing + 1,
        "below": nothing, "above": nothing,
    }  # fmt: skip
    return Column(**given | more)


# What a rank claims


def test_ties_keep_what_is_behind_and_what_is_open() -> None:
    """A is too noisy to be placed, but C is certainly behind B."""
    found = ranks(column([0.0, 0.5, 1.0], [1.0, 0.01, 0.01]))
    assert found.truth == found.stated == [(1, 3), (1, 2), (2, 3)]


def test_certain_orders_give_single_ranks_and_more_can_be_better() -> None:
    values = column([5.0, 9.0, 7.0], [0.1, 0.1, 0.1])
    assert ranks(values).truth == [(1, 1), (3, 3), (2, 2)]
    assert ranks(dataclasses.replace(values, more_is_better=True)).truth == [(3, 3), (1, 1), (2, 2)]
    assert ranks(column([5.0, 5.0, 7.0], [0.0, 0.0, 0.0])).truth == [(1, 2), (1, 2), (3, 3)]


def test_nobody_and_one_alone() -> None:
    assert ranks(column([], [])).truth == []
    alone = ranks(column([5.0], [1.0]))
    assert (alone.truth, alone.resolution) == ([(1, 1)], None)


def simulated(rng: np.random.Generator, *, truth: Floats, seeds: int = 1, tau: float = 1.0) -> Column:
    """Return a column of families that share a test set, with samples and training seeds of their own.

    `truth` is in standard errors of the paired difference to the first family.
    """
    count, several = len(truth), seeds > 1
    std, load = np.exp(rng.normal(0, 0.5, count)), rng.uniform(0.5, 1.5, count)
    of_seeds = tau * np.exp(rng.normal(0, 0.5, count)) if several else np.zeros(count)
    paired = (std**2 + of_seeds**2) / seeds
    values = truth * np.sqrt(paired + paired[0] + (load - load[0]) ** 2)
    noise = std[:, None] * rng.normal(size=(count, seeds)) + of_seeds[:, None] * rng.normal(size=(count, seeds))
    found = (values + load * rng.normal())[:, None] + noise
    deviations = rng.normal(size=(B, 1)) * load + (0 if several else rng.normal(size=(B, count)) * std)
    variances, freedom = over_seeds(found.var(axis=1, ddof=1) if several else np.zeros(count), np.full(count, seeds))
    return Column(
        values=found.mean(axis=1),
        deviations=deviations,
        seed_variances=np.maximum(variances, several * std**2) / seeds,
        seed_freedom=freedom,
        below=np.zeros(count),
        above=np.zeros(count),
    )


@pytest.mark.parametrize(("seeds", "columns", "tau"), [(1, 600, 0.0), (3, 60, 0.0), (3, 60, 3.0)])
def test_at_most_5_per_cent_of_columns_of_eight_equal_families_have_one_behind(
    seeds: int, columns: int, tau: float
) -> None:
    rng = np.random.default_rng(seeds)
    equal = np.zeros(8)
    wrong = sum(
        any(rank != (1, 8) for rank in ranks(simulated(rng, truth=equal, seeds=seeds, tau=tau)).truth)
        for _ in range(columns)
    )
    # A true share of 5 % would show more than this in 1 of 100 runs.
    assert wrong <= stats.binom(columns, 0.05).ppf(0.99)
    if seeds == 1:
        assert wrong > 0  # as many as are allowed: no order would be certain otherwise


def test_a_winner_by_six_standard_errors_among_eight_is_found() -> None:
    rng = np.random.default_rng(0)
    truth = np.r_[0.0, np.full(7, 6.0)]
    found = sum(ranks(simulated(rng, truth=truth)).truth[0] == (1, 1) for _ in range(300))
    assert found >= 0.95 * 300


def test_families_that_differ_by_the_resolution_are_told_apart_in_four_of_five_cases() -> None:
    rng = np.random.default_rng(0)
    found = 0
    null = column(np.zeros(8), np.ones(8))
    size = ranks(null).resolution
    assert size is not None
    for _ in range(300):
        pair = dataclasses.replace(null, values=rng.normal(size=8) + np.r_[0.0, size, np.zeros(6)])
        found += certain(pair, contrasts(pair), kinds=False)[0, 1]
    assert 0.72 < found / 300 < 0.88
    assert size == pytest.approx(np.sqrt(2) * (stats.norm.ppf(1 - 0.05 / 56) + stats.norm.ppf(0.8)), rel=0.1)


def test_all_ranks_of_a_table_take_a_few_seconds() -> None:
    rng = np.random.default_rng(0)
    columns = [simulated(rng, truth=np.arange(8.0), seeds=seeds) for seeds in (1, 3) for _ in range(10)]
    start = time.process_time()
    for one in columns:
        ranks(one)
    resampled(rng.normal(size=(10_000, 8)), draws=999)
    assert time.process_time() - start < 4


def test_few_seeds_are_not_taken_at_their_word() -> None:
    variances, freedom = over_seeds(np.array([1.0, 4.0, 0.0, 0.0]), np.array([3, 3, 3, 1]))
    assert variances == pytest.approx([(2 * 1 + 2.5) / 3, (2 * 4 + 2.5) / 3, 0.0, 0.0])
    assert list(freedom[:3]) == [3, 3, 3]
    known = column([0.0, 10.0], [1.0, 1.0])
    seeded = dataclasses.replace(
        known, deviations=known.deviations * 1e-9, seed_variances=np.ones(2), seed_freedom=np.full(2, 2.0)
    )
    assert ranks(known).truth == [(1, 1), (2, 2)]
    few, many = ranks(seeded), ranks(dataclasses.replace(seeded, seed_freedom=np.full(2, 100.0)))
    assert few.resolution is not None
    assert many.resolution is not None
    # Two families: the critical value is that of Student's t with four degrees of freedom, not that of the normal.
    ratio = (stats.t.ppf(0.975, 4) + stats.t.ppf(0.8, 4)) / (stats.t.ppf(0.975, 200) + stats.t.ppf(0.8, 200))
    assert few.resolution / many.resolution == pytest.approx(ratio, rel=0.1)


# Kinds of likelihoods


@pytest.mark.parametrize(
    ("kind", "other", "settled"),
    [
        ("lower bound", "exact", True), ("exact", "lower bound", False), ("exact", "exact", True),
        ("lower bound", "lower bound", False), ("estimate", "exact", False), ("exact", "estimate", False),
        ("lower bound", "estimate", False), ("estimate", "estimate", False), ("exact", "at least", True),
        ("at least", "exact", False), ("lower bound", "at least", True), ("at least", "lower bound", False),
    ],
)  # fmt: skip
def test_a_better_number_settles_the_order_only_if_the_truth_can_t_lie_the_other_way_round(
    kind: Any, other: Any, settled: bool
) -> None:
    sides = [slack(kind), slack(other)]
    below, above = np.array([side[0] for side in sides]), np.array([side[1] for side in sides])
    found = ranks(column([1.0, 2.0], [0.01, 0.01], below=below, above=above))
    assert found.stated == [(1, 1), (2, 2)]
    assert found.truth == ([(1, 1), (2, 2)] if settled else [(1, 2), (1, 2)])
    noisy = ranks(column([1.0, 2.0], [1.0, 1.0], below=below, above=above))
    assert noisy.truth == noisy.stated == [(1, 2), (1, 2)]


def test_an_estimate_whose_solver_error_was_measured_can_be_ahead_of_an_exact_number() -> None:
    def with_error(size: float | None) -> list[tuple[int, int]]:
        below, above = slack("estimate", size)
        sides = {"below": np.array([below, 0.0]), "above": np.array([above, 0.0])}
        return ranks(column([1.0, 2.0], [0.01, 0.01], **sides)).truth

    assert with_error(0.1) == [(1, 1), (2, 2)]
    assert with_error(0.99) == with_error(None) == [(1, 2), (1, 2)]


# Goals


def test_with_a_goal_the_closer_one_is_ahead_on_whichever_side() -> None:
    near_and_far = column([0.4, 0.9, 0.7, 0.2], [0.001] * 4, goal=0.5)
    assert ranks(near_and_far).truth == [(1, 1), (4, 4), (2, 2), (3, 3)]
    mirrored = column([0.4, 0.6], [0.001, 0.001], goal=0.5)
    assert ranks(mirrored).truth == [(1, 2), (1, 2)]


def test_the_error_of_the_goal_counts() -> None:
    values = column([0.4, 0.65], [0.001, 0.001], goal=0.5)
    assert ranks(values).truth == [(1, 1), (2, 2)]
    # If the goal may be 0.55 as well, it is open which of the two is closer.
    noise = np.random.default_rng(1).normal(size=B) * 0.03
    assert ranks(dataclasses.replace(values, goal_deviations=noise)).truth == [(1, 2), (1, 2)]


def test_no_more_than_5_per_cent_of_columns_with_a_measured_goal_have_one_behind() -> None:
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        values = simulated(rng, truth=np.zeros(8))
        goal: dict[str, Any] = {"goal": 5.0 + 0.3 * rng.normal(), "goal_deviations": 0.3 * rng.normal(size=B)}
        wrong += any(rank != (1, 8) for rank in ranks(dataclasses.replace(values, **goal)).truth)
    assert wrong <= stats.binom(200, 0.05).ppf(0.99)


# Families


def family(
    model: str, values: Any, *, error: float = 0.1, metric: str = "frechet_distance", joint: Floats | None = None,
    **more: Any,
) -> Row:  # fmt: skip
    """Return a family with a value for each seed, and with resampled values whose deviations are given."""
    values = np.atleast_1d(values)
    entry: dict[str, Any] = {"value": float(values[0]), "error": error, **more}
    if len(values) > 1:
        summary = {"mean": float(values.mean()), "deviation": float(values.std(ddof=1))}
        entry |= summary | {"seeds": {str(i): float(value) for i, value in enumerate(values)}}
    kinds = ("joint", "samples", "reference")
    drawn = {} if joint is None else {f"{metric}/{kind}": np.stack([v + 3 + joint for v in values]) for kind in kinds}
    return Row(model=model, metrics={metric: entry}, samples=np.empty(0), costs={}, resampled=drawn)


def standings(*rows: Row, metric: str = "frechet_distance", real: Row | None = None) -> Standings:
    return standings_of(list(rows), METRICS[metric], real=real)


def marks(found: Standings) -> dict[str, str]:
    return {name: str(place) for name, place in found.places.items()}


def test_a_place_shows_a_range_and_what_kinds_leave_open() -> None:
    assert str(Place(truth=(2, 2), stated=(2, 2))) == "2"
    assert str(Place(truth=(1, 3), stated=(1, 3))) == "1–3"
    assert str(Place(truth=(1, 7), stated=(2, 3))) == "1–7?"
    assert Place(truth=(1, 7), stated=(2, 3)).as_stated == "2–3"
    assert str(Place()) == ""


def test_a_common_test_set_pairs_the_resampled_values_of_families() -> None:
    shared = np.random.default_rng(0).normal(size=B)
    own = np.random.default_rng(1).normal(size=(2, B)) * 0.01
    pairs = family("a", 5.0, joint=shared + own[0]), family("b", 5.3, joint=shared + own[1])
    assert marks(standings(*pairs)) == {"a": "1", "b": "2"}
    apart = family("a", 5.0, joint=shared), family("b", 5.3, joint=np.roll(shared, 1))
    assert marks(standings(*apart)) == {"a": "1–2", "b": "1–2"}
    unknown = family("a", 5.0, error=1.0), family("b", 5.3, error=1.0)
    assert marks(standings(*unknown)) == {"a": "1–2", "b": "1–2"}


def test_with_several_seeds_the_mean_is_ranked_and_training_again_counts() -> None:
    still = np.zeros(B)
    close = family("a", [5.0, 5.6, 5.3], joint=still), family("b", [5.6, 6.0, 5.5], joint=still)
    assert marks(standings(*close)) == {"a": "1–2", "b": "1–2"}
    one_seed = family("a", 5.0, joint=still + 1e-9 * np.arange(B)), family("b", 5.9, joint=still)
    assert marks(standings(*one_seed)) == {"a": "1", "b": "2"}
    far = family("a", [5.0, 5.6, 5.3], joint=still), family("b", [9.0, 9.3, 9.1], joint=still)
    assert marks(standings(*far)) == {"a": "1", "b": "2"}
    means = family("a", [5.0, 17.0, 17.1], joint=still), family("b", [5.5, 5.6, 5.4], joint=still)
    assert standings(*means).order == ["b", "a"]


def test_test_points_that_all_seeds_share_do_not_average_out() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, B))
    near = family("a", [5.0, 5.01, 5.02], joint=a), family("b", [6.0, 6.01, 6.02], joint=b)
    assert marks(standings(*near)) == {"a": "1–2", "b": "1–2"}


def test_ranks_by_the_distance_to_real_data() -> None:
    drawn = np.random.default_rng(0).normal(size=(4, B)) * 0.001
    rows = [family(name, v, metric="precision", joint=j, samples=50) for name, v, j in
            zip(("vae", "gan", "flow"), (0.95, 0.78, 0.5), drawn, strict=False)]  # fmt: skip
    real = family(REAL, 0.8, metric="precision", joint=drawn[3], samples=50)
    assert marks(standings(*rows, metric="precision", real=real)) == {"vae": "2", "gan": "1", "flow": "3"}
    assert "real data" in standings(*rows, metric="precision").places["vae"].refused
    recall = [dataclasses.replace(row, metrics={"recall": row.metrics["precision"]}) for row in rows]
    fewer = Row(model=REAL, metrics={"recall": {"value": 0.8, "samples": 20}}, samples=np.empty(0), costs={})
    assert (
        "as many real data, and there are 20" in standings(*recall, metric="recall", real=fewer).places["vae"].refused
    )


def test_a_score_whose_error_is_not_known_has_no_rank() -> None:
    odd: dict[str, Any] = {"rankable": False, "why_not_ranked": "187 points are too few for its interval"}
    found = standings(family("a", 1.0), family("b", 2.0, **odd), family("c", 9.0))
    assert marks(found) == {"a": "1", "b": "", "c": "2"}
    assert found.places["b"].refused == "187 points are too few for its interval"


def test_a_metric_outside_the_catalogue_ranks_nobody() -> None:
    found = standings_of([family("a", 1.0)], Metric(name="frechet_distance", title="", better=None, real=""))
    assert found.places == {}


# Common points


def points(rng: np.random.Generator, *, part: int, whole: int = 2000) -> dict[str, Scored]:
    """Return families that find the same points hard, one of them scored on a part."""
    hard = rng.normal(size=whole)
    bits = {
        "exact": 1 + 0.3 * hard + 0.05 * rng.normal(size=whole),
        "bound": 2 + 0.5 * hard + 0.1 * rng.normal(size=whole),
    }
    rows = np.sort(rng.permutation(whole)[:part])
    return {
        "exact": Scored(rows=np.arange(whole), bits=bits["exact"][None]),
        "bound": Scored(rows=rows, bits=bits["bound"][None, rows]),
    }


def test_an_anchored_mean_is_unbiased_has_a_smaller_error_and_states_it_rightly() -> None:
    rng = np.random.default_rng(0)
    raw, anchored_means, errors, gaps, gap_errors = [], [], [], [], []
    for _ in range(500):
        families = points(rng, part=200)
        found = anchored(families)
        assert (found["bound"].anchor, found["exact"].anchor) == ("exact", "")
        raw.append(families["bound"].bits.mean())
        anchored_means.append(found["bound"].values[0])
        errors.append(found["bound"].error)
        gaps.append(found["bound"].values[0] - found["exact"].values[0])
        gap_errors.append(np.linalg.norm(found["bound"].influence - found["exact"].influence))
    assert np.mean(anchored_means) == pytest.approx(2, abs=4 * np.std(anchored_means) / np.sqrt(500))
    assert np.std(anchored_means) < 0.5 * np.std(raw)
    assert np.mean(errors) == pytest.approx(np.std(anchored_means), rel=0.12)
    # The difference to the anchor is known even better, since both find the same points hard.
    assert np.mean(gap_errors) == pytest.approx(np.std(gaps), rel=0.12)
    covered = np.abs(np.array(gaps) - 1) < 1.96 * np.array(gap_errors)
    assert 0.92 < covered.mean() < 0.975


def test_resampled_means_vary_as_their_influence_says() -> None:
    influence = np.random.default_rng(0).normal(size=(3000, 2))
    drawn = resampled(influence, draws=2000)
    assert drawn.shape == (2000, 2)
    assert np.cov(drawn.T) == pytest.approx(influence.T @ influence, rel=0.1, abs=200)


def test_families_scored_on_all_points_and_constant_ones_are_left_as_they_are() -> None:
    rows = np.arange(50)
    noise = np.random.default_rng(0).normal(size=50)
    families = {
        "a": Scored(rows=rows, bits=noise[None]),
        "uniform": Scored(rows=rows, bits=np.full((1, 50), 8.0)),
        "other": Scored(rows=rows + 1000, bits=noise[None, :50]),
        "few": Scored(rows=rows[:10], bits=np.full((1, 10), 3.0)),
    }
    found = anchored(families)
    assert {name: mean.anchor for name, mean in found.items()} == dict.fromkeys(families, "")
    assert found["uniform"].error == 0
    assert found["a"].values[0] == noise.mean()
    assert found["a"].error == pytest.approx(noise.std(ddof=1) / np.sqrt(50))
    assert anchored({}) == {}


# Protocols


def test_a_number_of_another_protocol_is_refused_a_place_and_the_difference_is_named() -> None:
    common: dict[str, Any] = {"samples": 10000, "extractor_digest": "abc", "settings": {"neighbours": 5}}
    found = standings(
        family("odd", 1.0, **common | {"samples": 200}), family("a", 5.0, **common), family("b", 6.0, **common),
        family("other", 2.0, **common | {"settings": {"neighbours": 3}}),
    )  # fmt: skip
    assert found.places["odd"] == Place(refused="its protocol differs: samples 200, not 10,000")
    assert found.places["other"].refused == "its protocol differs: settings (neighbours 3), not (neighbours 5)"
    assert marks(found) == {"odd": "", "a": "1", "b": "2", "other": ""}


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "exact", "points": 10, "settings": {}, "split": "test"},
        {"kind": "lower bound", "points": 9, "settings": {"importance_samples": 50}, "split": "test"},
    ],
)
def test_kind_points_and_settings_of_a_likelihood_are_the_family_s_own(entry: dict[str, Any]) -> None:
    other: dict[str, Any] = {"kind": "estimate", "points": 5, "settings": {"steps": 20}, "split": "test"}
    assert protocol_of(entry) == protocol_of(other)
    assert protocol_of(entry) != protocol_of(other | {"split": "validation"})


def test_what_a_number_does_not_have_at_all_is_a_difference_unless_it_does_not_apply() -> None:
    assert difference({"extractor": "dino"}, {"extractor": "dino", "pixels": 224}) == "pixels none, not 224"
    assert difference({"pixels": 224}, {}) == "pixels 224, not none"
    assert difference({"split": None, "samples": 5}, {"split": "test", "samples": 5}) == ""
    summed: dict[str, Any] = {"kind": "exact", "reference": "the known density"}
    found = standings(family("a", 1.0, **summed), family("b", 2.0, **summed, split="test"))
    assert not any(place.refused for place in found.places.values())


def test_what_training_may_cost_must_agree_between_the_trained_alone() -> None:
    def trained(model: str, value: float, scale: float | None) -> Row:
        configuration = {"budget": {"scale": scale}}
        record = {"configuration": configuration, "steps": 0 if scale is None else 10, "data_digest": "d"}
        return dataclasses.replace(family(model, value), record=record)

    found = standings(
        trained("mixture", 5, None), trained("vae", 4, 1.0), trained("gan", 3, 1.0), trained("flow", 1, 10.0)
    )
    assert found.places["flow"].refused == "its protocol differs: budget.scale 10.0, not 1.0"
    assert [str(found.places[name]) for name in ("gan", "vae", "mixture")] == ["1", "2", "3"]
