"""Ctrl-C and SIGTERM: end the process at once while nothing is half written, raise KeyboardInterrupt later."""

import os
import signal
from typing import Any

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""

DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def leave(*_: Any) -> None:
    """End the process without cleaning up."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def end_at_once() -> None:
    """Let Ctrl-C and SIGTERM end the process at once, unless they have handlers already.

    Imports take seconds, and an exception inside one could appear as any error of a C extension.
    """
    for number, default in DEFAULTS.items():
        if signal.getsignal(number) is default:
            signal.signal(number, leave)


def raise_from_now_on() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt, because there are drafts to clean up."""
    for number in DEFAULTS:
        if signal.getsignal(number) is leave:
            signal.signal(number, signal.default_int_handler)
