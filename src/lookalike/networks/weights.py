"""Weights of a network on disk, as safetensors."""

from pathlib import Path

from safetensors.torch import load_file, save
from torch import nn

from lookalike.workspace.errors import UserError


def save_weights(model: nn.Module, path: Path) -> None:
    """Write parameters and persistent buffers as safetensors."""
    # safetensors' own `save_file` lets nobody but the owner read the file.
    path.write_bytes(save({name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}))


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights into a model of the same configuration and domain, and set it to evaluation.

    Raises:
        UserError: the file is missing or damaged, or its tensors are of another model or domain.
    """
    if not path.is_file():
        raise UserError(f"no weights in {path.parent}: run the train stage first")
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises its own type, which has no public base
        raise UserError(f"weights damaged: {path} ({error}). Train again") from None
    own = model.state_dict()
    for name in sorted(own.keys() | state.keys()):
        ours, theirs = (tuple(s[name].shape) if name in s else None for s in (own, state))
        if ours != theirs:
            raise UserError(
                f"weights of another model or domain: {path} has {name} of shape {theirs}, this configuration needs "
                f"{ours}. Train again"
            )
    model.load_state_dict(state)
    model.eval()
