"""One contract for every family: whatever stands in conf/model/ is held to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lookalike.core.config import Config, choices
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.models import Fitted, Generative, Trainable
from lookalike.models.build import build, check_settings, load_weights, save_weights
from lookalike.sampling import draw

DOMAINS = {
    "image 1x6x6": ((1, 6, 6), 8),
    "image 1x5x7": ((1, 5, 7), 256),
    "image 3x6x5": ((3, 6, 5), 8),
    "vector 4": ((4,), 16),
    "vector 1": ((1,), 1120),
}


@pytest.fixture(params=choices("model"))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=DOMAINS.values(), ids=list(DOMAINS))
def domain(request: pytest.FixtureRequest, make_domain: Callable[..., Domain]) -> Domain:
    shape, levels = request.param
    return make_domain(*shape, levels=levels)


@pytest.fixture
def config(family: str, small_config: Callable[..., Config]) -> Config:
    return small_config(family)


def observations(domain: Domain, n: int, *, seed: int = 0) -> Tensor:
    """Grid points `[n, *shape]` of the type that data come in."""
    x = torch.randint(0, domain.levels, (n, *domain.shape), generator=torch.Generator().manual_seed(seed))
    return x.to(torch.uint8) if domain.kind == "image" else x


def learn(config: Config, domain: Domain, *, steps: int) -> Any:
    """A model that was fitted, or trained for some steps; the data are such that there is something to learn."""
    model = build(config.model, domain, seed=0)
    x = observations(domain, 40)
    if isinstance(model, Fitted):
        model.fit(x)
    else:
        if hasattr(model, "start"):
            model.start(x)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            model.losses(x)["loss"].backward()
            optimizer.step()
    return model.eval()


LEARNED: dict[tuple[str, Domain], Any] = {}


@pytest.fixture
def model(config: Config, domain: Domain) -> Any:
    """A model that is away from its first weights; tests that leave it as it is share it."""
    key = config.model_name, domain
    if key not in LEARNED:
        LEARNED[key] = learn(config, domain, steps=30)
    return LEARNED[key]


def test_it_keeps_to_the_protocol_and_to_its_own_configuration(config: Config, domain: Domain) -> None:
    model = build(config.model, domain, seed=0)
    assert isinstance(model, Generative)
    assert isinstance(model, Trainable) != isinstance(model, Fitted)
    assert (config.optimizer is None) == isinstance(model, Fitted)
    assert model.likelihood_kind in (None, "exact", "lower bound", "estimate")
    assert (model.likelihood_kind is None) == (config.likelihood is None) == (not hasattr(model, "log_likelihood"))
    check_settings(model, config)
    with pytest.raises(UserError, match="likelihood"):
        check_settings(model, config.model_copy(update={"likelihood": {} if config.likelihood is None else None}))
    with pytest.raises(UserError, match=r"sampling\.no_such_setting"):
        check_settings(model, config.model_copy(update={"sampling": config.sampling | {"no_such_setting": 1}}))


@pytest.mark.parametrize("n", [1, 30])
def test_samples_are_points_of_the_grid(model: Any, config: Config, domain: Domain, n: int) -> None:
    for settings in (config.sampling, config.preview):
        samples = model.sample(n, **settings)
        assert samples.shape == (n, *domain.shape)
        assert samples.dtype == torch.int64
        assert samples.min() >= 0
        assert samples.max() < domain.levels


def test_the_same_seed_gives_the_same_bytes(model: Any, config: Config, domain: Domain) -> None:
    def drawn(seed: int) -> bytes:
        values = draw(model, domain, samples=30, batch_size=12, seed=seed, settings=config.sampling)
        domain.to_grid(values)
        return values.tobytes()

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)

    def weights() -> list[bytes]:
        learned = learn(config, domain, steps=2)
        return [tensor.numpy().tobytes() for tensor in learned.state_dict().values()]

    torch.manual_seed(7)
    first = weights()
    torch.manual_seed(8)
    assert weights() == first, "what was drawn before must not matter"


def test_weights_on_disk_carry_all_that_a_model_has_learned(
    model: Any, config: Config, domain: Domain, tmp_path: Path
) -> None:
    save_weights(model, tmp_path / "weights.safetensors")
    other = build(config.model, domain, seed=1)
    load_weights(other, tmp_path / "weights.safetensors")
    assert not other.training
    drawn = [draw(m, domain, samples=20, batch_size=20, seed=0, settings=config.sampling) for m in (model, other)]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    if config.likelihood is not None:
        x = observations(domain, 6, seed=1)
        assert torch.equal(model.log_likelihood(x, **config.likelihood), other.log_likelihood(x, **config.likelihood))


def test_weights_of_another_domain_are_refused(
    config: Config, make_domain: Callable[..., Domain], tmp_path: Path
) -> None:
    save_weights(learn(config, make_domain(1, 6, 6, levels=8), steps=1), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"another model or domain.*shape.*Train again"):
        load_weights(build(config.model, make_domain(3, 6, 6, levels=8), seed=0), tmp_path / "weights.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "weights.safetensors").read_bytes()[:-10])
    with pytest.raises(UserError, match=r"damaged.*damaged\.safetensors"):
        load_weights(build(config.model, make_domain(1, 6, 6, levels=8), seed=0), tmp_path / "damaged.safetensors")
    with pytest.raises(UserError, match="run the train stage"):
        load_weights(build(config.model, make_domain(1, 6, 6, levels=8), seed=0), tmp_path / "missing.safetensors")


def test_losses_are_finite_and_their_gradient_reaches_every_parameter(config: Config, domain: Domain) -> None:
    # A few steps in: a layer may start at zero and hide the layers behind it until then.
    model = learn(config, domain, steps=3)
    if isinstance(model, Fitted):
        pytest.skip("no gradient descent")
    model.train()
    assert all(loss.isfinite() for loss in model.losses(observations(domain, 1)).values())
    losses = model.losses(observations(domain, 40))
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    model.zero_grad()
    losses["loss"].backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not untouched


def test_a_likelihood_is_a_finite_number_for_each_observation(model: Any, config: Config, domain: Domain) -> None:
    if config.likelihood is None:
        pytest.skip("no likelihood")
    ends = [torch.zeros(1, *domain.shape), torch.full((1, *domain.shape), domain.levels - 1.0)]
    x = torch.cat([observations(domain, 5), *(end.to(observations(domain, 1).dtype) for end in ends)])
    nats = model.log_likelihood(x, **config.likelihood)
    assert nats.shape == (7,)
    assert nats.is_floating_point()
    assert nats.isfinite().all()


def test_a_likelihood_does_not_depend_on_the_rest_of_the_batch(model: Any, config: Config, domain: Domain) -> None:
    if config.likelihood is None:
        pytest.skip("no likelihood")
    x = observations(domain, 8, seed=2)
    whole = model.log_likelihood(x, **config.likelihood)
    half = model.log_likelihood(x[4:], **config.likelihood)
    reversed_order = model.log_likelihood(x.flip(0), **config.likelihood).flip(0)
    alone = torch.cat([model.log_likelihood(row[None], **config.likelihood) for row in x[:2]])
    torch.testing.assert_close(half, whole[4:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(reversed_order, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone, whole[:2], rtol=1e-4, atol=1e-4)
    assert whole.std() > 1e-3 or config.model_name == "uniform", "a constant would pass"
