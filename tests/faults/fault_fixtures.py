"""Fixtures for tests of faults: a full disk, a clock that jumps, a whole small cell."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from pipeline_fixtures import quick
from warm import Warm

STAGES = ("prepare", "features", "train", "sample", "evaluate", "real", "compare")

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of `faults.c`."""
    if (compiler := shutil.which("cc")) is None or not Path("/proc/self/fd").is_dir():
        pytest.skip("no C compiler here, or no Linux")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


@pytest.fixture(scope="session")
def faulty(
    faults: Path, checkout: Path, environment: Callable[[Path], dict[str, str]]
) -> Iterator[Callable[..., Done]]:
    """`faulty(command, *overrides, **variables)`: a command of `checkout` with variables of `faults.c`."""
    with mock.patch.dict(os.environ, LD_PRELOAD=str(faults)):
        forking = Warm(lambda: checkout)

    def start(*command: str, **variables: str) -> Done:
        return forking.run("lookalike", *command, cwd=checkout, env=environment(checkout) | variables, timeout=300)

    yield start
    forking.close()


@pytest.fixture(scope="session")
def whole(heights_cell: Path, call_stage: Callable[..., Done], places: Callable[[Path], list[str]]) -> Path:
    """A folder with all results of a small cell of heights, undisturbed: copy it."""
    for stage in ("real", "compare"):
        done = call_stage(stage, *quick("heights", "vae"), *places(heights_cell))
        assert done.returncode == 0, done.stderr
    return heights_cell


def without_cost(found: dict[str, str]) -> dict[str, str]:
    """Return the contents of a folder without its costs, which never repeat."""
    return {name: digest for name, digest in found.items() if not name.endswith("cost.json")}
