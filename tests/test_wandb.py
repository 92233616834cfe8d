"""Tests of W&B: who counts as logged in, which run a model has, what runs hold, and that offline runs are uploaded."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.domain.domain import Domain
from lookalike.workspace.errors import UserError
from server_helpers import environment
from wandb_server import FakeServer

pytest_plugins = ["pipeline_fixtures"]

KEY = "0" * 40
FINGERPRINT = "0123456789abcdef"

RECORD = {
    "fingerprint": FINGERPRINT, "name": "heights-vae", "data_digest": "d", "code_digest": "c",
    "domain": {"name": "heights", "kind": "table", "shape": [1], "variables": [
        {"type": "Ordered", "levels": 100, "low": 0.0, "step": 1.0, "unit": "inch"},
    ]},
    "configuration": {"model": {"_target_": "lookalike.families.vae.VAE", "components": 3}, "seed": 1},
}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A self-hosted server; this user has nothing of W&B yet."""
    import wandb

    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    fake = FakeServer()
    thread = threading.Thread(target=fake.serve_forever, daemon=True)
    thread.start()
    yield fake
    wandb.teardown()
    fake.shutdown()
    thread.join()


def is_offline() -> bool:
    """Return whether a new process would record offline."""
    import wandb

    from lookalike.tracking.wandb_runs import WandbRuns

    wandb.teardown()
    return WandbRuns(project="lookalike").mode == "offline"


