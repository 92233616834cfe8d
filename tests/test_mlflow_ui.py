"""Tests of MLflow's pages of sweeps, runs and models, opened in Chromium by `docs/scripts/mlflow_ui.py`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from lookalike.tracking.content import HEADLINE
from lookalike.workspace.errors import UserError
from server_helpers import environment as variables
from server_helpers import eventually, free_port

pytest.importorskip("playwright", reason="no playwright here: `pip install playwright` brings it")

from mlflow_ui import Window, chromium

pytest_plugins = ["pipeline_fixtures"]
pytestmark = pytest.mark.skipif(not chromium(), reason="no Chromium here")

Done = subprocess.CompletedProcess[str]
NAME = "attributes.`Run Name`"


@pytest.fixture(scope="module")
def address(
    smoke: Path,
    tmp_path_factory: pytest.TempPathFactory,
    run: Callable[..., Done],
    environment: Callable[[Path], dict[str, str]],
) -> Iterator[str]:
    """The address of `lookalike ui` with a sweep of six trials, two of which failed, and a registered model."""
    checkout, port = tmp_path_factory.mktemp("looked_at") / "checkout", free_port()
    shutil.copytree(smoke, checkout)
    env = environment(checkout) | {"MLFLOW_TRACKING_URI": f"sqlite:///{checkout}/.trace/looked_at.db"}
    grid = ["model=vae", "optimizer.lr=1e-3,3e-3,1e30", "seed=0,1", "sweep.name=seen"]
    done = run(checkout, "python", "-m", "lookalike", "sweep", "-m", "data=heights", "budget=smoke", *grid, env=env)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "trials: 2 failed, 4 finished" in done.stdout
    for command in ("record", "register"):
        done = run(checkout, "python", "-m", "lookalike", command, "data=heights", env=env)
        assert done.returncode == 0, done.stdout + done.stderr
    ui = [sys.executable, "-m", "lookalike", "ui", "data=heights"]
    log = checkout / ".trace" / "ui.log"
    with log.open("w") as output:
        process = subprocess.Popen(ui, cwd=checkout, env=env | {"MLFLOW_PORT": str(port)}, stdout=output, stderr=output)
    try:
        eventually(lambda: "mnist: " in log.read_text() or process.poll() is not None, log.read_text)
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(60)


@pytest.fixture(scope="module")
def window(address: str) -> Iterator[Window]:
    """A browser; no host but the server receives a request."""
    before = dict(os.environ)  # MLflow sets variables itself
    os.environ.update(variables())
    try:
        with Window(uri=address, experiment="lookalike/heights") as window:
            yield window
            assert window.asked == {urlsplit(address).netloc}
    finally:
        os.environ.clear()
        os.environ.update(before)


def check_picture(window: Window, path: Path) -> None:
    """Check that the picture of the window is small and not empty."""
    window.save(path)
    assert 10_000 < path.stat().st_size < 150_000
    with Image.open(path) as image:
        assert image.size[0] == 1280
        ink = np.asarray(image.convert("L"))[100:] < 160
    assert 0.003 < ink.mean() < 0.5


def run_of(window: Window, name: str) -> Any:
    """Return the only run with a name."""
    (found,) = window.client.search_runs([window.experiment], f"attributes.run_name = '{name}'")
    return found


def test_the_address_opens_on_scores_and_samples_side_by_side(window: Window, tmp_path: Path) -> None:
    charts, pictures = window.charts()
    assert {"bits_per_dim", "wasserstein_1"} <= set(charts) <= set(HEADLINE)
    assert pictures == 2
    assert f"#/experiments/{window.experiment}/runs" in window.page.url
    assert window.page.get_by_role("button", name="Exit shared view").is_visible()
    check_picture(window, tmp_path / "charts.png")


def test_the_list_shows_scores_best_first_and_no_trials(window: Window, tmp_path: Path) -> None:
    rows = window.runs()
    runs = {run.info.run_id: run.data.metrics for run in window.client.search_runs([window.experiment])}
    assert len(runs) == 2
    assert {row[NAME] for row in rows.values()} == {"copycat", "vae"}
    vae = run_of(window, "vae")
    row = rows[vae.info.run_id]
    for name in ("bits_per_dim", "bits_per_dim_error", "wasserstein_1", "wasserstein_1_error"):
        assert float(row[f"metrics.`{name}`"]) == pytest.approx(vae.data.metrics[name])
    distances = [runs[run]["wasserstein_1"] for run in rows if "wasserstein_1" in runs[run]]
    assert len(distances) >= 2
    assert distances == sorted(distances)
    check_picture(window, tmp_path / "runs.png")


def test_a_run_shows_its_scores_and_its_samples(window: Window, tmp_path: Path) -> None:
    text, width = window.run(run_of(window, "vae").info.run_id)
    assert "Bits per dimension" in text
    assert "Wasserstein-1" in text
    assert width > 100
    check_picture(window, tmp_path / "run.png")


def test_models_are_compared_by_a_headline_score(window: Window, tmp_path: Path) -> None:
    scored = window.client.search_runs([window.experiment], "metrics.wasserstein_1 > 0")
    assert len(scored) == 2
    axes, text = window.models([run.info.run_id for run in scored])
    assert axes[-1] in HEADLINE
    assert "wasserstein_1" in text
    check_picture(window, tmp_path / "models.png")


def test_the_trials_of_a_sweep_are_listed_best_first_with_their_states(window: Window, tmp_path: Path) -> None:
    rows = window.trials("seen")
    _, trials = window.family("seen")
    assert rows.keys() == {run.info.run_id for run in trials}
    assert len(trials) == 6
    states = {run.info.run_id: run.info.status for run in trials}
    assert sorted(states.values()) == ["FAILED"] * 2 + ["FINISHED"] * 4
    signs = {status: {rows[run]["state"] for run in states if states[run] == status} for status in states.values()}
    assert all(len(drawn) == 1 for drawn in signs.values())
    assert signs["FAILED"] != signs["FINISHED"]
    for run in trials:
        row, score = rows[run.info.run_id], run.data.metrics.get("bits_per_dim")
        assert row[NAME] == f"lr={run.data.params['lr']} seed={run.data.params['seed']}"
        assert (row["params.`lr`"], row["params.`seed`"]) == (run.data.params["lr"], run.data.params["seed"])
        assert row["metrics.`bits_per_dim`"] == ("-" if score is None else str(score))
    check_picture(window, tmp_path / "trials.png")


def test_a_sweep_is_described_by_its_best_trials(window: Window, tmp_path: Path) -> None:
    text = window.sweep("seen")
    parent, _ = window.family("seen")
    assert "trials: 2 failed, 4 finished" in text
    assert f"lookalike promote seen trial={parent.data.tags['best_trial'][:8]}" in text or "the winner is" in text
    check_picture(window, tmp_path / "sweep.png")


def test_trials_are_compared_along_what_was_searched(window: Window, tmp_path: Path) -> None:
    assert window.compare("seen") == ["lr", "seed", "bits_per_dim"]
    check_picture(window, tmp_path / "compare.png")
    # One line per trial is drawn between the axes, in colours that nothing else there has.
    places = [box for axis in window.page.locator(".parcoords .axis").all() if (box := axis.bounding_box())]
    left, right = (int(end(box["x"] for box in places)) for end in (min, max))
    top, bottom = int(places[0]["y"]), int(places[0]["y"] + places[0]["height"])
    with Image.open(tmp_path / "compare.png") as image:
        between = np.asarray(image.convert("HSV"))[top:bottom, left:right, 1]
    assert (between > 64).sum() > 200


def test_the_champion_is_among_the_versions_and_its_run_has_pictures(window: Window, tmp_path: Path) -> None:
    rows = window.model("lookalike-heights")
    champion = window.champion("lookalike-heights")
    assert set(rows) == {"1", "2"}
    assert [version for version, text in rows.items() if "@ champion" in text] == [str(champion.version)]
    assert "@ vae" in rows[str(champion.version)]
    assert champion.tags["fingerprint"] in rows[str(champion.version)]
    check_picture(window, tmp_path / "model.png")

    name, width = window.samples(champion.run_id)
    folder = tmp_path / "downloaded"
    folder.mkdir()
    with Image.open(window.client.download_artifacts(champion.run_id, name, str(folder))) as image:
        assert image.width == width > 0
    steps = [int(file.path.split("+")[2]) for file in window.client.list_artifacts(champion.run_id, "images")]
    assert f"samples+step+{max(steps)}+" in name
    assert "Path:" not in window.page.inner_text("body")
    check_picture(window, tmp_path / "samples.png")


def test_a_missing_sweep_model_or_server_is_an_error(window: Window) -> None:
    with pytest.raises(UserError, match="has 0 runs of a sweep nothing"):
        window.trials("nothing")
    with pytest.raises(UserError, match=r"has no champion of a model lookalike-mnist: run `lookalike register`"):
        window.model("lookalike-mnist")
    with pytest.raises(UserError, match=r"^http://127.0.0.1:9 can't be reached \(Connection refused\)$"):
        Window(uri="http://127.0.0.1:9", experiment="lookalike/heights")
