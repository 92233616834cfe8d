"""Tests of stages: complete outputs or none, cost, exit codes, and resumed training with the same bytes."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lookalike.workspace.configuration import ROOT, choices, compose
from lookalike.workspace.cost import Cost
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import write_json
from lookalike.workspace.outputs import check_replaceable, writing
from lookalike.workspace.places import Cell

pytest_plugins = ["pipeline_fixtures"]

Contents = Callable[[Path], dict[str, str]]


# writing


def test_a_new_folder_appears_when_the_block_is_done_and_not_before(tmp_path: Path) -> None:
    folder = tmp_path / "heights" / "vae" / "0" / "train"
    with writing(folder) as draft:
        (draft / "weights").write_text("new")
        assert not folder.exists()
    assert (folder / "weights").read_text() == "new"
    assert os.listdir(folder.parent) == ["train"]


def test_the_files_of_an_old_folder_are_replaced_and_a_user_s_own_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    (folder / "deeper").mkdir(parents=True)
    for name in ("train.npy", "train_labels.npy", "notes.txt", "deeper/mine.png"):
        (folder / name).write_text("old")
    with writing(folder) as draft:
        (draft / "train.npy").write_text("new")
        assert (folder / "train_labels.npy").read_text() == "old"
    assert sorted(os.listdir(folder)) == ["deeper", "notes.txt", "train.npy"], "these data have no labels any more"
    assert (folder / "train.npy").read_text() == "new"
    assert (folder / "deeper" / "mine.png").read_text() == "old"
    assert os.listdir(tmp_path) == ["prepared"]


def test_a_user_s_file_survives_a_process_that_is_killed_between_two_renamings(tmp_path: Path) -> None:
    for name in (".train-old/notes.txt", ".train-old/weights", "train/weights"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    with writing(tmp_path / "train") as draft:
        (draft / "weights").write_text("new")
    assert sorted(os.listdir(tmp_path / "train")) == ["notes.txt", "weights"]
    assert os.listdir(tmp_path) == ["train"]


@pytest.mark.parametrize("failure", [UserError("no"), KeyboardInterrupt(), SystemExit(1), MemoryError()])
def test_a_failure_leaves_the_old_folder_as_it_was_and_no_draft(
    tmp_path: Path, failure: BaseException, contents: Contents
) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "weights").write_text("old")
    before = contents(tmp_path)

    def fail() -> None:
        with writing(folder) as draft:
            (draft / "weights").write_text("new")
            raise failure

    with pytest.raises(type(failure)):
        fail()
    assert contents(tmp_path) == before


def test_a_failure_to_put_the_new_folder_in_place_leaves_the_old_one_there(tmp_path: Path, contents: Contents) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "weights").write_text("old")
    before = contents(tmp_path)
    with pytest.raises(OSError, match="No such file"), writing(folder) as draft:
        draft.rmdir()
    assert contents(tmp_path) == before


def test_a_place_that_cannot_be_written_to_is_refused_before_the_block_runs(tmp_path: Path) -> None:
    (tmp_path / "heights").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"cannot write to .*heights/train"), writing(tmp_path / "heights" / "train"):
        pytest.fail("the block ran")


def test_two_do_not_write_to_one_place_at_once(tmp_path: Path, contents: Contents) -> None:
    with writing(tmp_path / "a") as folder:
        (folder / "x").write_text("first")
        with pytest.raises(UserError, match="another process"), writing(tmp_path / "a"):
            pytest.fail("a draft of two")
        (folder / "y").write_text("first")
    assert set(contents(tmp_path)) == {"a/x", "a/y"}


@pytest.mark.parametrize("place", ["", ".", ".."])
def test_the_checkout_is_not_replaceable(place: str) -> None:
    with pytest.raises(UserError, match="holds this checkout"):
        check_replaceable(ROOT / place)


def test_what_is_no_folder_is_not_replaced_by_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UserError, match="not a folder"), writing(tmp_path / "a"):
        pytest.fail("the block ran")
    assert (tmp_path / "a").read_text() == "mine"


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    with writing(tmp_path / "train"):
        pass
    assert (tmp_path / "train").stat().st_mode & 0o777 == 0o755


# Cost


def test_cost_adds_up_blocks_of_work_and_tells_them_from_the_rest_of_the_process(tmp_path: Path) -> None:
    cost = Cost()
    for _ in range(2):
        with cost.work():
            time.sleep(0.05)
    time.sleep(0.05)
    cost.save(tmp_path, images_per_second=1 / 3)
    record = json.loads((tmp_path / "cost.json").read_text())
    assert record["images_per_second"] == 0.333
    assert 0.1 <= record["work_seconds"] < record["process_seconds"] - record["startup_seconds"]
    assert record["startup_seconds"] > 0
    assert 10 < record["peak_memory_mb"] < 100_000


def test_the_making_of_items_is_timed_and_not_what_is_done_with_them() -> None:
    cost = Cost()

    def made() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.02)
            yield i

    got = []
    for item in cost.each(made()):
        time.sleep(0.2)
        got.append(item)
    assert got == [0, 1, 2]
    assert 0.06 <= cost.record["work_seconds"] < 0.5


def test_work_that_fails_is_timed_too() -> None:
    cost = Cost()
    with pytest.raises(UserError), cost.work():
        raise UserError("no")
    assert cost.record["work_seconds"] >= 0


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_holds_finite_numbers_only(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"value": number})


def test_a_cell_s_places_do_not_overlap() -> None:
    cell = Cell(compose(["data=heights", "model=vae"]))
    places = [cell.prepared, cell.features, cell.real, cell.train, cell.sample, cell.evaluate]
    assert len(set(places)) == len(places)
    assert not any(one in other.parents for one in places for other in places)
    assert cell.train.parts[-3:] == ("vae", "0", "train")


# The command line


def test_a_stage_that_did_its_work_leaves_with_0_and_says_what_it_found(
    run_stage: Callable[..., Any], places: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    done = run_stage("prepare", "data=heights", *places(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "654 observations" in done.stdout
    assert sorted(os.listdir(tmp_path / "artifacts" / "heights")) == ["prepared", "summary"]


def test_the_stages_of_a_cell_say_what_they_made_and_where(
    heights_cell: Path, call_stage: Callable[..., Any], places: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    shutil.copytree(heights_cell, tmp_path, dirs_exist_ok=True)
    data = tmp_path / "artifacts" / "heights"
    cell = data / "vae" / "0"
    said = {}
    for stage in ("features", "real", "train", "sample", "evaluate"):
        done = call_stage(stage, "data=heights", "model=vae", "budget=smoke", "tracking=none", *places(tmp_path))
        assert done.returncode == 0, done.stderr
        said[stage] = done.stdout.splitlines()[-1]
    steps = json.loads((cell / "train" / "model.json").read_text())["steps"]
    bits = json.loads((cell / "evaluate" / "metrics.json").read_text())["bits_per_dim"]
    assert re.fullmatch(
        rf"heights: observations are compared in their values, made in [\d.]+ s, written to {data}/features/extractor",
        said["features"],
    )
    assert said["real"] == f"heights: 200 real observations scored, in {data}/real/metrics.json"
    assert re.fullmatch(rf"heights-vae: {steps:,} steps in [\d.]+ s, written to {cell}/train", said["train"])
    assert re.fullmatch(
        rf"heights-vae: [\d,]+ samples in [\d.]+ s, picture in {cell}/sample/samples.png", said["sample"]
    )
    assert said["evaluate"].startswith(f"heights-vae: at most {bits['value']:.4g} ± {bits['standard_error']:.2g} bits")
    assert said["evaluate"].endswith(f"all scores in {cell}/evaluate/metrics.json")


def test_a_stage_that_was_told_nonsense_leaves_with_1_and_one_line(
    run_stage: Callable[..., Any], places: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    done = run_stage("prepare", "data=cifar", *places(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: unknown data 'cifar': choose one of {', '.join(choices('data'))}\n"


def test_a_reader_that_has_seen_enough_is_no_error(
    checkout: Path, environment: Callable[[Path], dict[str, str]]
) -> None:
    command = ["python", str(checkout / "pipelines" / "prepare.py"), "--help"]
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as nobody:
        done = subprocess.run(
            command, env=environment(checkout), stdout=nobody, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_stage_runs_the_code_of_its_own_checkout(
    checkout: Path, environment: Callable[[Path], dict[str, str]], run_stage: Callable[..., Any], tmp_path: Path
) -> None:
    other = tmp_path / "src"
    shutil.copytree(checkout / "src", other)
    (other / "lookalike" / "workspace" / "outputs.py").write_text("raise RuntimeError('code of another checkout')\n")
    before = environment(checkout)
    env = before | {"PYTHONPATH": os.pathsep.join([str(other), before["PYTHONPATH"]])}
    done = run_stage("prepare", "data=heights", "seed=7", "--cfg", env=env)
    assert done.returncode == 0, done.stderr
    assert "seed: 7" in done.stdout


def test_a_script_runs_its_own_code_even_if_python_ignores_the_environment(checkout: Path) -> None:
    command = [sys.executable, "-E", "-c", "import own_checkout, lookalike; print(lookalike.__file__)"]
    done = subprocess.run(command, cwd=checkout / "pipelines", capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{checkout / 'src' / 'lookalike' / '__init__.py'}\n", done.stderr


@pytest.mark.parametrize(
    "command", [("report",), ("cells", "--help"), ("prepare", "seed=7", "--cfg"), ("sweep", "--help")]
)
def test_the_installed_command_runs_the_code_of_the_checkout_that_it_is_called_in(
    command: tuple[str, ...], checkout: Path, environment: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    other = tmp_path / "src"
    shutil.copytree(checkout / "src", other)
    (other / "lookalike" / "workspace" / "errors.py").write_text("raise RuntimeError('code of another checkout')\n")
    deep = checkout / "conf" / "data"
    done = subprocess.run(
        [sys.executable, "-m", "lookalike", *command], cwd=deep, env=environment(checkout) | {"PYTHONPATH": str(other)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "code of another checkout" not in done.stderr
    assert (done.returncode, done.stderr) == (0, "") or (command == ("report",) and str(checkout) in done.stderr)


def test_a_python_that_ignores_the_checkout_is_refused(
    checkout: Path, environment: Callable[[Path], dict[str, str]]
) -> None:
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from lookalike.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-E", "-c", start, str(ROOT / "src"), "prepare", "data=heights"], cwd=checkout,
        env=environment(checkout), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"error: the installed package is that of another checkout: run `pip install -e .` in {checkout}\n"
    )


# Stopped and started again. A training of about a thousand steps, with twenty checkpoints and five previews.

TRAINING = ("data=heights", "model=vae", "tracking=none", "budget=smoke", "budget.scale=0.2", "trainer.threads=1")


def start(checkout: Path, environment: dict[str, str], stage: str, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["python", str(checkout / "pipelines" / f"{stage}.py"), *overrides],
        cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[str], *, versions: int = 1) -> None:
    """Until a path that fits the pattern stands below the folder and was seen in so many versions."""
    deadline = time.monotonic() + 300
    seen: set[int] = set()
    while len(seen) < versions:
        with contextlib.suppress(FileNotFoundError):
            seen |= {path.stat().st_mtime_ns for path in folder.glob(pattern)}
        assert process.poll() is None, f"it ended before it could be stopped: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def prepared(heights_cell: Path) -> Path:
    return heights_cell / "artifacts" / "heights" / "prepared"


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, prepared: Path, run_stage: Callable[..., Any],
    places: Callable[[Path], list[str]],
) -> Path:  # fmt: skip
    """The trained model of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared, folder / "artifacts" / "heights" / "prepared")
    done = run_stage("train", *TRAINING, *places(folder))
    assert done.returncode == 0, done.stderr
    assert not list((folder / "scratch").glob("*"))
    return folder / "artifacts" / "heights" / "vae" / "0" / "train"


