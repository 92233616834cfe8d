"""Stages that are run by hand with other settings than the pipeline's: they have a place of their own."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lookalike.workspace import tries
from lookalike.workspace.configuration import ROOT, compose
from lookalike.workspace.tries import SETTINGS, as_recorded, placed, with_profiles

pytest_plugins = ["pipeline_fixtures"]

Done = subprocess.CompletedProcess[str]

CELL = "artifacts/heights/vae/0"

PIPELINE = """
data: [heights]
models: [vae, mixture]
floors: [uniform]
seeds: [0, 1]
budget: default
trainer: cpu
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the checkout, with this checkout's conf/ and a pipeline of its own."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "pipeline.yaml").write_text(PIPELINE)
    for module in ("configuration", "tries", "command_line"):
        monkeypatch.setattr(f"lookalike.workspace.{module}.ROOT", tmp_path)
    for module in ("configuration", "tries"):
        monkeypatch.setattr(f"lookalike.workspace.{module}.CONF", tmp_path / "conf")
    monkeypatch.setattr(tries, "TRIES", tmp_path / "tries")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return tmp_path


def place(home: Path, stage: str, *overrides: str) -> str:
    """Return where a stage writes, relative to the checkout; its earlier stages have all run."""
    given = with_profiles(stage, ["data=heights", "model=vae", *overrides])
    config = compose(given)
    for earlier in list(SETTINGS)[: list(SETTINGS).index(stage)]:
        for folder in (CELL, "artifacts/heights/vae/1", place(home, earlier, *overrides)):
            if not (home / folder / earlier).exists():
                (home / folder / earlier).mkdir(parents=True)
    return str(placed(stage, config, given).cell.relative_to(home))


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        ([], CELL),
        (["seed=1"], "artifacts/heights/vae/1"),
        (["budget=default", "trainer=cpu", "seed=0", "tracking=none"], CELL),
        (["model.conditional=false"], CELL),  # the value that conf/ has
        (["budget.features=2", "paths.scratch=elsewhere"], CELL),  # no stage of a cell reads them
        (["budget=smoke"], "budget=smoke"),
        (["budget.scale=0.5", "budget=smoke"], "budget=smoke,budget.scale=0.5"),
        (["optimizer.lr=1e-3"], "optimizer.lr=0.001"),
        (["optimizer.lr=1e-3", "model.conditional=true"], "model.conditional=true,optimizer.lr=0.001"),
        (["model.conditional=true", "seed=1"], "model.conditional=true,seed=1"),
        (["seed=7"], "seed=7"),
        (["model=uniform", "seed=1"], "seed=1"),
        (["model.sizes.table.hidden=[8,8]"], "model.sizes.table.hidden=8+8"),
        (["likelihood.importance_samples=3"], CELL),
        (["data.reader.file='a b'"], "data.reader.file=_a_b_-2b5c67eb"),
    ],
)
def test_a_training_is_the_cell_s_or_named_after_what_differs(home: Path, overrides: list[str], folder: str) -> None:
    model = "uniform" if "model=uniform" in overrides else "vae"
    expected = folder if folder.startswith("artifacts") else f"tries/heights/{model}/{folder}"
    chosen = [item for item in overrides if item != "model=uniform"]
    given = with_profiles("train", ["data=heights", f"model={model}", *chosen])
    assert str(placed("train", compose(given), given).cell.relative_to(home)) == expected
    again = with_profiles("train", [*reversed(chosen), f"model={model}", "data=heights"])
    assert str(placed("train", compose(again), again).cell.relative_to(home)) == expected


def test_a_name_that_is_too_long_ends_in_a_digest(home: Path) -> None:
    sizes = ["model.sizes.table.hidden=" + str([64] * n).replace(" ", "") for n in (60, 61)]
    one, other = (Path(place(home, "train", item)).name for item in sizes)
    assert one[:100] == other[:100]
    assert one != other
    assert len(one) == len(other) == 109


def test_only_the_stages_that_depend_on_a_setting_are_a_try(home: Path) -> None:
    name = "tries/heights/vae/budget.samples=50"
    assert [place(home, stage, "budget.samples=50") for stage in SETTINGS] == [CELL, name, name]
    assert (home / name / "train").resolve() == home / CELL / "train"
    assert not (home / name / "sample").is_symlink()
    both = ["budget.samples=50", "split=validation", "model.conditional=true"]
    assert [Path(place(home, stage, *both)).name for stage in SETTINGS] == [
        "model.conditional=true",
        "budget.samples=50,model.conditional=true",
        "budget.samples=50,model.conditional=true,split=validation",
    ]


