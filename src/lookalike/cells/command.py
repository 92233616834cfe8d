"""`lookalike cells`: run the stale stages of all data sets and cells, several cells at once, and record them."""

import argparse
import contextlib
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import NoReturn

from filelock import Timeout
from rich.console import Console

from lookalike.cells.launch import LAUNCHERS, Launcher, workers_here
from lookalike.cells.look import Look
from lookalike.cells.pipeline import CELL_STAGES, Pipeline, opened
from lookalike.cells.records import Folder, Job, content_digest
from lookalike.cells.watch import PLAIN, Watch, record
from lookalike.workspace.configuration import CONF, ROOT, choices, compose
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import INTERRUPTED, raise_from_now_on
from lookalike.workspace.locks import file_lock, holder_of
from lookalike.workspace.pipeline import check_links, read_listed

ATTEMPTS = 3
"""How often a job is started that dies, or whose dependencies change while it runs."""

PIPELINE = CONF / "pipeline.yaml"


def main(arguments: list[str]) -> None:
    """Run the command line of `lookalike cells`."""
    finish(lambda: run(parser().parse_intermixed_args(arguments)))


def finish(run: Callable[[], int]) -> NoReturn:
    """Run a command and exit: with 0, 1 (an error, or a job that failed) or 130 (interrupted)."""
    raise_from_now_on()
    try:
        sys.exit(run())
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like those of every other command."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = Parser(
        prog="lookalike cells",
        description="Run the stale stages of the pipeline, several cells at once, and record them with DVC. "
        "The same command goes on where it was interrupted.",
        epilog="example: lookalike cells --launcher submitit_slurm hydra.launcher.partition=cpu",
    )
    found.add_argument("items", nargs="*", metavar="DATA or hydra.launcher.KEY=VALUE", help="one data set; settings")
    found.add_argument("--jobs", type=int, metavar="N", help="cells at once on this machine; default: one per core")
    found.add_argument(
        "--seeds",
        type=seeds_of,
        metavar="N or A,B",
        help="training seeds, compared in results/seeds; default: as listed",
    )
    found.add_argument("--launcher", choices=LAUNCHERS, default="joblib", help="where jobs run; default: joblib")
    return found


def run(arguments: argparse.Namespace) -> int:
    """Run everything that is stale; return the exit code."""
    console = Console(soft_wrap=True)
    names = [item for item in arguments.items if "=" not in item]
    if len(names) > 1:
        raise UserError(f"'{names[1]}': give one data set, or none for all that conf/pipeline.yaml lists")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: it is a whole number from 1 on")
    check_links()
    data = names[0] if names else None
    check_listed(data, console)
    folder = Folder(ROOT / ".lookalike" / "cells")
    launcher = Launcher(
        name=arguments.launcher,
        folder=folder.path,
        workers=arguments.jobs or workers_here(),
        overrides=[item for item in arguments.items if "=" in item],
    )
    try:
        with file_lock(folder.lock, timeout=0), listed_seeds(arguments.seeds, console):
            code = Rounds(folder=folder, launcher=launcher, pipeline=lambda: opened(data), console=console).run()
            return compare_seeds(data) if arguments.seeds and code == 0 else code
    except Timeout:
        raise UserError(
            f"another `lookalike cells`{holder_of(folder.lock)} is at work in this checkout; wait until it has ended"
        ) from None


def check_listed(data: str | None, console: Console) -> None:
    """Check `conf/pipeline.yaml`, and add the data set to it if it is not listed."""
    read_listed(PIPELINE).check()
    if data is None or data in read_listed(PIPELINE).data:
        return
    if data not in choices("data"):
        raise UserError(f"unknown data set '{data}': choose one of {', '.join(choices('data'))}")
    compose([f"data={data}"])  # checks it
    add_data(data)
    console.print(f"conf/pipeline.yaml: added {data} to its data sets", **PLAIN)


def seeds_of(text: str) -> list[int]:
    """Return training seeds: `3` stands for 0, 1 and 2, and `0,4` for these two."""
    if not re.fullmatch(r"[1-9][0-9]*|[0-9]+(,[0-9]+)+", text):
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number of seeds, such as 3, nor a list, such as 0,1,2")
    return list(dict.fromkeys(map(int, text.split(",")))) if "," in text else list(range(int(text)))


@contextlib.contextmanager
def listed_seeds(seeds: list[int] | None, console: Console) -> Iterator[None]:
    """Let `conf/pipeline.yaml`, which DVC reads, list some seeds for as long as a command runs."""
    if not seeds:
        yield
        return
    before = PIPELINE.read_text(encoding="utf-8")
    others = re.sub(r"^seeds:[^\n]*\n?(?:[ ]*-[^\n]*\n)*", "", before, flags=re.MULTILINE)
    changed = f"{others.rstrip()}\nseeds: {seeds}\n"
    PIPELINE.write_text(changed, encoding="utf-8")
    console.print(f"conf/pipeline.yaml lists the seeds {seeds} until this command ends", **PLAIN)
    try:
        yield
    finally:
        if PIPELINE.read_text(encoding="utf-8") == changed:
            PIPELINE.write_text(before, encoding="utf-8")
        else:
            console.print(f"conf/pipeline.yaml was edited meanwhile and still lists the seeds {seeds}", **PLAIN)


def compare_seeds(data: str | None) -> int:
    """Compare the cells of all listed seeds in `results/seeds`; return the exit code."""
    chosen = [f"data={data}"] if data else []
    return subprocess.run(
        [sys.executable, "-m", "lookalike", "compare", *chosen, "paths.results=results/seeds"], cwd=ROOT
    ).returncode


