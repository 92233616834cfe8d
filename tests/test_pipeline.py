"""The whole pipeline under DVC, small: what it makes, what it runs again after a change, that it repeats."""

import contextlib
import importlib
import json
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lookalike.core.config import ROOT

pytest_plugins = ["pipeline_fixtures"]

Edited = Callable[..., contextlib.AbstractContextManager[None]]
Run = Callable[..., subprocess.CompletedProcess[str]]

DATA, MODELS = ("heights", "mnist"), ("copycat", "vae")
COMPARED = "compare" in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
needs_compare = pytest.mark.skipif(not COMPARED, reason="dvc.yaml has no compare stage")


@contextlib.contextmanager
def opened(checkout: Path) -> Iterator[Any]:
    """A checkout's repository, as DVC itself opens it."""
    with contextlib.chdir(checkout), importlib.import_module("dvc.repo").Repo() as repo:
        yield repo


def changed(checkout: Path) -> set[str]:
    """Stages that DVC finds changed by themselves."""
    with opened(checkout) as repo:
        return set(repo.status())


def would_run(checkout: Path) -> set[str]:
    """Those and all that depend on them."""
    ancestors: Any = importlib.import_module("networkx").ancestors
    with opened(checkout) as repo:
        graph, first = repo.index.graph, set(repo.status())
        stages = [stage for stage in graph if stage.addressing in first]
        return {later.addressing for stage in stages for later in {stage} | ancestors(graph, stage)}


# What it makes


def test_every_declared_output_is_there(smoke: Path, dvc_stages: Callable[[Path], dict[str, Any]]) -> None:
    outputs = [Path(out.fs_path) for stage in dvc_stages(smoke).values() for out in stage.outs]
    assert len(outputs) > 50
    assert not [path for path in outputs if not path.exists()]
    assert not [path for path in (smoke / "artifacts").rglob("*") if path.name.startswith(".") and path.is_dir()]


def test_what_is_small_is_for_git_and_the_rest_is_not(smoke: Path, run: Run) -> None:
    listed = set(run(smoke, "git", "ls-files", "-o", "--exclude-standard").stdout.split())
    metrics = {f"artifacts/{data}/{model}/evaluate/metrics.json" for data in DATA for model in MODELS}
    metrics |= {f"artifacts/{data}/real/metrics.json" for data in DATA} | {"dvc.lock"}
    assert metrics <= listed
    assert {name.split("/")[0] for name in listed - metrics} <= ({"results"} if COMPARED else set())


@pytest.mark.parametrize("model", [*MODELS, "real"])
def test_samples_are_on_the_data_s_own_grid(smoke: Path, model: str) -> None:
    place = "" if model == "real" else "sample"
    for data, shape, dtype in (("heights", (1,), np.float64), ("mnist", (1, 28, 28), np.uint8)):
        with np.load(smoke / "artifacts" / data / model / place / "samples.npz", allow_pickle=False) as file:
            assert file.files == ["samples"]
            samples = file["samples"]
        assert samples.dtype == dtype
        assert samples.shape == (200, *shape)
        assert np.isfinite(samples).all()


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", MODELS)
def test_every_metric_has_a_value_an_error_and_its_protocol(smoke: Path, data: str, model: str) -> None:
    metrics = json.loads((smoke / "artifacts" / data / model / "evaluate" / "metrics.json").read_text())
    assert ("bits_per_dim" in metrics) == (model != "copycat")
    assert ("wasserstein_1" if data == "heights" else "frechet_distance") in metrics
    expected = {
        "class_distance",
        "class_gap",
        "precision",
        "coverage",
        "classifier_accuracy",
        "energy_distance",
        "authenticity",
    }
    assert expected <= metrics.keys()
    assert {"python", "lookalike", "numpy", "torch"} <= metrics.pop("versions").keys()
    for name, entry in metrics.items():
        assert isinstance(entry["value"], float), name
        if name.startswith("bits_per_dim"):
            assert {"kind", "settings", "points", "of", "split"} <= entry.keys()
        else:
            assert {"samples", "reference", "extractor"} <= entry.keys(), name
    costs = [json.loads(path.read_text()) for path in (smoke / "artifacts" / data / model).rglob("cost.json")]
    assert len(costs) == 3
    assert all(cost["work_seconds"] >= 0 and cost["peak_memory_mb"] > 0 for cost in costs)