@dataclasses.dataclass(frozen=True)
class Stopped:
    """A training that was stopped halfway and started again, in a place that held an earlier result."""

    signal: signal.Signals
    status: int
    error: str
    seconds: float
    """Between the signal and the end."""
    earlier: dict[str, str]
    then: dict[str, str]
    """What was in the cell's folder before the training, and when it had been stopped."""
    resumed: Any
    cell: Path
    scratch: Path


@pytest.fixture(scope="module", params=["SIGINT", "SIGTERM", "SIGKILL"])
def stopped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, prepared: Path, checkout: Path,
    contents: Contents, environment: Callable[[Path], dict[str, str]], call_stage: Callable[..., Any],
    places: Callable[[Path], list[str]],
) -> Stopped:  # fmt: skip
    folder = tmp_path_factory.mktemp(request.param)
    cell = folder / "artifacts" / "heights" / "vae" / "0"
    shutil.copytree(prepared, folder / "artifacts" / "heights" / "prepared")
    (cell / "train").mkdir(parents=True)
    (cell / "train" / "model.json").write_text("of an earlier run")
    earlier = contents(cell)
    process = start(checkout, environment(checkout), "train", *TRAINING, *places(folder))
    # Two previews have been drawn by then.
    wait_for("scratch/*/last.ckpt", folder, process, versions=9)
    process.send_signal(signal.Signals[request.param])
    since = time.monotonic()
    _, error = process.communicate(timeout=120)
    seconds, then = time.monotonic() - since, contents(cell)
    resumed = call_stage("train", *TRAINING, *places(folder))
    return Stopped(
        signal.Signals[request.param], process.returncode, error, seconds, earlier, then, resumed, cell,
        folder / "scratch",
    )  # fmt: skip


