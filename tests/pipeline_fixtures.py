"""Fixtures for tests of stages and pipeline: copies of the checkout, and ways to run stages in them."""

import contextlib
import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lookalike.__main__ import main as console
from lookalike.workspace.configuration import ROOT
from warm import Warm

Done = subprocess.CompletedProcess[str]

# Every process started with this on its path that runs a stage leaves a note of what it imported.
TRACE = """
import atexit, json, os, sys
def note():
    if os.sep + "pipelines" + os.sep in os.path.abspath(sys.argv[0]):
        name = "-".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + ".json"
        with open(os.path.join(os.environ["STAGE_TRACE"], name), "w") as file:
            json.dump(sorted(sys.modules), file)
if "STAGE_TRACE" in os.environ and hasattr(sys, "argv"):
    atexit.register(note)
"""


@pytest.fixture(scope="session")
def environment() -> Callable[[Path], dict[str, str]]:
    """`environment(checkout)`: the variables under which a checkout's own code runs, silent and offline."""

    def make(checkout: Path) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "WANDB_", "DVC_", "PYTEST_"))}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{checkout / 'src'}{os.pathsep}{checkout / '.trace'}",
            "DVC_NO_ANALYTICS": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": f"sqlite:///{checkout / '.trace' / 'mlflow.db'}",
            "GIT_AUTHOR_NAME": "Test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "Test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
        }

    return make


@pytest.fixture(scope="session")
def warm(request: pytest.FixtureRequest) -> Iterator[Warm]:
    """What runs scripts in processes that need not import torch first."""
    forking = Warm(lambda: Path(request.getfixturevalue("checkout")))
    yield forking
    forking.close()


@pytest.fixture(scope="session")
def run(environment: Callable[[Path], dict[str, str]], warm: Warm) -> Callable[..., Done]:
    """`run(checkout, *command, fresh=False, **options)`: a command to its end, its output as text.

    A script is forked from a process that has its imports behind it; not if it has to be `fresh`, or with options of
    `subprocess.run` beside `cwd`, `env` and `timeout`.
    """

    def start(checkout: Path, *command: str, fresh: bool = False, **options: Any) -> Done:
        settings: dict[str, Any] = {"cwd": checkout, "env": environment(checkout), "timeout": 1800} | options
        is_warm = not fresh and settings.keys() == {"cwd", "env", "timeout"}
        if is_warm and command[0] == "python" and command[1].endswith(".py"):
            return warm.run(str(checkout / command[1]), *command[2:], **settings)
        if is_warm and command[:3] == ("python", "-m", "lookalike"):
            return warm.run("lookalike", *command[3:], **settings)
        return subprocess.run(command, capture_output=True, text=True, check=False, **settings)

    return start


@pytest.fixture(scope="session")
def new_checkout(tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Done]) -> Callable[..., Path]:
    """`new_checkout(pipeline, source=...)`: what git would commit in a tree, elsewhere, with the raw data pulled.

    `pipeline` replaces conf/pipeline.yaml; results are left behind.
    """

    def make(pipeline: str = "", *, source: Path = ROOT) -> Path:
        checkout = tmp_path_factory.mktemp("checkout")
        # An empty repository knows no tracked files, so this also works where the source is not in git.
        run(checkout, "git", "init", "-q")
        listed = run(source, "git", f"--git-dir={checkout}/.git", "ls-files", "-o", "--exclude-standard", "-z").stdout
        for name in listed.split("\0"):
            made = name.startswith(("artifacts/", "results/", ".trace/")) or name == "dvc.lock"
            if (source / name).is_file() and not made:
                (checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, checkout / name)
        if pipeline:
            (checkout / "conf" / "pipeline.yaml").write_text(pipeline)
        (checkout / ".trace").mkdir()
        (checkout / ".trace" / "sitecustomize.py").write_text(TRACE)
        (checkout / ".git" / "info").mkdir(exist_ok=True)
        (checkout / ".git" / "info" / "exclude").write_text("/.trace/\n")
        for command in (
            ("git", "add", "-A"),
            ("git", "commit", "-qm", "The working tree"),
            ("dvc", "pull", "-q", "data.dvc"),
        ):
            done = run(checkout, *command)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return checkout

    return make


