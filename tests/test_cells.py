"""`lookalike cells`: stale cells are run by workers and recorded with DVC, and nothing is lost when something fails."""

import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import yaml
from rich.console import Console

from lookalike.cells.command import add_data, listed_seeds, parser, seeds_of
from lookalike.cells.job import Worker
from lookalike.cells.records import Done, Folder, Job, State
from lookalike.cells.watch import Watch, duration
from lookalike.workspace.cost import Cost, counted_from_now
from lookalike.workspace.errors import UserError
from lookalike.workspace.progress import progress, reported

pytest_plugins = ["pipeline_fixtures"]

PIPELINE = """
data: [heights]
models: [mixture, vae]
floors: [copycat]
seeds: [0]
budget: smoke
trainer: cpu
"""
JOBS = {"heights", "heights-mixture-0", "heights-vae-0", "heights-copycat-0"}
CELLS = JOBS - {"heights"}
PIPELINES_OWN = ("artifacts", "results", "dvc.lock")
HINTS = ("git add", "dvc push", "Waiting to acquire", "Updating lock file", "Running stage")

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def home(new_checkout: Callable[..., Path], run: Run) -> Path:
    """A checkout that lists three cells of heights and records nothing in MLflow."""
    checkout: Path = new_checkout(PIPELINE)
    config = checkout / "conf" / "config.yaml"
    config.write_text(config.read_text().replace("tracking: mlflow", "tracking: none"))
    assert run(checkout, "git", "commit", "-qam", "No tracking").returncode == 0
    return checkout


@pytest.fixture(scope="module")
def cells(home: Path, run: Run) -> Run:
    """`cells(*arguments, code=0)`: the command to its end, which has to be with that exit code; what it printed."""

    def start(*arguments: str, code: int = 0) -> str:
        done = run(home, sys.executable, "-m", "lookalike", "cells", *arguments, fresh=True, timeout=600)
        assert done.returncode == code, done.stdout + done.stderr
        assert not [hint for hint in HINTS if hint in done.stdout + done.stderr]
        assert "Traceback" not in done.stdout + done.stderr
        return str(done.stdout + done.stderr)

    return start


@pytest.fixture(scope="module")
def first(cells: Run) -> str:
    """What the first command printed, after which everything is up to date."""
    return str(cells("--jobs", "2"))