def test_a_training_that_is_stopped_ends_at_once_and_leaves_the_earlier_result(stopped: Stopped) -> None:
    if stopped.signal == signal.SIGKILL:
        assert stopped.status == -signal.SIGKILL
        assert stopped.then.items() >= stopped.earlier.items()
    else:
        assert (stopped.status, stopped.error.strip()) == (130, "interrupted")
        assert stopped.seconds < 60, "seconds, but on a machine that has other things to do"
        assert stopped.then == stopped.earlier


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    stopped: Stopped, undisturbed: Path, contents: Contents
) -> None:
    assert stopped.resumed.returncode == 0, stopped.resumed.stderr
    assert "continuing from step" in stopped.resumed.stdout
    again, once = contents(stopped.cell / "train"), contents(undisturbed)
    assert again.keys() == once.keys()
    for name in ("weights.safetensors", "model.json", "loss_train.csv"):
        assert again[name] == once[name], name
    assert not list(stopped.scratch.glob("*"))


@pytest.mark.parametrize("file", ["loss_validation.csv", "previews.npz"])
def test_a_training_that_was_stopped_keeps_what_it_had_recorded(file: str, stopped: Stopped, undisturbed: Path) -> None:
    assert (stopped.cell / "train" / file).read_bytes() == (undisturbed / file).read_bytes()


