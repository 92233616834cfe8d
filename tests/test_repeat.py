"""A cell again with another seed: what the three stages alone would make, and nothing twice."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pipeline_fixtures"]

Call = Callable[..., Any]


@pytest.fixture
def cell(heights_cell: Path, tmp_path: Path) -> Path:
    """The place of a trained, sampled and scored VAE, seed 0, in a folder of its own."""
    shutil.copytree(heights_cell, tmp_path, dirs_exist_ok=True)
    return tmp_path / "artifacts" / "heights" / "vae"


@pytest.fixture
def again(call_stage: Call, places: Callable[[Path], list[str]], tmp_path: Path) -> Call:
    """`again(stage, *overrides)` of that cell."""

    def call(stage: str, *overrides: str) -> Any:
        chosen = ["data=heights", "model=vae", "budget=smoke", "tracking=none", *places(tmp_path)]
        return call_stage(stage, *chosen, *overrides)

    return call


def without_cost(found: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in found.items() if not name.endswith("cost.json")}


def test_another_seed_gives_what_the_three_stages_give(
    cell: Path, again: Call, contents: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    before = contents(cell)
    done = again("repeat", "seed=1")
    assert done.returncode == 0, done.stderr
    assert {name: digest for name, digest in contents(cell).items() if not name.startswith("seeds")} == before
    for stage in ("train", "sample", "evaluate"):
        assert again(stage, "seed=1", f"paths.cell={tmp_path / 'alone'}").returncode == 0
    repeated = without_cost(contents(cell / "seeds" / "1"))
    assert repeated == without_cost(contents(tmp_path / "alone"))
    assert {"train/weights.safetensors", "sample/samples.npz", "evaluate/metrics.json"} <= repeated.keys()
    for name in ("train/weights.safetensors", "sample/samples.npz", "evaluate/metrics.json"):
        assert repeated[name] != without_cost(before)[name]
    record = json.loads((cell / "seeds" / "1" / "train" / "model.json").read_text())
    assert record["configuration"]["seed"] == 1
    versions = json.loads((cell / "seeds" / "1" / "evaluate" / "metrics.json").read_text())["versions"]
    assert versions.keys() == {"python", "lookalike", "numpy", "scipy", "torch"}


def test_the_cell_s_own_seed_is_copied_and_not_trained_again(
    cell: Path, again: Call, contents: Callable[[Path], dict[str, str]]
) -> None:
    before = contents(cell)
    done = again("repeat", "seed=0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("seed 0 is that of") == 3
    assert contents(cell / "seeds" / "0") == before  # cost included: nothing was worked on


def test_a_cell_that_was_told_otherwise_is_not_taken_for_the_seed(cell: Path, again: Call) -> None:
    done = again("repeat", "seed=0", "model.components=2")
    assert done.returncode == 0, done.stderr
    assert "is that of" not in done.stdout
    record = json.loads((cell / "seeds" / "0" / "train" / "model.json").read_text())
    assert record["configuration"]["model"]["components"] == 2


def test_a_seed_that_is_none_is_refused_in_one_line(cell: Path, again: Call) -> None:
    done = again("repeat", "seed=-1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: seed=-1: ")
    assert not (cell / "seeds").exists()