@contextlib.contextmanager
def started(home: Path, environment: Callable[[Path], dict[str, str]]) -> Iterator["subprocess.Popen[str]"]:
    """The command with two workers, while it runs."""
    command = [sys.executable, "-m", "lookalike", "cells", "--jobs", "2"]
    process = subprocess.Popen(
        command, cwd=home, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(home: Path, process: "subprocess.Popen[str]", condition: Callable[[State], bool]) -> State:
    """Wait until the state of a job of the running command fulfils a condition."""
    deadline = time.monotonic() + 120
    folder = Folder(home / ".lookalike" / "cells")
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        for state in folder.states():
            if state.round == folder.round and condition(state):
                return state
        time.sleep(0.02)
    raise AssertionError("no job came so far")


def stale(home: Path) -> set[str]:
    """Stages that DVC finds changed."""
    with contextlib.chdir(home), importlib.import_module("dvc.repo").Repo() as repo:
        return set(repo.status())


@contextlib.contextmanager
def another(home: Path, setting: str) -> Iterator[None]:
    """While the block runs, another model configuration, so that its cells are stale."""
    key, _, value = setting.partition("=")
    family, _, key = key.partition(".")
    path = home / "conf" / "model" / f"{family}.yaml"
    before = path.read_text()
    path.write_text(re.sub(rf"^( +){key}: \S+", rf"\g<1>{key}: {value}", before, count=1, flags=re.MULTILINE))
    assert path.read_text() != before
    try:
        yield
    finally:
        path.write_text(before)


def test_every_job_is_run_and_recorded(first: str, home: Path) -> None:
    for name in JOBS:
        assert re.search(rf"^{name}: .* \[\d of \d\]$", first, re.MULTILINE), first
    assert re.findall(r"\[(\d of \d)\]$", first, re.MULTILINE) == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    assert first.splitlines()[-1].startswith("4 jobs done in ")
    assert str(home) not in first
    assert stale(home) == {"compare"}
    lock = yaml.safe_load((home / "dvc.lock").read_text())["stages"]
    assert {"train@heights-vae-0", "evaluate_floor@heights-copycat-0", "real@heights"} <= lock.keys()


def test_what_is_up_to_date_is_not_run_again(first: str, cells: Run) -> None:
    assert cells().splitlines() == ["all cells are up to date"]


def test_the_cost_of_a_stage_counts_from_its_own_start(first: str, home: Path) -> None:
    log = (home / ".lookalike" / "cells" / "logs" / "heights-copycat-0.log").read_text()
    assert "evaluate_floor@heights-copycat-0" in log
    for stage in ("sample", "evaluate"):
        cost = json.loads((home / "artifacts" / "heights" / "copycat" / "0" / stage / "cost.json").read_text())
        assert cost["startup_seconds"] <= cost["process_seconds"] < 30


def test_a_result_that_dvc_has_in_its_cache_is_restored(first: str, home: Path, cells: Run) -> None:
    with another(home, "mixture.importance_samples=7"):
        assert "heights-mixture-0: " in cells()
    assert "evaluate@heights-mixture-0: restored from DVC's cache" in cells()
    assert stale(home) == {"compare"}


def test_a_failed_cell_ends_neither_the_others_nor_the_summary(first: str, home: Path, cells: Run) -> None:
    with another(home, "vae.components=0"), another(home, "mixture.importance_samples=8"):
        said = cells(code=1)
    assert "heights-vae-0: failed in train: model.components=0" in said
    assert "error: heights-vae-0: failed in train" in said
    assert said.splitlines()[-1] == "1 jobs done, 1 failed"
    assert ".lookalike/cells/logs/heights-vae-0.log" in said
    assert stale(home) >= {"evaluate@heights-mixture-0"}, "its recorded result is of another number of samples"


def test_a_killed_command_goes_on_with_what_was_finished(
    first: str, home: Path, cells: Run, environment: Callable[[Path], dict[str, str]]
) -> None:
    with another(home, "vae.components=3"):
        with started(home, environment) as process:
            state = wait_for(home, process, lambda state: state.name == "heights-vae-0" and bool(state.done))
            worker = psutil.Process(state.pid)
            process.kill()
            process.wait()
        assert state.done[0].name == "train@heights-vae-0"
        said = cells()
        assert re.search(r"^train@heights-vae-0.*: finished by an earlier command, recorded now$", said, re.MULTILINE)
        assert not worker.is_running() or worker.status() == "zombie"
        assert not {name for name in stale(home) if "vae" in name}


def test_an_interrupted_command_ends_with_130_and_goes_on(
    first: str, home: Path, cells: Run, environment: Callable[[Path], dict[str, str]]
) -> None:
    with another(home, "vae.components=7"):
        with started(home, environment) as process:
            wait_for(home, process, lambda state: state.name == "heights-vae-0" and state.stage == "train")
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert said.splitlines()[-1] == "interrupted; the same command goes on"
        assert "Traceback" not in said
        assert "heights-vae-0: " in cells()


def test_a_cell_whose_worker_is_killed_is_run_again(
    first: str, home: Path, environment: Callable[[Path], dict[str, str]]
) -> None:
    with another(home, "vae.components=2"):
        with started(home, environment) as process:
            state = wait_for(home, process, lambda state: state.name == "heights-vae-0" and state.stage == "train")
            os.kill(state.pid, signal.SIGKILL)
            said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert "the launcher gave up" in said
        assert not {name for name in stale(home) if "vae" in name}


def test_a_cell_whose_dependency_changes_while_it_runs_is_run_again(
    first: str, home: Path, environment: Callable[[Path], dict[str, str]]
) -> None:
    file = home / "src" / "lookalike" / "families" / "vae.py"
    before = file.read_text()
    try:
        with another(home, "vae.components=5"):
            with started(home, environment) as process:
                wait_for(home, process, lambda state: state.name == "heights-vae-0" and state.stage == "train")
                file.write_text(before + "\n# An edit.\n")
                said, _ = process.communicate(timeout=300)
            assert process.returncode == 0, said
            assert "heights-vae-0: a dependency changed while it ran, so its result is not recorded" in said
            assert "heights-vae-0: at most" in said
            assert not {name for name in stale(home) if "vae" in name}
            train = home / "artifacts" / "heights" / "vae" / "0" / "train" / "model.json"
            assert json.loads(train.read_text())["configuration"]["model"]["components"] == 5
    finally:
        file.write_text(before)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["ray", "submitit_local"])
def test_other_launchers_run_the_same_jobs(launcher: str, first: str, home: Path, cells: Run) -> None:
    rounds = {"ray": 9, "submitit_local": 10}[launcher]
    with another(home, f"mixture.importance_samples={rounds}"), another(home, f"vae.components={rounds}"):
        said = cells("--launcher", launcher, "--jobs", "2")
        assert {name for name in CELLS if f"\n{name}: " in f"\n{said}"} == {"heights-mixture-0", "heights-vae-0"}
        assert stale(home) == {"compare"}


