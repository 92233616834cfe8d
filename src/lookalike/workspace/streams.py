"""Standard input, output and error that are closed, full, or that nobody reads."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EIO)


def open_closed_streams() -> None:
    """Open the streams that the caller closed (`>&-`) on nothing, before another file gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


@contextmanager
def written() -> Iterator[None]:
    """Write all that the block prints; exit with one line if that is not possible.

    If the reader has closed the pipe, exit silently with 141, the status that a shell reports.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except (OSError, SystemExit) as error:
        # Rich ends a process whose output nobody reads with a status of its own.
        cause = error.__context__ if isinstance(error, SystemExit) else error
        # Errors of other files have their names, and stages name the disks of their results.
        if not isinstance(cause, OSError) or cause.filename or cause.errno not in OUTPUT_ERRORS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # What is still buffered goes nowhere.
        if cause.errno == errno.EPIPE:
            sys.exit(128 + signal.SIGPIPE)
        sys.exit(f"error: cannot write to standard output: {cause.strerror}")
