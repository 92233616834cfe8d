"""Training is a function of configuration and data: resumed, watched or not, it ends with the same bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lookalike.config import Optimizer, Trainer
from lookalike.errors import UserError
from lookalike.training import Batches, History, Silent, operations_per_step, train

ROWS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
OPTIMIZER = Optimizer(lr=1e-2, weight_decay=0.01, warmup=0.1, clip=1.0, average=0.1)
TRAINER = Trainer(
    accelerator="cpu",
    devices=1,
    precision="32-true",
    threads=1,
    checks=6,
    validation_points=20,
    previews=0,
    batch_size=10,
)


class Noisy(nn.Module):
    """A regression whose loss draws random numbers, as every generative model's does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 3)

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": ((self.layer(x + torch.randn_like(x)) - x) ** 2).mean()}


class Stop(Silent):
    """Interrupts training at a step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def metrics(self, values: dict[str, float], step: int) -> None:
        if step == self.step:
            raise KeyboardInterrupt


def run(scratch: Path, **changes: Any) -> tuple[nn.Module, History]:
    model = changes.pop("model", None) or Noisy()
    arguments: dict[str, Any] = {
        "optimizer": OPTIMIZER,
        "steps": 60,
        "batch_size": 8,
        "trainer": TRAINER,
        "seed": 3,
        "scratch": scratch,
        "observer": Silent(),
        "preview": None,
    }
    return model, train(model, (ROWS,), (ROWS[:20],), **(arguments | changes))


def same_bytes(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_stream_of_batches_can_start_at_any_step() -> None:
    def stream(first: int) -> list[Tensor]:
        return [x for (x,) in Batches((ROWS,), batch_size=8, seed=1, first_step=first, steps=20)]

    whole = stream(0)
    assert len(whole) == 20
    for late, early in zip(stream(7), whole[7:], strict=True):
        assert torch.equal(late, early)


def test_an_epoch_shows_every_row_once_and_the_next_in_another_order() -> None:
    rows = np.arange(48)
    batches = [x for (x,) in Batches((rows,), batch_size=8, seed=1, first_step=0, steps=12)]
    first, second = torch.cat(batches[:6]), torch.cat(batches[6:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == rows.tolist()
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("step", [1, 10, 23, 59])
def test_training_that_was_stopped_ends_with_the_same_bytes(tmp_path: Path, step: int) -> None:
    settings: dict[str, Any] = {
        "trainer": TRAINER.model_copy(update={"previews": 3}),
        "preview": lambda: torch.arange(3).numpy(),
    }
    undisturbed, history = run(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", observer=Stop(step), **settings)
    resumed, again = run(tmp_path / "stopped", **settings)
    assert same_bytes(undisturbed, resumed)
    assert (history.train, history.validation) == (again.train, again.validation)
    assert history.previews.keys() == again.previews.keys() == {20, 40, 60}


def test_the_seed_decides(tmp_path: Path) -> None:
    first, _ = run(tmp_path / "a")
    same, _ = run(tmp_path / "b")
    other, _ = run(tmp_path / "c", seed=4)
    assert same_bytes(first, same)
    assert not same_bytes(first, other)


def test_previews_change_nothing_and_come_when_they_should(tmp_path: Path) -> None:
    class Keep(Silent):
        steps: list[int] = []  # noqa: RUF012

        def samples(self, samples: Any, step: int) -> None:
            self.steps.append(step)

    plain, _ = run(tmp_path / "a")
    trainer = TRAINER.model_copy(update={"previews": 3})
    watched, _ = run(tmp_path / "b", trainer=trainer, observer=Keep(), preview=lambda: torch.randn(5).numpy())
    assert same_bytes(plain, watched)
    assert Keep.steps == [20, 40, 60]


def test_averaged_weights_differ_from_the_last_ones(tmp_path: Path) -> None:
    averaged, _ = run(tmp_path / "a")
    last, _ = run(tmp_path / "b", optimizer=OPTIMIZER.model_copy(update={"average": 0.0}))
    assert not same_bytes(averaged, last)


def test_training_lowers_the_loss_and_every_check_is_in_the_curve(tmp_path: Path) -> None:
    _, curves = run(tmp_path)
    assert [row["step"] for row in curves.validation] == [10, 20, 30, 40, 50, 60]
    assert curves.validation[-1]["loss"] < curves.validation[0]["loss"]


def test_a_loss_that_is_not_finite_stops_training_at_its_step(tmp_path: Path) -> None:
    class Breaks(Noisy):
        calls = 0

        def losses(self, x: Tensor) -> dict[str, Tensor]:
            self.calls += self.training
            factor = float("nan") if self.calls == 13 else 1.0
            return {"loss": super().losses(x)["loss"] * factor}

    with pytest.raises(UserError, match="nan at step 12"):
        run(tmp_path, model=Breaks())


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch size 51 is larger than the training set of 50"):
        run(tmp_path, batch_size=51)


def test_operations_are_those_of_the_matrix_products() -> None:
    # Forward 2·N·3·3; backward the same for the weights' gradient, none for the input's, which needs none.
    assert operations_per_step(Noisy(), (torch.zeros(7, 3),)) == 2 * 2 * 7 * 3 * 3


def test_counting_operations_leaves_the_model_and_the_random_numbers_alone() -> None:
    model = Noisy()
    torch.manual_seed(5)
    operations_per_step(model, (torch.zeros(7, 3),))
    assert all(p.grad is None for p in model.parameters())
    drawn = torch.randn(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.randn(3))