def test_a_data_set_that_is_not_listed_is_added_and_run_alone(first: str, home: Path, cells: Run) -> None:
    listed = home / "conf" / "pipeline.yaml"
    before = listed.read_text()
    try:
        with another(home, "vae.components=6"):
            listed.write_text(before.replace("[mixture, vae]", "[mixture]"))
            said = cells("hills")
        assert said.startswith("conf/pipeline.yaml: added hills to its data sets\n")
        assert "hills-mixture-0: " in said
        assert "heights" not in said
        assert "data: [heights, hills]" in listed.read_text()
    finally:
        listed.write_text(before)


def test_report_says_which_cells_have_other_scores_by_now(first: str, home: Path, run: Run) -> None:
    def lookalike(command: str) -> str:
        done = run(home, "python", "-m", "lookalike", command)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    lookalike("compare")
    assert "older" not in lookalike("report")
    path = home / "artifacts" / "heights" / "mixture" / "0" / "evaluate" / "metrics.json"
    before = path.read_text()
    scores = json.loads(before)
    scores["wasserstein_1"]["value"] += 1
    try:
        path.write_text(json.dumps(scores))
        said = lookalike("report")
    finally:
        path.write_text(before)
    assert said.splitlines()[-1].startswith("older than the scores of heights/mixture/0: `lookalike compare`")


# What it shows


def test_the_counts_are_over_all_rounds(tmp_path: Path) -> None:
    jobs = {name: Job(name=name, data="a", stages=[]) for name in ("a-x-0", "a-y-0")}
    watch = Watch(
        pipeline=cast("Any", None), folder=Folder(tmp_path), jobs=jobs, before=3, later=2, workers=1, console=Console()
    )
    watch.ended["a-x-0"] = 10.0
    running = State(name="a-y-0", round="1", started=time.time() - 5, pid=2, stage="train", progress="training 43%")
    first, last = watch.lines([running])
    assert first.split() == ["a-y-0", "training", "43%", "5", "s"]
    assert last == "  4 done, 1 running, 2 waiting: about 25 s left"


def test_a_loop_that_is_over_is_not_shown_as_the_progress_of_its_job(tmp_path: Path) -> None:
    worker = Worker(Folder(tmp_path), State(name="a", round="1", started=1.0, pid=2, stage="train"))
    worker.report("training 43%")
    assert worker.state.progress == "training 43%"
    worker.report("training 100%")
    assert worker.state.progress == ""


# The command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cifar"], "unknown data set 'cifar': choose one of"),
        (["heights", "mnist"], "'mnist': give one data set"),
        (["--jobs", "0"], "--jobs 0: it is a whole number from 1 on"),
        (["seed=1"], "'seed=1': only settings of the launcher, hydra.launcher.KEY=VALUE"),
        (["--launcher", "submitit_slurm"], "there is no srun here"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(
    arguments: list[str], words: str, call_stage: Callable[..., Any]
) -> None:
    done = call_stage("cells", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("data: [heights]\nmodels: [vae]\n", "data: [heights, emoji]\nmodels: [vae]\n"),
        (
            "data:\n  - heights # first\n\nmodels:\n  - vae\n",
            "data:\n  - heights # first\n  - emoji\n\nmodels:\n  - vae\n",
        ),
    ],
)
def test_a_data_set_is_added_to_the_list_and_nothing_else_changes(
    before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(before)
    monkeypatch.setattr("lookalike.cells.command.PIPELINE", path)
    add_data("emoji")
    assert path.read_text() == after


def test_seeds_are_listed_for_as_long_as_a_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipeline.yaml"
    for seeds in ("seeds: [0] # one\nbudget: smoke\n", "seeds:\n  - 0\n  - 1\nbudget: smoke\n", "budget: smoke\n"):
        before = f"data: [heights]\nmodels:\n  - vae\n{seeds}"
        path.write_text(before)
        monkeypatch.setattr("lookalike.cells.command.PIPELINE", path)
        with pytest.raises(KeyboardInterrupt), listed_seeds(seeds_of("3"), Console(quiet=True)):
            content = yaml.safe_load(path.read_text())
            assert content == {"data": ["heights"], "models": ["vae"], "seeds": [0, 1, 2], "budget": "smoke"}
            raise KeyboardInterrupt
        assert path.read_text() == before
    with listed_seeds([0, 1], Console(quiet=True)):
        path.write_text("edited: by somebody\n")
    assert path.read_text() == "edited: by somebody\n"


@pytest.mark.parametrize(("text", "seeds"), [("1", [0]), ("3", [0, 1, 2]), ("0,4", [0, 4]), ("7,7,2", [7, 2])])
def test_a_number_of_seeds_or_a_list(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "two", "1,", "1.5", ""])
def test_seeds_that_are_none_are_one_line(text: str) -> None:
    with pytest.raises(UserError, match=f"--seeds: '{text}' is neither a number of seeds, such as 3, nor a list"):
        parser().parse_args([f"--seeds={text}"])


