"""Training in two processes over gloo: the same effective batch, one result, and no process left behind."""

import contextlib
import csv
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lookalike.core.config import Config, Optimizer, Trainer, choices, compose
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.history import History, Silent
from lookalike.training import Arrays, Batches, step_seed, train

pytest_plugins = ["pipeline_fixtures"]

Contents = Callable[[Path], dict[str, str]]

OPTIMIZER = Optimizer(lr=0.02, weight_decay=0.1, warmup=0.1, clip=0.5, average=0.2, momentum=0.9, muon=0.0)
ONE = Trainer(
    accelerator="cpu", devices=1, compile=False, precision="32-true", threads=1, checks=4, validation_points=30,
    previews=2, batch_size=10,
)  # fmt: skip
TWO = ONE.model_copy(update={"devices": 2})
STEPS, BATCH = 40, 8


class Plain(nn.Module):
    """A regression without chance. With `trouble`, something happens in the second process at its 20th step."""

    seen: Tensor

    def __init__(self, trouble: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 3))
        self.trouble, self.steps = trouble, 0
        self.register_buffer("seen", torch.zeros(()))

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        error: Tensor = (self.layers(x.float()) - x.float().cos()).square().mean()
        self.steps += self.training
        if self.trouble and self.steps == 20 and distributed.get_rank() == 1:
            if self.trouble == "nan":
                error = error * torch.nan
            elif self.trouble == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.trouble == "buffer":
                self.seen += 1
        return {"loss": error, "chance": torch.rand(())}


class Watcher(Silent):
    """Keeps the losses of steps and the processes that told them; interrupts at a step, as Ctrl-C would."""

    def __init__(self, interrupt: int | None = None) -> None:
        self.interrupt = interrupt
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.samples_at: list[int] = []

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))
        if step == self.interrupt:
            raise KeyboardInterrupt

    def samples(self, samples: NDArray[Any], step: int) -> None:
        self.samples_at.append(step)


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return (np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32),)


@pytest.fixture(scope="module")
def whole(arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plain, History, Watcher]:
    """A training in two processes that nothing disturbed."""
    model, watcher = Plain(), Watcher()
    return model, run(model, arrays, tmp_path_factory.mktemp("whole"), TWO, watcher=watcher), watcher


def run(
    model: nn.Module, arrays: Arrays, scratch: Path, trainer: Trainer, *, watcher: Watcher | None = None
) -> History:
    return train(
        model, arrays, (arrays[0][:30],), optimizer=OPTIMIZER, steps=STEPS, batch_size=BATCH, trainer=trainer, seed=0,
        scratch=scratch, observer=watcher or Silent(), preview=lambda: np.zeros((2, 3)),
    )  # fmt: skip


