"""Tests of the model registry with real stages, MLflow on SQLite, and a server that answers over HTTP."""

import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.domain.prepared import Prepared
from lookalike.report.champion import read_cells
from lookalike.workspace.configuration import ROOT
from lookalike.workspace.errors import UserError
from warm import Warm

pytest_plugins = ["pipeline_fixtures"]

Done = subprocess.CompletedProcess[str]
PATIENCE = 600.0
NAME = "lookalike-heights"


def environment(**more: str) -> dict[str, str]:
    """Return variables without an outside tracking server and without the path of this checkout's package."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHONPATH"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"} | more


class Workspace:
    """Cells of heights and a store."""

    def __init__(self, folder: Path, warm: Warm) -> None:
        self.folder, self.store = folder, f"sqlite:///{folder}/mlflow.db"
        self.warm = warm
        self.cells = folder / "artifacts" / "heights"

    def register(self, *overrides: str, fails: bool = False, **env: str) -> Done:
        places = [f"paths.{kind}={self.folder / kind}" for kind in ("artifacts", "results")]
        command = ["lookalike", "register", *places, f"tracking.uri={self.store}", *overrides]
        env = environment(PYTHONPATH=str(ROOT / "src"), **env)
        done = self.warm.run(*command, cwd=Path.cwd(), env=env, timeout=PATIENCE)
        assert (done.returncode != 0) == fails, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def copy(self, folder: Path) -> "Workspace":
        """Copy the files, without the store."""
        shutil.copytree(self.folder / "artifacts", folder / "artifacts")
        return Workspace(folder, self.warm)

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.store)

    def versions(self) -> dict[str, Any]:
        """Return the registered versions by number."""
        return {str(found.version): found for found in self.client.search_model_versions(f"name = '{NAME}'")}

    def alias(self, name: str) -> Any:
        return self.client.get_model_version_by_alias(NAME, name)

    def number(self, name: str) -> str:
        return str(self.alias(name).version)

    def model_folder(self, alias: str) -> Path:
        """Return where the store keeps a model."""
        model_id = self.alias(alias).source.removeprefix("models:/")
        return Path(self.client.get_logged_model(model_id).artifact_location.removeprefix("file://"))


@pytest.fixture(scope="module")
def trained(
    heights_cell: Path, tmp_path_factory: pytest.TempPathFactory, call_stage: Callable[..., Done], warm: Warm
) -> Workspace:
    """A VAE and a floor with scores, and a mixture that was only trained; nothing is recorded anywhere."""
    workspace = Workspace(tmp_path_factory.mktemp("registry"), warm)
    shutil.copytree(heights_cell / "artifacts", workspace.folder / "artifacts")
    places = [f"paths.{kind}={workspace.folder / kind}" for kind in ("artifacts", "results", "samples", "scratch")]
    for stage, model in (
        ("train", "independent"),
        ("sample", "independent"),
        ("evaluate", "independent"),
        ("train", "mixture"),
    ):
        done = call_stage(stage, "data=heights", f"model={model}", "budget=smoke", "tracking=none", *places)
        assert done.returncode == 0, done.stderr
    return workspace


@pytest.fixture(scope="module")
def registered(trained: Workspace) -> tuple[Workspace, Done]:
    """The registered workspace, and the output of the command."""
    return trained, trained.register("heights")


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith("MLFLOW_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def record(workspace: Workspace, model: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((workspace.cells / model / "0" / "train" / "model.json").read_text())
    return content


# What is registered


def test_a_version_a_complete_cell_and_the_best_that_is_no_floor_is_champion(
    registered: tuple[Workspace, Done],
) -> None:
    workspace, done = registered
    lines = done.stdout.splitlines()
    assert lines[:3] == [f"{workspace.store}: {NAME}", "  independent: version 1", "  vae: version 2"]
    assert re.fullmatch(
        r"  mixture: left out, .*heights/mixture/0 is not complete, .*sample.* is missing: run .*", lines[3]
    )
    assert re.fullmatch(r"  champion: vae, wasserstein_1 [\d.]+ ± [\d.]+", lines[4])
    assert len(workspace.versions()) == 2
    assert workspace.number("champion") == workspace.number("vae") == "2"
    assert workspace.number("independent") == "1"


def test_a_version_s_source_is_the_run_of_its_training_which_was_recorded_for_it(
    registered: tuple[Workspace, Done],
) -> None:
    workspace, _ = registered
    for model in ("vae", "independent"):
        version, trained_record = workspace.alias(model), record(workspace, model)
        run = workspace.client.get_run(version.run_id)
        assert run.data.tags["fingerprint"] == version.tags["fingerprint"] == trained_record["fingerprint"]
        assert run.data.metrics["cost/parameters"] == trained_record["parameters"]
        assert {f"recorded.{stage}" for stage in ("train", "sample", "evaluate")} <= run.data.tags.keys()
        assert run.info.status == "FINISHED"
        assert [f"models:/{found.model_id}" for found in run.outputs.model_outputs] == [version.source]
        assert (version.tags["model"], version.tags["data"]) == (model, "heights")
        assert "wasserstein_1" in version.description


def test_a_model_is_code_and_safetensors_and_nothing_that_was_pickled(registered: tuple[Workspace, Done]) -> None:
    workspace, _ = registered
    folder = workspace.model_folder("vae")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in files} == {"", ".py", ".json", ".yaml", ".txt", ".safetensors"}
    assert {name for name in files if not Path(name).suffix} == {"MLmodel"}
    for path in folder.rglob("*"):
        assert not path.is_file() or not path.read_bytes().startswith(b"\x80")
    weights = workspace.cells / "vae" / "0" / "train" / "weights.safetensors"
    assert (folder / "artifacts" / "model" / "weights.safetensors").read_bytes() == weights.read_bytes()
    code = {name for name in files if name.startswith("code/")}
    assert {
        "code/lookalike/tracking/serving.py",
        "code/lookalike/families/vae.py",
        "code/lookalike/networks/mlp.py",
    } <= code
    assert not [name for name in code if re.search("tracking/(?!serving)|report|training|metrics", name)]


def test_the_environment_has_the_versions_that_the_project_is_held_to(registered: tuple[Workspace, Done]) -> None:
    workspace, _ = registered
    wanted = (workspace.model_folder("vae") / "requirements.txt").read_text().splitlines()
    held = {line.replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {line.replace("_", "-") for line in wanted} <= held
    names = {line.partition("==")[0] for line in wanted}
    assert {"hydra-core", "mlflow", "numpy", "pydantic", "safetensors", "torch"} <= names
    assert not names & {"dvc", "pytorch-lightning", "torchdiffeq"}


def test_signature_and_example_say_what_can_be_asked(registered: tuple[Workspace, Done]) -> None:
    from mlflow.models import Model

    workspace, _ = registered
    model = Model.load(str(workspace.model_folder("vae")))
    (asked,), (answered,) = (schema.to_dict() for schema in (model.signature.inputs, model.signature.outputs))
    assert set(asked["properties"]) == {"count", "seed", "label", "data"}
    assert set(answered["properties"]) == {
        "samples", "labels", "seed", "log_likelihood", "bits_per_dim", "kind", "unit"
    }  # fmt: skip
    data = asked["properties"]["data"]
    assert data == {"type": "array", "required": False, "items": {"type": "array", "items": {"type": "double"}}}
    assert json.loads((workspace.model_folder("vae") / "input_example.json").read_text()) == [{"count": 1, "seed": 0}]


def test_other_settings_make_a_version_of_their_own_and_registering_again_makes_none(
    registered: tuple[Workspace, Done],
) -> None:
    workspace, _ = registered
    scored = workspace.cells / "vae" / "0" / "evaluate" / "metrics.json"
    before = scored.read_text()
    scores = json.loads(before)
    scores["bits_per_dim"]["settings"]["importance_samples"] += 1
    scored.write_text(json.dumps(scores))
    try:
        done = workspace.register("heights")
    finally:
        scored.write_text(before)
    assert done.stdout.splitlines()[1:3] == ["  independent: version 1, as before", "  vae: version 3"]
    assert workspace.number("champion") == workspace.number("vae") == "3"
    done = workspace.register("data=heights", "objective=bits_per_dim")
    assert done.stdout.splitlines()[1:3] == ["  independent: version 1, as before", "  vae: version 2, as before"]
    assert re.search(r"champion: vae, bits_per_dim ≤ [\d.]+ ± [\d.]+\n", done.stdout)
    assert workspace.number("champion") == workspace.number("vae") == "2"
    assert len(workspace.versions()) == 3
    assert len(workspace.client.search_runs(["1"])) == 2


# What it answers

ASK = """
import json, sys
import mlflow

