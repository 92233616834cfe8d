"""`compare` and `report` on a folder of cells: what is missing is named, and nobody else's file is touched."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.report.cells import read_tables
from lookalike.report.leaderboard import leaderboard
from lookalike.report.results import changed_cells, own_files, save
from lookalike.workspace.errors import UserError
from lookalike.workspace.litter import LITTER
from lookalike.workspace.outputs import writing
from lookalike.workspace.pipeline import Listed
from test_report import FLOORS, LISTED, MODELS, TRAINED, files, write, write_cells, write_seeds

pytest_plugins = ["pipeline_fixtures"]

ONE = Listed(data=["heights"], models=TRAINED, floors=FLOORS)
NAMES = [pattern.replace("*", "x") for pattern in LITTER]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    write_cells(folder, data=["heights", "digits"], models=MODELS)
    return folder


@pytest.fixture
def copy(artifacts: Path, tmp_path: Path) -> Path:
    """Return a copy of the cells that a test may damage."""
    return Path(shutil.copytree(artifacts, tmp_path / "artifacts"))


def compared(artifacts: Path, results: Path, listed: Listed = ONE) -> Path:
    """Write the report over some cells as `compare` does."""
    with writing(results, own=own_files) as folder:
        save(read_tables(artifacts, listed)[0], folder)
    return results


# What is missing


@pytest.mark.parametrize(
    ("missing", "name", "command"),
    [
        ("heights/vae/0/evaluate/metrics.json", "heights/vae/0", "lookalike evaluate data=heights model=vae`"),
        ("heights/vae/0/sample/samples.npz", "heights/vae/0", "lookalike sample data=heights model=vae`"),
        ("heights/vae/0/train/loss_train.csv", "heights/vae/0", "lookalike train data=heights model=vae`"),
        ("heights/real/metrics.json", "heights", "lookalike real data=heights`"),
        ("heights/real/details.npz", "heights", "lookalike real data=heights`"),
        ("heights/features/extractor/extractor.json", "heights", "lookalike features data=heights`"),
        ("heights/prepared/domain.json", "heights", "lookalike prepare data=heights`"),
    ],
)
def test_what_is_incomplete_is_left_out_and_named_with_the_command_that_completes_it(
    copy: Path, missing: str, name: str, command: str
) -> None:
    (copy / missing).unlink()
    tables, left_out = read_tables(copy, LISTED)
    rows = {table.name: [row.model for row in table.families] for table in tables}
    others = [model for model in ["independent", "copycat", *TRAINED] if model not in name]
    assert rows == ({"heights": others} if "/" in name else {}) | {"digits": ["independent", "copycat", *TRAINED]}
    assert command in left_out[name]
    assert missing in left_out[name]
    assert left_out["digits/gan/0"] == ""


def test_a_seed_that_is_incomplete_is_left_out_and_the_others_are_compared(copy: Path) -> None:
    write_seeds(copy, shifts={1: 0.3, 2: -0.6})
    (copy / "heights" / "vae" / "0" / "train" / "model.json").unlink()
    (table,), left_out = read_tables(copy, Listed(data=["heights"], models=["vae"], seeds=[0, 1, 2]))
    assert list(table.families[0].metrics["wasserstein_1"]["seeds"]) == ["1", "2"]
    assert list(left_out) == ["heights/vae/0"]


def test_a_cell_of_which_a_stage_was_run_for_another_model_is_left_out(copy: Path) -> None:
    cost = copy / "heights" / "vae" / "0" / "sample" / "cost.json"
    cost.write_text(json.dumps(json.loads(cost.read_text()) | {"fingerprint": "0123456789abcdef"}))
    tables, left_out = read_tables(copy, LISTED)
    assert "vae" not in [row.model for table in tables if table.name == "heights" for row in table.families]
    assert "run `lookalike sample data=heights model=vae` again" in left_out["heights/vae/0"]


def test_where_nothing_is_complete_the_first_thing_that_is_missing_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "heights" / "features")
    with pytest.raises(UserError, match=r"nothing to compare.*; .*lookalike features data=heights`"):
        read_tables(copy, ONE)


def test_a_data_set_that_is_not_listed_is_compared_with_the_cells_that_it_has(
    copy: Path, tmp_path: Path, call_stage: Callable[..., Any]
) -> None:
    for name in ("vae", "mine"):
        shutil.rmtree(copy / "heights" / name, ignore_errors=True)
    (copy / "heights" / "flow_matching").rename(copy / "heights" / "mine")
    for path in copy.rglob("domain.json"):
        path.write_text(path.read_text().replace('"heights"', '"ring"'))
    (copy / "heights").rename(copy / "ring")
    (copy / "ring" / "independent" / "0" / "sample" / "samples.npz").unlink()
    overrides = [f"paths.artifacts={copy}", f"paths.results={tmp_path / 'results'}", "tracking=none"]
    done = call_stage("compare", "data=ring", *overrides)
    assert done.returncode == 0, done.stderr
    board = json.loads((tmp_path / "results" / "leaderboard.json").read_text())
    assert list(board) == ["ring"]
    assert list(board["ring"]) == ["real", "copycat", "mine"]
    assert "left out: ring/independent/0: " in done.stdout
    assert "run `lookalike sample data=ring model=independent`" in done.stdout
    assert "gan" not in done.stdout, "nobody asked for it"


# The folder


def test_a_new_report_replaces_its_own_files_alone_and_litter_goes(artifacts: Path, tmp_path: Path) -> None:
    results = compared(artifacts, tmp_path / "results", LISTED)
    first = files(results)
    mine = {name: name.encode() for name in ("notes.md", "figures/mine.svg", "cards/a/b.md", "deeper/x")}
    for name, content in mine.items():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_bytes(content)
    for name in NAMES:
        for place in (results / name, results / "figures" / name):
            place.mkdir() if name == ".ipynb_checkpoints" else place.write_text("")
    compared(artifacts, results)
    left = files(results)
    assert {name: left.pop(name) for name in mine} == mine
    assert {*left} == {name for name in first if "digits" not in name}
    assert not [path for path in results.rglob("*") if path.name in NAMES]
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_an_old_report_stays_until_a_new_one_is_whole(artifacts: Path, tmp_path: Path) -> None:
    results = compared(artifacts, tmp_path / "results")
    before = files(results)

    def fail() -> None:
        with writing(results, own=own_files) as folder:
            (folder / "report.html").write_text("half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert files(tmp_path) == {f"results/{name}": content for name, content in before.items()}


# Scores that have changed since


def board_of(artifacts: Path, folder: Path, listed: Listed) -> Path:
    """Write the leaderboard over some cells."""
    write(folder / "leaderboard.json", leaderboard(read_tables(artifacts, listed)[0]))
    return folder


def test_cells_that_have_changed_since_the_report_are_named(copy: Path, tmp_path: Path) -> None:
    results = board_of(copy, tmp_path, ONE)
    assert changed_cells(results, copy, ONE) == []
    assert changed_cells(results, copy, LISTED) == [f"digits/{model}/0" for model in MODELS]
    path = copy / "heights" / "vae" / "0" / "evaluate" / "metrics.json"
    scores = json.loads(path.read_text())
    write(path, scores | {"recall": scores["recall"] | {"value": 0.25}})
    assert changed_cells(results, copy, ONE) == ["heights/vae/0"]


def test_a_new_seed_is_named_and_known_ones_are_not(copy: Path, tmp_path: Path) -> None:
    results = board_of(copy, tmp_path, ONE)
    write_seeds(copy, shifts={1: 0.3})
    seeded = Listed(data=["heights"], models=TRAINED, floors=FLOORS, seeds=[0, 1])
    assert changed_cells(results, copy, seeded) == ["heights/flow_matching/1", "heights/vae/1"]
    assert changed_cells(board_of(copy, tmp_path, seeded), copy, seeded) == []


def test_scores_that_git_brings_without_their_cell_are_no_new_cell(copy: Path, tmp_path: Path) -> None:
    results = board_of(copy, tmp_path, Listed(data=["heights"], models=["vae"]))
    for path in (copy / "heights" / "flow_matching").rglob("*.*"):
        if path.is_file() and path.name != "metrics.json":
            path.unlink()
    assert changed_cells(results, copy, Listed(data=["heights"], models=TRAINED)) == []