def workers() -> list[psutil.Process]:
    """Processes that a training or a stage has started and that still run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


# What a rank sees


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_parts_of_a_batch_make_up_the_batch_of_one_process(ranks: int) -> None:
    settings: dict[str, Any] = {"batch_size": 8, "seed": 3, "first_step": 5, "steps": 30}
    rows = (np.arange(67),)
    whole = [batch for (batch,) in Batches(rows, **settings)]
    parts = [[batch for (batch,) in Batches(rows, **settings, rank=rank, ranks=ranks)] for rank in range(ranks)]
    assert all(len(part) == 8 // ranks for part in itertools.chain(*parts))
    assert all(torch.equal(batch, torch.cat(part)) for batch, *part in zip(whole, *parts, strict=True))


def test_ranks_draw_random_numbers_of_their_own() -> None:
    drawn = set()
    for seed, step, rank in itertools.product((0, 2**32 - 1), (0, 1, 1000), range(4)):
        torch.manual_seed(step_seed(seed, step, rank))
        drawn.add(torch.rand(()).item())
    assert len(drawn) == 2 * 3 * 4


# One result


def test_two_processes_take_the_steps_of_one(
    whole: tuple[Plain, History, Watcher], arrays: Arrays, tmp_path: Path
) -> None:
    """Where a loss is a mean over observations and nothing is left to chance, up to the order of sums."""
    one, (two, both, watcher) = Plain(), whole
    alone = run(one, arrays, tmp_path, ONE)
    for name, tensor in two.state_dict().items():
        torch.testing.assert_close(tensor, one.state_dict()[name], atol=1e-5, rtol=1e-4)
    for ours, theirs in ((both.train, alone.train), (both.validation, alone.validation)):
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        np.testing.assert_allclose([r["loss"] for r in ours], [r["loss"] for r in theirs], rtol=1e-3)
    assert [step for step, values in watcher.rows if "validation/loss" in values] == [10, 20, 30, 40]
    assert watcher.samples_at == [20, 40], "by one process"
    # A rank's own numbers, averaged: those of rank 0 are the numbers of one process.
    first, mixed = (np.array([row["chance"] for row in history.train]) for history in (alone, both))
    assert not np.isclose(first, mixed).any()
    assert 0.3 < np.mean(2 * mixed - first) < 0.7
    assert not two.training
    assert not distributed.is_initialized()
    assert not workers()


def test_a_training_in_two_processes_that_was_stopped_goes_on_to_the_same_bytes(
    whole: tuple[Plain, History, Watcher], arrays: Arrays, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    resumed, watcher = Plain(), Watcher()
    with pytest.raises(KeyboardInterrupt):
        run(Plain(), arrays, tmp_path, TWO, watcher=Watcher(interrupt=25))
    assert not workers()
    again = run(resumed, arrays, tmp_path, TWO, watcher=watcher)
    assert min(step for step, _ in watcher.rows) == 21
    assert (again.train, again.validation) == (whole[1].train, whole[1].validation)
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole[0].state_dict()[name])
    out, err = capfd.readouterr()
    assert out.count("going on from step 20 of 40") == 1
    assert not err


@pytest.mark.parametrize("family", ["gan", "flow_matching"])
def test_a_family_ends_with_the_same_weights_on_all_ranks(
    family: str, small_config: Callable[..., Config], small_model: Callable[..., Any],
    make_domain: Callable[..., Domain], tmp_path: Path,
) -> None:  # fmt: skip
    """Muon, averaged weights, bfloat16 and both players of a GAN; that ranks agree is checked by the training."""
    config, domain = small_config(family), make_domain(1, 6, 6, levels=8)
    grid = np.random.default_rng(0).integers(0, 8, (60, 1, 6, 6), dtype=np.uint8)
    assert config.optimizer is not None
    model = small_model(family, domain)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    history = train(
        model, (grid,), (grid[:20],), optimizer=config.optimizer, steps=12, batch_size=BATCH,
        trainer=TWO.model_copy(update={"precision": "bf16-mixed"}), seed=0, scratch=tmp_path, observer=Silent(),
        preview=lambda: model.sample(3, **config.preview).numpy(),
    )  # fmt: skip
    assert history.train[-1]["step"] == 12
    assert len(history.previews) == 2
    assert all(math.isfinite(row["loss"]) for row in history.train + history.validation)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert any(not torch.equal(tensor, start[name]) for name, tensor in model.state_dict().items())


# What ends it


@pytest.mark.parametrize(
    ("trouble", "error", "message"),
    [
        ("nan", UserError, r"^the loss is nan at step 19: .*optimizer\.lr"),
        ("killed", UserError, r"^process 1 of 2 .* was killed by SIGKILL: .*trainer\.devices"),
        ("buffer", RuntimeError, "^rank 1 ended with the weights .*, rank 0 with"),
    ],
)
def test_a_rank_that_fails_ends_all_with_its_own_reason(
    trouble: str, error: type[Exception], message: str, arrays: Arrays, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        run(Plain(trouble), arrays, tmp_path, TWO)
    assert not workers()
    assert not distributed.is_initialized()


class Normed(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.layers.insert(1, nn.BatchNorm1d(8))


@pytest.mark.parametrize(
    ("model", "trainer", "message"),
    [
        (Plain(), {"devices": 3}, "trainer.devices=3: a batch of 8 .* data.batch_size"),
        (Plain(), {"validation_points": 1}, "trainer.devices=2: there are 1 points to validate on"),
        (Normed(), {}, r"trainer.devices=2: layers\.1 of Normed normalizes over a batch.*trainer.devices=1"),
        (Plain(), {"accelerator": "gpu"}, "trainer.accelerator=gpu: torch sees no GPU here"),
    ],
    ids=["batch", "validation", "normed", "gpu"],
)
def test_what_cannot_be_divided_is_refused_before_anything_starts(
    model: nn.Module, trainer: dict[str, Any], message: str, arrays: Arrays, tmp_path: Path
) -> None:
    if "gpu" in trainer.values() and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=message):
        run(model, arrays, tmp_path, TWO.model_copy(update=trainer))
    assert not list(tmp_path.iterdir())


# The stage

TRAINING = ("data=heights", "model=vae", "budget=smoke", "trainer.threads=1")


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> Path:
    """A folder whose `artifacts/` holds the prepared heights alone."""
    folder = tmp_path_factory.mktemp("prepared")
    assert call_stage("prepare", "data=heights", *places(folder)).returncode == 0
    return folder


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, prepared: Path, checkout: Path, run_stage: Callable[..., Any],
    call_stage: Callable[..., Any], environment: Callable[[Path], dict[str, str]],
    places: Callable[[Path], list[str]],
) -> dict[str, Path]:  # fmt: skip
    """Folders of the same training in one and in two processes, the latter recorded."""
    found = {trainer: tmp_path_factory.mktemp(trainer) for trainer in ("cpu", "ddp")}
    for folder in found.values():
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
    one = call_stage("train", *TRAINING, "trainer=cpu", "tracking=none", *places(found["cpu"]))
    tracked = environment(checkout) | {"MLFLOW_TRACKING_URI": f"sqlite:///{found['ddp']}/mlflow.db"}
    two = run_stage("train", *TRAINING, "trainer=ddp", "tracking=mlflow", *places(found["ddp"]), env=tracked)
    assert [(done.returncode, done.stderr) for done in (one, two)] == [(0, "")] * 2
    return found


def table(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_the_stage_in_two_processes_leaves_what_it_leaves_in_one(
    both: dict[str, Path], small_model: Callable[..., Any], contents: Contents
) -> None:
    one, two = (both[name] / "artifacts" / "heights" / "vae" for name in ("cpu", "ddp"))
    assert os.listdir(two) == ["train"]
    assert contents(two).keys() == contents(one).keys()
    records = [json.loads((cell / "train" / "model.json").read_text()) for cell in (one, two)]
    assert [record["steps"] for record in records] == [records[0]["steps"]] * 2
    assert records[0]["flops"] == records[1]["flops"]
    assert records[0]["fingerprint"] != records[1]["fingerprint"]
    for split in ("train", "validation"):
        ours, theirs = (table(cell / "train" / f"loss_{split}.csv") for cell in (two, one))
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        assert ours[-1]["loss"] == pytest.approx(theirs[-1]["loss"], rel=0.05)
        assert ours[-1]["loss"] < ours[0]["loss"]
    assert not list((both["ddp"] / "scratch").glob("*"))


def test_a_training_in_two_processes_is_one_run(both: dict[str, Path]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{both['ddp']}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    assert run.info.status == "FINISHED"
    points = client.get_metric_history(run.info.run_id, "train/loss")
    rows = table(both["ddp"] / "artifacts" / "heights" / "vae" / "train" / "loss_train.csv")
    assert [point.step for point in points] == [row["step"] for row in rows]
    np.testing.assert_allclose([point.value for point in points], [row["loss"] for row in rows], rtol=1e-4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stage_in_two_processes_that_is_stopped_leaves_nothing_running(
    number: signal.Signals, tmp_path: Path, prepared: Path, checkout: Path, contents: Contents,
    environment: Callable[[Path], dict[str, str]], places: Callable[[Path], list[str]],
) -> None:  # fmt: skip
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path / "artifacts")
    slow = ("budget.scale=10", "trainer.checks=10000", "trainer.previews=0", "tracking=none", "trainer=ddp")
    process = subprocess.Popen(
        ["python", str(checkout / "pipelines" / "train.py"), *TRAINING, *slow, *places(tmp_path)],
        cwd=checkout, env=environment(checkout), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("scratch/*/last.ckpt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    others = psutil.Process(process.pid).children(recursive=True)
    assert others
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)  # as a terminal or a scheduler does: to all of them
    out, err = process.communicate(timeout=120)
    if number != signal.SIGKILL:
        assert (process.returncode, err) == (130, "interrupted\n"), out + err
        assert contents(tmp_path / "artifacts") == before
    _, alive = psutil.wait_procs(others, timeout=30)
    assert not alive


# Other settings


def test_every_trainer_goes_with_every_data_set() -> None:
    for trainer in ("cpu", "ddp", "gpu"):
        config = compose([f"trainer={trainer}"])
        assert config.data.batch_size % config.trainer.devices == 0
    assert compose(["trainer=ddp"]).trainer.devices == 2
    gpu = compose(["trainer=gpu"]).trainer
    assert (gpu.precision, gpu.compile, gpu.accelerator) == ("bf16-mixed", True, "gpu")


class Repeatable(TorchDispatchMode):
    """Refuses what a GPU does not repeat to the last digit, of what a loss might use (see
    `torch.use_deterministic_algorithms`)."""

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


@pytest.mark.parametrize("shape", [(1, 8, 8), (2,)], ids=["image", "vector"])
@pytest.mark.parametrize("family", sorted(set(choices("model")) - {"copycat", "uniform", "independent", "mixture"}))
def test_a_family_s_loss_keeps_to_the_device_of_its_weights(
    family: str, shape: tuple[int, ...], small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    """On torch's device without numbers, which as a GPU does refuses to mix with the CPU's."""
    domain = make_domain(*shape, levels=16)
    model = small_model(family, domain).to("meta")
    # `flow` leaves its splines to zuko, which adds up floats.
    with contextlib.nullcontext() if family == "flow" else Repeatable():
        loss = model.losses(torch.zeros(8, *shape, dtype=torch.uint8, device="meta"))["loss"]
        loss.backward()
    assert loss.device.type == "meta"
    with pytest.raises(RuntimeError, match="device"):
        model.losses(torch.zeros(8, *shape, dtype=torch.uint8))


@pytest.mark.slow
def test_compiled_training_takes_the_same_steps(arrays: Arrays, tmp_path: Path) -> None:
    if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
        pytest.skip("no compiler here")
    from torch._dynamo.utils import counters

    plain, compiled = Plain(), Plain()
    run(plain, arrays, tmp_path / "plain", ONE)
    counters.clear()
    history = run(compiled, arrays, tmp_path / "compiled", ONE.model_copy(update={"compile": True}))
    assert counters["stats"]["unique_graphs"] > 0
    assert history.train[-1]["step"] == STEPS
    for name, tensor in compiled.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], atol=1e-5, rtol=1e-4)
