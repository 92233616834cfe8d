"""Start one process beside a sweep that records the sweep's files in MLflow and W&B, whoever writes them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lookalike.sweeps.places import Sweep
from lookalike.tracking.views import start

WAIT_SECONDS = 120.0
"""How long a finished sweep waits until everything is recorded."""


@contextmanager
def recorder(tracking: dict[str, Any], sweep: Sweep) -> Iterator[None]:
    """Run a recorder while the block runs; it also ends if this process is killed."""
    if not (tracking["mlflow"] or tracking["wandb"]):
        yield
        return
    process = start("lookalike.sweeps.recorder", str(sweep.folder))
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            pipe.write(json.dumps(tracking).encode() + b"\n")
            pipe.flush()
            yield
    finally:
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            print(
                f"tracking: the sweep is not recorded after {WAIT_SECONDS:.0f} s; record the rest with: "
                f"lookalike record",
                file=sys.stderr,
            )