def test_copies_are_told_by_their_equals_in_the_training_data(smoke: Path) -> None:
    """Of heights, which repeat to a tenth of an inch, equality says little."""
    for data in DATA:
        metrics = json.loads((smoke / "artifacts" / data / "copycat" / "evaluate" / "metrics.json").read_text())
        assert metrics["training_copies"]["value"] == 1
    real = json.loads((smoke / "artifacts" / "mnist" / "real" / "metrics.json").read_text())
    assert real["training_copies"]["value"] < 0.01


@needs_compare
def test_the_leaderboard_has_a_row_for_every_cell_and_for_real_data(smoke: Path) -> None:
    board = json.loads((smoke / "results" / "leaderboard.json").read_text())
    assert {data: set(rows) for data, rows in board.items()} == {data: {*MODELS, "real"} for data in DATA}
    for data in DATA:
        for model in MODELS:
            metrics = json.loads((smoke / "artifacts" / data / model / "evaluate" / "metrics.json").read_text())
            for name in metrics.keys() & board[data][model].keys():
                assert board[data][model][name]["value"] == metrics[name]["value"]
    for name in ("leaderboard.csv", "leaderboard.md", "report.html"):
        assert (smoke / "results" / name).stat().st_size > 0
    cards = {path.name for path in (smoke / "results" / "cards").iterdir()}
    assert cards == {f"{data}-{model}.md" for data in DATA for model in MODELS}


@pytest.mark.skipif(not (ROOT / "src/lookalike/tracking").is_dir(), reason="there is no tracking")
def test_mlflow_holds_one_finished_run_a_cell(smoke: Path, run: Run) -> None:
    ask = """
        import json, mlflow
        client = mlflow.MlflowClient()
        experiments = [found.experiment_id for found in client.search_experiments()]
        print(json.dumps([[found.info.run_name, found.info.status] for found in client.search_runs(experiments)]))
    """
    done = run(smoke, "python", "-c", textwrap.dedent(ask))
    assert done.returncode == 0, done.stderr
    expected = [[f"{data}-{model}", "FINISHED"] for data in DATA for model in MODELS]
    assert sorted(json.loads(done.stdout)) == sorted(expected)


# Other training seeds


def test_repeats_are_made_beside_the_cells_and_told_in_the_leaderboard(repeated: Path) -> None:
    board = json.loads((repeated / "results" / "leaderboard.json").read_text())["heights"]
    for model in MODELS:
        cell = repeated / "artifacts" / "heights" / model
        own, copied, other = (
            json.loads((place / "evaluate" / "metrics.json").read_text())
            for place in (cell, cell / "seeds" / "0", cell / "seeds" / "1")
        )
        assert own == copied
        values = {"0": own["wasserstein_1"]["value"], "1": other["wasserstein_1"]["value"]}
        assert board[model]["wasserstein_1"]["seeds"] == values
        assert values["0"] != values["1"]
    assert ", n = 2" in (repeated / "results" / "leaderboard.md").read_text()


def test_metrics_of_repeats_are_for_git_and_the_rest_is_not(repeated: Path, run: Run) -> None:
    listed = run(repeated, "git", "ls-files", "-o", "--exclude-standard").stdout.split()
    assert {name for name in listed if "/seeds/" in name} == {
        f"artifacts/heights/{model}/seeds/{seed}/evaluate/metrics.json" for model in MODELS for seed in (0, 1)
    }


def test_repeats_are_up_to_date_once_made(repeated: Path) -> None:
    assert changed(repeated) == set()


# What it runs again


