"""Tests of the known densities: formulas, draws, and a family that learns one of them."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import simpson
from scipy.stats import chisquare, multivariate_normal, norm

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS, Prepared, Split
from lookalike.evaluation import likelihoods as evaluation
from lookalike.evaluation import truth
from lookalike.evaluation.distances import compare_with_gaps
from lookalike.evaluation.likelihoods import likelihoods, over_grid
from lookalike.evaluation.resampling import parted, resamples
from lookalike.evaluation.score import against_truth, impossible
from lookalike.families.build import build
from lookalike.features.extractor import Extractor, save_identity
from lookalike.readers.arrays import write
from lookalike.readers.contract import from_arrays
from lookalike.readers.densities import bars, checkerboard, gaussian, hills, spiral
from lookalike.readers.densities.grids import LINE, PLANE, Grid, quadrature
from lookalike.training.history import Silent
from lookalike.training.loop import train
from lookalike.workspace.configuration import ROOT, Config, LikelihoodPoints, choices, compose
from lookalike.workspace.errors import UserError
from lookalike.workspace.fingerprint import closure
from reader_helpers import InMemory, gathered, in_memory, read_data

pytest_plugins = ["pipeline_fixtures"]

Floats = NDArray[np.float64]
Reader = dict[str, Any]

READERS: dict[str, Reader] = {data: compose([f"data={data}"]).data.reader for data in choices("data")}
KNOWN = sorted(data for data, reader in READERS.items() if truth.known(reader))
SUMMABLE = ("checkerboard", "hills", "moons", "ring", "spiral")


@pytest.fixture(scope="module")
def raws(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InMemory]:
    """What every reader draws, as conf/ has it."""
    folder = tmp_path_factory.mktemp("densities")
    return {data: in_memory(read_data(data, Path("nowhere")), folder / data) for data in KNOWN}


@pytest.fixture(scope="module")
def tables(raws: dict[str, InMemory]) -> dict[str, Floats]:
    """log P of every grid point, of the densities that can be summed."""
    return {data: log_prob(READERS[data], truth.whole_grid(raws[data].domain)) for data in SUMMABLE}


def log_prob(reader: Reader, grid: NDArray[Any]) -> Floats:
    known = truth.known(reader)
    assert known is not None
    return known(grid)


def test_the_known_densities_are_these_and_heights_are_none() -> None:
    assert set(KNOWN) == {*SUMMABLE, "bars", "gaussian"}
    assert truth.known(READERS["heights"]) is None


# What they are


@pytest.mark.parametrize("data", SUMMABLE)
def test_probabilities_sum_to_one_over_the_whole_grid(data: str, tables: dict[str, Floats]) -> None:
    assert np.exp(tables[data]).sum() == pytest.approx(1, abs=1e-10)


def density(data: str, points: Floats) -> Floats:
    """The formula in the reader's docstring at points `[N, D]`, integrals by Simpson's rule in 20,000 steps."""
    set_to = READERS[data]["density"]
    if data == "hills":
        weights = np.array(set_to["weights"])
        return np.asarray(norm.pdf(points, set_to["means"], set_to["deviations"]) @ weights / weights.sum())
    radius, variance = set_to["radius"], set_to["deviation"] ** 2

    def blurred(a: Floats, b: Floats) -> Floats:
        squares = np.subtract.outer(points[:, 0], a) ** 2 + np.subtract.outer(points[:, 1], b) ** 2
        return np.asarray(np.exp(-squares / (2 * variance)) / (2 * np.pi * variance))

    if data == "ring":
        angles = 2 * np.pi * np.arange(set_to["modes"]) / set_to["modes"]
        return np.asarray(blurred(radius * np.cos(angles), radius * np.sin(angles)).mean(axis=1))
    t = np.linspace(0, 1, 20_001)
    if data == "moons":
        parts = [
            blurred(sign * radius * (np.cos(np.pi * t) - 0.5), sign * radius * (np.sin(np.pi * t) - 0.25))
            for sign in (-1, 1)
        ]
    else:
        # In t = s² the formula's root has no derivative at 0, which Simpson's rule needs.
        angles = [2 * np.pi * (set_to["turns"] * t + arm / set_to["arms"]) for arm in range(set_to["arms"])]
        parts = [2 * t * blurred(radius * t * np.cos(angle), radius * t * np.sin(angle)) for angle in angles]
    return np.asarray(np.mean([simpson(part, x=t) for part in parts], axis=0))


@pytest.mark.parametrize("data", ["hills", "ring", "moons", "spiral"])
def test_a_grid_point_has_the_integral_of_the_density_over_its_cell(data: str, raws: dict[str, InMemory]) -> None:
    domain = raws[data].domain
    D, half = domain.dimensions, np.array([variable.step for variable in domain.ordered]) / 2
    nodes, weights = np.polynomial.legendre.leggauss(4)
    offsets = np.stack(np.meshgrid(*[nodes] * D), axis=-1).reshape(-1, D) * half
    products = np.prod(np.meshgrid(*[weights] * D), axis=0).ravel() * half.prod()
    values = raws[data].values["test"][:8]
    found = np.exp(log_prob(READERS[data], domain.to_grid(values)))
    for value, probability in zip(values, found, strict=True):
        # What lies beyond the grid is 1e-6 at most.
        assert probability == pytest.approx(products @ density(data, value + offsets), rel=3e-6)


def test_quadrature_in_parts_is_as_good_as_in_one() -> None:
    for nodes in (17, 128, 129, 1000):
        places, weights = quadrature(nodes, None)
        assert nodes <= len(places) < nodes + 10
        assert (np.diff(places) > 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-13)
        # A bump twice as wide as most nodes, but for sixteen, lie apart.
        bump = norm(0.3, 2 / (nodes - 16))
        assert weights @ bump.pdf(places) == pytest.approx(bump.cdf(1) - bump.cdf(0), abs=1e-12)
    with pytest.raises(UserError, match="33000 quadrature nodes"):
        quadrature(33_000, None)


def test_a_long_thin_spiral_is_known() -> None:
    thin = spiral.Spiral(arms=1, turns=10, radius=3.9, deviation=0.05)
    joint = spiral.log_joint(thin)
    assert np.exp(joint).sum() == pytest.approx(1, abs=1e-12)
    # Ten windings cross the axis from the centre to the right, where the radius is a whole number of tenths of it.
    middle = PLANE.levels // 2
    right = np.exp(joint[0, middle:, middle - 1 : middle + 1]).sum(axis=1)
    peaks = np.flatnonzero((right[1:-1] > right[:-2]) & (right[1:-1] > right[2:])) + 1
    crossings = 3.9 * np.arange(1, 11) / 10 / PLANE.step - 0.5
    assert len(peaks) == len(crossings)
    assert np.abs(crossings - peaks).max() <= 1


def test_far_from_all_hills_no_digits_are_lost() -> None:
    """Where differences of 1 - 1e-300 and 1 would be zero."""
    narrow = hills.Hills(weights=[2.0], means=[-5.0], deviations=[0.3])
    grid = np.array([[LINE.levels - 1]])
    lower = (LINE.low + LINE.step * (grid[0, 0] - 0.5) + 5) / 0.3
    width = LINE.step / 0.3
    # The tail's own expansion: the integral from z to z + w is φ(z)/z (1 - exp(-z w)) to first order in 1/z².
    expected = norm.logpdf(lower) - np.log(lower) + np.log1p(-np.exp(-lower * width))
    assert hills.log_prob(grid, narrow)[0] == pytest.approx(expected, abs=0.01)
    assert expected < -900


def test_entropies_are_those_of_the_closed_forms(raws: dict[str, InMemory], tables: dict[str, Floats]) -> None:
    found = {data: truth.entropy_on_grid(tables[data]) for data in SUMMABLE}
    for data in SUMMABLE:
        assert raws[data].expected["entropy in nats"] == pytest.approx(found[data], abs=1e-9)
    assert found["checkerboard"] == pytest.approx(np.log(checkerboard.LEVELS**2 / 2), abs=1e-9)
    ring, step = READERS["ring"]["density"], raws["ring"].domain.ordered[0].step
    apart = np.log(ring["modes"]) + np.log(2 * np.pi * np.e * ring["deviation"] ** 2)
    # Sheppard's correction: the grid adds step² / 12 to a variance.
    apart += step**2 / (12 * ring["deviation"] ** 2)
    assert found["ring"] + 2 * np.log(step) == pytest.approx(apart, abs=1e-4)
    points = np.linspace(-8, 8, 20_001)
    p = density("hills", points[:, None])
    assert found["hills"] + np.log(LINE.step) == pytest.approx(simpson(-p * np.log(p), x=points), abs=2e-4)


# In many dimensions


def test_the_gaussian_is_scipy_s_but_for_the_discretization(raws: dict[str, InMemory]) -> None:
    reader, domain = READERS["gaussian"], raws["gaussian"].domain
    rho, D = reader["density"]["correlation"], domain.dimensions
    covariance = rho ** np.abs(np.subtract.outer(np.arange(D), np.arange(D)))
    values = raws["gaussian"].values["test"]
    centre = multivariate_normal(np.zeros(D), covariance).logpdf(values) + D * np.log(gaussian.GRID.step)
    difference = log_prob(reader, domain.to_grid(values)) - centre
    assert abs(difference.mean()) < 5e-4
    assert difference.std() < 5e-3
    assert np.abs(difference).max() < 0.03
    closed = 0.5 * D * np.log(2 * np.pi * np.e) + 0.5 * (D - 1) * np.log(1 - rho**2) - D * np.log(gaussian.GRID.step)
    assert raws["gaussian"].expected["entropy in nats"] == pytest.approx(closed, abs=0.01)
    assert np.abs(np.cov(values.T) - covariance).max() < 0.06
    edges = np.linspace(-3, 3, 25)
    expected = np.diff(norm.cdf([-np.inf, *edges, np.inf])) * len(values)
    for d in (0, 1, 31):
        counts = np.bincount(np.searchsorted(edges, values[:, d]), minlength=len(expected))
        assert chisquare(counts, expected).pvalue > 1e-3


def weights(points: NDArray[Any]) -> NDArray[Any]:
    return resamples(0, len(points), replicates=100).reference


def test_independent_dimensions_are_as_far_from_the_gaussian_as_the_closed_form_says(raws: dict[str, InMemory]) -> None:
    reader, grid = READERS["gaussian"], raws["gaussian"].domain.to_grid(raws["gaussian"].values["test"])
    rho, D = reader["density"]["correlation"], grid.shape[1]
    marginal = gaussian.log_intervals(np.zeros(()), 1.0)
    found = truth.forward_kl(log_prob(reader, grid), marginal[grid].sum(axis=1), weights(grid))
    assert found.value == pytest.approx(-0.5 * (D - 1) * np.log(1 - rho**2), abs=4 * found.error)
    assert found.error < 0.15


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids so coarse that all of the two densities of many dimensions can be enumerated."""
    monkeypatch.setattr(gaussian, "GRID", Grid(levels=6, low=-2.5, step=1.0))
    monkeypatch.setattr(bars, "LEVELS", 2)
    monkeypatch.setattr(bars, "SIZE", 3)


