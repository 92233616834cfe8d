"""Tests of the whole pipeline under DVC on a small budget: outputs, what becomes stale, repeatability."""

import contextlib
import csv
import importlib
import io
import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lookalike.sweeps.check import digest
from lookalike.workspace.litter import LITTER

pytest_plugins = ["pipeline_fixtures"]

Edited = Callable[..., contextlib.AbstractContextManager[None]]
Run = Callable[..., subprocess.CompletedProcess[str]]

DATA, MODELS = ("heights", "mnist"), ("copycat", "vae")
CELL_STAGES = ("train", "sample", "evaluate")


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
    places = {f"{data}/{place}" for data in DATA for place in ("real", *(f"{model}/0/evaluate" for model in MODELS))}
    metrics = {f"artifacts/{place}/{name}.json" for place in places for name in ("headline", "metrics")} | {"dvc.lock"}
    assert metrics <= listed
    assert {name.split("/")[0] for name in listed - metrics} == {"results"}


@pytest.mark.parametrize("folder", [*(f"{model}/0/sample" for model in MODELS), "real"])
def test_samples_are_on_the_data_s_own_grid(smoke: Path, folder: str) -> None:
    for data, shape, dtype in (("heights", (1,), np.float64), ("mnist", (1, 28, 28), np.uint8)):
        with np.load(smoke / "artifacts" / data / folder / "samples.npz", allow_pickle=False) as file:
            assert file.files == ["samples"]
            samples = file["samples"]
        assert samples.dtype == dtype
        assert samples.shape == (200, *shape)
        assert np.isfinite(samples).all()


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", MODELS)
def test_every_metric_has_a_value_an_error_and_its_protocol(smoke: Path, data: str, model: str) -> None:
    metrics = json.loads((smoke / "artifacts" / data / model / "0" / "evaluate" / "metrics.json").read_text())
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
    for name, entry in metrics.items():
        assert isinstance(entry["value"], float), name
        if name.startswith("bits_per_dim"):
            assert {"kind", "settings", "points", "of", "split"} <= entry.keys()
        else:
            assert {"samples", "reference", "extractor"} <= entry.keys(), name
    costs = [json.loads(path.read_text()) for path in (smoke / "artifacts" / data / model).rglob("cost.json")]
    assert len(costs) == 3
    assert all(cost["work_seconds"] >= 0 and cost["peak_memory_mb"] > 0 for cost in costs)
    assert all({"python", "lookalike", "numpy", "torch"} <= cost["versions"].keys() for cost in costs)


def test_copies_are_told_by_their_equals_in_the_training_data(smoke: Path) -> None:
    """Of heights, which repeat to a tenth of an inch, equality says little."""
    for data in DATA:
        metrics = json.loads((smoke / "artifacts" / data / "copycat" / "0" / "evaluate" / "metrics.json").read_text())
        assert metrics["training_copies"]["value"] == 1
    real = json.loads((smoke / "artifacts" / "mnist" / "real" / "metrics.json").read_text())
    assert real["training_copies"]["value"] < 0.01


def test_the_leaderboard_has_a_row_for_every_cell_and_for_real_data(smoke: Path) -> None:
    board = json.loads((smoke / "results" / "default" / "leaderboard.json").read_text())
    assert {data: set(rows) for data, rows in board.items()} == {data: {*MODELS, "real"} for data in DATA}
    for data in DATA:
        for model in MODELS:
            metrics = json.loads((smoke / "artifacts" / data / model / "0" / "evaluate" / "metrics.json").read_text())
            for name in metrics.keys() & board[data][model].keys():
                assert board[data][model][name]["value"] == metrics[name]["value"]
    for name in ("leaderboard.csv", "leaderboard.md", "report.html"):
        assert (smoke / "results" / "default" / name).stat().st_size > 0
    cards = {path.name for path in (smoke / "results" / "default" / "cards").iterdir()}
    assert cards == {f"{data}-{model}.md" for data in DATA for model in MODELS}


def test_mlflow_holds_one_finished_run_a_cell(smoke: Path, run: Run) -> None:
    ask = """
        import json, mlflow
        client = mlflow.MlflowClient()
        experiments = [found.experiment_id for found in client.search_experiments()]
        print(json.dumps([[found.info.run_name, found.info.status] for found in client.search_runs(experiments)]))
    """
    done = run(smoke, "python", "-c", textwrap.dedent(ask))
    assert done.returncode == 0, done.stderr
    expected = [[model, "FINISHED"] for _ in DATA for model in MODELS]  # an experiment per data set
    assert sorted(json.loads(done.stdout)) == sorted(expected)


# Several seeds


