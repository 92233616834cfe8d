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

if STAGE and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Imports take seconds, and an exception in them could end as anything in a C extension. `stage.run` ends this.
    signal.signal(signal.SIGINT, leave)