def frequencies_agree(drawn: NDArray[Any], probabilities: Floats) -> bool:
    """A chi-square test of draws, by number of outcome; outcomes expected less than 5 times are one."""
    order = np.argsort(probabilities)
    few = int(np.searchsorted(np.cumsum(probabilities[order]) * len(drawn), 5.0)) + 1
    rare = np.searchsorted(probabilities[order] * len(drawn), 5.0)
    counts = np.bincount(drawn, minlength=len(probabilities))[order]
    cut = max(few, int(rare))
    expected = probabilities[order] * len(drawn)
    together = [np.concatenate([[part[:cut].sum()], part[cut:]]) for part in (counts, expected)]
    return bool(chisquare(together[0], together[1] * together[0].sum() / together[1].sum()).pvalue > 1e-3)


@pytest.mark.usefixtures("coarse")
def test_the_gaussian_s_probabilities_sum_to_one_and_are_those_of_its_draws() -> None:
    small = gaussian.Gaussian(dimensions=4, correlation=-0.6)
    outcomes = np.indices((6,) * 4).reshape(4, -1).T
    nats = gaussian.log_prob(outcomes, small)
    assert np.exp(nats).sum() == pytest.approx(1, abs=1e-12)
    assert gaussian.entropy(small) == pytest.approx(truth.entropy_on_grid(nats), abs=1e-12)
    drawn = gaussian.draw(small, 50_000, seed=1)
    numbers = drawn @ 6 ** np.arange(3, -1, -1)
    assert frequencies_agree(numbers, np.exp(nats))
    nearly = gaussian.log_prob(outcomes, gaussian.Gaussian(dimensions=4, correlation=-0.58))
    assert not frequencies_agree(numbers, np.exp(nearly))


