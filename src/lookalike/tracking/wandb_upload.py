"""Upload the runs that were recorded offline to Weights & Biases, with its own command `wandb sync`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lookalike.tracking.wandb_runs import WandbRuns
from lookalike.workspace.errors import UserError
from lookalike.workspace.locks import claim, file_lock

SETTINGS = {"WANDB_X_GRAPHQL_RETRY_MAX": "3", "WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS": "5"}
"""Environment variables that are set unless the user has set them: a dead server is noticed in seconds."""

BATCH = 500
"""Number of folders per command, whose line has a longest length."""


def waiting(home: Path) -> list[Path]:
    """Return the folders of offline runs that W&B has not received and that no process writes to, the oldest first."""
    found = sorted((home / "wandb").glob("offline-run-*/run-*.wandb"))
    return [path.parent for path in found if not Path(f"{path}.synced").exists() and not is_written(path.parent)]


def is_written(folder: Path) -> bool:
    """Return whether a process writes to the folder of a run."""
    try:
        claim(folder)()
    except BlockingIOError:
        return True
    return False


def upload(*, project: str) -> Iterator[str]:
    """Upload all offline runs, of all projects; yield one line, or none if there is nothing to say.

    Raises:
        UserError: W&B did not receive all of them.
    """
    runs = WandbRuns(project=project)
    with file_lock(runs.home / "wandb" / "upload.lock"):
        folders = waiting(runs.home)
        if runs.mode != "online":
            if folders:
                yield f"W&B: offline; {len(folders)} folders of runs wait in {runs.home / 'wandb'} for `wandb login`"
            return
        said = ""
        env = SETTINGS | os.environ | {"WANDB_SILENT": "false"}  # Silent, it would give no reason.
        for start in range(0, len(folders), BATCH):
            command = [sys.executable, "-m", "wandb", "sync", *map(str, folders[start : start + BATCH])]
            done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=env, check=False)
            said = done.stderr or said
        if left := waiting(runs.home):
            errors = [line.partition("ERROR ")[2] for line in said.splitlines() if "ERROR " in line]
            problem = errors[0] if errors else f"see {runs.home / 'wandb' / 'logs'}"
            raise UserError(f"W&B did not receive {len(left)} of {len(folders)} folders of runs ({problem})")
        if folders:
            yield f"W&B: uploaded {len(folders)} folders of runs that were recorded offline"
