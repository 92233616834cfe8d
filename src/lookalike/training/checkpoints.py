"""The last checkpoint of a training: whole or not there, whatever interrupts the writing."""

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from lookalike.workspace.errors import UserError
from lookalike.workspace.processes import agreed


class WholeFiles(TorchCheckpointIO):  # type: ignore[misc]
    """Write a checkpoint beside the last one, and then replace that.

    Lightning's own writer goes through the system's temporary folder; a copy from another disk may end halfway.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; raise a UserError if the disk refuses it."""
        path, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)
        draft = path.with_name(f"{path.name}.draft")
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(content.getbuffer())
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise UserError(
                f"cannot write a checkpoint of {len(content.getbuffer()) / 1e6:.1f} MB to {path.parent}: "
                f"{error.strerror}; free some space there, and the same command continues from the last checkpoint"
            ) from None


def last_step(checkpoint: Path, *, rank: int, ranks: int) -> int:
    """Return the number of steps that a checkpoint was written after; 0 without one. Delete a damaged one.

    Rank 0 looks, and all ranks return what it found.
    """
    step = 0
    if rank == 0 and checkpoint.is_file():
        try:
            step = int(torch.load(checkpoint, weights_only=True, map_location="cpu")["global_step"])
        except Exception as error:  # The type depends on where the file is damaged.
            print(f"the checkpoint {checkpoint} is damaged ({str(error).splitlines()[0]}): training starts anew")
            checkpoint.unlink()
    return agreed(step) if ranks > 1 else step