def test_another_seed_trains_the_models_again_and_not_the_floors(seeds: tuple[Path, set[str]]) -> None:
    checkout, ran = seeds
    assert ran == {*(f"{stage}@heights-vae-1" for stage in CELL_STAGES), "compare"}
    assert changed(checkout) == set()


def test_the_leaderboard_shows_the_mean_over_the_seeds(seeds: tuple[Path, set[str]]) -> None:
    checkout, _ = seeds
    board = json.loads((checkout / "results" / "default" / "leaderboard.json").read_text())["heights"]
    values = {}
    for seed in ("0", "1"):
        folder = checkout / "artifacts" / "heights" / "vae" / seed
        assert json.loads((folder / "train" / "model.json").read_text())["configuration"]["seed"] == int(seed)
        values[seed] = json.loads((folder / "evaluate" / "metrics.json").read_text())["wasserstein_1"]["value"]
    assert values["0"] != values["1"]
    assert board["vae"]["wasserstein_1"]["seeds"] == values
    assert board["vae"]["wasserstein_1"]["mean"] == pytest.approx(sum(values.values()) / 2)
    assert "seeds" not in board["copycat"]["wasserstein_1"]
    assert ", 2 seeds" in (checkout / "results" / "default" / "leaderboard.md").read_text()


def test_metrics_of_every_seed_are_for_git_and_the_rest_is_not(seeds: tuple[Path, set[str]], run: Run) -> None:
    listed = run(seeds[0], "git", "ls-files", "-o", "--exclude-standard").stdout.split()
    vae = {name for name in listed if name.startswith("artifacts/heights/vae/")}
    names = ("headline", "metrics")
    assert vae == {f"artifacts/heights/vae/{seed}/evaluate/{name}.json" for seed in (0, 1) for name in names}


# What it runs again


def test_a_second_run_runs_nothing(smoke: Path, run: Run) -> None:
    assert changed(smoke) == set()
    done = run(smoke, "dvc", "repro")
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout


def cells(stage: str, model: str) -> set[str]:
    return {f"{stage}@{data}-{model}-0" for data in DATA}


LAST = {"compare"}


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
    ("file", "stages", "families"),
    [
        ("families/vae.py", "train sample evaluate compare", "vae"),
        ("families/copycat.py", "train_floor sample_floor evaluate_floor compare", "copycat"),
        ("families/flow_matching.py", "compare", ""),  # model cards quote it
        ("sampling/files.py", "sample sample_floor evaluate evaluate_floor", "vae copycat"),
        ("metrics/marginal.py", "evaluate evaluate_floor real compare", "vae copycat"),
        ("tracking/views.py", "", ""),
        ("report/page.py", "compare", ""),
        ("readers/idx.py", "prepare", ""),
        ("sweeps/study.py", "", ""),
    ],
)
def test_an_edit_of_code_makes_stale_what_runs_that_code_and_nothing_else(
    smoke: Path, file: str, stages: str, families: str
) -> None:
    path = smoke / "src" / "lookalike" / file
    before = path.read_text()
    path.write_text(before + "\n# An edit.\n")
    try:
        found = changed(smoke)
    finally:
        path.write_text(before)
    assert {name.partition("@")[0] for name in found} == set(stages.split())
    assert {name.split("-")[1] for name in found if "-" in name} == set(families.split())


def test_a_picture_drawn_otherwise_does_not_change_the_data_that_models_train_on(
    smoke: Path, run: Run, edited: Edited, tmp_path: Path,
) -> None:  # fmt: skip
    overrides = ["data=heights", f"paths.data={smoke / 'data'}", f"paths.artifacts={tmp_path}"]
    with edited(smoke / "src" / "lookalike" / "domain" / "table.py", "dpi=110", "dpi=50"):
        done = run(smoke, "python", str(smoke / "pipelines" / "prepare.py"), *overrides)
    assert done.returncode == 0, done.stderr
    trained_on = yaml.safe_load((smoke / "dvc.lock").read_text())["stages"]["train@heights-vae-0"]["deps"]
    declared = [smoke / dep["path"] for dep in trained_on if dep["path"].startswith("artifacts/")]
    assert declared
    for path in declared:
        fresh = tmp_path / path.relative_to(smoke / "artifacts")
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            assert file.read_bytes() == (fresh / file.relative_to(path)).read_bytes(), file.name


# What people look at


