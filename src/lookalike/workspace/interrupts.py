"""Signals that stop a command: end at once while nothing is half written, raise KeyboardInterrupt later."""

import functools
import os
import signal
import threading
import time
from typing import Any

import psutil

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""

POLL_SECONDS = 1.0

CLEANING_SECONDS = 30.0
"""How long a process without a parent may take to delete its drafts and to close its views."""

DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,  # The terminal is closed.
    signal.SIGUSR1: signal.SIG_DFL,  # Slurm sends it some time before the end of a job that asks for it.
}


def leave(*_: Any) -> None:
    """End the process without cleaning up."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def end_at_once() -> None:
    """Let the signals above end the process at once, unless they have handlers already; end a stage of DVC with DVC.

    Imports take seconds, and an exception inside one could appear as any error of a C extension.
    """
    for number, default in DEFAULTS.items():
        if signal.getsignal(number) is default:
            signal.signal(number, leave)
    if "DVC_STAGE" in os.environ:
        end_with_parent()


def raise_from_now_on() -> None:
    """Let the signals above raise KeyboardInterrupt, because there are drafts to clean up."""
    for number in DEFAULTS:
        if signal.getsignal(number) is leave:
            signal.signal(number, signal.default_int_handler)


@functools.cache
def end_with_parent() -> None:
    """End this process, as SIGTERM does, soon after the process that started it is gone, even if that was killed."""
    parents = lineage()

    def watch() -> None:
        while lineage() == parents:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(CLEANING_SECONDS)
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def lineage() -> list[int]:
    """Return the process id of this process's parent and, in a stage of DVC, of its ancestors up to DVC.

    A shell between DVC and a stage may outlive DVC.
    """
    found, process = [], psutil.Process().parent()
    while process is not None:
        found.append(process.pid)
        try:
            process = process.parent() if "DVC_STAGE" in process.environ() else None
        except psutil.Error:
            process = None
    return found
