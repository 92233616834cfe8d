"""Tests of a served model without a server: samples, classes, likelihoods, refused requests."""

import dataclasses
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike.domain.domain import Domain
from lookalike.domain.grid import bits_per_dimension
from lookalike.families.build import build, for_domain
from lookalike.networks.weights import save_weights
from lookalike.sampling.drawing import draw, draw_classes
from lookalike.tracking.serving import MAX_COUNT, Request, Served, serving_digest
from lookalike.workspace.configuration import Config
from lookalike.workspace.errors import UserError

NAMES = ("cat", "dog", "0")
CONDITIONAL = "model.conditional=true"

Opened = Callable[..., tuple[Served, Any]]


@pytest.fixture
def opened(tmp_path: Path, small_config: Callable[..., Config]) -> Opened:
    """`opened(family, domain, *overrides)`: an untrained model, served and plain."""

    def make(family: str, domain: Domain, *overrides: str) -> tuple[Served, Any]:
        config = for_domain(small_config(family, "trainer.batch_size=4", *overrides), domain)
        model = build(config.model, domain, seed=3).eval()
        save_weights(model, tmp_path / "weights.safetensors")
        record = {
            "domain": domain.to_dict(),
            "configuration": {"model": config.model, "trainer": config.trainer.model_dump()},
        }
        settings = {"sampling": config.sampling, "likelihood": config.likelihood, "code": serving_digest(config.model)}
        (tmp_path / "model.json").write_text(json.dumps(record))
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        return Served(tmp_path), model

    return make


def ask(served: Served, **request: Any) -> Any:
    """Return the answer to one request."""
    (answer,) = served.answer([Request(**request)])
    return answer


@pytest.fixture
def images(make_domain: Callable[..., Domain]) -> Domain:
    """Images of three classes; the name of one looks like the number of another."""
    return dataclasses.replace(make_domain(1, 8, 8, levels=256), labels=NAMES)


def test_samples_are_those_that_the_sample_stage_draws(opened: Opened, images: Domain) -> None:
    served, model = opened("vae", images)
    drawn = draw(model, images, samples=10, batch_size=4, seed=7, settings={})
    assert ask(served, count=10, seed=7) == {"samples": drawn.tolist(), "seed": 7}


def test_a_conditional_model_draws_classes_as_the_sample_stage_does_and_returns_them(
    opened: Opened, images: Domain
) -> None:
    served, model = opened("vae", images, CONDITIONAL)
    labels = draw_classes(model, 10, seed=7)
    assert labels is not None
    drawn = draw(model, images, samples=10, batch_size=4, seed=7, settings={}, labels=labels)
    answer = ask(served, count=10, seed=7)
    assert answer["samples"] == drawn.tolist()
    assert answer["labels"] == [NAMES[number] for number in labels]


@pytest.mark.parametrize(("label", "number"), [("dog", 1), ("1", 1), (1, 1), ("0", 2)])
def test_a_class_is_asked_for_by_its_name_or_else_its_number(
    opened: Opened, images: Domain, label: Any, number: int
) -> None:
    served, model = opened("vae", images, CONDITIONAL)
    labels = np.full(5, number)
    drawn = draw(model, images, samples=5, batch_size=4, seed=0, settings={}, labels=labels)
    answer = ask(served, count=5, seed=0, label=label)
    assert answer == {"samples": drawn.tolist(), "labels": [NAMES[number]] * 5, "seed": 0}


def test_without_a_seed_one_is_drawn_and_returned(opened: Opened, images: Domain) -> None:
    served, _ = opened("independent", images)
    first, second = (ask(served, count=3) for _ in range(2))
    assert first["samples"] != second["samples"]
    assert ask(served, count=3, seed=first["seed"]) == first


@pytest.mark.parametrize("shape", [(1, 8, 8), (3,)])
def test_likelihoods_are_the_model_s_in_nats_and_in_bits(
    opened: Opened, make_domain: Callable[..., Domain], small_config: Callable[..., Config], shape: tuple[int, ...]
) -> None:
    domain = make_domain(*shape, levels=32)
    served, model = opened("vae", domain)
    samples = ask(served, count=10, seed=0)["samples"]
    grid = torch.from_numpy(domain.to_grid(np.array(samples, dtype=domain.dtype)))
    with torch.no_grad():
        nats = model.log_likelihood(grid, **(for_domain(small_config("vae"), domain).likelihood or {})).double()
    answer = ask(served, data=samples)
    assert answer["log_likelihood"] == pytest.approx(nats.tolist(), rel=1e-5)
    assert answer["bits_per_dim"] == pytest.approx(bits_per_dimension(nats, domain).tolist(), rel=1e-5)
    assert (answer["kind"], answer["unit"]) == ("lower bound", "bits/dimension")