def test_dvc_shows_the_likelihood_and_the_main_distance_of_every_cell_in_short_lines(smoke: Path, run: Run) -> None:
    done = run(smoke, "dvc", "metrics", "show")
    assert done.returncode == 0, done.stderr
    assert "failed to load" not in done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["Path", "bits_per_dim", "frechet_distance", "wasserstein_1"]
    assert max(map(len, [head, *lines])) <= 110
    places = {f"{data}/{place}": data for data in DATA for place in ("real", *(f"{m}/0/evaluate" for m in MODELS))}
    shown = {Path(line.split()[0]): line.split()[1:] for line in lines}
    assert shown.keys() == {Path("artifacts", place, "headline.json") for place in places}
    for place, data in places.items():
        scores = json.loads((smoke / "artifacts" / place / "metrics.json").read_text())
        main = {"bits_per_dim", {"heights": "wasserstein_1", "mnist": "frechet_distance"}[data]} & scores.keys()
        values = dict(zip(head.split()[1:], shown[Path("artifacts", place, "headline.json")], strict=True))
        assert {name for name, value in values.items() if value != "-"} == main
        for name in main:
            value, error = scores[name]["value"], scores[name]["standard_error"]
            assert float(values[name]) == pytest.approx(value, abs=error / 10, rel=1e-3)


