"""Tests of conditional families: their contract, the sum over classes, and samples of one class."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from family_helpers import learned, learned_well, observations
from lookalike.distributions.classes import Classes
from lookalike.domain.domain import Domain
from lookalike.families.build import build, check_settings, for_domain
from lookalike.networks.weights import load_weights, save_weights
from lookalike.sampling.drawing import class_number, draw, draw_classes
from lookalike.training.budget import operations_per_step
from lookalike.workspace.configuration import Config, compose
from lookalike.workspace.errors import UserError

pytest_plugins = ["pipeline_fixtures"]

FAMILIES = ("vae", "autoregressive", "diffusion", "flow_matching", "one_step", "gan")
DOMAINS = {"image 1x5x7": ((1, 5, 7), 256), "table 4": ((4,), 16)}
LABELS = ("apple", "pear", "plum")
CONDITIONAL = "model.conditional=true"


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=DOMAINS.values(), ids=list(DOMAINS))
def domain(request: pytest.FixtureRequest, make_domain: Callable[..., Domain]) -> Domain:
    shape, levels = request.param
    return make_domain(*shape, levels=levels, labels=LABELS)


@pytest.fixture
def config(family: str, domain: Domain, small_config: Callable[..., Config]) -> Config:
    return for_domain(small_config(family, CONDITIONAL), domain)


LEARNED: dict[tuple[str, Domain], Any] = {}


@pytest.fixture
def model(config: Config, domain: Domain) -> Any:
    """Return a model that is away from its first weights; tests that do not change it share it."""
    key = config.model_name, domain
    if key not in LEARNED:
        LEARNED[key] = learned(config, domain, count=40, steps=20)
    return LEARNED[key]


QUICK: dict[str, dict[str, Any]] = {
    "vae": {"importance_samples": 4},
    "flow_matching": {"steps": 3},
    "diffusion": {"levels": 32},
}


def quick(config: Config) -> dict[str, Any]:
    """Return settings of a likelihood whose value does not matter."""
    assert config.likelihood is not None
    return config.likelihood | QUICK.get(config.model_name, {})


# The contract


def test_a_model_learns_the_probabilities_of_the_classes(model: Any, config: Config, domain: Domain) -> None:
    check_settings(model, config)
    _, labels = observations(domain, 40)
    expected = torch.tensor([(labels == c).float().mean() for c in range(3)])
    torch.testing.assert_close(model.classes.class_probs, expected)
    drawn = draw_classes(model, 5000, seed=0)
    assert drawn is not None
    assert drawn.dtype == np.int64
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 5000, expected, atol=0.03)


@pytest.mark.parametrize("asked", [None, [2, 0, 1, 1]])
def test_samples_are_points_of_the_grid(model: Any, config: Config, domain: Domain, asked: list[int] | None) -> None:
    labels = None if asked is None else torch.tensor(asked)
    samples = model.sample(4, labels=labels, **config.sampling)
    assert samples.shape == (4, *domain.shape)
    assert samples.dtype == torch.int64
    assert samples.min() >= 0
    assert samples.max() < domain.levels


def test_the_same_seed_gives_the_same_bytes_and_a_class_other_bytes(model: Any, config: Config, domain: Domain) -> None:
    def drawn(seed: int, label: int | None) -> bytes:
        labels = None if label is None else np.full(30, label)
        values = draw(model, domain, samples=30, batch_size=12, seed=seed, settings=config.sampling, labels=labels)
        return values.tobytes()

    assert drawn(0, None) == drawn(0, None) != drawn(1, None)
    assert drawn(0, 1) == drawn(0, 1) != drawn(0, 2)


def test_a_class_s_number_goes_with_its_sample_whatever_the_batch(domain: Domain) -> None:
    """Every batch gets its own part of the labels."""
    parts = []

    class Noting(torch.nn.Module):
        def sample(self, n: int, labels: Tensor) -> Tensor:
            parts.append(labels)
            return torch.zeros(n, *domain.shape, dtype=torch.int64)

    labels = np.arange(10) % 3
    draw(Noting(), domain, samples=10, batch_size=4, seed=0, settings={}, labels=labels)
    assert [len(part) for part in parts] == [4, 4, 2]
    assert torch.cat(parts).tolist() == labels.tolist()


def test_weights_on_disk_hold_everything_that_a_model_learned(
    model: Any, config: Config, domain: Domain, tmp_path: Path
) -> None:
    save_weights(model, tmp_path / "weights.safetensors")
    other = build(config.model, domain, seed=1)
    load_weights(other, tmp_path / "weights.safetensors")
    drawn = [draw(m, domain, samples=20, batch_size=20, seed=0, settings=config.sampling) for m in (model, other)]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    if config.likelihood is not None:
        x, _ = observations(domain, 4, seed=1)
        assert torch.equal(model.log_likelihood(x, **quick(config)), other.log_likelihood(x, **quick(config)))
    plain = compose([f"model={config.model_name}"]).model | {
        key: value for key, value in config.model.items() if key != "conditional"
    }
    with pytest.raises(UserError, match=r"another model or domain.*classes\.class_probs.*Train again"):
        load_weights(build(plain, domain, seed=0), tmp_path / "weights.safetensors")


def test_losses_are_finite_and_their_gradient_reaches_every_parameter(config: Config, domain: Domain) -> None:
    model = learned(config, domain, count=40, steps=3)
    model.train()
    x, labels = observations(domain, 40)
    assert all(loss.isfinite() for loss in model.losses(x[:1], labels[:1]).values())
    losses = model.losses(x, labels)
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    model.zero_grad()
    losses["loss"].backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not untouched
    assert operations_per_step(model, (x, labels)) > 0


def test_a_likelihood_does_not_depend_on_the_rest_of_the_batch(model: Any, config: Config, domain: Domain) -> None:
    if config.likelihood is None:
        pytest.skip("no likelihood")
    x, _ = observations(domain, 4, seed=2)
    whole = model.log_likelihood(x, **quick(config))
    assert whole.shape == (4,)
    assert whole.isfinite().all()
    half = model.log_likelihood(x[2:], **quick(config))
    torch.testing.assert_close(half, whole[2:], rtol=1e-4, atol=1e-4)
    assert whole.std() > 1e-3


def test_a_model_that_is_not_conditional_has_no_classes(
    family: str, domain: Domain, small_config: Callable[..., Config]
) -> None:
    config = small_config(family)
    labelled, unlabelled = (
        build(config.model, dataclasses.replace(domain, labels=labels), seed=0) for labels in (LABELS, ())
    )
    assert labelled.classes is None
    assert draw_classes(labelled, 5, seed=0) is None
    conditional = build(small_config(family, CONDITIONAL).model, domain, seed=0).state_dict()
    ours, theirs = labelled.state_dict(), unlabelled.state_dict()
    assert ours.keys() == theirs.keys() < conditional.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_conditional_model_of_unlabelled_data_is_refused(config: Config, domain: Domain) -> None:
    with pytest.raises(UserError, match=r"model\.conditional=true: small has no labels; set it to false"):
        build(config.model, dataclasses.replace(domain, labels=()), seed=0)


# The sum over classes

OUTCOMES = torch.tensor(list(itertools.product(range(4), repeat=4)))
"""All outcomes `[256, 4]`, in the order of a number of four digits."""


@pytest.fixture(scope="module", params=["image", "table"])
def enumerable(
    request: pytest.FixtureRequest, make_domain: Callable[..., Domain], small_config: Callable[..., Config]
) -> tuple[Any, Tensor]:
    """Return an autoregressive model whose classes differ much, and all 256 outcomes of its domain."""
    domain = make_domain(1, 2, 2, levels=4) if request.param == "image" else make_domain(4, levels=4)
    domain = dataclasses.replace(domain, labels=("low", "high", "even"))
    model = build(small_config("autoregressive", CONDITIONAL).model, domain, seed=0)
    labels = torch.arange(600) % 6 % 4 % 3  # probabilities 1/2, 1/3, 1/6
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (600, *domain.shape), generator=generator)
    x = torch.where(labels.view(-1, *[1] * len(domain.shape)) == 1, x + 2, x)
    x[labels == 2] = torch.randint(0, 4, x[labels == 2].shape, generator=generator)
    model.start(x, labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        model.losses(x, labels)["loss"].backward()
        optimizer.step()
    return model.eval(), OUTCOMES.view(256, *domain.shape)


@torch.no_grad()
def test_exact_probabilities_add_up_given_a_class_and_without(enumerable: tuple[Any, Tensor]) -> None:
    model, outcomes = enumerable
    given = torch.stack(
        [model.log_probs(outcomes, torch.full((256,), c)).sum(1, dtype=torch.float64).exp() for c in range(3)]
    )
    torch.testing.assert_close(given.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-5, rtol=0)
    probabilities = model.log_likelihood(outcomes).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    class_probs = torch.tensor([1 / 2, 1 / 3, 1 / 6], dtype=torch.float64)
    torch.testing.assert_close(probabilities, (class_probs[:, None] * given).sum(0), atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_samples_of_a_class_follow_its_probabilities_and_all_follow_the_sum(enumerable: tuple[Any, Tensor]) -> None:
    model, outcomes = enumerable
    torch.manual_seed(0)
    for c in (0, 1, 2, None):
        labels = None if c is None else torch.full((60_000,), c)
        samples = model.sample(60_000, labels).flatten(1) @ torch.tensor([64, 16, 4, 1])
        frequencies = torch.bincount(samples, minlength=256) / 60_000
        given = torch.full((256,), c or 0)
        nats = model.log_likelihood(outcomes) if c is None else model.log_probs(outcomes, given).sum(1)
        assert 0.5 * (frequencies - nats.exp()).abs().sum() < 0.05, c


# A bound whose estimates are of the logarithm


def test_a_bound_over_classes_is_below_the_sum_however_noisy_its_parts_are(
    make_domain: Callable[..., Domain],
) -> None:
    classes = Classes(dataclasses.replace(make_domain(2, levels=4), labels=LABELS))
    classes.start(torch.tensor([0, 0, 0, 1, 1, 2]))
    given = torch.tensor([-70.0, -69.0, -71.5], dtype=torch.float64)
    n, noise = 40_000, 3.0
    true = torch.logsumexp(given + classes.class_probs.log(), 0).item()

    def noisy(labels: Tensor) -> Tensor:
        return given[labels] + noise * torch.randn(n, dtype=torch.float64)

    torch.manual_seed(0)
    bound = classes.lower_bound(lambda labels: (noisy(labels), noisy(labels)), n)
    error = bound.std().item() / n**0.5
    assert bound.mean().item() < true - 10 * error
    # The sum of exponentials is not.
    assert classes.marginal(noisy, n).mean().item() > true + 10 * error
    # Without noise there is no difference.
    exact = classes.lower_bound(lambda labels: (given[labels], given[labels]), n)
    torch.testing.assert_close(exact, torch.full((n,), true, dtype=torch.float64), atol=1e-6, rtol=0)


@torch.no_grad()
def test_diffusion_given_classes_is_no_likelier_by_few_noise_levels_than_by_many(
    small_config: Callable[..., Config], make_domain: Callable[..., Domain]
) -> None:
    domain = dataclasses.replace(make_domain(20, levels=16), labels=LABELS)
    model: Any = build(small_config("diffusion", CONDITIONAL).model, domain, seed=0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2000,), generator=generator)
    x = (8 + 2 * (labels[:, None] - 1) + torch.randn(2000, 20, generator=generator)).round().long().clamp(0, 15)
    model.start(x, labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    torch.manual_seed(0)
    with torch.enable_grad():
        for _ in range(100):
            optimizer.zero_grad()
            model.losses(x, labels)["loss"].backward()
            optimizer.step()
    few, many = (model.log_likelihood(x[:500], levels=n) for n in (4, 100))
    error = (few - many).std().item() / 500**0.5
    assert (few - many).mean().item() < 3 * error

    # Each half of the noise chooses the weights of the classes for the other half.
    def halves(labels: Tensor) -> tuple[Tensor, Tensor]:
        one_hot = model.classes.one_hot(labels)
        return model.bound(x[:500], one_hot, levels=2, seed=0), model.bound(x[:500], one_hot, levels=2, seed=3)

    torch.testing.assert_close(few, model.classes.lower_bound(halves, 500))
    one, other = halves(labels[:500])
    assert abs(np.corrcoef(one - many, other - many)[0, 1]) < 0.2


# Samples of a class

FINER: dict[str, dict[str, Any]] = {
    "vae": {"importance_samples": 200},
    "flow_matching": {"probes": 0, "dequantizations": 16},
    "diffusion": {"levels": 1024},
}


@pytest.mark.parametrize("coupling", ["independent", "optimal"])
def test_a_sample_of_a_class_lies_with_its_class(
    family: str, coupling: str, small_config: Callable[..., Config], make_domain: Callable[..., Domain], tmp_path: Path
) -> None:
    if coupling == "optimal" and family != "flow_matching":
        pytest.skip("flow matching alone has couplings")
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(6000, generator=generator) < 0.7).long()
    x = (torch.where(labels == 1, 140.0, 55.0) + 8 * torch.randn(6000, generator=generator)).round().long()[:, None]
    domain = make_domain(1, levels=200, labels=("left", "right"), location=114.5, scale=39.8)
    more = {"flow_matching": [f"model.coupling={coupling}"], "gan": ["model.penalty=1.0"]}.get(family, [])
    config = small_config(family, CONDITIONAL, "trainer.checks=1", "trainer.previews=0", *more, width=64)
    config = for_domain(config, domain)
    model = build(config.model, domain, seed=0)
    steps = 900 if family in ("one_step", "gan") else 300  # these two learn slowly
    learned_well(model, config, x, labels, steps=steps, batch_size=128, scratch=tmp_path)
    for c, centre in ((0, 55), (1, 140)):
        torch.manual_seed(0)
        samples = model.sample(1000, torch.full((1000,), c), **config.sampling)[:, 0].float()
        with_it = samples[(samples > 100) == c]
        assert len(with_it) > 980
        assert with_it.mean().item() == pytest.approx(centre, abs=3)
        assert with_it.std().item() == pytest.approx(8, abs=3)
    torch.manual_seed(0)
    assert (model.sample(2000, **config.sampling) > 100).float().mean().item() == pytest.approx(0.7, abs=0.05)
    if config.likelihood is None:
        return
    with torch.no_grad():
        nats = model.log_likelihood(torch.arange(200)[:, None], **config.likelihood | FINER.get(family, {})).double()
    probabilities = nats.exp()
    if model.likelihood_kind == "exact":
        assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    assert 0.9 < probabilities.sum().item() < 1.03
    assert probabilities[100:].sum().item() == pytest.approx(0.7, abs=0.05)


# Samples of one class


@pytest.fixture
def painter(small_model: Callable[..., Any], make_domain: Callable[..., Domain]) -> tuple[Any, Domain]:
    domain = dataclasses.replace(make_domain(2, levels=16), labels=("ten", "1", "0"))
    model = small_model("vae", domain)
    model.classes = torch.nn.Identity()  # any classes will do
    return model, domain


def test_a_class_is_found_by_its_name_and_then_by_its_number(painter: tuple[Any, Domain]) -> None:
    assert [class_number(*painter, label) for label in ("ten", "1", "0", "2")] == [0, 1, 2, 2]


@pytest.mark.parametrize("label", ["eleven", "3", "-1", "1.0", "", "Ten"])
def test_a_class_that_does_not_exist_is_refused_with_those_that_do(painter: tuple[Any, Domain], label: str) -> None:
    with pytest.raises(UserError, match=f"label={label}: small has no such class; choose one of ten, 1, 0"):
        class_number(*painter, label)


def test_a_model_that_cannot_draw_a_class_says_why(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(2, levels=16)
    labelled = dataclasses.replace(domain, labels=LABELS)
    with pytest.raises(UserError, match="label=pear: small has no labels"):
        class_number(small_model("vae", domain), domain, "pear")
    with pytest.raises(UserError, match=r"label=pear: this VAE is not conditional.*model\.conditional=true"):
        class_number(small_model("vae", labelled), labelled, "pear")
    with pytest.raises(UserError, match="label=pear: this Independent is not conditional"):
        class_number(small_model("independent", labelled), labelled, "pear")


def test_the_stages_draw_one_class_and_leave_the_cell_alone(
    raw_data: Path, tmp_path: Path, call_stage: Callable[..., Any], contents: Callable[[Path], dict[str, str]]
) -> None:
    places = [f"paths.{kind}={tmp_path / kind}" for kind in ("artifacts", "results", "samples", "scratch")]
    common = ["data=heights", "model=vae", "budget=smoke", "tracking=none", f"paths.data={raw_data}", *places]

    def stage(name: str, *overrides: str) -> Any:
        return call_stage(name, *common, *overrides)

    for name in ("prepare", "train", "sample"):
        done = stage(name)
        assert done.returncode == 0, done.stderr
    cell = tmp_path / "artifacts" / "heights" / "vae" / "0"
    with np.load(cell / "sample" / "samples.npz") as file:
        assert file.files == ["samples"]
    refused = stage("sample", "label=male")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "model.conditional=true" in refused.stderr

    for name in ("train", "sample"):
        done = stage(name, CONDITIONAL, "budget.scale=0.05")
        assert done.returncode == 0, done.stderr
    assert json.loads((cell / "train" / "model.json").read_text())["configuration"]["model"]["conditional"] is True
    with np.load(cell / "sample" / "samples.npz") as file:
        assert file.files == ["samples", "labels"]
        heights, labels = file["samples"][:, 0], file["labels"]
    assert heights.shape == labels.shape == (200,)
    assert set(labels.tolist()) == {0, 1}
    assert heights[labels == 1].mean() > heights[labels == 0].mean() + 1

    before = contents(tmp_path / "artifacts")
    for label, name in (("male", "male"), ("0", "female")):
        done = stage("sample", f"label={label}")
        assert done.returncode == 0, done.stderr
        place = tmp_path / "samples" / f"heights-vae-{name}"
        assert done.stdout == f"{place / 'samples.png'}\n"
        assert {path.name for path in place.iterdir()} == {"samples.npz", "samples.png"}
        with np.load(place / "samples.npz") as file:
            assert file["samples"].shape == (200, 1)
            assert set(file["labels"].tolist()) == {int(name == "male")}
    refused = stage("sample", "label=child")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "label=child: heights has no such class; choose one of female, male" in refused.stderr
    assert contents(tmp_path / "artifacts") == before
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["heights-vae-female", "heights-vae-male"]
