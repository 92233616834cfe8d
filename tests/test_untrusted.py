"""Tests that nothing in a file is executed: pickles, foreign targets, HTML and Markdown in names."""

import ast
import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.workspace.configuration import ROOT

pytest_plugins = ["pipeline_fixtures"]

EVIL = "<script>alert(1)</script>"

DATA = """
name: evil
reader:
  _target_: lookalike.readers.table_file.read
  folder: evil
  file: table.csv
  md5: null
  columns: null
  label: kind
  validation: 0.3
  test: 0.3
  expected: null
  seed: 0
flops: 1.0e8
steps: 20
batch_size: 16
features: null
"""


class Bomb:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def unsafe(source: str) -> list[str]:
    """Return the calls and imports of a source that could run code from a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [
                name for name in names if name.split(".")[0] in ("pickle", "dill", "cloudpickle", "marshal", "shelve")
            ]
        if isinstance(node, ast.Call):
            call, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if call in ("np.load", "numpy.load", "np.fromfile") and keywords.get("allow_pickle") != "False":
                found.append(ast.unparse(node))
            if call == "torch.load" and keywords.get("weights_only") != "True":
                found.append(ast.unparse(node))
            if call in ("joblib.load", "eval", "exec", "yaml.unsafe_load", "instantiate", "hydra.utils.instantiate"):
                found.append(ast.unparse(node))
    return found


def test_the_search_for_unsafe_calls_finds_them() -> None:
    bad = "import pickle\nnp.load(p)\ntorch.load(p, weights_only=False)\njoblib.load(p)\ninstantiate(c)\neval(t)"
    assert len(unsafe(bad)) == 6
    assert not unsafe("np.load(p, allow_pickle=False)\ntorch.load(p, weights_only=True)\nyaml.safe_load(t)")


def test_no_module_loads_a_pickle_or_instantiates_a_target_by_its_name() -> None:
    paths = [*(ROOT / "src" / "lookalike").rglob("*.py"), *(ROOT / "pipelines").glob("*.py")]
    assert not {str(path): calls for path in paths if (calls := unsafe(path.read_text(encoding="utf-8")))}


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("prepared/train.npy", "train"),
        ("prepared/validation.npy", "train"),
        ("vae/0/train/weights.safetensors", "sample"),
        ("vae/0/sample/samples.npz", "evaluate"),
        ("features/extractor/train_rows.npy", "evaluate"),
        ("features/extractor/train_apart.npy", "real"),
    ],
)
@pytest.mark.parametrize("form", ["pickle", "array of objects"])
def test_a_pickle_in_the_place_of_an_array_is_refused_and_not_executed(
    file: str,
    stage: str,
    form: str,
    heights_cell: Path,
    tmp_path: Path,
    call_stage: Callable[..., Any],
    places: Callable[[Path], list[str]],
) -> None:
    shutil.copytree(heights_cell, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
    path, mark = tmp_path / "artifacts" / "heights" / file, tmp_path / "executed"
    content = io.BytesIO()
    if form == "pickle":
        pickle.dump(Bomb(mark), content)
    elif path.suffix == ".npz":
        np.savez(content, samples=np.array([Bomb(mark)], dtype=object))
    else:
        np.save(content, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    path.write_bytes(content.getvalue())
    done = call_stage(stage, "data=heights", "model=vae", "budget=smoke", "tracking=none", *places(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(path) in done.stderr
    assert not mark.exists()


@pytest.mark.parametrize("target", ["os.system.x", "lookalike.families.vae.math", "subprocess.vae.Popen"])
def test_a_trained_model_with_a_foreign_target_is_refused(
    target: str,
    heights_cell: Path,
    tmp_path: Path,
    call_stage: Callable[..., Any],
    places: Callable[[Path], list[str]],
) -> None:
    shutil.copytree(heights_cell, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "artifacts" / "heights" / "vae" / "0" / "train" / "model.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["configuration"]["model"]["_target_"] = target
    path.write_text(json.dumps(record), encoding="utf-8")
    done = call_stage("sample", "data=heights", "model=vae", "budget=smoke", "tracking=none", *places(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert target in done.stderr


def test_html_in_the_name_of_a_class_is_text_in_the_report_and_the_cards(
    new_checkout: Callable[..., Path], run: Callable[..., Any]
) -> None:
    listed = "data: [evil]\nmodels: [gan]\nfloors: []\nseeds: [0]\nbudget: smoke\ntrainer: cpu\n"
    checkout = new_checkout(listed)
    (checkout / "conf" / "data" / "evil.yaml").write_text(DATA, encoding="utf-8")
    (checkout / "data" / "evil").mkdir()
    rows = [f"{i % 17},{EVIL if i % 2 else '[x](javascript:alert(2))'}" for i in range(200)]
    (checkout / "data" / "evil" / "table.csv").write_text("\n".join([f"size{EVIL},kind", *rows, ""]), encoding="utf-8")
    for stage in ("prepare", "features", "train", "sample", "evaluate", "real", "compare"):
        settings = ("data=evil", "model=gan", "budget=smoke", "tracking=none")
        done = run(checkout, "python", "-m", "lookalike", stage, *settings)
        assert done.returncode == 0, done.stdout + done.stderr
    results = checkout / "results" / "default"
    for path in [results / "report.html", *results.glob("cards/*.md"), *results.glob("figures/*.svg")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            text = text.split("---\n", 2)[2]  # The head of a card is YAML, which nothing renders.
        assert EVIL not in text, path
        if path.suffix == ".md":
            assert "[x](javascript:" not in text
