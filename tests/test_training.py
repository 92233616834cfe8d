"""Tests of training: interrupted, observed or with previews, it ends with the same bytes."""

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lookalike.domain.domain import Domain
from lookalike.families.build import for_domain
from lookalike.training.batches import Arrays, Batches, gather
from lookalike.training.budget import operations_per_step
from lookalike.training.history import History, Silent
from lookalike.training.loop import train
from lookalike.workspace.configuration import Config, Optimizer, Trainer
from lookalike.workspace.errors import UserError

OPTIMIZER = Optimizer(lr=0.02, weight_decay=0.1, warmup=0.1, clip=0.5, ema_horizon=0.2, beta1=0.9, muon=0.0)
TRAINER = Trainer(
    accelerator="cpu", devices=1, nodes=1, compile=False, precision="32-true", threads=1, checks=4,
    validation_points=30, previews=0, batch_size=16,
)  # fmt: skip
STEPS, BATCH = 40, 8


class Noisy(nn.Module):
    """A regression whose loss draws random numbers and whose forward pass has a batch norm, so with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Dropout(0.2), nn.Linear(8, 3))

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        noise = torch.randn_like(x.float())
        error = (self.layers(x.float() + 0.1 * noise) - x.float().cos()).square().mean()
        return {"loss": error, "noise": noise.square().mean()}


class Plain(nn.Module):
    """The same without buffers and noise; `poison` makes the loss NaN from that call on."""

    def __init__(self, poison: int | None = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 3))
        self.poison, self.calls = poison, 0

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        self.calls += self.training
        error: Tensor = (self.layers(x.float()) - x.float().cos()).square().mean()
        return {"loss": error * torch.nan if self.poison is not None and self.calls > self.poison else error}


class Brittle(nn.Module):
    """A finite loss, and a gradient that is NaN in step `poison`, from 0: it makes NaN of every weight."""

    def __init__(self, poison: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.poison, self.calls = poison, 0

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        error: Tensor = (self.layer(x.float()) - x.float().cos()).square().mean()
        if self.training and self.calls == self.poison:
            error = error + (0 * error).sqrt()  # whose slope is 0 times infinity
        self.calls += self.training
        return {"loss": error}


class Watcher:
    """Keep what is reported; interrupt at a step of training, validation or preview, as Ctrl-C would."""

    def __init__(self, interrupt: tuple[str, int] | None = None) -> None:
        self.interrupt = interrupt
        self.reported: list[tuple[str, int]] = []
        self.previews: dict[int, NDArray[Any]] = {}

    def report(self, kind: str, step: int) -> None:
        self.reported.append((kind, step))
        if (kind, step) == self.interrupt:
            raise KeyboardInterrupt

    def metrics(self, values: dict[str, float], step: int) -> None:
        (kind,) = {name.split("/")[0] for name in values}
        self.report(kind, step)

    def samples(self, samples: NDArray[Any], step: int) -> None:
        self.previews[step] = samples
        self.report("samples", step)


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return (np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32),)


def fresh(family: type[nn.Module] = Noisy, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return family(**arguments)


def weights(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def run(
    model: Any, arrays: Arrays, scratch: Path, *, optimizer: Optimizer = OPTIMIZER, trainer: Trainer = TRAINER,
    steps: int = STEPS, watcher: Watcher | None = None, seed: int = 0,
) -> History:  # fmt: skip
    preview: Callable[[], NDArray[Any]] = lambda: torch.randn(2, 3).numpy()  # noqa: E731
    return train(
        model, arrays, (arrays[0][:50],), optimizer=optimizer, steps=steps, batch_size=BATCH, trainer=trainer,
        seed=seed, scratch=scratch, observer=watcher or Silent(), preview=preview,
    )  # fmt: skip


def comparable(history: History) -> Any:
    """Return all of a history in a form that compares."""
    return history.train, history.validation, {step: values.tolist() for step, values in history.previews.items()}


# The stream of batches.


def batches(n: int, *, first_step: int, steps: int, seed: int = 0, batch_size: int = 8) -> list[list[int]]:
    stream = Batches((np.arange(n),), batch_size=batch_size, seed=seed, first_step=first_step, steps=steps)
    return [batch.tolist() for (batch,) in stream]


@pytest.mark.parametrize("n", [64, 67])
def test_an_epoch_gives_every_row_at_most_once_and_all_where_batches_fill_it(n: int) -> None:
    stream = batches(n, first_step=0, steps=24)
    assert all(len(batch) == 8 for batch in stream)
    epochs = [list(itertools.chain(*stream[start : start + 8])) for start in (0, 8, 16)]
    assert all(len(set(epoch)) == 64 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert stream != batches(n, first_step=0, steps=24, seed=1)


def test_a_stream_that_starts_later_is_the_rest_of_the_stream() -> None:
    whole = batches(67, first_step=0, steps=30)
    for k in (1, 7, 8, 9, 16, 29, 30):
        assert batches(67, first_step=k, steps=30) == whole[k:]


def test_rows_of_several_arrays_stay_together() -> None:
    stream = Batches((np.arange(20), np.arange(20) * 10), batch_size=4, seed=0, first_step=0, steps=5)
    assert all(torch.equal(x * 10, y) for x, y in stream)


# The same bytes.


@pytest.mark.parametrize("average", [0.0, 0.2])
@pytest.mark.parametrize(
    "interrupt",
    [
        ("train", 3),
        ("train", 20),
        ("train", 25),
        ("validation", 20),
        ("validation", 40),
        ("samples", 20),
        ("train", 40),
    ],
    ids=lambda at: f"{at[0]} {at[1]}",
)
def test_a_run_that_was_stopped_continues_to_the_same_bytes(
    arrays: Arrays, tmp_path: Path, average: float, interrupt: tuple[str, int]
) -> None:
    settings: dict[str, Any] = {
        "optimizer": OPTIMIZER.model_copy(update={"ema_horizon": average}),
        "trainer": TRAINER.model_copy(update={"previews": 2}),
    }
    whole, halves = fresh(), fresh()
    seen = Watcher()
    history = run(whole, arrays, tmp_path / "whole", **settings, watcher=seen)
    stopped, resumed = Watcher(interrupt), Watcher()
    with pytest.raises(KeyboardInterrupt):
        run(halves, arrays, tmp_path / "halves", **settings, watcher=stopped)
    halves = fresh()
    assert comparable(run(halves, arrays, tmp_path / "halves", **settings, watcher=resumed)) == comparable(history)
    assert weights(halves) == weights(whole)
    assert history.previews.keys() == seen.previews.keys() == {20, 40}
    last_checkpoint = (interrupt[1] - 1) // 10 * 10
    assert min(step for kind, step in resumed.reported if kind == "train") == last_checkpoint + 1


def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_bytes(arrays: Arrays, tmp_path: Path) -> None:
    whole = fresh()
    history = run(whole, arrays, tmp_path / "whole")
    for step in (5, 12, 19, 33):
        with pytest.raises(KeyboardInterrupt):
            run(fresh(), arrays, tmp_path / "often", watcher=Watcher(("train", step)))
    often = fresh()
    assert comparable(run(often, arrays, tmp_path / "often")) == comparable(history)
    assert weights(often) == weights(whole)


@pytest.mark.parametrize(
    "average",
    [0.0, 0.2],
)
def test_a_run_that_was_complete_when_it_was_killed_stays_as_it_was(
    arrays: Arrays, tmp_path: Path, average: float
) -> None:
    optimizer = OPTIMIZER.model_copy(update={"ema_horizon": average})
    once, twice, watcher = fresh(), fresh(), Watcher()
    history = run(once, arrays, tmp_path, optimizer=optimizer)
    assert comparable(run(twice, arrays, tmp_path, optimizer=optimizer, watcher=watcher)) == comparable(history)
    assert weights(twice) == weights(once)
    assert not watcher.reported


def test_previews_and_what_was_drawn_before_do_not_change_training(arrays: Arrays, tmp_path: Path) -> None:
    results = []
    for previews in (0, 3):
        model = fresh()
        torch.randn(previews)
        watcher = Watcher()
        history = run(model, arrays, tmp_path / str(previews), watcher=watcher,
                     trainer=TRAINER.model_copy(update={"previews": previews}))  # fmt: skip
        assert len(watcher.previews) == previews
        results.append((weights(model), history.train, history.validation))
    assert results[0] == results[1]


def test_the_seed_matters(arrays: Arrays, tmp_path: Path) -> None:
    one, two = fresh(), fresh()
    run(one, arrays, tmp_path / "one", seed=0)
    run(two, arrays, tmp_path / "two", seed=1)
    assert weights(one) != weights(two)


@pytest.mark.parametrize(
    "seed",
    [2**31, 2**32 - 1],
)
def test_any_seed_that_the_configuration_allows_trains(arrays: Arrays, tmp_path: Path, seed: int) -> None:
    run(fresh(), arrays, tmp_path, steps=4, seed=seed)


# What it does.


@pytest.mark.parametrize("average", [0.0, 0.2])
def test_training_is_adamw_with_clipping_warmup_cosine_and_averaging(
    arrays: Arrays, tmp_path: Path, average: float
) -> None:
    """Against the loop written out: the same weights, up to rounding."""
    ours, theirs = fresh(Plain), fresh(Plain)
    run(ours, arrays, tmp_path, optimizer=OPTIMIZER.model_copy(update={"ema_horizon": average}))
    matrices = [p for p in theirs.parameters() if p.ndim > 1]
    others = [p for p in theirs.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.02, betas=(0.9, 0.99))
    ema = get_ema_multi_avg_fn(1 - 1 / (0.2 * STEPS))
    averaged = AveragedModel(theirs, multi_avg_fn=ema)
    stream = Batches(arrays, batch_size=BATCH, seed=0, first_step=0, steps=STEPS)
    for step, (x,) in enumerate(stream):
        factor = min(1, (step + 1) / (0.1 * STEPS)) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * factor
        optimizer.zero_grad()
        theirs.losses(x)["loss"].backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        averaged.update_parameters(theirs)
    expected = (averaged.module if average else theirs).state_dict()
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-4)


def test_averaged_weights_are_others_than_the_last(arrays: Arrays, tmp_path: Path) -> None:
    last, averaged = fresh(), fresh()
    run(last, arrays, tmp_path / "last", optimizer=OPTIMIZER.model_copy(update={"ema_horizon": 0.0}))
    run(averaged, arrays, tmp_path / "averaged")
    assert weights(last) != weights(averaged)


@pytest.mark.parametrize(
    "steps",
    [40, 3, 1, 45],
)
def test_curves_and_previews_reach_the_last_step(arrays: Arrays, tmp_path: Path, steps: int) -> None:
    watcher = Watcher()
    model = fresh()
    history = run(model, arrays, tmp_path, steps=steps, watcher=watcher,
                 trainer=TRAINER.model_copy(update={"previews": 2}))  # fmt: skip
    assert not model.training
    assert history.train[-1]["step"] == steps
    assert history.validation[-1]["step"] == steps
    assert steps in watcher.previews
    assert comparable(history)[2] == {step: values.tolist() for step, values in watcher.previews.items()}
    assert set(history.train[0]) == set(history.validation[0]) == {"step", "loss", "noise"}
    assert ("train", steps) in watcher.reported


def test_validation_is_scored_with_the_averaged_weights(arrays: Arrays, tmp_path: Path) -> None:
    model = fresh(Plain)
    history = run(model, arrays, tmp_path)
    with torch.no_grad():
        loss = model.losses(torch.from_numpy(arrays[0][:30]))["loss"].item()
    assert history.validation[-1]["loss"] == pytest.approx(loss, rel=1e-5)


def test_training_lowers_the_loss(arrays: Arrays, tmp_path: Path) -> None:
    history = run(fresh(Plain), arrays, tmp_path, steps=200)
    assert history.validation[-1]["loss"] < 0.5 * history.validation[0]["loss"]


# What is refused.


@pytest.mark.parametrize("step", [0, 17])
def test_a_loss_that_is_nan_ends_training_with_its_step(arrays: Arrays, tmp_path: Path, step: int) -> None:
    with pytest.raises(UserError, match=rf"the loss is nan at step {step}: .*optimizer\.lr"):
        run(fresh(Plain, poison=step), arrays, tmp_path)


def test_a_loss_that_is_nan_leaves_the_last_good_checkpoint(arrays: Arrays, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss is nan at step 37"):
        run(fresh(Plain, poison=37), arrays, tmp_path)
    (path,) = tmp_path.glob("*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert 0 < checkpoint["global_step"] <= 37
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


@pytest.mark.parametrize("average", [0.0, 0.2])
@pytest.mark.parametrize("step", [19, STEPS - 1])
def test_weights_that_are_nan_at_a_check_or_at_the_end_are_not_kept(
    arrays: Arrays, tmp_path: Path, step: int, average: float
) -> None:
    optimizer = OPTIMIZER.model_copy(update={"ema_horizon": average})
    with pytest.raises(UserError, match=rf"the loss on validation data is nan after {step + 1} steps: .*optimizer\.lr"):
        run(fresh(Brittle, poison=step), arrays, tmp_path, optimizer=optimizer)
    (path,) = tmp_path.glob("*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["global_step"] == step + 1 - STEPS // TRAINER.checks
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def test_weights_that_are_nan_end_training_at_the_next_step(arrays: Arrays, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss is nan at step 14"):
        run(fresh(Brittle, poison=13), arrays, tmp_path)
    (path,) = tmp_path.glob("*.ckpt")
    assert torch.load(path, weights_only=True)["global_step"] == 10


def test_a_batch_larger_than_the_data_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch size 8 is larger than the training set of 5"):
        run(fresh(), (arrays[0][:5],), tmp_path)


def test_a_damaged_checkpoint_is_named_and_training_starts_anew(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, again = fresh(), fresh()
    run(undisturbed, arrays, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        run(fresh(), arrays, tmp_path, watcher=Watcher(("train", 25)))
    (checkpoint,) = tmp_path.glob("*.ckpt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    run(again, arrays, tmp_path)
    assert str(checkpoint) in capsys.readouterr().out
    assert weights(again) == weights(undisturbed)


# What a step costs.


class Layers(nn.Module):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": self.layers(x).square().mean() + torch.rand(())}


def test_operations_of_linear_layers_are_two_per_multiply_add() -> None:
    x = torch.randn(16, 10)
    # Forward, and the gradient of the weights; the input needs none.
    assert operations_per_step(Layers(10, 7), (x,)) == 2 * (2 * 16 * 10 * 7)
    # The second layer hands its gradient on.
    assert operations_per_step(Layers(10, 7, 5), (x,)) == 2 * (2 * 16 * 10 * 7) + 3 * (2 * 16 * 7 * 5)


def test_counting_operations_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model = fresh()
    before = weights(copy.deepcopy(model))
    torch.manual_seed(5)
    operations_per_step(model, (torch.randn(16, 3, generator=torch.Generator()),))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert weights(model) == before
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("family", ["vae", "flow_matching"])
def test_operations_of_a_family_grow_with_the_batch(
    family: str, small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    model = small_model(family, make_domain(1, 6, 6, levels=8))
    grid = np.zeros((8, 1, 6, 6), dtype=np.uint8)
    four, eight = (operations_per_step(model, gather((grid,), np.arange(n))) for n in (4, 8))
    assert 0 < four < eight <= 2 * four


@pytest.mark.parametrize("family", ["vae", "flow_matching"])
def test_a_family_that_was_stopped_continues_to_the_same_bytes(
    family: str, small_config: Callable[..., Config], small_model: Callable[..., Any],
    make_domain: Callable[..., Domain], tmp_path: Path,
) -> None:  # fmt: skip
    domain = make_domain(1, 6, 6, levels=8)
    config = for_domain(small_config(family), domain)
    grid = np.random.default_rng(0).integers(0, 8, (60, 1, 6, 6), dtype=np.uint8)

    assert config.optimizer is not None
    optimizer = config.optimizer

    def go(scratch: str, interrupt: tuple[str, int] | None) -> dict[str, bytes]:
        model = small_model(family, domain)
        train(
            model, (grid,), (grid[:20],), optimizer=optimizer, steps=12, batch_size=BATCH, trainer=TRAINER,
            seed=0, scratch=tmp_path / scratch, observer=Watcher(interrupt),
            preview=lambda: model.sample(3, **config.preview).numpy(),
        )  # fmt: skip
        return weights(model)

    with pytest.raises(KeyboardInterrupt):
        go("halves", ("train", 8))
    assert go("halves", None) == go("whole", None)
