"""Work that several processes of one machine share. This one is number 0, and it starts the others.

The others are started afresh, not forked, so that they share no lock, thread or GPU with this one. They end when it
does, however it ends; they leave Ctrl-C to it, and write nothing.
"""

import functools
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import numpy as np
import torch

from lookalike.core.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

FRESH = multiprocessing.get_context("spawn")

LEARN_SECONDS = 10.0
"""How long this process waits, when work in common has failed, to be told of what."""

NOTICE_SECONDS = 30.0
"""How long this process may take to notice that another has died."""


class Crew:
    """The other processes, numbers 1 to `count - 1`, for the length of a `with` block.

    Args:
        work: takes the number of the process it runs in; what it yields is what `receive` returns. It goes to the
            processes as bytes, with all that it is bound to: models as they are, memory-mapped arrays as their paths.
        count: all processes, this one among them.
    """

    def __init__(self, work: Callable[[int], Iterable[Any]], *, count: int) -> None:
        self.count = count
        self.channels: dict[int, Connection] = {}
        self.processes: dict[int, Any] = {}
        self.collecting = threading.Lock()
        content = packed(work)
        settings = {"threads": torch.get_num_threads(), "flush": flushes_denormal()}
        resource_tracker.ensure_running()  # Python's own; to start it takes signals off the list of blocked ones
        # The user's Ctrl-C is not for them. Started with signals blocked, they don't see one, not even at first.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for number in range(1, count):
                self.channels[number], theirs = FRESH.Pipe()
                process = FRESH.Process(target=serve, args=(number, theirs), kwargs=settings, daemon=True)
                process.start()
                theirs.close()
                self.processes[number] = process
        except BaseException:
            self.end()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # Not as an argument: one that is dead before it has read all its arguments is waited for without end.
        try:
            for number in self.processes:
                self.send(number, content)
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the others, whatever they are at."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.join()
        for channel in self.channels.values():
            channel.close()

    def send(self, number: int, content: bytes) -> None:
        """Give a process its work, once it is there to take it.

        Raises:
            UserError: it never was.
        """
        try:
            self.channels[number].send_bytes(content)
        except OSError:
            raise UserError(self.died(number)) from None

    def receive(self, number: int) -> Any:
        """The next thing that the work of a process yields; waits for it.

        Raises:
            UserError: what the work raised, or the process was killed.
            RuntimeError: the work failed otherwise; its traceback is the message.
        """
        try:
            kind, content = self.channels[number].recv()
        except (EOFError, OSError):
            raise UserError(self.died(number)) from None
        if kind == "mistake":
            raise UserError(content)
        if kind == "failure":
            raise RuntimeError(f"process {number} of {self.count} failed:\n{content}")
        return content

    def died(self, number: int) -> str:
        """How a process that said nothing ended."""
        code = self.exit_code(number)
        how = "says nothing more" if code is None else f"ended with {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        return (
            f"process {number} of {self.count} (numbered from 0) {how}: want of memory is the usual cause, and fewer "
            f"trainer.devices the usual cure"
        )

    def exit_code(self, number: int) -> int | None:
        """That of a process that has ended or is about to; None if it still runs after some seconds.

        It can be asked for once, so of two threads at once the second would be told that there is no such process.
        """
        process = self.processes[number]
        if not wait([process.sentinel], LEARN_SECONDS):
            return None
        with self.collecting:
            process.join(LEARN_SECONDS)  # it shows that it ends before it can say how
            code: int | None = process.exitcode
        return code

    def failure(self) -> Exception | None:
        """What the work of another process failed of, or None where nobody says so within some seconds.

        One that fails takes the others with it, so the first cause is looked for: a user's mistake, then a killed
        process, then anything else.
        """
        deadline = time.monotonic() + LEARN_SECONDS
        numbers: dict[Any, int] = {channel: number for number, channel in self.channels.items()}
        while numbers and (ready := wait(list(numbers), max(0.0, deadline - time.monotonic()))):
            found: list[Exception] = []
            for channel in ready:
                number = numbers.pop(channel)
                try:
                    self.receive(number)
                except (UserError, RuntimeError) as error:
                    found.append(error)
            if found:
                return min(found, key=lambda error: (isinstance(error, RuntimeError), "was killed" in str(error)))
        return None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """End this process with 1 if another dies and this one hangs in the block because of it.

        Work in common waits for all, and not every way to wait notices that somebody is gone.
        """
        over = threading.Event()

        def watch() -> None:
            alive: dict[Any, int] = {process.sentinel: number for number, process in self.processes.items()}
            while alive and not over.is_set():
                for sentinel in wait(list(alive), timeout=0.2):
                    number = alive.pop(sentinel)
                    if self.exit_code(number) and not over.wait(NOTICE_SECONDS):
                        print(f"error: {self.failure() or self.died(number)}", file=sys.stderr, flush=True)
                        os._exit(1)

        watcher = threading.Thread(target=watch, name="watcher", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def divided(work: Callable[[T], R], items: Sequence[T], *, processes: int) -> Iterator[R]:
    """`map(work, items)`, with every process working on its share: item i in process i modulo their number.

    Results come in order, and a process is at most one ahead of what was taken, so memory stays that of an item each.

    Args:
        work: what it returns may not depend on what it was called with before.
        items: what it is called with.
        processes: as many at most; this one is one of them, and with 1 the only one.
    """
    count = min(processes, len(items))
    if count <= 1:
        yield from map(work, items)
        return
    with Crew(functools.partial(share, work, items, count), count=count) as crew:
        for i, item in enumerate(items):
            yield work(item) if i % count == 0 else crew.receive(i % count)


def share(work: Callable[[T], R], items: Sequence[T], count: int, number: int) -> Iterator[R]:
    """The results of one process."""
    yield from map(work, items[number::count])


def serve(number: int, channel: Connection, *, threads: int, flush: bool) -> None:
    """The whole life of another process: take its work, compute as the first one does, say what came of it, and end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # silently; Ctrl-C stays blocked
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(flush)
    try:
        for result in pickle.loads(channel.recv_bytes())(number):
            channel.send(("result", result))
    except BaseException as error:
        said = ("mistake", str(error)) if isinstance(error, UserError) else ("failure", traceback.format_exc())
        with suppress(OSError):  # nobody listens any more
            channel.send(said)
        # At once, with the error still at hand: to let go of what it holds, such as connections to others that wait for
        # this process, may take for ever.
        os._exit(1)


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


class Pickler(pickle.Pickler):
    """Arrays that are mapped from a whole file go as its path: they may be larger than memory."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, np.memmap) and thing.filename is not None:
            try:
                whole = np.load(thing.filename, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError):
                return NotImplemented
            if (whole.shape, whole.strides, whole.dtype) == (thing.shape, thing.strides, thing.dtype):
                return np.load, (str(thing.filename), "r")
        return NotImplemented


def packed(work: Any) -> bytes:
    """Work as bytes, for a process that has the same code; read by no other."""
    content = io.BytesIO()
    Pickler(content).dump(work)
    return content.getvalue()


def flushes_denormal() -> bool:
    """Whether this process computes with zero in place of subnormal numbers."""
    return not (torch.full((1,), 1e-40) * 0.5).any()
