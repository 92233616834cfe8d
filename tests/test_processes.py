"""Stages in several processes: the results are those of one process, and a process that fails ends all of them."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from lookalike.domain.domain import Domain
from lookalike.evaluation.likelihoods import log_likelihoods
from lookalike.features.classifier import Classifier
from lookalike.features.extraction import extract
from lookalike.sampling.drawing import draw, stream
from lookalike.stages.evaluate import evaluate
from lookalike.stages.features import features
from lookalike.stages.prepare import prepare
from lookalike.stages.sample import sample
from lookalike.stages.train import train
from lookalike.tracking import views
from lookalike.workspace.configuration import compose
from lookalike.workspace.devices import place
from lookalike.workspace.errors import UserError
from lookalike.workspace.processes import cause, spread, started
from lookalike.workspace.threads import set_threads
from process_helpers import ONE, TWO, entering, fail, report, settings

pytest_plugins = ["pipeline_fixtures"]


def workers() -> list[psutil.Process]:
    """Return the processes that `spread` started and that still run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "spawn_main" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


# How work is shared.


def test_all_processes_get_all_results_in_order(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    spread(report, settings(folder=tmp_path), context=entering)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["squares"] == second["squares"]
    assert first["squares"] == [[[i % 2, i * i] for i in range(count)] for count in (5, 2, 1, 0)]
    assert first["agreed"] == second["agreed"] == "rank 0"
    assert first["size"] == second["size"] == 2
    assert (first["entered"], second["entered"]) == ([0], [])
    assert len({first["pid"], second["pid"], os.getpid()}) == 3
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not workers()


def test_one_process_shares_nothing(tmp_path: Path) -> None:
    spread(report, settings(folder=tmp_path, trainer=ONE))
    found = json.loads((tmp_path / "0.json").read_text())
    assert (found["pid"], found["size"], found["agreed"]) == (os.getpid(), 1, "rank 0")
    assert found["squares"][0] == [[0, i * i] for i in range(5)]


def test_work_that_cannot_be_divided_stays_in_this_process(tmp_path: Path) -> None:
    spread(report, settings(folder=tmp_path), alone=True)
    assert json.loads((tmp_path / "0.json").read_text())["pid"] == os.getpid()


def test_the_view_of_a_sweep_goes_to_the_process_that_reports() -> None:
    assert isinstance(views.carried()(), contextlib.nullcontext)
    with views.instead(views.View()):
        context = pickle.loads(pickle.dumps(views.carried()))
    with context():
        assert len(views.INSTEAD) == 1
    assert not views.INSTEAD


# What ends it.


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("mistake", UserError, "^sampled outside the grid$"),
        ("failure", ZeroDivisionError, "^no such number"),
        ("killed", UserError, r"process 1 of 2 .* was killed by SIGKILL: .*trainer\.devices"),
        ("interrupted", KeyboardInterrupt, "^$"),
    ],
)
def test_the_failure_of_one_process_ends_all_and_is_raised(
    how: str, error: type[BaseException], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error, match=message) as raised:
        spread(fail, settings(how=how))
    assert not workers()
    if how == "failure":
        assert "raised in process 1 of 2" in raised.value.__notes__[0]
    assert capfd.readouterr() == ("", "")


def test_a_process_that_ends_without_a_word_is_named() -> None:
    nothing = SimpleNamespace(empty=lambda: True)
    assert "process 1 of 2 (numbered from 0) ended with exit code 3" in str(cause(1, 3, nothing, TWO))