def test_a_second_run_runs_nothing(smoke: Path, run: Run) -> None:
    assert changed(smoke) == set()
    done = run(smoke, "dvc", "repro")
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout


def cells(stage: str, model: str) -> set[str]:
    return {f"{stage}@{data}-{model}" for data in DATA}


LAST = {"compare"} if COMPARED else set()


def test_a_key_of_a_model_reruns_that_model_s_cells_and_what_compares_them(smoke: Path, edited: Edited) -> None:
    vae = smoke / "conf" / "model" / "vae.yaml"
    with edited(vae, "components: 4", "components: 3"):
        assert changed(smoke) == cells("train", "vae")
        assert would_run(smoke) == cells("train", "vae") | cells("sample", "vae") | cells("evaluate", "vae") | LAST


def test_settings_of_the_likelihood_rerun_the_scoring_alone(smoke: Path, edited: Edited) -> None:
    with edited(smoke / "conf" / "model" / "vae.yaml", "importance_samples: 50", "importance_samples: 5"):
        assert would_run(smoke) == cells("evaluate", "vae") | LAST


def test_a_comment_in_a_model_s_file_reruns_nothing(smoke: Path, edited: Edited) -> None:
    with edited(smoke / "conf" / "model" / "vae.yaml", "@package _global_", "@package _global_\n# A remark."):
        assert would_run(smoke) == set()


@pytest.mark.parametrize(
    ("file", "spared"),
    [
        ("src/lookalike/models/vae.py", "copycat"),
        ("src/lookalike/models/flow_matching.py", "prepare features train sample evaluate real"),  # cards quote it
        ("src/lookalike/pictures.py", "train"),
        ("src/lookalike/sampling.py", "train"),
        ("src/lookalike/metrics/marginal.py", "train sample"),
        ("src/lookalike/views.py", ""),
        ("src/lookalike/tracking/__init__.py", ""),
        ("src/lookalike/report/page.py", "prepare features train sample evaluate real"),
        ("src/lookalike/report/figures.py", "prepare features train sample evaluate real"),
    ],
)
def test_an_edit_of_code_reruns_only_what_runs_that_code(smoke: Path, file: str, spared: str) -> None:
    path = smoke / file
    if not path.is_file():
        pytest.skip(f"no {file}")
    before = path.read_text()
    path.write_text(before + "\n# An edit.\n")
    try:
        found = changed(smoke)
    finally:
        path.write_text(before)
    if not spared:
        assert found == set()
    else:
        assert found
        assert not [stage for stage in found if any(name in stage for name in spared.split())]


def test_a_picture_drawn_otherwise_does_not_change_the_data_that_models_train_on(
    smoke: Path, run: Run, edited: Edited, tmp_path: Path,
) -> None:  # fmt: skip
    overrides = ["data=heights", f"paths.data={smoke / 'data'}", f"paths.artifacts={tmp_path}"]
    with edited(smoke / "src" / "lookalike" / "pictures.py", "dpi=110", "dpi=50"):
        done = run(smoke, "python", str(smoke / "pipelines" / "prepare.py"), *overrides)
    assert done.returncode == 0, done.stderr
    trained_on = yaml.safe_load((smoke / "dvc.lock").read_text())["stages"]["train@heights-vae"]["deps"]
    declared = [smoke / dep["path"] for dep in trained_on if dep["path"].startswith("artifacts/")]
    assert declared
    for path in declared:
        fresh = tmp_path / path.relative_to(smoke / "artifacts")
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            assert file.read_bytes() == (fresh / file.relative_to(path)).read_bytes(), file.name


# What people look at


def test_dvc_shows_the_metrics_of_every_cell(smoke: Path, run: Run) -> None:
    done = run(smoke, "dvc", "metrics", "show", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)[""]["data"]
    assert set(shown) >= {f"artifacts/{data}/{model}/evaluate/metrics.json" for data in DATA for model in MODELS}
    assert all("data" in entry for entry in shown.values())


