"""A tracking server that is away, fails, hangs or dies at any request: training ends well, the record comes later."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fault_fixtures import Done
from pipeline_fixtures import quick
from proxy import Proxy, Trouble
from server_helpers import Server, free_port

pytest_plugins = ["pipeline_fixtures", "fault_fixtures"]

TIMEOUT = 2
"""Seconds after which MLflow gives up a request; one retry follows."""

PATIENCE = 120
"""Seconds that a training of one second may take with a server in trouble, on a machine that others share."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Callable[[Path], str]) -> Iterator[Server]:
    """An MLflow server on SQLite."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder, empty_store(folder / "mlflow.db"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[Proxy]:
    """The same server through a proxy."""
    proxy = Proxy(server.uri)
    yield proxy
    proxy.shutdown()


@pytest.fixture
def train(
    heights_cell: Path, tmp_path: Path, checkout: Path, run: Callable[..., Done], places: Callable[[Path], list[str]],
    environment: Callable[[Path], dict[str, str]],
) -> Callable[..., Done]:  # fmt: skip
    """`train(experiment, uri)`: the training of a small cell that is recorded on a server."""

    def start(experiment: str, uri: str) -> Done:
        shutil.rmtree(tmp_path / "artifacts", ignore_errors=True)
        shutil.copytree(heights_cell / "artifacts" / "heights" / "prepared", tmp_path / "artifacts/heights/prepared")
        env = environment(checkout) | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(TIMEOUT)}
        command = ("train", *quick("heights", "vae"), "tracking=mlflow", f"tracking.experiment={experiment}")
        return run(checkout, "python", "-m", "lookalike", *command, *places(tmp_path), env=env)

    return start


@pytest.fixture
def record(
    tmp_path: Path, checkout: Path, run: Callable[..., Done], places: Callable[[Path], list[str]],
    environment: Callable[[Path], dict[str, str]], server: Server,
) -> Callable[[str], None]:  # fmt: skip
    """`record(experiment)`: bring the server up to date with the files of `train`."""

    def start(experiment: str) -> None:
        env = environment(checkout) | {"MLFLOW_TRACKING_URI": server.uri}
        command = ("record", f"tracking.experiment={experiment}", *places(tmp_path))
        done = run(checkout, "python", "-m", "lookalike", *command, env=env)
        assert (done.returncode, done.stderr) == (0, "")

    return start


def whole_pictures(files: list[Any]) -> list[tuple[str, str]]:
    """Return key and step of the pictures that have both files, the picture and the small copy that pages show."""
    kinds: dict[tuple[str, str], set[str]] = {}
    for file in files:
        key, _, step, *_, last = Path(file.path).name.split("+")
        kinds.setdefault((key, step), set()).add(last.rpartition(".")[2])
    return sorted(picture for picture, found in kinds.items() if found == {"png", "webp"})


def held(server: Server, experiment: str) -> list[dict[str, Any]]:
    """Return what the runs of an experiment hold, without what differs from run to run."""
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    found = client.get_experiment_by_name(f"{experiment}/heights")
    return [
        {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {key: value for key, value in run.data.tags.items() if key.startswith(("recorded", "fingerprint"))},
            "metrics": {
                key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
                if not key.startswith(("system/", "cost/")) and "second" not in key and "memory" not in key
            },
            "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
            "pictures": whole_pictures(client.list_artifacts(run.info.run_id, "images")),
            "data": [entry.dataset.digest for entry in run.inputs.dataset_inputs],
        }
        for run in client.search_runs([found.experiment_id])
    ]


def without_digests(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return runs with the names of the stages that were recorded, whose digests hold costs."""
    return [run | {"tags": sorted(run["tags"])} for run in runs]


@pytest.fixture(scope="module")
def wanted() -> dict[str, Any]:
    """The record of an undisturbed run, and the number of its requests; the first test fills it."""
    return {}


def check_trouble(
    trouble: Trouble, experiment: str, proxy: Proxy, server: Server, train: Callable[..., Done],
    record: Callable[[str], None], wanted: list[dict[str, Any]], *, first: int = 1, last: int | None = None,
) -> None:  # fmt: skip
    """Train while the server is in trouble; the training ends well and in time, and its record is complete later."""
    proxy.set(trouble, first=first, last=last)
    began = time.monotonic()
    done = train(experiment, proxy.uri)
    assert time.monotonic() - began < PATIENCE
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") <= 1, done.stderr
    assert not done.stderr or done.stderr.startswith(f"tracking: {proxy.uri} can't be "), done.stderr
    record(experiment)
    assert without_digests(held(server, experiment)) == wanted, (trouble, first, done.stderr)


@pytest.fixture
def undisturbed(
    wanted: dict[str, Any], proxy: Proxy, server: Server, train: Callable[..., Done], record: Callable[[str], None]
) -> dict[str, Any]:
    """The runs of a training without trouble, and the number of its requests."""
    if not wanted:
        proxy.set("none")
        done = train("undisturbed", proxy.uri)
        assert (done.returncode, done.stderr) == (0, "")
        wanted["requests"] = proxy.count
        record("undisturbed")
        wanted["runs"] = without_digests(held(server, "undisturbed"))
        assert wanted["runs"][0]["metrics"]["train/loss"]
    return wanted


@pytest.mark.parametrize("trouble", [pytest.param("error", marks=pytest.mark.slow), "hang"])
def test_a_server_that_fails_or_hangs(
    trouble: Trouble, proxy: Proxy, server: Server, train: Callable[..., Done], record: Callable[[str], None],
    undisturbed: dict[str, Any],
) -> None:  # fmt: skip
    half = undisturbed["requests"] // 2
    check_trouble(trouble, f"{trouble} from {half}", proxy, server, train, record, undisturbed["runs"], first=half)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["error", "hang"])
def test_a_server_that_fails_or_hangs_from_the_beginning(
    trouble: Trouble, proxy: Proxy, server: Server, train: Callable[..., Done], record: Callable[[str], None],
    undisturbed: dict[str, Any],
) -> None:  # fmt: skip
    check_trouble(trouble, trouble, proxy, server, train, record, undisturbed["runs"])


@pytest.mark.slow
def test_a_server_that_is_away(
    server: Server, train: Callable[..., Done], record: Callable[[str], None], undisturbed: dict[str, Any]
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    done = train("away", uri)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith(f"tracking: {uri} can't be reached ("), done.stderr
    record("away")
    assert without_digests(held(server, "away")) == undisturbed["runs"]


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["cut before", "cut after"])
def test_a_server_that_dies_at_any_request(
    trouble: Trouble, proxy: Proxy, server: Server, train: Callable[..., Done], record: Callable[[str], None],
    undisturbed: dict[str, Any],
) -> None:  # fmt: skip
    for number in range(1, undisturbed["requests"] + 1):
        name = f"{trouble} {number}"
        check_trouble(trouble, name, proxy, server, train, record, undisturbed["runs"], first=number)
        # A server that is back at once: the retry reaches it.
        name = f"{trouble} {number} once"
        check_trouble(
            trouble, name, proxy, server, train, record, undisturbed["runs"], first=number, last=number
        )  # fmt: skip
