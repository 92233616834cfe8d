"""The Makefile: its targets leave every file of a user alone, and work without git and in a borrowed environment."""

import shutil
import sqlite3
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike.workspace.fingerprint import git_state

pytest_plugins = ["pipeline_fixtures"]

PIPELINE = """
data: [heights]
models: [mixture]
floors: []
seeds: [0]
budget: smoke
trainer: cpu
"""
SCRIPTS = {"lookalike": "lookalike.__main__", "dvc": "dvc.cli"}

Run = Callable[..., subprocess.CompletedProcess[str]]


def make_environment(folder: Path, *, source: Path) -> None:
    """Make an environment with the packages of this one, in which the package of a checkout is installed."""
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "all.pth").write_text(f"{source}\n{sysconfig.get_path('purelib')}\n")
    for name, module in SCRIPTS.items():
        script = folder / "bin" / name
        script.write_text(f"#!{folder}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        script.chmod(0o755)
    (folder / ".installed").touch()


@pytest.fixture(scope="module")
def make(environment: Callable[[Path], dict[str, str]]) -> Run:
    """`make(checkout, *arguments, code=0)`: run make in a checkout with its own environment."""

    def start(checkout: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        variables = environment(checkout)
        del variables["PYTHONPATH"]
        done = subprocess.run(
            ["make", *arguments], cwd=checkout, env=variables, capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return start


@pytest.fixture(scope="module")
def other(new_checkout: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of another checkout, whose code fails."""
    source = tmp_path_factory.mktemp("other") / "src"
    shutil.copytree(new_checkout() / "src", source)
    (source / "lookalike" / "workspace" / "errors.py").write_text("raise RuntimeError('code of another checkout')\n")
    return source


@pytest.fixture(scope="module")
def home(new_checkout: Callable[..., Path], other: Path) -> Path:
    """A checkout of one cell of heights, with an environment in which another checkout is installed."""
    checkout: Path = new_checkout(PIPELINE)
    make_environment(checkout / ".venv", source=other)
    return checkout


# Files of a user


def plant(checkout: Path, *folders: str) -> dict[Path, bytes]:
    """Put a file into folders; return what is in it, by its path."""
    planted = {checkout / folder / "mine.txt": f"of a user, in {folder}".encode() for folder in folders}
    for path, content in planted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return planted


def test_no_command_touches_a_file_that_a_user_put_anywhere(home: Path, make: Run, run: Run) -> None:
    planted = plant(
        home, ".", "data", "data/newset", "data/mnist", "data/heights", "conf", "conf/data", "conf/model", "artifacts",
        "artifacts/heights", "multirun", "multirun/mine", "samples", ".lookalike", "tries", "src/lookalike/stages",
    )  # fmt: skip
    digits = home / "data" / "mnist" / "train-labels-idx1-ubyte.gz"
    content = digits.read_bytes()
    digits.unlink()
    make(home, "heights")
    assert digits.read_bytes() == content, "a bundled file that is missing is brought back"

    outputs = ("prepared", "summary", "features", "features/extractor", "real", *(f"mixture/0/{name}" for name in
               ("", "train", "sample", "evaluate")))  # fmt: skip
    planted |= plant(home, *(f"artifacts/heights/{name}" for name in outputs))
    planted |= plant(home, "artifacts/mnist/vae/0/train")
    # By hand, DVC rewrites data.dvc and puts the user's files into its cache; make must not delete them for it.
    assert run(home, "dvc", "repro", "-q", "data.dvc").returncode == 0
    assert run(home, "git", "checkout", "-q", "data.dvc").returncode == 0
    make(home, "data")
    # All of these stages write into folders that now hold a file of the user.
    done = run(home, "dvc", "repro", "-q", "--force", "evaluate@heights-mixture-0")
    assert done.returncode == 0, done.stderr
    done = run(home, "python", "-m", "lookalike", "sample", "data=heights", "model=mixture", "budget=smoke")
    assert done.returncode == 0, done.stderr
    assert not (home / ".dvc" / "config.local").exists(), "only a checkout without git needs it"
    for path, expected in planted.items():
        assert path.is_file(), f"{path} was deleted"
        assert path.read_bytes() == expected


def test_the_raw_data_have_an_entry_each_so_that_a_user_s_set_can_have_a_dvc_file_of_its_own(
    home: Path, run: Run
) -> None:
    plant(home, "data/photos")
    done = run(home, "dvc", "add", "-q", "data/photos")
    assert done.returncode == 0, done.stderr
    (home / "data" / "photos.dvc").unlink()


# Without git


def test_without_git_the_data_the_cells_and_a_sweep_are_made_and_the_commit_is_unknown(
    new_checkout: Callable[..., Path], other: Path, make: Run, environment: Callable[[Path], dict[str, str]]
) -> None:
    checkout: Path = new_checkout(PIPELINE)
    shutil.rmtree(checkout / ".git")
    shutil.rmtree(checkout / "data")
    make_environment(checkout / ".venv", source=other)
    make(checkout, "heights")
    variables = environment(checkout)
    del variables["PYTHONPATH"]
    sweep = ["sweep", "-m", "data=heights", "model=mixture", "budget=smoke", "likelihood.importance_samples=5,6"]
    for command in ([".venv/bin/lookalike", *sweep], [".venv/bin/dvc", "repro", "-q"], [".venv/bin/dvc", "status"]):
        done = subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "up to date" in done.stdout
    with sqlite3.connect(checkout / ".trace" / "mlflow.db") as store:
        commits = store.execute("select distinct value from tags where key like '%git%commit'").fetchall()
    assert commits == [("unknown",)]
    (about,) = (checkout / "multirun").glob("*/sweep.json")
    assert '"commit": "unknown"' in about.read_text()


def test_a_copy_inside_another_project_s_checkout_does_not_take_that_project_s_commit(tmp_path: Path, run: Run) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "pyproject.toml").write_text("")
    for command in ("git init -q", "git commit -q --allow-empty -m Outer"):
        assert run(tmp_path, *command.split()).returncode == 0
    assert git_state(copy) == {"commit": "unknown", "dirty": "unknown"}
    for command in ("git add copy", "git commit -qm Inner"):
        assert run(tmp_path, *command.split()).returncode == 0
    assert len(git_state(copy)["commit"]) == 40, "it belongs to the project now"


# Links


@pytest.mark.parametrize("link", ["artifacts", "artifacts/heights/mixture", "results"])
def test_a_link_that_dvc_would_refuse_after_the_work_is_refused_before_it(
    link: str, checkout: Path, run: Run, tmp_path: Path
) -> None:
    (checkout / link).parent.mkdir(parents=True, exist_ok=True)
    (checkout / link).symlink_to(tmp_path)
    try:
        for command in (("python", "-m", "lookalike", "cells"), ("dvc", "repro", "-q", "prepare@heights")):
            done = run(checkout, *command)
            assert done.returncode != 0
            assert f"error: {link} is a symbolic link" in done.stderr
            assert "move the whole checkout there" in done.stderr
    finally:
        (checkout / link).unlink()
        shutil.rmtree(checkout / "artifacts", ignore_errors=True)
    assert not list(tmp_path.iterdir())