@pytest.mark.usefixtures("coarse")
def test_the_bars_probabilities_sum_to_one_and_are_those_of_their_draws() -> None:
    small = bars.Bars(bar=0.3, dark=0.2, bright=1.1, deviation=0.4)
    outcomes = np.indices((2,) * 9).reshape(9, -1).T.reshape(-1, 1, 3, 3)
    nats = bars.log_prob(outcomes, small)
    assert np.exp(nats).sum() == pytest.approx(1, abs=1e-12)
    drawn, orientation = bars.draw(small, 50_000, seed=1)
    assert abs(orientation.mean() - 0.5) < 0.01
    assert frequencies_agree(drawn.reshape(-1, 9) @ 2 ** np.arange(8, -1, -1), np.exp(nats))


def test_a_bar_s_label_is_its_orientation(raws: dict[str, InMemory]) -> None:
    raw = raws["bars"]
    images, labels = raw.values["test"][:, 0].astype(float), raw.labels["test"]
    along_rows = images.mean(axis=2).std(axis=1) > images.mean(axis=1).std(axis=1)
    assert (along_rows == (labels == 0)).mean() > 0.95


# What is drawn


@pytest.mark.parametrize("data", SUMMABLE)
def test_draws_are_as_frequent_as_they_are_probable(
    data: str, raws: dict[str, InMemory], tables: dict[str, Floats]
) -> None:
    """By blocks of 8 grid points along every dimension."""
    domain = raws[data].domain
    levels, D = domain.levels // 8, domain.dimensions
    probabilities = np.exp(tables[data]).reshape((levels, 8) * D).sum(axis=tuple(range(1, 2 * D, 2))).ravel()
    for split in SPLITS:
        blocks = domain.to_grid(raws[data].values[split]) // 8
        assert frequencies_agree(np.ravel_multi_index(tuple(blocks.T), (levels,) * D), probabilities)


