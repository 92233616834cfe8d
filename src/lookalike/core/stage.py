"""What every stage script shares: the command line, the places of a cell, whole outputs or none, cost, exit codes."""

import errno
import fcntl
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from lookalike import INTERRUPTED, leave
from lookalike.core.config import ROOT, Config, choices, compose, compose_unchecked, groups
from lookalike.core.errors import UserError
from lookalike.core.files import write_json

T = TypeVar("T")


class Cell:
    """Where the stages of one data set and one model keep what they make."""

    def __init__(self, config: Config) -> None:
        data = config.path("artifacts") / config.data.name
        self.prepared = data / "prepared"
        self.summary = data / "summary"
        self.features = data / "features"
        self.real = data / "real"
        self.train, self.sample, self.evaluate = (config.cell / stage for stage in ("train", "sample", "evaluate"))


class Cost:
    """What a stage's own work took. It never repeats exactly, so it stands in a file of its own.

    `process_seconds` counts from the start of the process, `startup_seconds` up to the start of the work.
    """

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}

    @contextmanager
    def work(self) -> Iterator[None]:
        """Time a block of training, sampling or scoring; several blocks add up."""
        start = time.monotonic()
        self.record.setdefault("startup_seconds", round(since_process_start(), 3))
        try:
            yield
        finally:
            self.record["work_seconds"] = self.record.get("work_seconds", 0.0) + time.monotonic() - start

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Time the making of each item, and not what is done with it."""
        source = iter(items)
        while True:
            with self.work():
                item = next(source, None)
            if item is None:
                return
            yield item

    def save(self, folder: Path, **more: float) -> None:
        """Write `cost.json`."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if "work_seconds" in self.record:
            more["work_seconds"] = self.record["work_seconds"]
        self.record |= {name: round(value, 3) for name, value in more.items()}
        self.record |= {"process_seconds": round(since_process_start(), 3), "peak_memory_mb": round(peak, 1)}
        write_json(folder / "cost.json", self.record)


def since_process_start() -> float:
    """Seconds since this process was started, imports included."""
    return time.time() - psutil.Process().create_time()


def claim(draft: Path) -> int:
    """Hold a folder for as long as the descriptor that is returned is open, or its process alive.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def check_replaceable(folder: Path, holds: Collection[str] | None) -> None:
    """Raise a UserError unless a folder may be replaced: it is none of the user's own."""
    if ROOT.is_relative_to(folder.resolve()):
        raise UserError(f"cannot write to {folder}: it holds this checkout, and would be replaced as a whole")
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise UserError(f"cannot write to {folder}: it is no folder")
    foreign = sorted({path.name for path in folder.glob("*")} - set(holds)) if holds is not None else []
    if foreign:
        raise UserError(
            f"cannot write to {folder}: it would be replaced as a whole, and {foreign[0]} in it is not of this stage"
        )


@contextmanager
def writing(folder: Path, *, holds: Collection[str] | None = None) -> Iterator[Path]:
    """A draft beside `folder` that takes its place when the block succeeds and vanishes when it fails.

    What a killed process left of an earlier attempt is cleared away first.

    Args:
        folder: of an earlier run, if it is there, and replaced as a whole.
        holds: all names that it may have in it; without, whatever is in it was written by the stage.

    Raises:
        UserError: the place can't be written to, holds something else, or another process is writing there; raised
            before the block runs.
        KeyboardInterrupt: the process was told to stop, by Ctrl-C or SIGTERM.
    """
    check_replaceable(folder, holds)
    # From here on there are drafts to clear away.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is leave:
            signal.signal(number, signal.default_int_handler)
    draft, old = (folder.parent / f".{folder.name}-{part}" for part in ("draft", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        if old.exists() and not folder.exists():
            old.rename(folder)
        if draft.exists():
            os.close(claim(draft))
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o755)
        claimed = claim(draft)
    except BlockingIOError:
        raise UserError(f"cannot write to {folder}: another process does, and must end first") from None
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        yield draft
        if folder.exists():
            folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(claimed)


def usage(main: Callable[[Config], None]) -> str:
    """What `--help` prints."""
    script = Path(sys.argv[0]).name
    lines = [(sys.modules[main.__module__].__doc__ or "").strip(), ""]
    lines += [f"usage: python pipelines/{script} [GROUP=CHOICE ...] [KEY=VALUE ...]", ""]
    lines += [f"  {group}=  {', '.join(choices(group))}" for group in groups()]
    lines += ["", "Any key of the configuration can be set, such as seed=1 or optimizer.lr=1e-3.", ""]
    lines += ["  --cfg   print the whole composed configuration and stop", "  --help  this page"]
    return "\n".join(lines)


def show(text: str) -> None:
    """Print to standard output; leave with 141, as the shell would say, if whoever reads it has seen enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is left to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def run(main: Callable[[Config], None]) -> None:
    """Run a stage with the overrides on the command line; leave with 0, 1 (an error) or 130 (interrupted)."""
    try:
        if "--help" in sys.argv or "-h" in sys.argv:
            show(usage(main))
            return
        if Path(sys.argv[0]).resolve().parents[1] != ROOT:
            raise UserError(f"the installed package is that of {ROOT}: run `pip install -e .` in this checkout")
        overrides = sys.argv[1:]
        if "--cfg" in overrides:
            from omegaconf import OmegaConf

            chosen = [item for item in overrides if item != "--cfg"]
            show(OmegaConf.to_yaml(compose_unchecked(chosen)))
            return
        config = compose(overrides)
        if config.label is not None and Path(sys.argv[0]).stem != "sample":
            raise UserError(f"label={config.label}: `python pipelines/sample.py` paints one class; no other stage does")
        main(config)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        traceback.print_exc() if error.filename is None else None
        sys.exit(f"error: {error}" if error.filename is None else f"error: {error.strerror}: {error.filename}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