@pytest.fixture(scope="session")
def checkout(new_checkout: Callable[..., Path]) -> Path:
    """A checkout in which nothing has run; stages are given other places to write to."""
    return new_checkout()


@pytest.fixture(scope="session")
def run_stage(checkout: Path, run: Callable[..., Done]) -> Callable[..., Done]:
    """`run_stage(name, *overrides, **options)`: a stage script of `checkout` in a process of its own, as `run` does."""

    def start(name: str, *overrides: str, **options: Any) -> Done:
        return run(checkout, "python", str(checkout / "pipelines" / f"{name}.py"), *overrides, **options)

    return start


@pytest.fixture(scope="session")
def call_stage() -> Callable[..., Done]:
    """`call_stage(name, *overrides)`: a stage script in this process, without the seconds that imports take.

    What it prints and the status that it would leave with come back as from a process of its own.
    """

    def call(name: str, *overrides: str) -> Done:
        out, err, status = io.StringIO(), io.StringIO(), 0
        arguments, on_term = sys.argv, signal.getsignal(signal.SIGTERM)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                sys.argv = ["lookalike", name, *overrides]
                console()
            except SystemExit as leaving:
                status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
                if isinstance(leaving.code, str):
                    print(leaving.code, file=sys.stderr)
            except Exception:
                status = 1
                traceback.print_exc()
            finally:
                sys.argv = arguments
                signal.signal(signal.SIGTERM, on_term)
        return subprocess.CompletedProcess(["lookalike", name, *overrides], status, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, str]]:
    """`contents(folder)`: every file below it, with a digest of what is in it, and every hidden folder."""

    def read(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            for path in sorted(folder.rglob("*"))
            if path.is_file() or path.name.startswith(".")
        }

    return read