@pytest.mark.parametrize("command", [["cells", "valleys"], ["prepare", "data=valleys"], ["train", "data=valleys"]])
def test_a_data_set_with_another_name_than_its_file_is_refused(
    checkout: Path, run: Callable[..., Any], command: list[str]
) -> None:
    shutil.copy(checkout / "conf" / "data" / "hills.yaml", checkout / "conf" / "data" / "valleys.yaml")
    listed = (checkout / "conf" / "pipeline.yaml").read_text()
    done = run(checkout, "python", "-m", "lookalike", *command)
    (checkout / "conf" / "data" / "valleys.yaml").unlink()
    assert done.returncode == 1
    assert "conf/data/valleys.yaml: its name is 'hills'; write `name: valleys`" in done.stderr
    assert (checkout / "conf" / "pipeline.yaml").read_text() == listed


# States


def test_a_state_is_read_as_it_was_written_and_rubbish_is_deleted(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    state = State(
        name="a", round="1", started=1.0, pid=2, done=[Done(name="train@a", sources="x", inputs="y", said="z")]
    )
    folder.put(state)
    (tmp_path / "states" / "b.json").write_text('{"name": "b"}')
    assert list(folder.states()) == [state]
    assert not (tmp_path / "states" / "b.json").exists()
    assert state.is_alive


def test_durations_are_for_people() -> None:
    assert [duration(seconds) for seconds in (3.2, 99, 100, 3600, 7200)] == ["3 s", "99 s", "2 min", "60 min", "2.0 h"]


def test_progress_is_reported_instead_of_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    texts: list[str] = []
    with reported(texts.append):
        assert list(progress(range(4), "counting", total=4)) == [0, 1, 2, 3]
    assert texts[-1] == "counting 100%"
    assert capfd.readouterr() == ("", "")


def test_cost_counts_from_the_start_of_the_stage(tmp_path: Path) -> None:
    with counted_from_now():
        Cost().save(tmp_path)
    assert json.loads((tmp_path / "cost.json").read_text())["process_seconds"] < 1


def test_a_first_look_has_a_report_of_its_own(home: Path, run: Run) -> None:
    """It scores on validation data, leaves the pipeline's own folders alone, and does nothing when nothing changed."""
    (home / "conf" / "first.yaml").write_text("data: [mnist]\nmodels: [mixture]\nfloors: [copycat]\n")
    budget = home / "conf" / "budget"
    (budget / "first.yaml").write_text((budget / "smoke.yaml").read_text())
    before = [tree(home / name) for name in PIPELINES_OWN]
    command = [sys.executable, "-m", "lookalike", "first"]
    done = run(home, *command, "heights", fresh=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    look = home / ".lookalike" / "first" / "heights"
    assert f"open it in a browser: {(look / 'report' / 'report.html').as_uri()}" in done.stdout
    board = json.loads((look / "report" / "leaderboard.json").read_text())["heights"]
    assert board.keys() == {"real", "mixture", "copycat"}
    assert board["mixture"]["bits_per_dim"]["split"] == "validation"
    assert board["mixture"]["wasserstein_1"]["reference"] == "validation"
    assert [tree(home / name) for name in PIPELINES_OWN] == before
    scores = look / "artifacts" / "heights" / "mixture" / "0" / "evaluate" / "metrics.json"
    written = scores.stat().st_mtime_ns
    done = run(home, *command, "heights", fresh=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all cells are up to date" in done.stdout
    assert scores.stat().st_mtime_ns == written


def test_a_first_look_at_nothing_is_refused(home: Path, run: Run) -> None:
    """An unknown data set is named, with those that exist."""
    done = run(home, sys.executable, "-m", "lookalike", "first", "nothing", fresh=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown data set 'nothing': choose one of ")


def tree(place: Path) -> dict[str, int]:
    """When a file, or every file below a folder, was changed."""
    return {str(path): path.stat().st_mtime_ns for path in (place, *place.rglob("*")) if path.is_file()}