def test_requests_of_one_call_are_answered_one_by_one(opened: Opened, images: Domain) -> None:
    served, _ = opened("vae", images)
    samples = ask(served, count=2, seed=5)
    answers = served.answer([Request(count=2, seed=5), Request(data=samples["samples"]), Request(count=2, seed=5)])
    assert answers == [samples, ask(served, data=samples["samples"]), samples]


def test_threads_that_ask_at_once_get_what_they_would_get_alone(opened: Opened, images: Domain) -> None:
    served, _ = opened("vae", images)
    alone = [ask(served, count=20, seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: ask(served, count=20, seed=seed), [0, 1, 2, 3] * 5))
    assert together == alone * 5


def test_asking_leaves_the_process_s_random_numbers_alone(opened: Opened, images: Domain, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    served, _ = opened("vae", images)
    torch.manual_seed(1)
    ask(served, count=3, seed=0)
    Served(tmp_path)
    assert torch.equal(torch.rand(3), expected)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "needs a count of samples to draw, or data to score"),
    "no samples": ({"count": 0}, "count=0: ask for at least one sample"),
    "fewer than none": ({"count": -3}, "count=-3: ask for at least one sample"),
    "too many": (
        {"count": MAX_COUNT + 1},
        f"{MAX_COUNT + 1} samples and observations in one call: ask for at most {MAX_COUNT}",
    ),
    "seed": ({"count": 1, "seed": -1}, "seed=-1: it must be from 0 to 4294967295"),
    "long seed": ({"count": 1, "seed": 2**32}, "seed=4294967296: it must be"),
    "class": ({"count": 1, "label": "cow"}, "label=cow: small has no such class; choose one of cat, dog, 0"),
    "both": ({"count": 1, "data": [[[[1]]]]}, "count=1: a request either has data to score, or asks for samples"),
    "another shape": ({"data": [[[[1, 2], [3, 4]]]]}, r"expected an array \[N, 1, 8, 8\], got \(1, 1, 2, 2\)"),
    "no array": ({"data": [[[[1, 2], [3]]]]}, r"lists of unequal length; give an array \[N, 1, 8, 8\]"),
    "below": ({"data": [[[[-1] * 8] * 8]]}, "data: -1 is not on the grid of small"),
    "above": ({"data": [[[[0] * 8] * 7 + [[0] * 7 + [256]]]]}, "data: 256 is not on the grid of small"),
    "far above": ({"data": [[[[2**70] * 8] * 8]]}, "is not on the grid of small"),
    "no data": ({"data": []}, r"expected an array \[N, 1, 8, 8\], got \(0,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_requests_that_a_model_refuses(opened: Opened, images: Domain, case: str) -> None:
    request, message = BAD[case]
    served, _ = opened("vae", images, CONDITIONAL)
    with pytest.raises(UserError, match=message):
        ask(served, **request)


def test_one_bad_request_ends_a_call_before_any_is_answered(opened: Opened, images: Domain) -> None:
    served, _ = opened("vae", images)
    del served.model  # nothing can be drawn
    with pytest.raises(UserError, match="count=0"):
        served.answer([Request(count=1), Request(count=0)])
    with pytest.raises(UserError, match=f"{MAX_COUNT + 1} samples"):
        served.answer([Request(count=MAX_COUNT), Request(count=1)])


def test_values_off_the_grid_of_vectors_are_refused(opened: Opened, make_domain: Callable[..., Domain]) -> None:
    served, _ = opened("vae", make_domain(1, levels=32))
    assert ask(served, data=[[-1.5], [1.6]])["log_likelihood"]
    for data, problem in (([[0.13]], "the first is 0.13"), ([[9.0]], "not on the grid"), ([[float("nan")]], "NaN")):
        with pytest.raises(UserError, match=problem):
            ask(served, data=data)


def test_a_family_without_a_likelihood_says_so(opened: Opened, images: Domain) -> None:
    served, _ = opened("gan", images)
    with pytest.raises(UserError, match="GAN has no likelihood; ask it for samples only"):
        ask(served, data=ask(served, count=1)["samples"])


def test_a_model_without_classes_refuses_a_label(opened: Opened, images: Domain) -> None:
    served, _ = opened("vae", images)
    with pytest.raises(UserError, match="label=cat: this VAE is not conditional"):
        ask(served, count=1, label="cat")


def test_a_likelihood_that_is_no_number_is_an_error(opened: Opened, make_domain: Callable[..., Domain]) -> None:
    served, _ = opened("vae", make_domain(1, levels=32))
    for parameter in served.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(UserError, match="the likelihood of 2 observations is NaN or infinite, the first in row 0"):
        ask(served, data=[[0.0], [0.1]])


def test_code_of_another_version_is_noticed(opened: Opened, images: Domain, tmp_path: Path) -> None:
    served, _ = opened("vae", images)
    assert served.is_own_code
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(settings | {"code": "of another version"}))
    assert not Served(tmp_path).is_own_code