@pytest.fixture(scope="session")
def edited() -> Callable[..., contextlib.AbstractContextManager[None]]:
    """`with edited(path, old, new)`: the file has the new text in place of the old one inside the block."""

    @contextlib.contextmanager
    def edit(path: Path, old: str, new: str) -> Iterator[None]:
        before = path.read_text(encoding="utf-8")
        assert before.count(old) == 1, f"{path} has {old!r} {before.count(old)} times"
        path.write_text(before.replace(old, new), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")

    return edit


FEWER = """

_all_rows = rows_of


def rows_of(domain, split, rows, images, labels):
    return _all_rows(domain, split, rows[: 4000 if split == "train" else 500], images, labels)
"""
"""What makes MNIST small, at the end of its reader's file."""

FLOORS = ("copycat",)

SMOKE = """
data: [heights, mnist]
models: [vae]
floors: [copycat]
seeds: [0]
budget: smoke
trainer: cpu
"""


@pytest.fixture(scope="session")
def smoke(
    new_checkout: Callable[..., Path], run: Callable[..., Done], environment: Callable[[Path], dict[str, str]]
) -> Path:
    """A checkout after `dvc repro` at the smallest budget: heights, a few thousand digits, a model and a floor.

    What each stage imported stands in `.trace/`.
    """
    checkout = new_checkout(SMOKE)
    with (checkout / "src" / "lookalike" / "readers" / "idx.py").open("a") as file:
        file.write(FEWER)
    assert run(checkout, "git", "commit", "-qam", "Fewer digits").returncode == 0
    traced = environment(checkout) | {"STAGE_TRACE": str(checkout / ".trace")}
    done = run(checkout, "dvc", "repro", env=traced)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


@pytest.fixture(scope="session")
def seeds(smoke: Path, tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Done]) -> tuple[Path, set[str]]:
    """The smoke run's heights elsewhere after `dvc repro` with two seeds, and the stages that it ran for them."""
    checkout = tmp_path_factory.mktemp("seeds") / "checkout"
    shutil.copytree(smoke, checkout)
    listed = SMOKE.replace("[heights, mnist]", "[heights]").replace("seeds: [0]", "seeds: [0, 1]")
    (checkout / "conf" / "pipeline.yaml").write_text(listed)
    done = run(checkout, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout, {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}


@pytest.fixture(scope="session")
def imported(smoke: Path) -> dict[str, set[str]]:
    """The modules that each stage of the smoke run had loaded when it ended, by the stage's name in DVC."""
    found = {}
    for path in (smoke / ".trace").glob("*.json"):
        script, *overrides = path.stem.split("-")
        chosen = dict(item.split("=", 1) for item in overrides)
        cell = "-".join(chosen[group] for group in ("data", "model", "seed") if group in chosen)
        stage = script.removesuffix(".py") + ("_floor" if chosen.get("model") in FLOORS else "")
        found[stage + (f"@{cell}" if cell else "")] = set(json.loads(path.read_text()))
    return found


@pytest.fixture(scope="session")
def dvc_stages() -> Callable[[Path], dict[str, Any]]:
    """`dvc_stages(checkout)`: its stages as DVC itself resolves them, by name."""

    def load(checkout: Path) -> dict[str, Any]:
        # DVC names stages by their place relative to the working directory.
        with contextlib.chdir(checkout), importlib.import_module("dvc.repo").Repo() as repo:
            return {stage.addressing: stage for stage in repo.index.stages if stage.addressing != "data.dvc"}

    return load


def quick(data: str, model: str = "") -> list[str]:
    """Overrides for the shortest run of a cell."""
    return [f"data={data}", "budget=smoke", "tracking=none", *([f"model={model}"] if model else [])]


@pytest.fixture(scope="session")
def places(checkout: Path) -> Callable[[Path], list[str]]:
    """`places(folder)`: overrides that make a stage write below a folder and read the checkout's raw data."""

    def make(folder: Path) -> list[str]:
        return [f"paths.data={checkout / 'data'}"] + [
            f"paths.{kind}={folder / kind}" for kind in ("artifacts", "results", "samples", "scratch")
        ]

    return make


@pytest.fixture(scope="session")
def heights_cell(
    tmp_path_factory: pytest.TempPathFactory, call_stage: Callable[..., Done], places: Callable[[Path], list[str]]
) -> Path:
    """A folder whose `artifacts/` holds the prepared heights, their features, and a VAE up to its scores: copy it."""
    folder = tmp_path_factory.mktemp("heights")
    for stage in ("prepare", "features", "train", "sample", "evaluate"):
        done = call_stage(stage, *quick("heights", "vae"), *places(folder))
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def few_digits(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `artifacts/` holds prepared MNIST, cut down to a few hundred images: copy it."""
    from lookalike.readers.arrays import write
    from lookalike.readers.contract import from_arrays
    from reader_helpers import gathered, read_data

    folder = tmp_path_factory.mktemp("digits")
    source = read_data("mnist", checkout / "data")
    prepared = folder / "artifacts" / "mnist" / "prepared"
    prepared.mkdir(parents=True)
    values, labels = ({split: part[:300] for split, part in parts.items()} for parts in gathered(source))
    write(from_arrays(source.domain, values, labels, expected=source.expected), prepared)
    return folder


HEIGHTS = """
data: [heights]
models: [vae]
floors: []
seeds: [0]
budget: smoke
trainer: cpu
"""


@pytest.fixture(scope="module")
def home(new_checkout: Callable[..., Path], run: Callable[..., Done]) -> Path:
    """A checkout whose heights are prepared, and nothing trained."""
    checkout = new_checkout(HEIGHTS)
    done = run(checkout, "dvc", "repro", "features@heights")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(checkout, "git", "add", "-A").returncode == 0
    assert run(checkout, "git", "commit", "-qm", "Prepared").returncode == 0
    return checkout


@pytest.fixture(scope="module")
def sweep(home: Path, run: Callable[..., Done]) -> Callable[..., Done]:
    """`sweep(*overrides, code=0)`: the command to its end, which has to be with that exit code."""

    def start(*overrides: str, code: int = 0, **options: Any) -> Done:
        command = ("python", "-m", "lookalike", "sweep", "-m", "data=heights", "budget=smoke")
        done = run(home, *command, *overrides, **options)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return start