names = ("champion", "independent")
models = {alias: mlflow.pyfunc.load_model(f"models:/lookalike-heights@{alias}") for alias in names}
answers = {alias: model.predict(json.loads(sys.argv[1])) for alias, model in models.items()}
import lookalike

print(json.dumps({"answers": answers, "code": lookalike.__file__, "loaded": [*sys.modules]}))
"""


def test_models_that_are_loaded_elsewhere_run_their_own_code_and_repeat_the_cell(
    registered: tuple[Workspace, Done], tmp_path: Path
) -> None:
    workspace, _ = registered
    values = Prepared(workspace.cells / "prepared").values("test").tolist()
    asked = json.dumps([{"count": 200, "seed": 0}, {"data": values}])
    env = environment(MLFLOW_TRACKING_URI=workspace.store)
    done = subprocess.run(
        [sys.executable, "-c", ASK, asked], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert Path(result["code"]).is_relative_to(workspace.model_folder("champion") / "code")
    assert "another version" not in done.stderr
    assert not {"pytorch_lightning", "dvc", "zuko", "torchdiffeq", "wandb"} & set(result["loaded"])
    for alias, model in (("champion", "vae"), ("independent", "independent")):
        samples, likelihoods = result["answers"][alias]
        with np.load(workspace.cells / model / "0" / "sample" / "samples.npz") as drawn:
            assert samples["samples"] == drawn["samples"].tolist()
        with np.load(workspace.cells / model / "0" / "evaluate" / "details.npz") as scored:
            rows, nats = scored["rows_test"], scored["log_likelihood_test"]
        assert np.array(likelihoods["log_likelihood"])[rows] == pytest.approx(nats, rel=1e-5)
        assert likelihoods["kind"] == {"vae": "lower bound", "independent": "exact"}[model]


class Server:
    """`mlflow models serve` on a free port of the loopback."""

    def __init__(self, uri: str, store: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = folder / "server.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "--port", str(self.port)],
                env=environment(MLFLOW_TRACKING_URI=store),
                cwd=folder,
                stdout=log,
                stderr=log,
            )

    def call(self, path: str, content: str | None = None) -> tuple[int, Any]:
        """Return the status and the content of an answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if content is None else content.encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.loads(answer.read().strip() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def ask(self, **request: Any) -> tuple[int, Any]:
        """Return the status and the prediction, or the message of a refusal."""
        status, content = self.call("/invocations", json.dumps({"inputs": [request]}))
        return status, content["predictions"][0] if status == 200 else content["message"]

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                assert self.call("/ping")[0] == 200
                return
            except urllib.error.URLError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def server(registered: tuple[Workspace, Done], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the champion."""
    workspace, _ = registered
    started = Server(f"models:/{NAME}@champion", workspace.store, tmp_path_factory.mktemp("server"))
    try:
        started.wait()
        yield started
    finally:
        started.stop()


def test_over_http_the_champion_draws_the_cell_s_samples_and_scores_data(
    registered: tuple[Workspace, Done], server: Server
) -> None:
    workspace, _ = registered
    status, answer = server.ask(count=200, seed=0)
    assert status == 200
    with np.load(workspace.cells / "vae" / "0" / "sample" / "samples.npz") as drawn:
        assert answer == {"samples": drawn["samples"].tolist(), "seed": 0}
    status, scored = server.ask(data=answer["samples"][:3])
    assert status == 200
    assert len(scored["log_likelihood"]) == len(scored["bits_per_dim"]) == 3
    assert scored["bits_per_dim"] == pytest.approx([-nats / np.log(2) for nats in scored["log_likelihood"]])
    assert (scored["kind"], scored["unit"]) == ("lower bound", "bits/observation")


def test_people_who_ask_at_once_get_what_each_would_get_alone(server: Server) -> None:
    alone = [server.ask(count=500, seed=seed) for seed in range(3)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: server.ask(count=500, seed=seed), [0, 1, 2] * 4))
    assert together == alone * 4


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"count": 0}, "count=0: ask for at least one sample"),
        ({"count": 10**9}, "1000000000 samples and observations in one call: ask for at most 10000"),
        ({"count": 1, "label": "female"}, "label=female: this VAE is not conditional"),
        ({"count": "3"}, "count=3: input should be a valid integer"),
        ({"cuont": 3}, "unknown key 'cuont': there are count, seed, label, data"),
        ({"data": [[66.53]]}, "1 values are not on the grid of 1120 points"),
        ({"data": [66.5]}, "data.0=66.5: input should be a valid list"),
        ({"data": [[66.5], [66.5, 70.1]]}, "lists of unequal length"),
    ],
)
def test_over_http_a_request_that_can_t_be_met_says_why(server: Server, request_: dict[str, Any], problem: str) -> None:
    status, message = server.ask(**request_)
    assert status == 400
    assert problem in message
    assert "Traceback" not in message


# What can go wrong


@pytest.fixture
def _loud() -> Iterator[None]:
    """Restore afterwards what `quiet` turns off."""
    with warnings.catch_warnings():
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_loud")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["moons"], r"no prepared data in .*: run `lookalike prepare data=moons` first"),
        (["heights", "tracking=none"], r"the registry belongs to MLflow. Choose tracking=mlflow"),
        (["heights", "objective=fid"], r"objective=fid: choose one of .*wasserstein_1"),
        (["height"], r"unknown data 'height': choose one of .*heights"),
        (["heights", "label=male"], r"label=male: only `lookalike sample` draws one class"),
    ],
)
def test_what_can_t_be_registered_is_one_line_and_leaves_no_store(
    trained: Workspace, tmp_path: Path, call_stage: Callable[..., Done], arguments: list[str], problem: str
) -> None:
    places = [f"paths.artifacts={trained.folder / 'artifacts'}", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]
    done = call_stage("register", *places, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(f"error: .*{problem}.*", line)
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_away_is_said_in_one_line(trained: Workspace) -> None:
    done = trained.register("heights", "tracking.uri=http://127.0.0.1:9", fails=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: http://127.0.0.1:9 can't be reached (Connection refused)\n"


def test_cells_that_are_not_of_the_prepared_data_or_not_whole_are_no_cells(trained: Workspace, tmp_path: Path) -> None:
    workspace = trained.copy(tmp_path)
    path = workspace.cells / "vae" / "0" / "train" / "model.json"
    path.write_text(json.dumps(record(workspace, "vae") | {"data_digest": "of other data"}))
    rows, left_out = read_cells(workspace.cells)
    assert [row.model for row in rows] == ["independent"]
    assert left_out.keys() == {"vae", "mixture"}
    assert left_out["vae"].startswith("it was trained on other data than the prepared ones: run `lookalike train")
    shutil.rmtree(workspace.cells / "independent" / "0" / "evaluate")
    with pytest.raises(UserError, match=r"no family is trained, sampled and evaluated in .*/heights: .* is missing"):
        read_cells(workspace.cells)
