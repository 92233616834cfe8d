"""Files through which `lookalike cells` and its jobs talk: one order, one state and one log per job.

The folder lies in the checkout, because jobs on a cluster share nothing else with the command that started them.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from lookalike.workspace.configuration import ROOT
from lookalike.workspace.files import replace_json
from lookalike.workspace.litter import files_below

Status = Literal["running", "finished", "failed", "interrupted"]

ALIVE_SECONDS = 20.0
"""A running job touches its state every few seconds; after this long without, it is dead."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageOrder:
    """One stage that a job runs.

    Attributes:
        name: the stage's name in DVC, such as `train@heights-vae-0`.
        function: the function in `lookalike.stages`.
        overrides: Hydra overrides, as in the stage's command in `dvc.yaml`.
        sources: files and folders of code and of configuration that it depends on, relative to the checkout.
        inputs: files and folders that other stages wrote and that it depends on, relative to the checkout.
    """

    name: str
    function: str
    overrides: list[str]
    sources: list[str]
    inputs: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The stages of one cell, or of one data set before its cells, in their order."""

    name: str
    data: str
    stages: list[StageOrder]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """A stage that a job has run to its end.

    Attributes:
        name: the stage's name in DVC.
        sources: digest of its code and configuration, as they were before any job of the round was started.
        inputs: digest of its other dependencies, as they were when the stage began.
        said: what the stage printed last.
    """

    name: str
    sources: str
    inputs: str
    said: str


@dataclasses.dataclass(kw_only=True)
class State:
    """The state of a job, which it writes to a file while it runs and when it has ended."""

    name: str
    round: str
    started: float
    pid: int
    status: Status = "running"
    stage: str = ""
    progress: str = ""
    done: list[Done] = dataclasses.field(default_factory=list)
    error: str = ""
    updated: float = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether the job runs, as far as its state tells."""
        return self.status == "running" and abs(time.time() - self.updated) < ALIVE_SECONDS  # The clock may jump.


class Folder:
    """The folder of orders, states and logs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / "lock"
        for name in ("orders", "states", "logs"):
            (path / name).mkdir(parents=True, exist_ok=True)

    def begin(self, token: str, jobs: Iterable[Job], sources: dict[str, str]) -> None:
        """Write the orders of a round; jobs of earlier rounds end as soon as they notice."""
        for job in jobs:
            order = dataclasses.asdict(job) | {"round": token, "sources": sources}
            replace_json(self.path / "orders" / f"{job.name}.json", order)
            (self.path / "states" / f"{job.name}.json").unlink(missing_ok=True)
        (self.path / "round").write_text(token, encoding="utf-8")

    @property
    def round(self) -> str:
        """The token of the current round, empty before the first."""
        path = self.path / "round"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def order(self, name: str) -> tuple[Job, str, dict[str, str]]:
        """Return a job, the token of its round, and the digests of its stages' sources, by stage."""
        content = json.loads((self.path / "orders" / f"{name}.json").read_text(encoding="utf-8"))
        stages = [StageOrder(**stage) for stage in content["stages"]]
        job = Job(name=content["name"], data=content["data"], stages=stages)
        return job, content["round"], content["sources"]

    def log(self, name: str) -> Path:
        """The file of everything that a job prints."""
        return self.path / "logs" / f"{name}.log"

    def put(self, state: State) -> None:
        """Write the state of a job."""
        state.updated = time.time()
        replace_json(self.path / "states" / f"{state.name}.json", dataclasses.asdict(state))

    def states(self) -> Iterator[State]:
        """States of all jobs that have begun, of earlier rounds and commands too."""
        for path in sorted((self.path / "states").glob("*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                yield State(**content | {"done": [Done(**done) for done in content["done"]]})
            except (OSError, ValueError, TypeError, KeyError):
                path.unlink(missing_ok=True)  # written by another version of this program

    def forget(self, name: str) -> None:
        """Delete the state of a job whose work is recorded or lost."""
        (self.path / "states" / f"{name}.json").unlink(missing_ok=True)


def files_of(paths: Iterable[str]) -> Iterator[Path]:
    """Yield all files of the given files and folders of the checkout, without litter."""
    for path in (ROOT / name for name in sorted(paths)):
        yield from files_below(path) if path.is_dir() else filter(Path.is_file, [path])


def content_digest(paths: Iterable[str]) -> str:
    """SHA-256 of the names and the contents of files; for code and configuration."""
    total = hashlib.sha256()
    for file in files_of(paths):
        total.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return total.hexdigest()


def stat_digest(paths: Iterable[str]) -> str:
    """SHA-256 of the names, sizes and times of files; for arrays that may be larger than memory."""
    stats = ((str(file.relative_to(ROOT)), file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(paths))
    return hashlib.sha256(json.dumps(list(stats)).encode()).hexdigest()