@pytest.mark.parametrize("data", KNOWN)
def test_unseen_data_cost_the_entropy(data: str, raws: dict[str, InMemory]) -> None:
    raw = raws[data]
    nats = -log_prob(READERS[data], raw.domain.to_grid(raw.values["test"]))
    error = nats.std(ddof=1) / np.sqrt(len(nats))
    assert nats.mean() == pytest.approx(raw.expected["entropy in nats"], abs=4 * error + 1e-9)


@pytest.mark.parametrize("data", KNOWN)
def test_splits_have_their_sizes_and_a_seed_repeats_them(data: str) -> None:
    sizes = {"train": 50, "validation": 20, "test": 30}
    few, again, other = (gathered(read_data(data, Path(), seed=seed, **sizes)) for seed in (3, 3, 4))
    assert {split: len(values) for split, values in few[0].items()} == sizes
    for split in SPLITS:
        assert np.array_equal(few[0][split], again[0][split])
        assert np.array_equal(few[1][split], again[1][split])
        assert not np.array_equal(few[0][split], other[0][split])


# The stage


@pytest.mark.parametrize("data", KNOWN)
def test_prepare_writes_them_and_says_their_entropy(
    data: str, raws: dict[str, InMemory], call_stage: Callable[..., Any], tmp_path: Path
) -> None:
    done = call_stage("prepare", f"data={data}", f"paths.artifacts={tmp_path}", "tracking=none")
    assert done.returncode == 0, done.stderr
    prepared = Prepared(tmp_path / data / "prepared")
    assert prepared.domain == raws[data].domain
    for split in SPLITS:
        assert np.array_equal(prepared.values(split), raws[data].values[split])
        assert np.array_equal(prepared.labels(split), raws[data].labels[split])
    assert prepared.summary["expected"] == raws[data].expected
    assert (tmp_path / data / "summary" / "summary.png").stat().st_size > 1000


@pytest.mark.parametrize("data", KNOWN)
def test_data_are_compared_with_the_density_that_they_were_drawn_from_and_no_other(
    data: str, raws: dict[str, InMemory], tmp_path: Path
) -> None:
    write(raws[data].source(), tmp_path)
    Prepared(tmp_path).check_drawn_from(READERS[data])
    density = READERS[data]["density"]
    other = READERS[data] | {"density": density | {next(iter(density)): 0}}
    with pytest.raises(UserError, match="the prepared data were drawn from"):
        Prepared(tmp_path).check_drawn_from(other)


def test_a_model_and_a_real_row_of_another_density_are_refused(call_stage: Callable[..., Any], tmp_path: Path) -> None:
    common = ("data=ring", f"paths.artifacts={tmp_path}", "budget=smoke", "tracking=none")
    for stage in ("prepare", "features"):
        done = call_stage(stage, *common)
        assert done.returncode == 0, done.stderr
    for stage, override, place in (("real", (), "real"), ("train", ("model=independent",), "independent/train")):
        done = call_stage(stage, *common, *override, "data.reader.density.radius=1")
        assert done.returncode == 1
        assert "the prepared data were drawn from" in done.stderr
        assert not (tmp_path / "ring" / place).exists()