def add_data(data: str) -> None:
    """Add a data set to the end of the list in `conf/pipeline.yaml`, and leave everything else as it is."""
    text = PIPELINE.read_text(encoding="utf-8")
    block = re.search(r"^data:[^\n]*\n(?:[ ]*-[^\n]*\n)+", text, re.MULTILINE)
    flow = re.search(r"^data: *\[[^\]\n]*", text, re.MULTILINE)
    if flow is not None:
        text = text[: flow.end()] + f", {data}" + text[flow.end() :]
    elif block is not None:
        indent = re.findall(r"^[ ]*(?=-)", block.group(), re.MULTILINE)[-1]
        text = text[: block.end()] + f"{indent}- {data}\n" + text[block.end() :]
    PIPELINE.write_text(text, encoding="utf-8")
    if data not in read_listed(PIPELINE).data:
        raise UserError(f"conf/pipeline.yaml: add {data} to the list 'data'")


class Rounds:
    """Runs rounds of jobs until nothing is stale but what failed.

    A round runs every job that waits for no other: first the data sets, and the cells of those that are up to date.
    """

    def __init__(
        self,
        *,
        folder: Folder,
        launcher: Launcher,
        pipeline: Callable[[], contextlib.AbstractContextManager[Pipeline | Look]],
        console: Console,
    ) -> None:
        self.folder, self.launcher, self.opened, self.console = folder, launcher, pipeline, console
        self.failed: dict[str, str] = {}
        self.attempts: dict[str, int] = {}
        self.finished = 0
        self.fruitless = 0

    def run(self) -> int:
        """Run all rounds and print the summary; return the exit code."""
        started = time.monotonic()
        self.adopt()
        blocked: list[str] = []
        while True:
            with self.opened() as pipeline:
                plan = pipeline.plan()
                for name in plan.restored:
                    self.console.print(f"{name}: restored from DVC's cache", **PLAIN)
                blocked = [name for name in plan.blocked if name not in self.failed]
                ready = [job for job in plan.ready if job.name not in self.failed]
                if not ready:
                    break
                self.round(pipeline, in_order(ready), later=len(blocked))
        return self.summary(blocked, time.monotonic() - started)

    def adopt(self) -> None:
        """Record what jobs of an earlier command had finished before it was killed, and wait for those still alive."""
        self.folder.begin(uuid.uuid4().hex, [], {})
        while any(state.is_alive for state in self.folder.states()):
            time.sleep(1)
        left = [state for state in self.folder.states() if state.done]
        if left:
            with self.opened() as pipeline:
                for state in left:
                    if record(pipeline, self.folder, state):
                        stages = ", ".join(done.name for done in state.done)
                        self.console.print(f"{stages}: finished by an earlier command, recorded now", **PLAIN)

    def round(self, pipeline: Pipeline | Look, jobs: list[Job], *, later: int) -> None:
        """Run jobs with the launcher; afterwards every job is recorded, failed, or to be run again."""
        sources = {stage.name: content_digest(stage.sources) for job in jobs for stage in job.stages}
        self.folder.begin(uuid.uuid4().hex, jobs, sources)
        watch = Watch(
            pipeline=pipeline,
            folder=self.folder,
            jobs={job.name: job for job in jobs},
            before=self.finished + len(self.failed),
            later=later,
            workers=min(self.launcher.workers, len(jobs)),
            console=self.console,
        )
        problem = "its worker was lost"
        with watch:
            try:
                self.launcher.launch([job.name for job in jobs])
            except (UserError, KeyboardInterrupt):
                raise
            except Exception as error:  # of the launcher: a worker was killed, a cluster is gone
                problem = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
                self.console.print(f"the launcher gave up ({problem})", **PLAIN)
                while any(state.is_alive and state.round == watch.token for state in self.folder.states()):
                    time.sleep(1)
            finally:
                self.launcher.close()
        self.failed |= watch.failed
        self.finished += len(watch.ended) - len(watch.failed) - len(watch.changed)
        begun = {state.name for state in self.folder.states() if state.round == watch.token}
        self.fruitless = 0 if begun or watch.ended else self.fruitless + 1
        if self.fruitless >= ATTEMPTS:
            raise UserError(f"--launcher {self.launcher.name}: no job has begun ({problem})")
        for name in watch.jobs.keys() - watch.ended.keys() | set(watch.changed):
            # A job that had not begun when the launcher gave up has not used up an attempt.
            self.attempts[name] = self.attempts.get(name, 0) + (name in begun or name in watch.changed)
            if self.attempts[name] >= ATTEMPTS:
                cause = "its dependencies kept changing" if name in watch.changed else problem
                self.failed[name] = f"given up after {ATTEMPTS} attempts: {cause}"

    def summary(self, blocked: list[str], seconds: float) -> int:
        """Print what was done and what failed; return the exit code."""
        if not self.failed:
            what = f"{self.finished} jobs done in {seconds:.0f} s" if self.finished else "all cells are up to date"
            self.console.print(what, **PLAIN)
            return 0
        for name, problem in self.failed.items():
            self.console.print(f"error: {name}: {problem}", **PLAIN)
            self.console.print(f"  all that it printed: {self.folder.log(name).relative_to(ROOT)}", **PLAIN)
        waiting = f"; not begun because of it: {', '.join(blocked)}" if blocked else ""
        self.console.print(f"{self.finished} jobs done, {len(self.failed)} failed{waiting}", **PLAIN)
        return 1


def in_order(jobs: list[Job]) -> list[Job]:
    """Data sets first, then the cells from the last one listed to the first, so that short ones fill the end.

    `conf/pipeline.yaml` lists the families that take longest last, and DVC lists the floors after all others.
    """

    firsts = [(job, job.stages[0]) for job in jobs[::-1]]
    firsts.sort(key=lambda found: (found[1].function in CELL_STAGES, "_floor@" in found[1].name))
    return [job for job, _ in firsts]
