"""Tests that all text is UTF-8, whatever the locale says: in files, in names of files, and on the terminal."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lookalike.workspace.configuration import ROOT

pytest_plugins = ["pipeline_fixtures"]

Locale = dict[str, str]

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

DATA = """
name: sizes
reader:
  _target_: lookalike.readers.table_file.read
  folder: größen
  file: größe.csv
  md5: null
  columns: null
  label: art
  validation: 0.3
  test: 0.3
  expected: null
  seed: 0
flops: 1.0e8
steps: 20
batch_size: 16
features: null
"""


def write_table(folder: Path) -> None:
    """Write a small table whose names of files, columns and classes are not ASCII."""
    folder.mkdir(parents=True)
    rows = [f"{50 + i % 17},{'größer' if i % 2 else '日本'}" for i in range(200)]
    (folder / "größe.csv").write_text("\n".join(["höhe,art", *rows, ""]), encoding="utf-8")


@pytest.fixture(scope="module")
def latin(tmp_path_factory: pytest.TempPathFactory) -> Locale:
    """The variables of a Latin-1 locale, which is compiled here."""
    folder = tmp_path_factory.mktemp("locales")
    name = "en_US.ISO-8859-1"
    command = [shutil.which("localedef") or "localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / name)]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no Latin-1 locale can be compiled here")
    return {"LOCPATH": str(folder), "LC_ALL": name, "PYTHONIOENCODING": "latin-1"}


def text_calls(source: str) -> list[str]:
    """Return the calls in a source that open a file or a process as text without naming an encoding."""
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and is_text(node) and "encoding" not in {k.arg for k in node.keywords}
    ]


def is_text(call: ast.Call) -> bool:
    """Return whether a call reads or writes text: of a path, by `open`, or of a process."""
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if keywords.get("text") == "True" or keywords.get("universal_newlines") == "True":
        return True
    is_method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name != "open":
        return name in ("read_text", "write_text")
    given = call.args if is_method else call.args[1:]
    mode = ast.unparse(given[0]) if given else keywords.get("mode", "'r'")
    return re.fullmatch("'[rwaxt+]+'", mode) is not None and keywords.keys() <= {"mode", "newline", "buffering"}


def test_the_search_for_calls_without_an_encoding_finds_them() -> None:
    assert len(text_calls("p.read_text()\np.open()\np.open('w', newline='')\nopen(p, 'a')\nrun(c, text=True)")) == 5
    assert not text_calls("p.read_text(encoding='utf-8')\np.open('rb')\nopen(p, 'wb')\nrun(c)\nimage.open(p)")


def test_every_text_file_is_opened_with_an_encoding() -> None:
    paths = [*(ROOT / "src").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]
    found = {str(path): calls for path in paths if (calls := text_calls(path.read_text(encoding="utf-8")))}
    assert len(paths) > 100
    assert not found


def run_under(locale: Locale, checkout: Path, *command: str, code: int = 0) -> str:
    """Return what a command prints under a locale; it must end with an exit code."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    env = kept | {"PYTHONPATH": str(checkout / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{checkout / 'runs.db'}"}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(["python", *command], cwd=checkout, env=env | locale, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode("utf-8")
    assert done.returncode == code, said
    return said


@pytest.fixture(scope="module")
def home(new_checkout: Callable[..., Path], run: Callable[..., Any]) -> Path:
    """A checkout with a data set whose files, columns and classes have names that are not ASCII."""
    checkout = new_checkout("data: [sizes]\nmodels: [vae]\nfloors: []\nseeds: [0]\nbudget: smoke\ntrainer: cpu\n")
    (checkout / "conf" / "data" / "sizes.yaml").write_text(DATA, encoding="utf-8")
    for folder in ("größen", "sizes"):  # DVC tracks the folder that has the name of the data set.
        write_table(checkout / "data" / folder)
    for command in (("git", "add", "-A"), ("git", "commit", "-qm", "Sizes")):
        assert run(checkout, *command).returncode == 0
    return checkout


def labels_of(checkout: Path) -> Any:
    return json.loads((checkout / "artifacts" / "sizes" / "prepared" / "domain.json").read_bytes())["labels"]


@pytest.mark.parametrize("kind", ["ascii", "latin"])
def test_a_stage_reads_and_writes_utf8_under_any_locale(kind: str, home: Path, request: pytest.FixtureRequest) -> None:
    locale = ASCII if kind == "ascii" else request.getfixturevalue("latin")
    said = run_under(locale, home, "pipelines/prepare.py", "data=sizes")
    assert "±" in said
    assert labels_of(home) == ["größer", "日本"]
    assert "unknown data 'größe'" in run_under(locale, home, "-m", "lookalike", "prepare", "data=größe", code=1)


def test_a_class_whose_name_is_not_utf8_is_refused_before_any_work(
    tmp_path: Path, call_stage: Callable[..., Any]
) -> None:
    for name in (b"one", b"caf\xe9"):
        folder = os.fsencode(tmp_path / "emoji") + b"/" + name
        os.makedirs(folder)
        for i in range(4):
            with open(folder + b"/%d.png" % i, "wb") as file:
                Image.new("L", (8, 8), i).save(file, "PNG")
    place = [f"paths.{kind}={tmp_path}" for kind in ("data", "artifacts")]
    reader = ["folder=emoji", "side=null", "expected=null", "validation=0.25", "test=0.25"]
    done = call_stage("prepare", "data=emoji", *place, *(f"data.reader.{item}" for item in reader))
    assert done.stderr == "error: emoji: the name of the class 'caf\\udce9' is not UTF-8; rename it\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ascii", "latin"])
def test_a_pipeline_a_sweep_and_the_report_are_utf8_under_any_locale(
    kind: str, home: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    locale = ASCII if kind == "ascii" else request.getfixturevalue("latin")
    checkout = tmp_path / "checkout"
    shutil.copytree(home, checkout, symlinks=True)
    run_under(locale, checkout, "-m", "lookalike", "cells")
    sweep = ("sweep", "-m", "data=sizes", "model.components=2,3", "budget=smoke")
    assert "trials: 2 finished" in run_under(locale, checkout, "-m", "lookalike", *sweep)
    assert "±" in run_under(locale, checkout, "-m", "lookalike", "report")
    page = (checkout / "results" / "default" / "report.html").read_text(encoding="utf-8")
    assert "größer" in page
    assert labels_of(checkout) == ["größer", "日本"]