def test_what_a_stopped_training_left_lying_is_gone_when_it_has_ended(stopped: Stopped) -> None:
    assert os.listdir(stopped.cell) == ["train"]


def test_a_checkpoint_that_is_damaged_does_not_end_in_a_traceback(
    tmp_path: Path, heights_cell: Path, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    shutil.copytree(heights_cell, tmp_path, dirs_exist_ok=True)
    record = json.loads((tmp_path / "artifacts" / "heights" / "vae" / "0" / "train" / "model.json").read_text())
    checkpoint = tmp_path / "scratch" / record["fingerprint"] / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"PK\x03\x04 cut off")
    done = call_stage("train", "data=heights", "model=vae", "budget=smoke", "tracking=none", *places(tmp_path))
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or str(checkpoint) in done.stderr


def test_the_precision_that_the_gpu_trainer_asks_for_trains(
    tmp_path: Path, prepared: Path, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    precision = compose(["trainer=gpu"]).trainer.precision
    shutil.copytree(prepared, tmp_path / "artifacts" / "heights" / "prepared")
    quick = ["data=heights", "model=vae", "budget=smoke", "tracking=none", *places(tmp_path)]
    done = call_stage("train", *quick, f"trainer.precision={precision}")
    assert done.returncode == 0, done.stderr


# Every other stage that takes its time, with work that lasts long enough to be stopped.
LONG = {
    "prepare": ("data=mnist", "artifacts/mnist/.prepared-*"),
    "sample": ("data=heights model=vae budget.samples=30000000", "artifacts/heights/vae/0/.sample-*"),
    "evaluate": (
        "data=heights model=vae likelihood.importance_samples=200000",
        "artifacts/heights/vae/0/.evaluate-*",
    ),
}


@pytest.mark.parametrize("stage", LONG)
def test_control_c_ends_every_stage_with_130_and_leaves_what_was_there(
    stage: str, tmp_path: Path, heights_cell: Path, checkout: Path, contents: Contents,
    environment: Callable[[Path], dict[str, str]], places: Callable[[Path], list[str]],
) -> None:  # fmt: skip
    shutil.copytree(heights_cell, tmp_path, dirs_exist_ok=True)
    (tmp_path / "artifacts" / "mnist").mkdir()
    before = contents(tmp_path / "artifacts")
    overrides, draft = LONG[stage]
    process = start(checkout, environment(checkout), stage, "tracking=none", *overrides.split(), *places(tmp_path))
    wait_for(draft, tmp_path, process)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    stopped = time.monotonic()
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err.strip()) == (130, "interrupted"), out + err
    assert time.monotonic() - stopped < 60
    assert contents(tmp_path / "artifacts") == before


