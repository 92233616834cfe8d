"""Shared fixtures: small domains, small models of every family, the folder of raw data."""

import outside  # noqa: F401

# isort: split
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from xdist.scheduler import LoadFileScheduling

from lookalike.domain.domain import Domain
from lookalike.domain.image import Image, pixel
from lookalike.domain.table import Table
from lookalike.domain.variables import Ordered
from lookalike.families.build import build
from lookalike.workspace.configuration import ROOT, Config, compose

ALIKE = {"test_fingerprint": "smoke", "test_mlflow_ui": "smoke", "test_pipeline": "smoke"}
"""Files that need the same run of a whole pipeline, and what is made of it: they go to one process."""

LONG = ("smoke", "test_tracking", "test_sweep_command", "test_servers", "test_registry", "test_distributed")
"""Groups that take minutes, longest first: begun last, they would keep one process busy when all others are done."""


def group(path: str) -> str:
    """What a test file belongs to."""
    stem = Path(path).stem
    return ALIKE.get(stem, stem)


class ByGroup(LoadFileScheduling):  # type: ignore[misc]
    """Tests of a group share fixtures, so one process has them all.

    xdist's own `--dist loadgroup` changes names of tests in a way that pytest 9.2 no longer sees.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup:
    """For every `--numprocesses`."""
    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long groups first."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(group(str(item.path)), len(LONG)))


# Networks and matrices this small gain nothing from a second thread, and lose much where cores are shared.
torch.set_num_threads(1)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of NumPy in the processes that tests start


@pytest.fixture(scope="session")
def make_domain() -> Callable[..., Domain]:
    """`make_domain(*shape, levels=...)`: one size makes a table, three sizes make a domain of images.

    Every column of a table has an affine map of its own, unless `location` and `scale` are given for all columns.
    Pixels share one map; the share `at_ends` of them lies on the two ends of the grid.
    """

    def make(
        *shape: int,
        levels: int,
        labels: tuple[str, ...] = (),
        at_ends: float = 0.5,
        location: float | None = None,
        scale: float | None = None,
    ) -> Domain:
        if len(shape) == 3:
            return Image(name="small", shape=shape, variables=(pixel(levels=levels, at_ends=at_ends),), labels=labels)
        columns = tuple(
            Ordered(
                levels=levels,
                low=-1.5,
                step=0.1,
                unit="inch",
                location=levels / 2 + i if location is None else location,
                scale=levels / (3.0 + i) if scale is None else scale,
            )
            for i in range(shape[0])
        )
        return Table(name="small", shape=shape, variables=columns, labels=labels)

    return make


def shrunk(setting: Any, width: int) -> Any:
    """Return the setting with every whole number in it cut down to a width: sizes of networks, codes, memories."""
    if isinstance(setting, dict):
        return {key: shrunk(value, width) for key, value in setting.items()}
    if isinstance(setting, list):
        return [shrunk(value, width) for value in setting]
    return min(setting, width) if type(setting) is int else setting


@pytest.fixture(scope="session")
def small_config() -> Callable[..., Config]:
    """`small_config(family, *overrides, width=16)`: as conf/ has it, but for the sizes under `model:`."""

    @functools.cache
    def make(family: str, *overrides: str, width: int = 16) -> Config:
        config = compose([f"model={family}", "tracking=none", "trainer.threads=1", *overrides])
        return config.model_copy(update={"model": shrunk(config.model, width)})

    return make


@pytest.fixture(scope="session")
def small_model(small_config: Callable[..., Config]) -> Callable[..., Any]:
    """`small_model(family, domain, width=16, seed=0)`: neither fitted nor trained."""

    def make(family: str, domain: Domain, *, width: int = 16, seed: int = 0) -> Any:
        return build(small_config(family, width=width).model, domain, seed=seed)

    return make


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """`empty_store(path)`: the URI of an MLflow store with all of its tables, which MLflow takes seconds to make, and
    with nothing in them; one that is there already is left as it is."""
    from mlflow import MlflowClient

    made = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{made}").search_experiments()

    def copy(path: Path) -> str:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made, path)
        return f"sqlite:///{path}"

    return copy


@pytest.fixture(scope="session")
def raw_data() -> Path:
    """The folder of raw data: beside the checkout where there is one, else in it."""
    for folder in (ROOT.parent / "shared" / "data", ROOT / "data"):
        if (folder / "mnist").is_dir() and (folder / "heights").is_dir():
            return folder
    pytest.skip("no raw data here: `lookalike data` brings them")