@pytest.mark.parametrize("data", KNOWN)
def test_a_density_imports_no_code_but_that_of_domains_readers_and_workspace(data: str) -> None:
    """These are the rooms that the stage `prepare` declares in dvc.yaml."""
    folder = ROOT / "src" / "lookalike"
    found = {path.relative_to(folder) for path in closure([folder / "readers" / "densities" / f"{data}.py"])}
    assert {path.parts[0] for path in found} == {"__init__.py", "domain", "readers", "workspace"}


@pytest.mark.parametrize(
    ("data", "override", "message"),
    [
        ("ring", "data.reader.density.modes=0", "data.reader.density.modes=0: input should be greater than or equal"),
        ("ring", "data.reader.density.radius=4", "of it lies between -4 and 4; make it smaller"),
        ("ring", "data.reader.density.deviation=-1", "data.reader.density.deviation=-1"),
        ("ring", "data.reader.density.deviation=.nan", "data.reader.density.deviation=.nan"),
        ("ring", "data.reader.train=1", "data.reader.train=1: input should be greater than or equal to 2"),
        ("ring", "+data.reader.density.colour=1", "unknown key 'data.reader.density.colour'"),
        ("moons", "data.reader.density.deviation=0.001", "data.reader.density.deviation=0.001"),
        ("moons", "data.reader.density.radius=9", "of it lies between -4 and 4"),
        ("moons", "data.reader.density.radius=1e12", "the curve is too long for so small a deviation"),
        ("spiral", "data.reader.density.arms=1.5", "data.reader.density.arms=1.5"),
        ("checkerboard", "data.reader.density.squares=6", "squares=6: choose one of 2, 4, 8, 16"),
        ("hills", "data.reader.density.means=[0]", "give every hill a weight, a mean and a deviation"),
        ("hills", "data.reader.density.means=[0,0,9]", "of it lies between -8 and 8"),
        ("gaussian", "data.reader.density.correlation=1", "data.reader.density.correlation=1"),
        ("bars", "data.reader.density.bright=60", "choose dark and bright so that"),
        ("bars", "data.reader.density.bar=1", "data.reader.density.bar=1: input should be less than 1"),
    ],
)
def test_settings_that_make_no_density_are_refused(
    data: str, override: str, message: str, call_stage: Callable[..., Any], tmp_path: Path
) -> None:
    done = call_stage("prepare", f"data={data}", override, f"paths.artifacts={tmp_path}", "tracking=none")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# Comparison with the truth


def normal(mean: float, deviation: float) -> Floats:
    """log P of 4001 grid points, a hundredth apart."""
    log_p = norm.logpdf(np.linspace(-20, 20, 4001), mean, deviation)
    return np.asarray(log_p - np.log(np.exp(log_p).sum()))


def test_kl_and_entropy_of_gaussians_are_the_closed_forms() -> None:
    p, q = normal(0.3, 1.1), normal(-0.5, 1.6)
    forward = np.log(1.6 / 1.1) + (1.1**2 + 0.8**2) / (2 * 1.6**2) - 0.5
    reverse = np.log(1.1 / 1.6) + (1.6**2 + 0.8**2) / (2 * 1.1**2) - 0.5
    assert truth.kl_on_grid(p, q) == pytest.approx(forward, abs=1e-9)
    assert truth.kl_on_grid(q, p) == pytest.approx(reverse, abs=1e-9)
    assert truth.kl_on_grid(p, p) == 0
    assert truth.entropy_on_grid(p) == pytest.approx(0.5 * np.log(2 * np.pi * np.e * 1.21) - np.log(0.01), abs=1e-9)
    generator = np.random.default_rng(0)
    of_p, of_q = (generator.choice(4001, 20_000, p=np.exp(log)) for log in (p, q))
    for score, closed in (
        (truth.forward_kl(p[of_p], q[of_p], weights(of_p)), forward),
        (truth.reverse_kl(p[of_q], q[of_q], weights(of_q)), reverse),
    ):
        assert score.value == pytest.approx(closed, abs=4 * score.error)
        assert 0 < score.error < 0.05


def test_total_variation_of_gaussians_and_of_shifted_uniforms_is_the_closed_form() -> None:
    p, q = normal(-0.5, 1.0), normal(0.5, 1.0)
    closed = 2 * norm.cdf(0.5) - 1
    assert truth.total_variation_on_grid(p, q) == pytest.approx(closed, abs=1e-4)
    drawn = np.random.default_rng(0).choice(4001, 20_000, p=np.exp(p))
    score = truth.total_variation_from_draws(p[drawn], q[drawn], weights(drawn))
    assert score.value == pytest.approx(closed, abs=4 * score.error)
    with np.errstate(divide="ignore"):
        for shift in (0, 1, 37, 100, 150):
            uniform = np.log(np.isin(np.arange(300), np.arange(100)) / 100)
            expected = min(shift / 100, 1)
            assert truth.total_variation_on_grid(uniform, np.roll(uniform, shift)) == pytest.approx(expected, abs=1e-12)


