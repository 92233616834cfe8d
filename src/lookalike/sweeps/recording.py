"""The sweep's side of tracking: one process beside it shows the sweep's files in the views, whoever writes them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lookalike.sweeps.places import Sweep

WAIT_SECONDS = 120.0
"""How long a sweep that is done waits until all of it is recorded."""


@contextmanager
def recorder(tracking: dict[str, Any], sweep: Sweep) -> Iterator[None]:
    """While the block runs, a process of its own records what appears in the sweep's folder; it ends after the block.

    It ends by itself where this process is killed.
    """
    if not (tracking["mlflow"] or tracking["wandb"]):
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "lookalike.tracking.sweeps", str(sweep.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the sweep, which says how it ended
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            print(
                f"tracking: the sweep is not recorded after {WAIT_SECONDS:.0f} s; what is missing is recorded by: "
                f"python pipelines/record.py",
                file=sys.stderr,
            )