def test_a_place_that_somebody_chose_and_dvc_s_own_stages_are_left_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place(home, "train", "budget=smoke", f"paths.cell={home}/mine") == "mine"
    assert place(home, "train", "budget=smoke", f"paths.artifacts={home}/mine") == "mine/heights/vae/0"
    monkeypatch.setenv("DVC_STAGE", "train@heights-vae-0")
    assert place(home, "train", "budget=smoke") == CELL


def test_a_stage_without_a_budget_has_the_pipeline_s(home: Path) -> None:
    path = home / "conf" / "pipeline.yaml"
    path.write_text(PIPELINE.replace("default", "smoke"))
    assert with_profiles("train", ["data=heights"]) == ["data=heights", "budget=smoke", "trainer=cpu"]
    assert with_profiles("compare", ["data=heights"]) == ["data=heights"]
    assert place(home, "train") == place(home, "train", "budget=smoke") == CELL
    assert place(home, "train", "budget=default") == "tries/heights/vae/budget=default"


def test_the_settings_of_a_stage_are_those_that_dvc_tracks() -> None:
    tracked: dict[str, set[str]] = {}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in SETTINGS:
        declared: set[str] = set()
        for entry in stages[stage]["params"]:
            ((path, names),) = entry.items()
            group = Path(path).parent.name
            declared |= {name if group in ("conf", "model") else f"{group}.{name}" for name in names or []} or {group}
        tracked[stage] = declared
    counted: set[str] = set()
    for stage, keys in SETTINGS.items():
        counted |= {*keys}
        assert not [key for key in tracked[stage] if not tries.is_among(key, tuple(counted))]
        assert not [key for key in keys if not any(tries.is_among(one, (key,)) for one in tracked[stage])]


def test_stages_by_hand_leave_the_cell_as_it_is(
    home: Path, heights_cell: Path, call_stage: Callable[..., Done], contents: Callable[[Path], dict[str, str]]
) -> None:
    shutil.copytree(heights_cell / "artifacts", home / "artifacts")
    before = contents(home / "artifacts")
    chosen = ["data=heights", "model=vae", "tracking=none"]
    conditional = [*chosen, "budget=smoke", "model.conditional=true"]

    refused = call_stage("sample", *conditional)
    folder = home / "tries" / "heights" / "vae" / "budget=smoke,model.conditional=true"
    assert refused.stderr == (
        f"error: no trained model in {folder}/train: run `lookalike train {' '.join(conditional)}` first\n"
    )
    for stage in SETTINGS:
        done = call_stage(stage, *conditional)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == (
            "not the pipeline's settings (budget=smoke, model.conditional=true): this try goes to "
            f"{folder.relative_to(home)}/{stage}"
        )
    assert json.loads((folder / "train" / "model.json").read_text())["configuration"]["model"]["conditional"] is True
    done = call_stage("sample", *conditional, "label=female")
    assert (done.returncode, done.stdout) == (0, "samples/heights-vae-female/samples.png\n"), done.stderr

    done = call_stage("evaluate", *chosen, "likelihood.importance_samples=3", "split=validation")
    assert done.returncode == 0, done.stderr
    folder = home / "tries" / "heights" / "vae" / "likelihood.importance_samples=3,split=validation"
    scored = json.loads((folder / "evaluate" / "metrics.json").read_text())["bits_per_dim"]
    assert (scored["split"], scored["settings"]["importance_samples"]) == ("validation", 3)
    assert (folder / "train").resolve() == home / CELL / "train"
    assert contents(home / "artifacts") == before


def test_views_know_a_try_by_what_differs_and_never_take_it_for_the_cell(home: Path) -> None:
    record = {"name": "heights-vae", "fingerprint": "0123456789abcdef"}
    assert as_recorded(record, home / CELL) == record
    trained = home / place(home, "train", "optimizer.lr=1e-3")
    (trained / "train").mkdir(parents=True)
    assert as_recorded(record, trained) == record | {"name": "heights-vae optimizer.lr=0.001"}
    seen = {
        as_recorded(record, home / place(home, stage, item))["fingerprint"]
        for stage, item in (("evaluate", "split=validation"), ("sample", "budget.samples=50"))
    }
    assert len(seen | {record["fingerprint"]}) == 3