def test_a_bound_in_place_of_a_model_s_probability_makes_total_variation_no_smaller() -> None:
    p, q = normal(-0.5, 1.0), normal(0.5, 1.0)
    loose = q - np.linspace(0, 0.4, len(q))
    assert truth.total_variation_on_grid(p, loose) > truth.total_variation_on_grid(p, q)
    assert truth.kl_on_grid(p, loose) > truth.kl_on_grid(p, q)


def test_probability_zero_is_infinitely_far_and_counted() -> None:
    p, q = np.log(np.array([0.5, 0.5])), np.array([0.0, -np.inf])
    assert truth.kl_on_grid(p, q) == np.inf
    assert truth.kl_on_grid(q, p) == pytest.approx(np.log(2))
    assert truth.forward_kl(p, q).value == np.inf
    assert truth.reverse_kl(q, p).value == np.inf
    outside = truth.share_outside(q, resamples(2, 0).samples)
    assert outside.value == 0.5
    assert outside.error == pytest.approx(np.sqrt(0.125), rel=0.1)


def test_what_is_no_probability_is_refused() -> None:
    p = normal(0, 1)
    with pytest.raises(UserError, match=r"P sums to 0\.5:"):
        truth.kl_on_grid(p - np.log(2), p)
    with pytest.raises(UserError, match="1 log-probabilities under Q are NaN or infinite"):
        truth.forward_kl(p[:3], np.array([0.0, np.nan, -1.0]))
    with pytest.raises(UserError, match=r"shapes \(4,\) and \(3,\)"):
        truth.reverse_kl(p[:3], p[:4])
    with pytest.raises(UserError, match="a standard error needs at least two"):
        truth.forward_kl(p[:1], p[:1])
    with pytest.raises(UserError, match="1 draws from P have probability 0 under it"):
        truth.total_variation_from_draws(np.array([-np.inf, -1.0]), p[:2])


def test_a_grid_too_large_to_sum_over_is_refused(raws: dict[str, InMemory], make_domain: Callable[..., Domain]) -> None:
    with pytest.raises(UserError, match=r"gaussian: no sum over 512\^32 grid points"):
        truth.whole_grid(raws["gaussian"].domain)
    with pytest.raises(UserError, match="no sum over"):
        truth.whole_grid(raws["bars"].domain)
    assert truth.whole_grid(make_domain(2, levels=3)).tolist() == [[i, j] for i in range(3) for j in range(3)]


# What a cell of a known density knows of the truth

FLOORS = {"hills": 0.0, "ring": 0.917, "checkerboard": math.log(2), "bars": 28.49}
"""What a model of independent dimensions is away, in nats."""

POINTS = LikelihoodPoints(most=2000, least=100, flops=1e9, others=100)


@pytest.fixture
def floor(
    raws: dict[str, InMemory], small_config: Callable[..., Config], tmp_path: Path
) -> Callable[[str], tuple[Any, Prepared, dict[str, NDArray[Any]], NDArray[Any]]]:
    """`floor(data)`: `independent` fitted to a known density; prepared data, likelihoods, 1000 samples on the grid."""

    def make(data: str) -> tuple[Any, Prepared, dict[str, NDArray[Any]], NDArray[Any]]:
        write(raws[data].source(), tmp_path)
        prepared = Prepared(tmp_path)
        model = build(small_config("independent", width=1000).model, prepared.domain, seed=0)
        torch.manual_seed(0)
        model.fit(torch.from_numpy(np.array(prepared.grid("train"))))
        _, details = likelihoods(model, prepared, split="test", settings={}, points=POINTS, batch_size=500)
        return model, prepared, details, model.sample(1000).numpy().astype(prepared.grid("test").dtype)

    return make


