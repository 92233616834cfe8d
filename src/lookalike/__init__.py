"""Lookalike: train several families of generative models on one data set and measure how close each came to it."""

import os
import signal
import sys
from typing import Any

INTERRUPTED = 130
"""The exit code of a stage that was interrupted."""


def leave(*_: Any) -> None:
    """End the process: while a stage imports what it needs and reads its settings, there is nothing to clear up."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


STAGE = os.path.basename(os.path.dirname(os.path.abspath(sys.argv[0]))) == "pipelines"

if STAGE:
    # Imports take seconds, and an exception in them could end as anything in a C extension. `stage.writing` ends this.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is usual:
            signal.signal(number, leave)
