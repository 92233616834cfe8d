"""The device that `trainer.accelerator` asks for: every stage obeys it, every family keeps to that of its weights."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lookalike.domain.domain import Domain
from lookalike.families.build import for_domain
from lookalike.stages.evaluate import evaluate
from lookalike.stages.features import features
from lookalike.stages.prepare import prepare
from lookalike.stages.sample import sample
from lookalike.stages.train import train
from lookalike.workspace.configuration import Config, choices, compose
from lookalike.workspace.devices import Place, device_in_use, device_of, take_place
from lookalike.workspace.errors import UserError
from process_helpers import ONE

FAMILIES = choices("model")
FITTED = {"copycat", "uniform", "independent", "mixture"}
SHAPES = [(1, 8, 8), (2,)]


# The policy.


def test_cpu_is_the_cpu_and_auto_is_a_gpu_where_there_is_one() -> None:
    assert device_of(ONE) == torch.device("cpu")
    found = device_of(ONE.model_copy(update={"accelerator": "auto"}))
    assert found == torch.device("cuda", 0) if torch.cuda.is_available() else found == torch.device("cpu")


def test_every_process_has_a_gpu_of_its_own() -> None:
    trainer, count = ONE.model_copy(update={"accelerator": "gpu"}), torch.cuda.device_count()
    take_place(Place(rank=count, size=count + 1, local_rank=count))
    try:
        with pytest.raises(UserError, match=f"torch sees {count or 'no'} GPU"):
            device_of(trainer)
    finally:
        take_place(Place())


def test_a_model_without_weights_is_on_the_cpu() -> None:
    assert device_in_use(torch.nn.Identity()) == torch.device("cpu")
    assert device_in_use(torch.nn.Linear(2, 2, device="meta")).type == "meta"


# The stages.


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of a cell of images that is sampled from."""
    folder = tmp_path_factory.mktemp("cell")
    overrides = [
        "data=bars", "model=vae", "budget=smoke", "tracking=none", f"paths.artifacts={folder / 'artifacts'}",
        f"paths.data={folder / 'data'}", f"paths.scratch={folder / 'scratch'}",
    ]  # fmt: skip
    (folder / "data" / "bars").mkdir(parents=True)
    for stage in (prepare, features, train, sample):
        stage(compose(overrides))
    return overrides


@pytest.mark.parametrize("stage", [features, train, sample, evaluate])
def test_every_stage_that_computes_asks_for_the_device(stage: Callable[..., None], cell: list[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=r"trainer\.accelerator=gpu: torch sees no GPU here; choose trainer=cpu"):
        stage(compose([*cell, "trainer.accelerator=gpu"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_every_stage_computes_on_the_gpu(cell: list[str]) -> None:
    config = compose([*cell, "trainer.accelerator=gpu"])
    for stage in (features, train, sample, evaluate):
        torch.cuda.reset_peak_memory_stats()
        stage(config)
        assert torch.cuda.max_memory_allocated() > 0, stage.__name__


# The families.


class OneDevice(TorchDispatchMode):
    """Report the operators, other than copies between devices, that read or return a tensor on the CPU.

    torch's device `meta` knows shapes but no values. A number that is read from it is 1, and a copy to the CPU, such as
    the grid points that NumPy's generator is keyed by, holds zeros.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "meta":
            return args[0].dtype == torch.bool or (1.0 if args[0].is_floating_point() else 1)
        kwargs = kwargs or {}
        if op is torch.ops.aten._to_copy.default:
            if args[0].device.type == "meta" and torch.device(kwargs.get("device") or "meta").type == "cpu":
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            return op(*args, **kwargs)
        out = op(*args, **kwargs)
        if op in (torch.ops.aten.lift_fresh.default, torch.ops.aten.detach.default):
            return out  # These wrap what Python or NumPy holds; whichever operator uses it is reported.
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors):
            self.found.append(str(op))
        return out


@pytest.fixture
def learned(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> Callable[[str, tuple[int, ...]], Any]:
    """`learned(family, shape)`: a model after what comes before its first step, moved to torch's device `meta`."""

    def make(family: str, shape: tuple[int, ...]) -> Any:
        model = small_model(family, make_domain(*shape, levels=16))
        x = torch.from_numpy(np.random.default_rng(0).integers(0, 16, (40, *shape), dtype=np.uint8))
        (model.fit if model.is_fitted else model.start)(x)
        return model.eval().to("meta")

    return make


@pytest.mark.parametrize("shape", SHAPES, ids=["image", "table"])
@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_drawn_on_the_device_of_the_weights(
    family: str, shape: tuple[int, ...], learned: Callable[..., Any], small_config: Callable[..., Config]
) -> None:
    model, mode = learned(family, shape), OneDevice()
    config = for_domain(small_config(family), model.domain)
    with torch.no_grad(), mode:
        drawn = model.sample(3, **config.sampling)
    assert drawn.shape == (3, *shape)
    assert drawn.device.type == device_in_use(model).type
    assert not mode.found


@pytest.mark.parametrize("shape", SHAPES, ids=["image", "table"])
@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods_are_computed_on_the_device_of_the_weights(
    family: str, shape: tuple[int, ...], learned: Callable[..., Any], small_config: Callable[..., Config]
) -> None:
    model, mode = learned(family, shape), OneDevice()
    config = for_domain(small_config(family), model.domain)
    if config.likelihood is None:
        pytest.skip("the family has no likelihood")
    x = torch.zeros(3, *shape, dtype=torch.uint8, device="meta")
    with torch.no_grad(), mode:
        nats = model.log_likelihood(x, **config.likelihood)
    assert nats.shape == (3,)
    assert nats.device.type == "meta"
    assert not mode.found


class Repeatable(TorchDispatchMode):
    """Refuse what a GPU does not repeat to the last digit (see `torch.use_deterministic_algorithms`)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op in (torch.ops.aten.cumsum.default, torch.ops.aten.cumprod.default) and args[0].is_floating_point():
            raise RuntimeError(f"{op} of floats")
        assert op not in (torch.ops.aten.histc.default, torch.ops.aten.put_.default), op
        return op(*args, **(kwargs or {}))


def test_a_sum_that_a_gpu_does_not_repeat_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="of floats"), Repeatable():
        torch.ones(3).cumsum(0)
    with Repeatable():
        torch.ones(3, dtype=torch.int64).cumsum(0)


def test_a_tensor_on_the_cpu_is_noticed() -> None:
    with OneDevice() as mode:
        torch.rand(3, device="meta") * 2
        assert not mode.found
        torch.rand(3, device="meta") * torch.rand(())
    assert len(mode.found) == 2


@pytest.mark.parametrize("shape", SHAPES, ids=["image", "table"])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - FITTED))
def test_a_loss_is_computed_on_the_device_of_the_weights(
    family: str, shape: tuple[int, ...], small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    model = small_model(family, make_domain(*shape, levels=16)).to("meta")
    # `flow` leaves its splines to zuko, which adds up floats.
    with contextlib.nullcontext() if family == "flow" else Repeatable():
        loss = model.losses(torch.zeros(8, *shape, dtype=torch.uint8, device="meta"))["loss"]
        loss.backward()
    assert loss.device.type == "meta"
    with pytest.raises(RuntimeError, match="device"):
        model.losses(torch.zeros(8, *shape, dtype=torch.uint8))