def test_a_score_by_a_solver_tells_what_half_of_its_steps_would_change(
    raws: dict[str, InMemory], small_model: Callable[..., Any], tmp_path: Path
) -> None:
    write(raws["ring"].source(), tmp_path)
    prepared = Prepared(tmp_path)
    model = small_model("flow_matching", prepared.domain)
    model.start(torch.from_numpy(np.array(prepared.grid("train"))))
    settings = {"solver": "rk4", "steps": 12, "tolerance": None, "probes": 0, "dequantizations": 1}
    few = LikelihoodPoints(most=60, least=60, flops=1.0, others=20)
    entries, details = likelihoods(model, prepared, split="test", settings=settings, points=few, batch_size=50)
    fewer = entries["bits_per_dim"].pop("coarser")
    assert (fewer["settings"], fewer["points"]) == (settings | {"steps": 6}, 60)
    again, rough = likelihoods(model, prepared, split="test", settings=fewer["settings"], points=few, batch_size=50)
    assert fewer["change"] == pytest.approx(again["bits_per_dim"]["value"] - entries["bits_per_dim"]["value"], abs=1e-9)
    change = details["log_likelihood_test"] - rough["log_likelihood_test"]
    assert fewer["standard_error"] == pytest.approx(change.std(ddof=1) / 60**0.5 / math.log(4), rel=1e-6)
    # A method of fourth order: half of the steps are off by 16 times as much.
    finest, _ = likelihoods(model, prepared, split="test", settings=settings | {"steps": 48}, points=few, batch_size=50)
    left = finest["bits_per_dim"]["value"] - entries["bits_per_dim"]["value"]
    assert abs(left) < 0.2 * abs(fewer["change"])
    assert model.coarser(settings | {"solver": "dopri5", "steps": None, "tolerance": 1e-4})["tolerance"] == 1e-3


@pytest.mark.parametrize("data", FLOORS)
def test_a_cell_is_as_far_from_the_truth_as_dependence_is_strong(data: str, floor: Any) -> None:
    known = truth.known(READERS[data])
    assert known is not None
    model, prepared, details, samples = floor(data)
    everywhere = over_grid(model, prepared, settings={}, points=POINTS, batch_size=500)
    found = against_truth(
        model, prepared, details, samples, log_prob=known, split="test", everywhere=everywhere, settings={},
        points=POINTS, batch_size=500,
    )  # fmt: skip
    kl, total = found["kl"], found["total_variation"]
    assert -4 * kl["standard_error"] < kl["value"] - FLOORS[data] < 4 * kl["standard_error"] + 0.05 + FLOORS[data] / 20
    assert (kl["points"], kl["of"], kl["kind"]) == (2000, 10_000, "exact")
    assert ("kl_reverse" in found) == (data != "checkerboard")
    assert impossible(samples, known)["value"] == pytest.approx(0.5 if data == "checkerboard" else 0, abs=0.08)
    if data == "bars":
        assert 0 < total["standard_error"] < 0.05
        assert total["points"] == 2000
    else:
        assert total["standard_error"] == 0
        assert total["points"] == total["of"] == prepared.domain.levels**prepared.domain.dimensions
    if data == "checkerboard":
        assert total["value"] == pytest.approx(0.5, abs=0.03)
    assert total["value"] <= np.sqrt(kl["value"] / 2) + 0.02  # Pinsker
    for entry in found.values():
        assert {"kind", "exactness", "settings", "error_of", "reference"} <= entry.keys()
    json.dumps(parted(found)[0], allow_nan=False)


