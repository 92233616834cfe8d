"""What a training costs is the same whether it is the first in its process or not."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pipeline_fixtures"]

TRAINING = """
import json, sys, time
from contextlib import contextmanager
from pathlib import Path

from lookalike.domain.prepared import Prepared
from lookalike.families.build import build, for_domain
from lookalike.networks.weights import save_weights
from lookalike.tracking.views import View
from lookalike.training import learning
from lookalike.workspace.configuration import compose

prepared, folder = Prepared(Path(sys.argv[1])), Path(sys.argv[2])
found = []
for i, model in enumerate(sys.argv[4:]):
    seconds, imported = [], set()

    @contextmanager
    def work():
        before, start = set(sys.modules), time.monotonic()
        yield
        seconds.append(time.monotonic() - start)
        imported.update(set(sys.modules) - before)

    config = compose(["data=heights", f"model={model}", "budget=smoke", f"budget.scale={sys.argv[3]}"])
    config = for_domain(config, prepared.domain)
    trained = build(config.model, prepared.domain, seed=0)
    learning.learn(trained, prepared, config, scratch=folder / f"scratch-{i}", view=View(), work=work)
    save_weights(trained, folder / f"{i}.safetensors")
    found.append({"seconds": sum(seconds), "imported": sorted(imported)})
print(json.dumps(found))
"""
"""Trains families one after the other in one process; prints what each took and imported while it was timed."""


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    done = call_stage("prepare", "data=heights", *places(folder))
    assert done.returncode == 0, done.stderr
    return folder / "artifacts" / "heights" / "prepared"


def trained(prepared: Path, folder: Path, scale: float, *models: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-c", TRAINING, str(prepared), str(folder), str(scale), *models]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_no_import_is_timed_and_the_first_training_gives_the_same_weights_as_the_next(
    prepared: Path, tmp_path: Path
) -> None:
    found = trained(prepared, tmp_path, 0.002, "mixture", "vae", "mixture", "vae")
    assert [one["imported"] for one in found] == [[], [], [], []]
    for first, again in ((0, 2), (1, 3)):
        weights = [(tmp_path / f"{i}.safetensors").read_bytes() for i in (first, again)]
        assert weights[0] == weights[1]
    assert list(tmp_path.glob("scratch-*/warm-up")) == []


@pytest.mark.slow
def test_the_first_trial_of_a_process_takes_as_long_as_the_last(prepared: Path, tmp_path: Path) -> None:
    runs = [trained(prepared, tmp_path, 1.0, "vae", "vae") for _ in range(5)]
    first, last = (statistics.median(run[i]["seconds"] for run in runs) for i in (0, 1))
    assert min(first, last) >= 5
    assert first == pytest.approx(last, rel=0.2)