def test_dvc_s_page_of_plots_draws_loss_curves_and_samples_and_needs_no_network(smoke: Path, run: Run) -> None:
    done = run(smoke, "dvc", "plots", "show", "--out", ".trace/plots")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stderr.lower()
    page = smoke / ".trace" / "plots" / "index.html"
    assert not re.findall(r"(?:src|href)=.?https?:|@import|fetch\(", page.read_text())
    assert (page.parent / re.findall(r'src="(.*heights_vae.*samples.*)"', page.read_text())[0]).is_file()
    if not (browser := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("there is no browser here to draw the curves")
    drawn = run(smoke, browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()).stdout
    for split in ("train", "validation"):
        (svg,) = re.findall(
            rf"<svg(?:(?!</svg>).)*>artifacts/heights/vae/0/train/loss_{split}.csv<.*?<polyline.*?</text></svg>", drawn
        )
        last = (smoke / f"artifacts/heights/vae/0/train/loss_{split}.csv").read_text().splitlines()[-1].split(",")
        (line,) = re.findall(r'<polyline points="([^"]*)"', svg)
        places = [float(number) for point in line.split() for number in point.split(",")]
        assert len(places) == 2 * int(last[0])
        assert f"{last[1]} after step {last[0]}" in svg
    assert "copycat/0/sample/samples.png" in drawn
    assert "copycat_0_train_loss" not in drawn


def test_dvc_tells_which_settings_differ(smoke: Path, run: Run, edited: Edited) -> None:
    with edited(smoke / "conf" / "model" / "vae.yaml", "components: 4", "components: 3"):
        done = run(smoke, "dvc", "params", "diff", "--json")
    assert done.returncode == 0, done.stderr
    changes = json.loads(done.stdout)["conf/model/vae.yaml"]
    assert changes == {"model.components": {"old": 4, "new": 3, "diff": -1}}


# What others put into its folders


def test_litter_changes_nothing_and_nobody_s_file_is_lost(
    smoke: Path, run: Run, edited: Edited, contents: Callable[[Path], dict[str, str]]
) -> None:
    results = smoke / "results" / "default"
    folders = [smoke / "data" / "mnist", smoke / "artifacts" / "mnist" / "prepared", results, results / "figures"]
    litter = [folder / pattern.replace("*", "x") for folder in folders for pattern in LITTER]
    listed, before = (smoke / "data.dvc").read_text(), contents(results)
    prepared = digest(folders[1])
    for path in litter:
        path.write_text("litter")
    (results / "mine.txt").write_text("mine")
    try:
        assert changed(smoke) == set()
        assert digest(folders[1]) == prepared == locked_output(smoke, "artifacts/mnist/prepared")
        with edited(
            smoke / "src" / "lookalike" / "report" / "page.py", '"""Return the page."""', "raise SystemExit(1)"
        ):
            assert run(smoke, "dvc", "repro", "--single-item", "compare").returncode != 0
        assert {name: contents(results)[name] for name in before} == before
        done = run(smoke, "dvc", "repro", "--single-item", "--force", "compare")
        assert done.returncode == 0, done.stdout + done.stderr
        assert (results / "mine.txt").read_text() == "mine"
        assert contents(results).keys() == {*before, "mine.txt"}
        assert changed(smoke) == set()
        assert (smoke / "data.dvc").read_text() == listed
    finally:
        for path in (*litter, results / "mine.txt"):
            path.unlink(missing_ok=True)


def locked_output(checkout: Path, path: str) -> str:
    stages = yaml.safe_load((checkout / "dvc.lock").read_text())["stages"].values()
    return next(str(out["md5"]) for stage in stages for out in stage["outs"] if out["path"] == path)


# Again, elsewhere


@pytest.fixture(scope="module")
def again(new_checkout: Callable[..., Path], smoke: Path, run: Run) -> Path:
    """Another checkout after `lookalike cells` with the smoke run's cells of heights, one after the other."""
    listed = "data: [heights]\nmodels: [vae]\nfloors: [copycat]\nseeds: [0]\nbudget: smoke\ntrainer: cpu\n"
    checkout: Path = new_checkout(listed, source=smoke)
    config = checkout / "conf" / "config.yaml"
    config.write_text(config.read_text().replace("tracking: mlflow", "tracking: none"))
    done = run(checkout, sys.executable, "-m", "lookalike", "cells", "--jobs", "1", fresh=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


def locked(checkout: Path) -> dict[str, Any]:
    stages = yaml.safe_load((checkout / "dvc.lock").read_text())["stages"]
    for stage in stages.values():
        stage["outs"] = [out for out in stage["outs"] if not out["path"].endswith("cost.json")]
    return {name: stage for name, stage in stages.items() if "heights" in name}


def test_a_worker_of_several_stages_makes_the_same_bytes_as_a_process_per_stage(smoke: Path, again: Path) -> None:
    once, twice = locked(smoke), locked(again)
    assert once.keys() == twice.keys()
    assert len(once) == 9
    for name in once:
        assert once[name] == twice[name], name


def test_an_experiment_with_another_setting_reruns_its_cell(again: Path, run: Run) -> None:
    assert run(again, "git", "add", "-A").returncode == 0
    assert run(again, "git", "commit", "-qm", "Results").returncode == 0
    done = run(again, "dvc", "exp", "run", "-S", "conf/model/vae.yaml:model.components=2", "evaluate@heights-vae-0")
    assert done.returncode == 0, done.stdout + done.stderr
    ran = {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}
    assert ran == {f"{stage}@heights-vae-0" for stage in CELL_STAGES}
    record = json.loads((again / "artifacts" / "heights" / "vae" / "0" / "train" / "model.json").read_text())
    assert record["configuration"]["model"]["components"] == 2
    shown = run(again, "dvc", "exp", "show", "--json")
    assert shown.returncode == 0, shown.stderr


MAIN_SCORES = {"bits_per_dim", "wasserstein_1"}
"""The scores of a cell of heights that its headline holds."""


def recorded(store: Path) -> list[Any]:
    """Return the runs of a store, in the order of their names."""
    client = importlib.import_module("mlflow").MlflowClient(f"sqlite:///{store}")
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return sorted(found, key=lambda run: str(run.info.run_name))


def test_queued_experiments_run_the_code_of_their_own_copy_and_record_in_the_store_of_the_workspace(
    again: Path, run: Run, edited: Edited, environment: Callable[[Path], dict[str, str]]
) -> None:
    env = {name: value for name, value in environment(again).items() if name != "MLFLOW_TRACKING_URI"}

    def call(*command: str) -> str:
        done = run(again, *command, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with edited(again / "conf" / "config.yaml", "tracking: none", "tracking: mlflow"):
        for count in (5, 6):
            setting = f"conf/model/vae.yaml:model.components={count}"
            call("dvc", "exp", "run", "--queue", "-n", f"with-{count}", "-S", setting, "evaluate@heights-vae-0")
        before = call("git", "status", "--porcelain")
        call("dvc", "exp", "run", "--run-all", "--jobs", "2")
        assert call("git", "status", "--porcelain") == before
    runs = recorded(again / "mlflow.db")
    assert [found.info.run_name for found in runs] == ["vae [with-5]", "vae [with-6]"]
    refs = call("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    for found, count in zip(runs, (5, 6), strict=True):
        assert found.data.tags["dvc_experiment"] == f"with-{count}"
        assert found.data.params["model.components"] == str(count)
        assert {"train/loss", "bits_per_dim"} <= found.data.metrics.keys()
        kept = Path(found.info.artifact_uri.removeprefix("file://"))
        assert kept.is_relative_to(again / "mlartifacts")
        assert {"metrics.json", "samples.png", "weights.safetensors"} <= {path.name for path in kept.iterdir()}
        (ref,) = (ref for ref in refs if ref.endswith(f"/with-{count}"))
        lock = yaml.safe_load(call("git", "show", f"{ref}:dvc.lock"))
        assert lock["stages"]["train@heights-vae-0"]["params"]["conf/model/vae.yaml"]["model"]["components"] == count
    head, *rows = csv.reader(io.StringIO(call("dvc", "exp", "show", "--only-changed", "--csv")))
    headline = "artifacts/heights/vae/0/evaluate/headline.json"
    changing = {name.partition(":")[2] or name for name in head if name.startswith(headline) or name in MAIN_SCORES}
    assert changing == MAIN_SCORES, head
    assert {"4", "5", "6"} <= {row[head.index("model.components")] for row in rows}
