"""Training in several processes over gloo: the steps of one process, one result, and no process left behind."""

import copy
import csv
import itertools
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from lookalike.domain.domain import Domain
from lookalike.stages.prepare import prepare
from lookalike.stages.train import train as train_stage
from lookalike.training.batches import Arrays, Batches
from lookalike.training.distributed import check_divisible
from lookalike.training.history import Silent
from lookalike.training.learner import step_seed
from lookalike.training.loop import train
from lookalike.workspace.configuration import Config, Optimizer, Trainer, compose
from lookalike.workspace.devices import Place, place, take_place
from lookalike.workspace.errors import UserError
from lookalike.workspace.processes import spread
from process_helpers import ONE, TWO, settings

pytest_plugins = ["pipeline_fixtures"]

OPTIMIZER = Optimizer(lr=0.02, weight_decay=0.1, warmup=0.1, clip=0.5, ema_horizon=0.2, beta1=0.9, muon=0.0)
STEPS, BATCH = 40, 8


class Plain(nn.Module):
    """A regression without random numbers. With `trouble`, something happens in rank 1 at its 20th step."""

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
        if self.trouble and self.steps == 20 and place().rank == 1:
            if self.trouble == "nan":
                error = error * torch.nan
            elif self.trouble == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.trouble == "buffer":
                self.seen += 1
        return {"loss": error, "random": torch.rand(())}


class Watcher(Silent):
    """Keep the losses that are reported; interrupt at a step, as Ctrl-C would."""

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


def work(config: Any) -> None:
    """Train a model; rank 0 keeps the model, its history and what was reported."""
    is_first = place().rank == 0
    watcher, model = Watcher(config.interrupt), copy.deepcopy(config.model)  # The processes share its memory.
    history = train(
        model, config.arrays, (config.arrays[0][:30],), optimizer=config.optimizer, steps=config.steps,
        batch_size=BATCH, trainer=config.trainer, seed=0, scratch=config.folder / "scratch",
        observer=watcher if is_first else Silent(), preview=(lambda: np.zeros((2, 3))) if is_first else None,
    )  # fmt: skip
    if is_first:
        found = (model.state_dict(), history.train, history.validation, watcher.rows, watcher.samples_at)
        torch.save(found, config.folder / "found.pt")


def run(model: nn.Module, arrays: Arrays, folder: Path, trainer: Trainer, **changed: Any) -> SimpleNamespace:
    """Return the weights, the history and the reports of a training of 40 steps."""
    values = {"optimizer": OPTIMIZER, "steps": STEPS, "interrupt": None} | changed
    spread(work, settings(model=model, arrays=arrays, folder=folder, trainer=trainer, **values))
    names = ("weights", "train", "validation", "rows", "samples_at")
    return SimpleNamespace(**dict(zip(names, torch.load(folder / "found.pt", weights_only=True), strict=True)))