def test_dvc_has_nothing_to_complain_about_when_it_shows_metrics(smoke: Path, run: Run) -> None:
    assert "failed to load" not in run(smoke, "dvc", "metrics", "show").stderr


def test_dvc_draws_the_loss_curves_of_the_trained_and_is_not_stopped_by_the_untrained(smoke: Path, run: Run) -> None:
    done = run(smoke, "dvc", "plots", "show", "--out", ".trace/plots")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stderr.lower()
    page = (smoke / ".trace" / "plots" / "index.html").read_text()
    assert "heights/vae/train/loss_train.csv" in page


def test_dvc_tells_which_settings_differ(smoke: Path, run: Run, edited: Edited) -> None:
    with edited(smoke / "conf" / "model" / "vae.yaml", "components: 4", "components: 3"):
        done = run(smoke, "dvc", "params", "diff", "--json")
    assert done.returncode == 0, done.stderr
    changes = json.loads(done.stdout)["conf/model/vae.yaml"]
    assert changes == {"model.components": {"old": 4, "new": 3, "diff": -1}}


# Again, elsewhere


@pytest.fixture(scope="module")
def again(new_checkout: Callable[..., Path], smoke: Path, run: Run) -> Path:
    """Another checkout after the run of one of the smoke run's cells."""
    checkout = new_checkout("data: [heights]\nmodels: [vae]\nseeds: []\nbudget: smoke\ntrainer: cpu\n", source=smoke)
    config = checkout / "conf" / "config.yaml"
    config.write_text(config.read_text().replace("tracking: mlflow", "tracking: none"))
    done = run(checkout, "dvc", "repro", "--glob", "*@heights*")
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


def locked(checkout: Path) -> dict[str, Any]:
    stages = yaml.safe_load((checkout / "dvc.lock").read_text())["stages"]
    for stage in stages.values():
        stage["outs"] = [out for out in stage["outs"] if not out["path"].endswith("cost.json")]
    return {name: stage for name, stage in stages.items() if "heights" in name and not name.endswith("copycat")}


def test_two_checkouts_end_with_the_same_lock_file_but_for_what_it_cost(smoke: Path, again: Path) -> None:
    once, twice = locked(smoke), locked(again)
    assert once.keys() == twice.keys()
    assert len(once) == 6
    for name in once:
        assert once[name] == twice[name], name


def test_an_experiment_with_another_setting_reruns_its_cell(again: Path, run: Run) -> None:
    assert run(again, "git", "add", "-A").returncode == 0
    assert run(again, "git", "commit", "-qm", "Results").returncode == 0
    done = run(again, "dvc", "exp", "run", "-S", "conf/model/vae.yaml:model.components=2", "evaluate@heights-vae")
    assert done.returncode == 0, done.stdout + done.stderr
    ran = {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}
    assert ran == {f"{stage}@heights-vae" for stage in ("train", "sample", "evaluate")}
    record = json.loads((again / "artifacts" / "heights" / "vae" / "train" / "model.json").read_text())
    assert record["configuration"]["model"]["components"] == 2
    shown = run(again, "dvc", "exp", "show", "--json")
    assert shown.returncode == 0, shown.stderr


def test_queued_experiments_run_the_code_of_their_own_copy(again: Path, run: Run) -> None:
    setting = "conf/model/vae.yaml:model.components=3"
    done = run(again, "dvc", "exp", "run", "--queue", "-n", "three", "-S", setting, "evaluate@heights-vae")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(again, "dvc", "exp", "run", "--run-all")
    assert done.returncode == 0, done.stdout + done.stderr
    refs = run(again, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    (three,) = (ref for ref in refs if ref.endswith("/three"))
    assert "bits_per_dim" in run(again, "git", "show", f"{three}:artifacts/heights/vae/evaluate/metrics.json").stdout
    lock = yaml.safe_load(run(again, "git", "show", f"{three}:dvc.lock").stdout)
    assert lock["stages"]["train@heights-vae"]["params"]["conf/model/vae.yaml"]["model"]["components"] == 3
