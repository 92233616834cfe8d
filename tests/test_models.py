"""One contract for every family: everything in conf/model/ has to keep it, on images of any size and on tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from family_helpers import CASES, Case, for_case, learned, observations
from lookalike.domain.domain import Domain
from lookalike.families.build import build, check_settings
from lookalike.families.contract import Family
from lookalike.networks.weights import load_weights, save_weights
from lookalike.sampling.drawing import draw
from lookalike.workspace.configuration import Config, choices
from lookalike.workspace.errors import UserError


@pytest.fixture(params=choices("model"))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def domain(case: Case, make_domain: Callable[..., Domain]) -> Domain:
    return make_domain(*case.shape, levels=case.levels, at_ends=case.at_ends)


@pytest.fixture
def config(family: str, domain: Domain, case: Case, small_config: Callable[..., Config]) -> Config:
    return for_case(small_config(family), domain, case)


QUICK: dict[str, dict[str, Any]] = {
    "vae": {"importance_samples": 5},
    "flow_matching": {"steps": 4},
    "diffusion": {"levels": 8},
    "flow": {"dequantizations": 3},
    "mixture": {"importance_samples": 5},
}


@pytest.fixture
def likelihood(config: Config) -> dict[str, Any]:
    """Settings of a likelihood whose value does not matter."""
    if config.likelihood is None:
        pytest.skip("no likelihood")
    return config.likelihood | QUICK.get(config.model_name, {})


LEARNED: dict[tuple[str, Domain], Any] = {}


@pytest.fixture
def model(config: Config, domain: Domain, case: Case) -> Any:
    """Return a model that is away from its first weights; tests that do not change it share it."""
    key = config.model_name, domain
    if key not in LEARNED:
        LEARNED[key] = learned(config, domain, count=case.rows, steps=case.steps)
    return LEARNED[key]


def test_a_family_keeps_the_contract_and_its_own_configuration(config: Config, domain: Domain) -> None:
    model: Any = build(config.model, domain, seed=0)
    assert isinstance(model, Family)
    x = observations(domain, 4)[0]
    with pytest.raises(NotImplementedError, match="fitted" if model.is_fitted else "gradient descent"):
        (model.losses if model.is_fitted else model.fit)(x)
    assert (config.optimizer is None) == model.is_fitted
    assert model.likelihood_kind in (None, "exact", "lower bound", "estimate")
    assert (model.likelihood_kind is None) == (config.likelihood is None)
    if model.likelihood_kind is None:
        with pytest.raises(NotImplementedError, match="no likelihood"):
            model.log_likelihood(x)
    check_settings(model, config)
    with pytest.raises(UserError, match="likelihood"):
        check_settings(model, config.model_copy(update={"likelihood": {} if config.likelihood is None else None}))
    with pytest.raises(UserError, match=r"sampling\.no_such_setting"):
        check_settings(model, config.model_copy(update={"sampling": config.sampling | {"no_such_setting": 1}}))


def test_samples_are_points_of_the_grid(model: Any, config: Config, domain: Domain) -> None:
    for n, settings in ((5, config.sampling), (1, config.preview)):
        with torch.no_grad():
            samples = model.sample(n, **settings)
        assert samples.shape == (n, *domain.shape)
        assert samples.dtype == torch.int64
        assert samples.min() >= 0
        assert samples.max() < domain.levels


def test_the_same_seed_gives_the_same_bytes(model: Any, config: Config, domain: Domain, case: Case) -> None:
    def drawn(seed: int) -> bytes:
        values = draw(model, domain, samples=7, batch_size=4, seed=seed, settings=config.sampling)
        domain.to_grid(values)
        return values.tobytes()

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)

    def weights() -> list[bytes]:
        model = learned(config, domain, count=case.rows, steps=2)
        return [tensor.numpy().tobytes() for tensor in model.state_dict().values()]

    torch.manual_seed(7)
    first = weights()
    torch.manual_seed(8)
    assert weights() == first, "what was drawn before must not matter"


def test_weights_on_disk_hold_everything_that_a_model_learned(
    model: Any, config: Config, domain: Domain, tmp_path: Path
) -> None:
    save_weights(model, tmp_path / "weights.safetensors")
    other = build(config.model, domain, seed=1)
    load_weights(other, tmp_path / "weights.safetensors")
    assert not other.training
    drawn = [draw(m, domain, samples=4, batch_size=4, seed=0, settings=config.sampling) for m in (model, other)]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    if config.likelihood is not None:
        x = observations(domain, 4, seed=1)[0]
        settings = config.likelihood | QUICK.get(config.model_name, {})
        assert torch.equal(model.log_likelihood(x, **settings), other.log_likelihood(x, **settings))


def test_weights_of_another_domain_are_refused(
    family: str, small_config: Callable[..., Config], make_domain: Callable[..., Domain], tmp_path: Path
) -> None:
    model, domain = small_config(family).model, make_domain(1, 6, 6, levels=8)
    path = tmp_path / "weights.safetensors"
    save_weights(build(model, domain, seed=0), path)
    with pytest.raises(UserError, match=r"another model or domain.*shape.*Train again"):
        load_weights(build(model, make_domain(3, 6, 6, levels=8), seed=0), path)
    (tmp_path / "damaged.safetensors").write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"damaged.*damaged\.safetensors"):
        load_weights(build(model, domain, seed=0), tmp_path / "damaged.safetensors")
    with pytest.raises(UserError, match="run the train stage"):
        load_weights(build(model, domain, seed=0), tmp_path / "missing.safetensors")


def test_losses_are_finite_and_their_gradient_reaches_every_parameter(
    config: Config, domain: Domain, case: Case
) -> None:
    # After a few steps, because a layer that starts at zero hides the layers behind it until then.
    model = learned(config, domain, count=case.rows, steps=3)
    if model.is_fitted:
        pytest.skip("no gradient descent")
    model.train()
    assert all(loss.isfinite() for loss in model.losses(*observations(domain, 1)).values())
    losses = model.losses(*observations(domain, case.rows))
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    model.zero_grad()
    losses["loss"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not [name for name, p in model.named_parameters() if not p.grad.isfinite().all()]


def test_a_likelihood_is_a_finite_number_for_each_observation(
    model: Any, likelihood: dict[str, Any], domain: Domain
) -> None:
    x = observations(domain, 3)[0]
    ends = [torch.zeros(1, *domain.shape), torch.full((1, *domain.shape), domain.levels - 1.0)]
    nats = model.log_likelihood(torch.cat([x, *(end.to(x.dtype) for end in ends)]), **likelihood)
    assert nats.shape == (5,)
    assert nats.is_floating_point()
    assert nats.isfinite().all()


@torch.no_grad()
def test_a_likelihood_does_not_depend_on_the_rest_of_the_batch(
    model: Any, likelihood: dict[str, Any], config: Config, domain: Domain
) -> None:
    x = observations(domain, 6, seed=2)[0]
    whole = model.log_likelihood(x, **likelihood)
    parts = {
        "half": (model.log_likelihood(x[3:], **likelihood), whole[3:]),
        "in reversed order": (model.log_likelihood(x.flip(0), **likelihood).flip(0), whole),
        "alone": (model.log_likelihood(x[:1], **likelihood), whole[:1]),
    }
    for ours, expected in parts.values():
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert whole.std() > 1e-3 or config.model_name == "uniform", "a constant would pass"
