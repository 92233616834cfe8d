"""The pipeline as DVC sees it: which stages are stale, and a record of what jobs have made.

One process per checkout talks to DVC, because DVC's locks know only the processes of one machine.
"""

import contextlib
import dataclasses
import logging
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lookalike.cells.records import Done, Job, StageOrder, content_digest, stat_digest
from lookalike.workspace.configuration import ROOT
from lookalike.workspace.errors import UserError

DATA_STAGES = ("prepare", "features", "real")
"""Stages of a data set, which run before its cells."""

CELL_STAGES = ("train", "sample", "evaluate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The work of one round.

    Attributes:
        ready: jobs that can run now.
        blocked: names of jobs that may have to run once a data set's own stages are done.
        restored: stages whose results DVC had in its cache.
    """

    ready: list[Job]
    blocked: list[str]
    restored: list[str]


class Pipeline:
    """The stages of `dvc.yaml` that belong to data sets and cells."""

    def __init__(self, repo: Any, *, data: str | None) -> None:
        self.repo, self.graph = repo, repo.index.graph
        # dvc.yaml lists a stage after those that it needs.
        self.stages: dict[str, Any] = {stage.addressing: stage for stage in repo.index.stages if is_ours(stage, data)}

    def order(self, name: str) -> StageOrder:
        """Return what a job needs to know of a stage."""
        stage = self.stages[name]
        function, overrides = command_of(stage)
        paths = [dep.def_path for dep in stage.deps]
        return StageOrder(
            name=name,
            function=function,
            overrides=overrides,
            sources=sorted(path for path in paths if path.startswith(("src/", "conf/"))),
            inputs=sorted(path for path in paths if not path.startswith(("src/", "conf/"))),
        )

    def plan(self) -> Plan:
        """Find the stale stages, in their order, and restore those that DVC has in its cache."""
        stale: list[str] = []
        restored: list[str] = []
        with locked(self.repo):
            for name, stage in self.stages.items():
                needs = {other.addressing for other in self.graph.successors(stage)}
                if not needs & set(stale):
                    if not stage.changed():
                        continue
                    if self.restore(stage):
                        restored.append(name)
                        continue
                stale.append(name)
        names: dict[str, list[str]] = {}
        for name in stale:
            names.setdefault(job_name(self.stages[name]), []).append(name)
        blocked = [job for job, stages in names.items() if self.waits(stages, stale)]
        ready = [
            Job(name=job, data=chosen(self.stages[stages[0]])["data"], stages=[self.order(name) for name in stages])
            for job, stages in names.items()
            if job not in blocked
        ]
        return Plan(ready=ready, blocked=blocked, restored=restored)

    def waits(self, stages: list[str], stale: list[str]) -> bool:
        """Whether any of the stages needs a stale stage outside them."""
        needed = {other.addressing for name in stages for other in self.graph.successors(self.stages[name])}
        return bool(needed & set(stale) - set(stages))

    def restore(self, stage: Any) -> bool:
        """Bring a stage's results out of DVC's cache if it has run before with the same dependencies."""
        from dvc.exceptions import DvcException

        try:
            self.repo.stage_cache.restore(stage)
        except DvcException:  # it has not, or a dependency is missing, which the stage itself explains best
            return False
        self.save([stage])
        return True

    def record(self, done: Done) -> bool:
        """Record what a job made, as `dvc commit --force` does; return False if a dependency changed meanwhile."""
        order = self.order(done.name)
        if done.sources != content_digest(order.sources) or done.inputs != stat_digest(order.inputs):
            return False
        self.save([self.stages[done.name]])
        return True

    def save(self, stages: list[Any]) -> None:
        """Put the results of stages into DVC's cache and into `dvc.lock`."""
        with locked(self.repo):
            for stage in stages:
                stage.save()
                # Other jobs may be reading these very files, so they are not replaced by links to the cache.
                stage.commit(relink=False)
            self.write_lock(stages)

    def write_lock(self, stages: list[Any]) -> None:
        """Update `dvc.lock` as a whole or not at all. DVC itself empties the file before it writes seconds later."""
        from dvc.dvcfile import Lockfile

        lock, draft = Path("dvc.lock"), Path(self.repo.tmp_dir) / "dvc.lock"
        draft.unlink(missing_ok=True)
        if lock.exists():
            shutil.copy(lock, draft)
        Lockfile(self.repo, str(draft)).dump_stages(stages)
        draft.replace(lock)


@contextlib.contextmanager
def opened(data: str | None) -> Iterator[Pipeline]:
    """Open the checkout's pipeline, or of one data set alone."""
    with opened_repo() as repo:
        yield Pipeline(repo, data=data)


@contextlib.contextmanager
def opened_repo() -> Iterator[Any]:
    """Open the checkout as DVC's repository; DVC itself stays silent.

    Where there is no git, as in an unpacked archive or a container, the untracked settings of DVC must say so.
    """
    from dvc.config import Config
    from dvc.repo import Repo
    from dvc.scm import SCM, SCMError

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    os.environ.setdefault("DVC_NO_ANALYTICS", "true")
    try:
        SCM(str(ROOT))
    except SCMError:
        with Config(str(ROOT / ".dvc")).edit("local") as settings:
            settings.setdefault("core", {})["no_scm"] = True
    with contextlib.chdir(ROOT), Repo(str(ROOT)) as repo:
        repair_lock(repo)
        yield repo


def repair_lock(repo: Any) -> None:
    """Bring back the committed `dvc.lock` if `dvc repro` was killed while it wrote the file; its cache has the rest.

    Raises:
        UserError: the file is damaged by a merge.
    """
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException

    lock = Path("dvc.lock")
    try:
        Lockfile(repo, str(lock.absolute())).load()
    except DvcException:
        if "<<<<<<<" in lock.read_text(encoding="utf-8", errors="replace"):
            raise UserError(
                "dvc.lock holds both sides of a merge: choose one with git checkout --ours dvc.lock"
            ) from None
        lock.replace(Path(repo.tmp_dir) / "dvc.lock.damaged")
        committed = subprocess.run(["git", "show", "HEAD:./dvc.lock"], capture_output=True, check=False)
        if committed.returncode == 0:
            lock.write_bytes(committed.stdout)
        print("dvc.lock was damaged: it is as in the last commit now, and DVC's cache has the rest", flush=True)


@contextlib.contextmanager
def locked(repo: Any) -> Iterator[None]:
    """Hold DVC's lock of the checkout; wait, and say so once, while another DVC process holds it."""
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    with contextlib.ExitStack() as stack:
        said = False
        while True:
            try:
                stack.enter_context(lock_repo(repo))
                break
            except LockError:
                if not said:
                    print("waiting for another DVC process to end", flush=True)
                said = True
                time.sleep(1)
        yield


def command_of(stage: Any) -> tuple[str, list[str]]:
    """Return the stage's function and its overrides, from `python pipelines/<function>.py OVERRIDE ...`."""
    _, script, *overrides = shlex.split(stage.cmd)
    return Path(script).stem, overrides


def is_ours(stage: Any, data: str | None) -> bool:
    """Whether a stage of `dvc.yaml` belongs to a data set or to a cell, of the given data set if there is one."""
    if not stage.cmd:
        return False
    function, overrides = command_of(stage)
    return function in (*DATA_STAGES, *CELL_STAGES) and (data is None or f"data={data}" in overrides)


def chosen(stage: Any) -> dict[str, str]:
    """Return a stage's overrides by their keys."""
    return dict(item.split("=", 1) for item in command_of(stage)[1])


def job_name(stage: Any) -> str:
    """Return `heights` for the stages of a data set, `heights-vae-0` for those of a cell."""
    overrides = chosen(stage)
    return "-".join(overrides[group] for group in ("data", "model", "seed") if group in overrides)
