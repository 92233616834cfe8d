"""`make env`: an environment that is broken, half made or of another checkout is noticed and made again.

The Makefile is the real one; the package that it installs is a small one, so that no index is needed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from lookalike.workspace.configuration import ROOT

BACKEND = """
import base64, hashlib, pathlib, time, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    pathlib.Path("begun").touch()
    while pathlib.Path("wait").exists():
        time.sleep(0.05)
    files = {
        "small-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\nProvides-Extra: dev\\n",
        "small-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "small-1.dist-info/entry_points.txt": "[console_scripts]\\ndvc = platform:_sys_version\\n",
        "small-1.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(pathlib.Path(folder, "small-1-py3-none-any.whl"), "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return "small-1-py3-none-any.whl"
"""

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def command(*arguments: str) -> list[str]:
    return ["make", f"PYTHON={sys.executable}", *arguments]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the small project with its environment: copy it."""
    folder = tmp_path_factory.mktemp("small") / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "constraints.txt").touch()
    run(folder, "env")
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the small checkout without an environment."""
    folder = tmp_path / "it's here (2)"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns(".venv"))
    yield folder
    (folder / "wait").unlink(missing_ok=True)


def run(folder: Path, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def works(folder: Path) -> bool:
    """Whether the environment has its package, whose script leads to this environment, and is up to date."""
    script = folder / ".venv" / "bin" / "dvc"
    return (
        f"{folder}/.venv/bin/python" in script.read_text()
        and not (folder / ".venv" / ".unfinished").exists()
        and "pip install" not in run(folder, "env").stdout
    )


def test_a_new_environment_is_made_once(made: Path) -> None:
    assert works(made)


def test_an_environment_without_pip_gets_it(home: Path) -> None:
    venv.create(home / ".venv", with_pip=False, symlinks=True)
    run(home, "env")
    assert works(home)


def test_an_environment_that_was_interrupted_is_made_again(home: Path) -> None:
    (home / "wait").touch()
    (home / "begun").unlink()
    with subprocess.Popen(command("env"), cwd=home, start_new_session=True) as process:
        while not (home / "begun").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    (home / "wait").unlink()
    half = home / ".venv" / "half a package"
    half.touch()
    run(home, "env")
    assert works(home)
    assert not half.exists()


def test_an_environment_whose_python_is_gone_is_made_again(made: Path) -> None:
    python = made / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    run(made, "env")
    assert works(made)


def test_an_environment_that_came_with_a_copied_checkout_is_made_again(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy", symlinks=True)
    run(tmp_path / "copy", "env")
    assert works(tmp_path / "copy")


def test_a_link_to_the_environment_of_another_checkout_is_refused_and_that_environment_left_alone(
    made: Path, home: Path
) -> None:
    (home / ".venv").symlink_to(made / ".venv")
    done = run(home, "env", code=2)
    assert "error: .venv is a link to the environment of another checkout: delete the link (rm .venv)" in done.stderr
    assert works(made)


def test_the_makefile_keeps_to_what_make_3_81_of_macos_can_do() -> None:
    text = (ROOT / "Makefile").read_text()
    newer = (
        "!=", "::=", ".ONESHELL", ".SHELLFLAGS", ".RECIPEPREFIX", ".EXTRA_PREREQS", "$(file ", "$(let ", "$(intcmp ",
        "$(guile ", "undefine ", "private ", "&:", "load ", "--output-sync",
    )  # fmt: skip
    assert [word for word in newer if word in text] == []
    # Make 3.81 on macOS looks for a command in the PATH that it was started with, not in the one that it exports.
    recipes = [line.strip().lstrip("@") for line in text.splitlines() if line.startswith("\t")]
    tools = ("lookalike", "dvc", "mlflow", "pytest", "ruff", "mypy", "python", "mkdocs")
    assert [line for line in recipes if line.split()[0] in tools] == []
