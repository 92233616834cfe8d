"""Run a stage in several processes, on one machine or on several.

`torchrun` and `srun` start the processes of a stage themselves. If nobody did, `spread` starts them with torch's own
launcher, the one behind `torchrun`. Every process runs the same code. Work that `shared` divides is gathered in order,
so results do not depend on the number of processes. Only rank 0 writes files, records the run and prints.
"""

import contextlib
import datetime
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from lookalike.workspace import interrupts
from lookalike.workspace.configuration import Config, Trainer
from lookalike.workspace.devices import Place, device_of, place, take_place
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import DEFAULTS, INTERRUPTED, end_with_parent

T = TypeVar("T")
R = TypeVar("R")

Work = Callable[[Config], None]
Context = Callable[[], AbstractContextManager[Any]]

PATIENCE = datetime.timedelta(days=1)
"""Time that processes wait for each other: while rank 0 trains an extractor, the others have nothing to do."""

GRACE_SECONDS = 2.0
"""Time after which a process reports its failure, which may be the consequence of another process's failure."""


def spread(work: Work, config: Config, *, alone: bool = False, context: Context = contextlib.nullcontext) -> None:
    """Call `work(config)` in `trainer.devices` processes on each of `trainer.nodes` machines.

    Args:
        work: a function of a module, since processes import it by its name.
        config: its argument.
        alone: whether the work cannot be divided; rank 0 then does all of it.
        context: what rank 0 enters around the work where this function starts the processes; it is pickled.

    Raises:
        UserError: `torchrun` started another number of processes, several machines were asked for but nobody started
            the stage on them, or a process raised one or was killed.
        KeyboardInterrupt: the user stopped the stage.
        Exception: what a process raised otherwise.
    """
    size = config.trainer.devices * config.trainer.nodes
    is_started = started(size)
    if alone or size == 1:
        if not is_started or os.environ["RANK"] == "0":
            with hidden(r"PL_|((LOCAL|NODE|GROUP)_)?RANK$|WORLD_SIZE$"):
                work(config)
        return
    with hidden("PL_"):
        if is_started:
            take_part(work, config, report=print_error)
        else:
            launch(work, config, context)


@contextlib.contextmanager
def hidden(pattern: str) -> Iterator[None]:
    """Hide environment variables while the block runs.

    Lightning takes settings of its Trainer from variables such as `PL_TRAINER_MAX_TIME`, which would change weights
    silently, and its rank from those of a launcher, even if a single process trains.
    """
    found = {name: os.environ.pop(name) for name in list(os.environ) if re.match(pattern, name)}
    try:
        yield
    finally:
        os.environ |= found