def test_a_bound_and_a_cost_change_what_is_said_of_the_truth(floor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = truth.known(READERS["ring"])
    assert known is not None
    model, prepared, details, samples = floor("ring")
    model.likelihood_kind = "lower bound"
    monkeypatch.setattr(evaluation, "operations_per_point", lambda *_: 1e6)
    everywhere = over_grid(model, prepared, settings={}, points=POINTS, batch_size=500)
    found = against_truth(
        model, prepared, details, samples, log_prob=known, split="test", everywhere=everywhere, settings={},
        points=POINTS, batch_size=500,
    )  # fmt: skip
    assert {name: entry["kind"] for name, entry in found.items()} == {
        "kl": "lower bound", "total_variation": "lower bound", "kl_reverse": "at least"
    }  # fmt: skip
    assert "an upper bound" in found["kl"]["exactness"]
    assert "a lower bound" in found["kl_reverse"]["exactness"]
    assert found["total_variation"]["standard_error"] > 0
    assert (found["kl_reverse"]["points"], found["kl_reverse"]["samples"]) == (1000, 1000)


def test_probabilities_of_a_grid_average_a_noisy_bound_over_more_draws(
    floor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise of variance v in a logarithm makes the sum of probabilities too large by exp(v / 2)."""
    model, prepared, _, _ = floor("ring")
    exact, generator = model.log_likelihood, torch.Generator().manual_seed(0)

    def noisy(x: torch.Tensor, *, levels: int) -> Any:
        noise = torch.randn(len(x), generator=generator) * (2 / levels) ** 0.5
        return noise + exact(x)

    def total(flops: float) -> float:
        points = POINTS.model_copy(update={"flops": flops})
        nats = over_grid(model, prepared, settings={"levels": 2}, points=points, batch_size=10_000)
        assert nats is not None
        return float(np.exp(nats).sum())

    monkeypatch.setattr(model, "log_likelihood", noisy)
    monkeypatch.setattr(evaluation, "operations_per_point", lambda *_: 1.0)
    size = prepared.domain.levels**2
    assert total(flops=size) == pytest.approx(np.exp(1 / 2), rel=0.05)
    assert total(flops=2.5 * size) == pytest.approx(np.exp(1 / 4), rel=0.05)
    assert total(flops=1000 * size) == pytest.approx(np.exp(1 / 8), rel=0.05)


# That they can be learned


def test_a_family_learns_the_moons_and_the_floor_of_dependence_does_not(
    small_config: Callable[..., Config], raws: dict[str, InMemory], tables: dict[str, Floats], tmp_path: Path
) -> None:
    raw, reader = raws["moons"], READERS["moons"]
    grid = {split: raw.domain.to_grid(raw.values[split]) for split in SPLITS}
    config = small_config("autoregressive", "trainer.checks=1", "trainer.previews=0", width=1000)
    model = build(config.model, dataclasses.replace(raw.domain), seed=0)
    torch.manual_seed(0)
    model.start(torch.from_numpy(grid["train"])) if hasattr(model, "start") else None
    assert config.optimizer is not None
    train(model, (grid["train"],), (grid["validation"][:256],), optimizer=config.optimizer, trainer=config.trainer,
          steps=800, batch_size=256, seed=0, scratch=tmp_path, observer=Silent(), preview=None)  # fmt: skip
    floor = build(small_config("independent", width=1000).model, raw.domain, seed=0)
    floor.fit(torch.from_numpy(grid["train"]))

    def log_q(which: Any, points: NDArray[Any]) -> Floats:
        with torch.no_grad():
            nats: Floats = np.concatenate(
                [which.log_likelihood(torch.from_numpy(part)).double().numpy() for part in np.array_split(points, 16)]
            )
        return nats

    everywhere = truth.whole_grid(raw.domain)
    held_out = truth.forward_kl(log_prob(reader, grid["test"]), log_q(model, grid["test"]), weights(grid["test"]))
    exact, of_floor = (truth.kl_on_grid(tables["moons"], log_q(which, everywhere)) for which in (model, floor))
    assert held_out.value > -3 * held_out.error
    assert held_out.value == pytest.approx(exact, abs=4 * held_out.error)
    assert 0 < exact < 0.1
    assert of_floor > 5 * exact
    assert truth.total_variation_on_grid(tables["moons"], log_q(model, everywhere)) < np.sqrt(exact / 2)  # Pinsker
    with torch.no_grad():
        torch.manual_seed(0)
        samples = model.sample(3000).numpy()
    backward = truth.reverse_kl(log_prob(reader, samples), log_q(model, samples), weights(samples))
    assert -3 * backward.error < backward.value < 0.3


# Modes that are missed


def test_a_mode_that_samples_lack_is_named_by_the_nearest_training_points(
    raws: dict[str, InMemory], tmp_path: Path
) -> None:
    raw = raws["ring"]
    few: dict[Split, int] = {"train": 4000, "validation": 500, "test": 1000}
    values, labels = ({split: part[split][:count] for split, count in few.items()} for part in (raw.values, raw.labels))
    write(from_arrays(raw.domain, values, labels, expected={}), tmp_path)
    prepared = Prepared(tmp_path)
    save_identity(tmp_path, prepared)
    samples = raw.values["train"][4000:8000]
    kept = samples[raw.labels["train"][4000:8000] != 3]
    entries, rows = compare_with_gaps(kept, Extractor(tmp_path, prepared))
    assert entries["class_gap"]["short"] == ["3"]
    assert entries["class_gap"]["class"] == "3"
    assert entries["class_distance"]["counts"][3] == 0
    assert entries["class_distance"]["value"] == pytest.approx(1 / 8, abs=0.03)
    assert entries["class_distance"]["classes_by"] == "vote of the 25 nearest training points"
    assert set(prepared.labels("test")[rows["missed_rows"]]) == {3}
    assert len(rows["made_up_rows"]) == 64