@pytest.fixture(scope="module")
def whole(arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A training in two processes that nothing disturbed."""
    return run(Plain(), arrays, tmp_path_factory.mktemp("whole"), TWO)


# What a rank sees.


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_parts_of_a_batch_make_up_the_batch_of_one_process(ranks: int) -> None:
    chosen: dict[str, Any] = {"batch_size": 8, "seed": 3, "first_step": 5, "steps": 30}
    rows = (np.arange(67),)
    whole = [batch for (batch,) in Batches(rows, **chosen)]
    parts = [[batch for (batch,) in Batches(rows, **chosen, rank=rank, ranks=ranks)] for rank in range(ranks)]
    assert all(len(part) == 8 // ranks for part in itertools.chain(*parts))
    assert all(torch.equal(batch, torch.cat(part)) for batch, *part in zip(whole, *parts, strict=True))


def test_ranks_draw_random_numbers_of_their_own() -> None:
    drawn = set()
    for seed, step, rank in itertools.product((0, 2**32 - 1), (0, 1, 1000), range(4)):
        torch.manual_seed(step_seed(seed, step, rank))
        drawn.add(torch.rand(()).item())
    assert len(drawn) == 2 * 3 * 4


# One result.


def test_two_processes_take_the_steps_of_one(whole: SimpleNamespace, arrays: Arrays, tmp_path: Path) -> None:
    """The steps agree up to the order of sums, if a loss is a mean over observations without random numbers."""
    alone = run(Plain(), arrays, tmp_path, ONE)
    for name, tensor in whole.weights.items():
        torch.testing.assert_close(tensor, alone.weights[name], atol=1e-5, rtol=1e-4)
    curves = ((whole.train, alone.train), (whole.validation, alone.validation))
    for ours, theirs in curves:
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        np.testing.assert_allclose([r["loss"] for r in ours], [r["loss"] for r in theirs], rtol=1e-3)
    assert [step for step, values in whole.rows if "validation/loss" in values] == [10, 20, 30, 40]
    assert whole.samples_at == [20, 40]
    # Rank 0 draws the numbers of one process, rank 1 others; the curve shows the mean.
    first, mixed = (np.array([row["random"] for row in found.train]) for found in (alone, whole))
    assert not np.isclose(first, mixed).any()
    assert 0.3 < np.mean(2 * mixed - first) < 0.7
    assert not distributed.is_initialized()


def test_a_training_in_two_processes_that_was_stopped_continues_to_the_same_bytes(
    whole: SimpleNamespace, arrays: Arrays, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Plain(), arrays, tmp_path, TWO, interrupt=25)
    resumed = run(Plain(), arrays, tmp_path, TWO)
    assert min(step for step, _ in resumed.rows) == 21
    assert (resumed.train, resumed.validation) == (whole.train, whole.validation)
    for name, tensor in resumed.weights.items():
        assert torch.equal(tensor, whole.weights[name])
    out, err = capfd.readouterr()
    assert (out, err) == ("continuing from step 20 of 40\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gan", "flow_matching"])
def test_a_family_ends_with_the_same_weights_on_all_ranks(
    family: str, small_config: Callable[..., Config], small_model: Callable[..., Any],
    make_domain: Callable[..., Domain], tmp_path: Path,
) -> None:  # fmt: skip
    """Muon, averaged weights, bfloat16 and both players of a GAN; the training itself compares the ranks."""
    optimizer, domain = small_config(family).optimizer, make_domain(1, 6, 6, levels=8)
    grid = np.random.default_rng(0).integers(0, 8, (60, 1, 6, 6), dtype=np.uint8)
    model = small_model(family, domain)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    half = TWO.model_copy(update={"precision": "bf16-mixed"})
    found = run(model, (grid,), tmp_path, half, optimizer=optimizer, steps=12)
    assert found.train[-1]["step"] == 12
    assert all(math.isfinite(row["loss"]) for row in found.train + found.validation)
    assert all(tensor.isfinite().all() for tensor in found.weights.values())
    assert any(not torch.equal(tensor, start[name]) for name, tensor in found.weights.items())


# What ends it.


@pytest.mark.parametrize(
    ("trouble", "error", "message"),
    [
        ("nan", UserError, r"^the loss is nan at step 19: .*optimizer\.lr"),
        ("killed", UserError, r"^process 1 of 2 .* was killed by SIGKILL: .*trainer\.devices"),
        ("buffer", RuntimeError, "^rank 1 ended with the weights .*, rank 0 with"),
    ],
)
def test_a_rank_that_fails_ends_all_with_its_own_reason(
    trouble: str, error: type[Exception], message: str, arrays: Arrays, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(error, match=message):
        run(Plain(trouble), arrays, tmp_path, TWO)
    assert capfd.readouterr() == ("", "")


class Normed(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.layers.insert(1, nn.BatchNorm1d(8))


@pytest.mark.parametrize(
    ("model", "trainer", "message"),
    [
        (Plain(), {"devices": 3}, "trainer.devices=3: a batch of 8 cannot be divided into 3 .* multiple of 3"),
        (Plain(), {"nodes": 3, "devices": 1}, "trainer.devices=1 trainer.nodes=3: a batch of 8 cannot be divided"),
        (Plain(), {"validation_points": 1}, "trainer.devices=2: there are 1 points to validate on"),
        (Normed(), {}, r"trainer.devices=2: layers\.1 of Normed normalizes over a batch.*trainer.devices=1"),
    ],
    ids=["batch", "nodes", "validation", "normed"],
)
def test_what_cannot_be_divided_is_refused(model: nn.Module, trainer: dict[str, Any], message: str) -> None:
    chosen = TWO.model_copy(update=trainer)
    take_place(Place(size=chosen.devices * chosen.nodes))
    try:
        with pytest.raises(UserError, match=message):
            check_divisible(model, chosen, batch_size=BATCH, validation=chosen.validation_points)
    finally:
        take_place(Place())


# The stage.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, raw_data: Path) -> Path:
    """A folder whose `artifacts/` holds the prepared heights alone."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(compose(["data=heights", f"paths.data={raw_data}", f"paths.artifacts={folder / 'artifacts'}"]))
    return folder


def overrides(prepared: Path, folder: Path, *more: str) -> list[str]:
    """Copy the prepared heights into a folder and return the overrides of a training there."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    places = [f"paths.{kind}={folder / kind}" for kind in ("artifacts", "scratch")]
    return ["data=heights", "model=vae", "budget=smoke", "trainer.threads=1", "tracking=none", *places, *more]


def weights(folder: Path) -> bytes:
    return (folder / "artifacts" / "heights" / "vae" / "0" / "train" / "weights.safetensors").read_bytes()


def table(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start `lookalike` with arguments, in a session of its own, as a terminal does."""
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> dict[str, Path]:
    """Folders of the same training in one and in two processes."""
    found = {trainer: tmp_path_factory.mktemp(trainer) for trainer in ("cpu", "ddp")}
    for trainer, folder in found.items():
        train_stage(compose(overrides(prepared, folder, f"trainer={trainer}", "trainer.threads=1")))
    return found


def test_the_stage_in_two_processes_writes_what_it_writes_in_one(
    both: dict[str, Path], contents: Callable[[Path], dict[str, str]]
) -> None:
    one, two = (both[name] / "artifacts" / "heights" / "vae" / "0" for name in ("cpu", "ddp"))
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


@pytest.mark.slow
def test_a_training_in_two_processes_is_one_run(prepared: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    chosen = overrides(prepared, tmp_path, "trainer=ddp", "tracking=mlflow")
    process = command("lookalike", "train", *chosen, MLFLOW_TRACKING_URI=uri)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err, out.count("\n")) == (0, "", 1)
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (found,) = client.search_runs(experiments)
    assert found.info.status == "FINISHED"
    points = client.get_metric_history(found.info.run_id, "train/loss")
    rows = table(tmp_path / "artifacts" / "heights" / "vae" / "0" / "train" / "loss_train.csv")
    assert [point.step for point in points] == [row["step"] for row in rows]
    np.testing.assert_allclose([point.value for point in points], [row["loss"] for row in rows], rtol=1e-4)


@pytest.mark.slow
def test_torchrun_on_two_machines_trains_what_two_processes_of_one_machine_do(
    both: dict[str, Path], prepared: Path, tmp_path: Path
) -> None:
    """Both machines are this one, and talk over its loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chosen = overrides(prepared, tmp_path, "trainer=ddp", "trainer.threads=1", "trainer.devices=1", "trainer.nodes=2")
    torchrun = ("torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", f"--master-port={port}")
    starters = [
        command(*torchrun, f"--node-rank={rank}", "--master-addr=127.0.0.1", "-m", "lookalike", "train", *chosen)
        for rank in range(2)
    ]
    outputs = [starter.communicate(timeout=300) for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0], outputs
    assert "heights-vae" in outputs[0][0]
    assert outputs[1][0] == ""
    assert weights(tmp_path) == weights(both["ddp"])


@pytest.mark.slow
def test_an_error_under_torchrun_is_said_once(prepared: Path, tmp_path: Path) -> None:
    chosen = overrides(prepared, tmp_path, "trainer=ddp", "data.batch_size=33")
    process = command(
        "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "lookalike", "train", *chosen
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err.count("error: trainer.devices=2: a batch of 33 cannot be divided") == 1


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGUSR1, signal.SIGKILL))],
)
def test_a_stage_in_two_processes_that_is_stopped_leaves_nothing_running(
    number: signal.Signals, tmp_path: Path, prepared: Path, contents: Callable[[Path], dict[str, str]]
) -> None:
    chosen = overrides(
        prepared, tmp_path, "trainer=ddp", "budget.scale=10", "trainer.checks=10000", "trainer.previews=0"
    )
    before = contents(tmp_path / "artifacts")
    process = command("lookalike", "train", *chosen)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("scratch/*/last.ckpt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    others = psutil.Process(process.pid).children(recursive=True)
    assert len(others) >= 2
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)  # A terminal or a scheduler signals all of them.
    out, err = process.communicate(timeout=120)
    if number != signal.SIGKILL:
        assert (process.returncode, err) == (130, "interrupted\n"), out + err
        assert contents(tmp_path / "artifacts") == before
    _, alive = psutil.wait_procs(others, timeout=60)
    assert not alive


def test_variables_of_slurm_do_not_change_a_training_in_one_process(
    both: dict[str, Path], prepared: Path, tmp_path: Path
) -> None:
    """Four tasks of a Slurm job may each train a model of their own, such as the trials of a sweep."""
    slurm = {
        "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NODEID": "0", "SLURM_JOB_ID": "17",
        "SLURM_JOB_NAME": "sweep", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NODELIST": "node7",
        "SLURM_STEP_NODELIST": "node7", "SLURM_NTASKS_PER_NODE": "4",
    }  # fmt: skip
    process = command("lookalike", "train", *overrides(prepared, tmp_path), **slurm)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err, out.count("\n")) == (0, "", 1)
    assert weights(tmp_path) == weights(both["cpu"])
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_scoring_and_sampling_import_no_lightning() -> None:
    modules = [f"lookalike.{name}" for name in (
        "evaluation.score", "features.extraction", "features.making", "sampling.drawing", "sampling.trained",
        "stages.evaluate", "stages.features", "stages.sample", "workspace.processes",
    )]  # fmt: skip
    code = f"import sys, {', '.join(modules)}; print([m for m in sys.modules if 'lightning' in m or 'mlflow' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Other settings.


def test_every_trainer_goes_with_every_data_set() -> None:
    for trainer in ("cpu", "ddp", "gpu"):
        config = compose([f"trainer={trainer}"])
        assert config.data.batch_size % config.trainer.devices == 0
    assert compose(["trainer=ddp"]).trainer.devices == 2
    gpu = compose(["trainer=gpu"]).trainer
    assert (gpu.precision, gpu.compile, gpu.accelerator) == ("bf16-mixed", True, "gpu")


@pytest.mark.slow
def test_compiled_training_takes_the_same_steps(arrays: Arrays, tmp_path: Path) -> None:
    if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
        pytest.skip("no compiler here")
    from torch._dynamo.utils import counters

    for name in ("plain", "compiled"):
        (tmp_path / name).mkdir()
    plain = run(Plain(), arrays, tmp_path / "plain", ONE)
    counters.clear()
    compiled = run(Plain(), arrays, tmp_path / "compiled", ONE.model_copy(update={"compile": True}))
    assert counters["stats"]["unique_graphs"] > 0
    assert compiled.train[-1]["step"] == STEPS
    for name, tensor in compiled.weights.items():
        torch.testing.assert_close(tensor, plain.weights[name], atol=1e-5, rtol=1e-4)
