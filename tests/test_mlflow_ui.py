"""Tests of MLflow's pages of sweeps, runs and models, opened in Chromium by `docs/scripts/mlflow_ui.py`."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from lookalike.workspace.errors import UserError
from server_helpers import Server
from server_helpers import environment as variables

pytest.importorskip("playwright", reason="no playwright here: `pip install playwright` brings it")

from mlflow_ui import Window, chromium

pytest_plugins = ["pipeline_fixtures"]
pytestmark = pytest.mark.skipif(not chromium(), reason="no Chromium here")

Done = subprocess.CompletedProcess[str]
NAME = "attributes.`Run Name`"


@pytest.fixture(scope="module")
def server(
    smoke: Path,
    tmp_path_factory: pytest.TempPathFactory,
    run: Callable[..., Done],
    environment: Callable[[Path], dict[str, str]],
) -> Iterator[Server]:
    """A server with a sweep of six trials, two of which failed, and a registered model with its run."""
    checkout = tmp_path_factory.mktemp("looked_at") / "checkout"
    shutil.copytree(smoke, checkout)
    server = Server(tmp_path_factory.mktemp("server"), f"sqlite:///{checkout}/.trace/looked_at.db")
    try:
        env = environment(checkout) | {"MLFLOW_TRACKING_URI": server.uri}
        grid = ["model=vae", "optimizer.lr=1e-3,3e-3,1e30", "seed=0,1", "sweep.name=seen"]
        done = run(checkout, "python", "-m", "lookalike", "sweep", "-m", "data=heights", "budget=smoke", *grid, env=env)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "trials: 2 failed, 4 finished" in done.stdout
        done = run(checkout, "python", "-m", "lookalike", "register", "heights", env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def window(server: Server) -> Iterator[Window]:
    """A browser; no host but the server receives a request."""
    before = dict(os.environ)  # MLflow sets variables itself
    os.environ.update(variables())
    try:
        with Window(uri=server.uri) as window:
            yield window
            assert window.asked == {urlsplit(server.uri).netloc}
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


def test_the_list_shows_runs_with_their_scores_and_a_sweep_as_one_line(window: Window, tmp_path: Path) -> None:
    rows = window.runs()
    runs = {run.info.run_name: run for run in window.client.search_runs([window.experiment])}
    assert len(runs) == 9
    assert {row[NAME] for row in rows.values()} == {"heights-copycat", "heights-vae", "seen"}
    vae = rows[runs["heights-vae"].info.run_id]
    assert float(vae["metrics.`bits_per_dim`"]) == pytest.approx(runs["heights-vae"].data.metrics["bits_per_dim"])
    assert vae["attributes.`Dataset`"].startswith(f"heights ({runs['heights-vae'].data.tags['data_digest'][:8]})")
    check_picture(window, tmp_path / "runs.png")


def test_a_sweep_unfolds_into_its_trials_with_their_states(window: Window, tmp_path: Path) -> None:
    rows = window.tree("seen")
    parent, trials = window.family("seen")
    assert rows.keys() == {run.info.run_id for run in [parent, *trials]}
    assert len(trials) == 6
    states = {run.info.run_id: run.info.status for run in trials}
    assert sorted(states.values()) == ["FAILED"] * 2 + ["FINISHED"] * 4
    signs = {status: {rows[run]["state"] for run in states if states[run] == status} for status in states.values()}
    assert all(len(drawn) == 1 for drawn in signs.values())
    assert signs["FAILED"] != signs["FINISHED"]
    assert {rows[parent.info.run_id]["state"]} == signs["FAILED"]
    for run in trials:
        row, score = rows[run.info.run_id], run.data.metrics.get("objective/bits_per_dim")
        assert row[NAME] == f"lr={float(run.data.params['optimizer.lr']):g} seed={run.data.params['seed']}"
        assert row["tags.`trial_state`"] == run.info.status.lower()
        assert row["metrics.`objective/bits_per_dim`"] == ("-" if score is None else str(score))
    check_picture(window, tmp_path / "tree.png")


def test_trials_are_compared_along_what_they_differ_in(window: Window, tmp_path: Path) -> None:
    assert window.compare("seen") == ["optimizer.lr", "seed", "objective/bits_per_dim"]
    check_picture(window, tmp_path / "compare.png")
    # One line per trial is drawn between the axes, in colours that nothing else there has.
    places = [box["x"] for axis in window.page.locator(".parcoords .axis").all() if (box := axis.bounding_box())]
    with Image.open(tmp_path / "compare.png") as image:
        between = np.asarray(image.convert("HSV"))[240:540, int(min(places)) : int(max(places)), 1]
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
        window.tree("nothing")
    with pytest.raises(UserError, match=r"has no champion of a model lookalike-mnist: run `lookalike register`"):
        window.model("lookalike-mnist")
    with pytest.raises(UserError, match=r"^http://127.0.0.1:9 can't be reached \(Connection refused\)$"):
        Window(uri="http://127.0.0.1:9")