INTERRUPTED_AT = [0.0, 0.2, 0.5, 0.9, 1.4, 1.9, 2.4]
"""Seconds after the stage's own first lines; an interrupt that comes before them is for Python to answer."""
IMPORTED = ["pydantic_core", "multiarray_umath", "libtorch_cpu"]
"""Libraries in the order that a stage loads them in: moments that come however slow the machine is."""
FIRST_IMPORTED = "_psutil_linux"
"""The library that it loads first."""


def wait_until_loaded(library: str, process: subprocess.Popen[str]) -> None:
    maps = Path(f"/proc/{process.pid}/maps")
    if not maps.is_file():
        process.kill()
        process.communicate()
        pytest.skip("no /proc here")
    deadline = time.monotonic() + 120
    while library not in maps.read_text(encoding="utf-8"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("moment", [*INTERRUPTED_AT, *IMPORTED])
def test_control_c_while_a_stage_starts_leaves_with_130_and_one_line(
    moment: float | str, tmp_path: Path, heights_cell: Path, checkout: Path,
    environment: Callable[[Path], dict[str, str]], places: Callable[[Path], list[str]],
) -> None:  # fmt: skip
    shutil.copytree(heights_cell, tmp_path, dirs_exist_ok=True)
    slow = ("data=heights", "model=vae", "tracking=none", "likelihood.importance_samples=200000")
    process = start(checkout, environment(checkout), "evaluate", *slow, *places(tmp_path))
    wait_until_loaded(moment if isinstance(moment, str) else FIRST_IMPORTED, process)
    if isinstance(moment, float):
        time.sleep(moment)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "interrupted\n"), out + err


# Memory


def test_fifty_times_as_many_samples_take_little_more_memory(
    tmp_path: Path, few_digits: Path, run_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    shutil.copytree(few_digits, tmp_path, dirs_exist_ok=True)
    quick = ["data=mnist", "model=uniform", "budget=smoke", "tracking=none", *places(tmp_path)]
    assert run_stage("train", *quick).returncode == 0
    peaks = {}
    for count in (3_000, 150_000):
        done = run_stage("sample", *quick, f"budget.samples={count}", fresh=True)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "artifacts" / "mnist" / "uniform" / "0" / "sample"
        peaks[count] = json.loads((folder / "cost.json").read_text())["peak_memory_mb"]
        with zipfile.ZipFile(folder / "samples.npz") as archive:
            assert archive.getinfo("samples.npy").file_size == 128 + count * 784
    assert peaks[150_000] < peaks[3_000] + 50, "the images alone are 118 MB"