def test_who_logged_in_to_a_server_of_their_own_is_online(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_offline()
    monkeypatch.setenv("NETRC", str(tmp_path / "keys"))
    (tmp_path / "keys").write_text(f"machine {server.host} login user password {KEY}\n")
    assert is_offline(), "the key is that of another server"
    monkeypatch.setenv("WANDB_BASE_URL", f"http://{server.host}")
    assert not is_offline()
    monkeypatch.delenv("NETRC")
    assert is_offline()
    (tmp_path / ".netrc").write_text(f"machine {server.host} login user password {KEY}\n")
    assert not is_offline()
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert not is_offline()


def test_a_run_that_was_deleted_on_the_server_gets_another_id_and_is_recorded_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lookalike.tracking.wandb_runs import WandbRun, WandbRuns

    monkeypatch.setenv("WANDB_BASE_URL", f"http://{server.host}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    project = WandbRuns(project="lookalike")

    def opened() -> WandbRun:
        return project.open(RECORD, training=False)

    first = opened()
    assert first.arguments["config"]["fingerprint"] == FINGERPRINT
    assert first.arguments["id"] != FINGERPRINT
    about = {"project": "lookalike-heights", "group": "vae", "name": "vae seed 1", "job_type": "train"}
    assert {key: first.arguments[key] for key in about} == about
    assert (first.arguments["config"]["model.components"], first.arguments["config"]["family"]) == (3, "vae")
    server.runs[FINGERPRINT] = first.arguments["id"]
    project.ledger.note(FINGERPRINT, {"train": "a digest"})
    assert (opened().arguments["id"], opened().recorded("train")) == (first.arguments["id"], "a digest")
    del server.runs[FINGERPRINT]
    again = opened()
    assert again.arguments["id"] != first.arguments["id"]
    assert again.recorded("train") is None
    server.runs[FINGERPRINT] = "made-elsewhere"
    assert (opened().arguments["id"], opened().recorded("train")) == ("made-elsewhere", None)


def test_a_run_of_an_earlier_version_in_another_project_is_recorded_anew(server: FakeServer) -> None:
    from lookalike.tracking.wandb_runs import WandbRuns

    project = WandbRuns(project="lookalike")
    project.ledger.note(FINGERPRINT, {"id": "old", "train": "a digest"})
    run = project.open(RECORD, training=False)
    assert run.arguments["id"] != "old"
    assert run.recorded("train") is None
    assert project.open(RECORD, training=False).arguments["id"] == run.arguments["id"]


def test_offline_runs_are_uploaded_by_one_command_with_the_scores_of_all_stages(
    server: FakeServer, heights_cell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    from lookalike.tracking.content import STAGES
    from lookalike.tracking.wandb_runs import WandbRuns
    from lookalike.tracking.wandb_upload import upload, waiting
    from lookalike.tracking.workspace import show_cells, show_stage

    cell = heights_cell / "artifacts" / "heights" / "vae" / "0"
    record = json.loads((cell / "train" / "model.json").read_text())
    scores = json.loads((cell / "evaluate" / "metrics.json").read_text())
    for stage in STAGES:  # Each one in a folder of its own, as the recorder of a stage does it.
        run = WandbRuns(project="lookalike").open(record, training=False)
        assert show_stage(run, record, stage, cell / stage)
        run.close("FINISHED")
    wandb.teardown()
    home = Path(os.environ["WANDB_DIR"])
    assert len(waiting(home)) == 3
    (line,) = upload(project="lookalike")
    assert "W&B: offline; 3 folders of runs wait" in line
    assert not server.held

    monkeypatch.setenv("WANDB_BASE_URL", server.uri)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    wandb.teardown()
    assert list(upload(project="lookalike")) == ["W&B: uploaded 3 folders of runs that were recorded offline"]
    ((project, _),) = server.held
    (held,) = server.held.values()
    assert project == "lookalike-heights"
    about = {"groupName": "vae", "jobType": "train", "displayName": "vae", "tags": ["heights", "vae"]}
    assert held["about"] == about
    assert (held["config"]["fingerprint"], held["config"]["family"]) == (record["fingerprint"], "vae")
    assert held["config"]["optimizer.lr"] == record["configuration"]["optimizer"]["lr"]
    losses = (cell / "train" / "loss_train.csv").read_text().count("\n") - 1
    samples = np.load(cell / "sample" / "samples.npz")["samples"]
    check_content(server, held, scores, samples, losses=losses)

    # Nothing is uploaded twice, and the server holds everything that the files say.
    wandb.teardown()
    assert list(upload(project="lookalike")) == []
    artifacts = heights_cell / "artifacts"
    assert list(show_cells(WandbRuns(project="lookalike"), artifacts, heights_cell / "no_report")) == [
        f"heights-vae {record['fingerprint']}: up to date"
    ]


def check_content(
    server: FakeServer, held: dict[str, Any], scores: dict[str, Any], samples: Any, *, losses: int
) -> None:
    """Check the history, the summary and the files of the uploaded run."""
    summary, history = held["summary"], [json.loads(line) for line in held["history"]]
    assert [row["_step"] for row in history] == list(range(len(history)))
    assert sum("train/loss" in row for row in history) == losses
    for name in ("bits_per_dim", "wasserstein_1"):
        assert summary[name] == pytest.approx(scores[name]["value"])
        assert summary[f"{name}_error"] == pytest.approx(scores[name]["standard_error"])
        assert [row[name] for row in history if name in row] == [summary[name]]
    assert summary["scores/coverage"] == pytest.approx(scores["coverage"]["value"])
    assert {"cost/train_steps", "cost/sample_work_seconds", "cost/evaluate_work_seconds"} <= summary.keys()
    assert {"weights.safetensors", "model.json", "samples.png", "metrics.json"} <= server.uploads.keys()
    assert summary["final_samples"]["_type"] == "image-file"
    assert (summary["sample_table"]["_type"], summary["sample_table"]["nrows"]) == ("table-file", 64)
    table = json.loads(server.uploads[summary["sample_table"]["path"]])
    assert table["columns"] == ["height_in (inch)"]
    np.testing.assert_allclose(table["data"], samples[:64])


def test_an_upload_that_fails_says_why(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    from lookalike.tracking.wandb_upload import upload

    folder = Path(os.environ["WANDB_DIR"]) / "wandb" / "offline-run-20260101_000000-damaged"
    folder.mkdir(parents=True)
    (folder / "run-damaged.wandb").write_text("This is no record of a run.")
    monkeypatch.setenv("WANDB_BASE_URL", server.uri)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    wandb.teardown()
    with pytest.raises(UserError, match=r"W&B did not receive 1 of 1 folders of runs .Failed to read .*bad header"):
        list(upload(project="lookalike"))


def test_the_first_samples_are_a_table_of_pictures_or_of_values(server: FakeServer, make_domain: Any) -> None:
    from lookalike.tracking.wandb_tables import sample_table

    images: Domain = make_domain(1, 4, 4, levels=16)
    table = sample_table(images, {"samples": np.zeros((3, 1, 4, 4), np.uint8)})
    assert table.columns == ["image"]
    assert [row[0].image.size for row in table.data] == [(4, 4)] * 3