SLEEPER = """
import sys
from pathlib import Path
from process_helpers import settings, wait
from lookalike.workspace.processes import spread

if __name__ == "__main__":
    try:
        spread(wait, settings(folder=Path(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_processes_end_with_the_one_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    starter = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True
    )
    while len(list(tmp_path.glob("[01]"))) < 2:
        assert starter.poll() is None, starter.communicate()
    others = psutil.Process(starter.pid).children(recursive=True)
    starter.send_signal(number)
    _, errors = starter.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert (starter.returncode, errors) == (130, "")
    _, alive = psutil.wait_procs(others, timeout=60)
    assert not alive


# Who starts the processes.


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without variables of a launcher; what a test sets is removed afterwards."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
    for name in (*names, *(name for name in os.environ if name.startswith("SLURM_"))):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


SLURM = {
    "SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NODEID": "1", "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "node[07-08,11],other", "SLURM_STEP_NUM_TASKS": "4",
}  # fmt: skip


def test_tasks_of_srun_are_the_processes(unset: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        unset.setenv(name, value)
    assert started(4)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
    assert [os.environ[name] for name in names] == ["2", "4", "0", "1", "node07", "18456"]


def test_slurm_does_not_matter_to_one_process_or_to_the_script_of_a_batch_job(unset: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        unset.setenv(name, value)
    assert not started(1)
    unset.delenv("SLURM_STEP_NUM_TASKS")
    assert not started(4)
    assert "RANK" not in os.environ


def test_torchrun_must_start_as_many_processes_as_the_trainer_says(unset: pytest.MonkeyPatch) -> None:
    assert not started(2)
    unset.setenv("TORCHELASTIC_RUN_ID", "none")
    unset.setenv("WORLD_SIZE", "2")
    assert started(2)
    with pytest.raises(UserError, match=r"torchrun started 2 processes, but trainer.devices × trainer.nodes is 1"):
        started(1)


def test_several_machines_need_somebody_who_starts_the_stage_on_them(unset: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"trainer.nodes=2: start the stage on every machine, with `torchrun --nnodes"):
        spread(report, settings(trainer=TWO.model_copy(update={"nodes": 2})))


# What is shared.


def compute(config: Any) -> None:
    """Draw samples, extract features and compute likelihoods; rank 0 writes them."""
    set_threads(config.trainer)
    torch.set_flush_denormal(True)  # The stages do this when they build a model.
    drawn = draw(config.gan, config.images, samples=50, batch_size=12, seed=0, settings={})
    codes = extract(config.classifier, config.pixels, record={"name": "", "digest": ""}, batch_size=10)
    nats = log_likelihoods(
        config.vae, config.table, np.arange(3, 48), settings=config.likelihood, batch_size=10, split="test"
    )
    if place().rank == 0:
        np.savez(config.folder / f"{place().size}.npz", drawn=drawn, codes=codes, nats=nats)


def test_results_have_the_same_bytes_with_any_number_of_processes(
    small_model: Callable[..., Any], small_config: Callable[..., Any], make_domain: Callable[..., Domain],
    tmp_path: Path,
) -> None:  # fmt: skip
    images, columns = make_domain(1, 6, 6, levels=8, labels=("a", "b")), make_domain(2, levels=50)
    torch.manual_seed(0)
    everything: dict[str, Any] = {
        "folder": tmp_path,
        "images": images,
        "gan": small_model("gan", images).eval(),
        "classifier": Classifier(domain=images, widths=[4, 4], features=5, shift=1, dropout=0.1).eval(),
        "pixels": np.random.default_rng(0).integers(0, 8, (45, 1, 6, 6), dtype=np.uint8),
        "vae": small_model("vae", columns).eval(),
        "table": np.random.default_rng(0).integers(0, 50, (60, 2)),
        "likelihood": small_config("vae").likelihood,
    }
    for trainer in (ONE, TWO):
        spread(compute, settings(trainer=trainer, **everything))
    one, two = (np.load(tmp_path / f"{size}.npz") for size in (1, 2))
    shapes = {name: one[name].shape for name in one}
    assert shapes == {"drawn": (50, 1, 6, 6), "codes": (45, 5), "nats": (45,)}
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name
    assert len({batch.tobytes() for batch in np.split(one["drawn"][:48], 4)}) == 4


def test_more_samples_begin_with_the_fewer(small_model: Callable[..., Any], make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(2, levels=50)
    model = small_model("gan", domain).eval()
    few, many = (draw(model, domain, samples=n, batch_size=10, seed=3, settings={}) for n in (20, 40))
    assert many[:20].tobytes() == few.tobytes()


def test_streams_of_random_numbers_differ_in_the_bits_that_torch_reads() -> None:
    seeds = {stream(seed, number) for seed in (0, 1, 2**32 - 1) for number in range(1000)}
    assert len(seeds) == 3000
    assert max(seeds) < 2**32


# The stages.


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, raw_data: Path) -> list[str]:
    """Overrides of a trained cell of heights, in one process."""
    folder = tmp_path_factory.mktemp("cell")
    overrides = [
        "data=heights", "model=vae", "budget=smoke", "tracking=none", "trainer.batch_size=50", f"paths.data={raw_data}",
        f"paths.artifacts={folder / 'artifacts'}", f"paths.scratch={folder / 'scratch'}",
    ]  # fmt: skip
    for stage in (prepare, features, train):
        stage(compose(overrides))
    return overrides


@pytest.mark.parametrize("stage", [sample, evaluate])
def test_a_stage_writes_the_same_bytes_in_one_and_in_two_processes(
    stage: Callable[..., None], cell: list[str], contents: Callable[[Path], dict[str, str]],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = compose(cell)
    if stage is evaluate:
        sample(config)
    folder, found = config.cell / stage.__name__, []
    for devices in (1, 2):
        capfd.readouterr()
        stage(compose([*cell, f"trainer.devices={devices}"]))
        found.append({name: digest for name, digest in contents(folder).items() if name != "cost.json"})
        out, err = capfd.readouterr()
        assert (out.count("\n"), err) == (1, "")
    assert found[0] == found[1]
    assert len(found[0]) >= 2
    assert sorted(os.listdir(folder.parent)) == sorted({"train", "sample", stage.__name__})
