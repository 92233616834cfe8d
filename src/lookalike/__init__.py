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


def own_code(script: str, package: str) -> str | None:
    """The `src` folder of a script's own checkout, if the package that was found is that of another one.

    A queued DVC experiment and a git worktree run in a copy of the checkout that was installed.
    """
    source = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(script))), "src")
    own = os.path.join(source, os.path.basename(package))
    if not os.path.isfile(os.path.join(own, "__init__.py")) or os.path.samefile(own, package):
        return None
    return source


STAGE = os.path.basename(os.path.dirname(os.path.abspath(sys.argv[0]))) == "pipelines"

if STAGE:
    if found := own_code(sys.argv[0], os.path.dirname(os.path.abspath(__file__))):
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if paths[0] != found:  # else Python was told not to look there
            os.environ["PYTHONPATH"] = os.pathsep.join([found, *filter(None, paths)])
            os.execv(sys.executable, sys.orig_argv)
    # Imports take seconds, and an exception in them could end as anything in a C extension. `stage.writing` ends this.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is usual:
            signal.signal(number, leave)