def started(size: int) -> bool:
    """Return whether `torchrun` or `srun` started this process as one of `size`.

    Under `srun` this sets the variables that `torchrun` sets, so that all later code knows one way only. Slurm's
    variables have no effect on a stage of one process.
    """
    if {"TORCHELASTIC_RUN_ID", "WORLD_SIZE"} <= os.environ.keys():
        if os.environ["WORLD_SIZE"] != str(size):
            raise UserError(
                f"torchrun started {os.environ['WORLD_SIZE']} processes, but trainer.devices × trainer.nodes is {size}"
                f"; if the processes share no work, start each with `env -u TORCHELASTIC_RUN_ID`"
            )
        return True
    # `srun` sets this variable, while the script of a batch job does not see it.
    if size == 1 or os.environ.get("SLURM_STEP_NUM_TASKS") != str(size):
        return False
    first = re.sub(r"\[(\d+)[^]]*\]", r"\1", os.environ["SLURM_STEP_NODELIST"]).split(",")[0]
    job = int(os.environ["SLURM_JOB_ID"]) + int(os.environ["SLURM_STEP_ID"])
    os.environ |= {
        "RANK": os.environ["SLURM_PROCID"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "GROUP_RANK": os.environ["SLURM_NODEID"],
        "WORLD_SIZE": str(size),
    }
    os.environ.setdefault("MASTER_ADDR", first)
    os.environ.setdefault("MASTER_PORT", str(15000 + job % 10000))
    return True


def launch(work: Work, config: Config, context: Context) -> None:
    """Start the processes of one machine, wait for them, and raise what the first one that failed raised."""
    if (nodes := config.trainer.nodes) > 1:
        raise UserError(
            f"trainer.nodes={nodes}: start the stage on every machine, with `torchrun --nnodes {nodes} "
            f"--nproc-per-node {config.trainer.devices} …` or with srun"
        )
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory() as folder, restored():
        failures = multiprocessing.get_context("spawn").SimpleQueue()
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=config.trainer.devices,
            run_id=Path(folder).name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(settings, child)(work, config, context, failures)
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise cause(rank, failure.exitcode, failures, config.trainer) from None


def cause(rank: int, exit_code: int, failures: Any, trainer: Trainer) -> BaseException:
    """Return the exception to raise for the first process that failed."""
    if exit_code == INTERRUPTED:
        return KeyboardInterrupt()
    if exit_code >= 0 and not failures.empty():
        error: BaseException = failures.get()
        return error
    how = f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with exit code {exit_code}"
    return UserError(
        f"process {rank} of {trainer.devices} (numbered from 0) {how}: the usual cause is too little memory; choose "
        f"fewer trainer.devices"
    )


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Silence torch's launcher, whose errors are raised, and restore the signal handlers that it replaces."""
    numbers = {*DEFAULTS, signal.SIGQUIT}
    handlers, level = {number: signal.getsignal(number) for number in numbers}, logging.root.manager.disable
    logging.disable()
    if threading.current_thread() is threading.main_thread():
        # multiprocessing's tracker ignores Ctrl-C and SIGTERM alone; it inherits that the other signals are ignored.
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        resource_tracker.ensure_running()
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, handlers[number])
    if handlers[signal.SIGUSR1] is interrupts.leave:  # The launcher ends its processes on the other signals alone.
        signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        logging.disable(level)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def child(work: Work, config: Config, context: Context, failures: Any) -> None:
    """Do the work in a process that `launch` started; failures go to the queue that it reads."""
    for number in DEFAULTS:
        signal.signal(number, interrupt_once)
    end_with_parent()

    def report(error: BaseException) -> None:
        try:
            failures.put(error)
        except Exception:  # The error cannot be pickled.
            failures.put(RuntimeError(f"{type(error).__name__}: {error}"))

    with context() if os.environ["RANK"] == "0" else contextlib.nullcontext():
        take_part(work, config, report=report)


def interrupt_once(*_: Any) -> None:
    """Raise KeyboardInterrupt, and ignore later signals: a terminal and the launcher both send one."""
    for number in DEFAULTS:
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def take_part(work: Work, config: Config, *, report: Callable[[BaseException], None]) -> None:
    """Do the work as one of several processes.

    A process that fails ends at once and does not close its connections in order, because that waits for processes that
    wait for this one. A failure of torch may be the consequence of another process's end, so a process reports such a
    failure only if nobody ended it within some seconds.
    """
    try:
        with joined(config.trainer):
            work(config)
    except KeyboardInterrupt:
        leave(INTERRUPTED)
    except BaseException as error:
        try:
            time.sleep(GRACE_SECONDS * ((place().rank > 0) / 2 if isinstance(error, UserError) else 1))
            if not isinstance(error, UserError):
                trace = "".join(traceback.format_exception(error))
                error.add_note(f"raised in process {place().rank} of {place().size}:\n{trace[-10_000:]}")
            report(error)
        except KeyboardInterrupt:
            leave(INTERRUPTED)
        leave(1)


def print_error(error: BaseException) -> None:
    """Print why a process ends."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)


def leave(code: int) -> None:
    """End this process without unwinding it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def joined(trainer: Trainer) -> Iterator[None]:
    """Connect this process with the others, by the variables that `torchrun` sets."""
    import torch
    from torch import distributed

    take_place(Place(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))))
    if trainer.nodes == 1:  # Nothing listens to other machines.
        loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # Otherwise Lightning sets torch's threads.
    device = device_of(trainer)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    yield
    distributed.destroy_process_group()
    take_place(Place())


def shared(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield `work(item)` for every item, in order, in every process; the processes compute one item each at a time.

    Args:
        work: its result may depend on the item alone, not on earlier calls. Every process must take all results.
        items: the same in all processes.
    """
    rank, size, _ = place()
    if size == 1:
        yield from map(work, items)
        return
    from torch import distributed

    for start in range(0, len(items), size):
        mine = start + rank
        results: list[Any] = [None] * size
        distributed.all_gather_object(results, work(items[mine]) if mine < len(items) else None)
        yield from results[: len(items) - start]


def agreed(value: T) -> T:
    """Return, in every process, the value that rank 0 passed."""
    if place().size == 1:
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]
