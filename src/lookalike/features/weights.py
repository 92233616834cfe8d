"""Weights of extractors: named by their content, and read without running code from the files."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lookalike.networks.weights import load_weights
from lookalike.workspace.errors import UserError

Network = TypeVar("Network", bound=nn.Module)


def digest(state: dict[str, Tensor]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of weights and their names, which name an extractor."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def load_own(network: Network, record: dict[str, Any], folder: Path) -> Network:
    """Return the network with the weights that the features stage wrote.

    Raises:
        UserError: the weights are damaged, or are not those of the record.
    """
    load_weights(network, folder / "weights.safetensors")
    if digest(network.state_dict()) != record["digest"]:
        raise UserError(f"{folder}: the weights are not those of extractor {record['digest']}; run the features stage")
    return network


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bring(path: Path, folder: Path) -> dict[str, Any]:
    """Copy published weights into a folder, so that scoring needs neither their origin nor a network connection.

    Returns:
        `digest`, the first 16 digits of the file's SHA-256; `sha256`, all digits; `weights`, the name in the folder.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"data.features.weights={path}: there is no such file")
    copy = folder / f"weights{path.suffix}"
    shutil.copyfile(path, copy)
    whole = sha256(copy)
    return {"digest": whole[:16], "sha256": whole, "weights": copy.name}


def read_brought(record: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """Return the tensors by name of a safetensors file, or of a PyTorch file that holds only tensors.

    Raises:
        UserError: the file is missing or damaged, holds something else than tensors, or is not the one that the
            record names.
    """
    path = folder / record["weights"]
    if not path.is_file() or sha256(path) != record["sha256"]:
        raise UserError(f"{path}: these are not the weights of extractor {record['digest']}; run the features stage")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # The type depends on where the file is damaged.
        raise UserError(
            f"data.features.weights: no tensors can be read from {path.name} ({first_line(error)})"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"data.features.weights: {path.name} holds something else than tensors by name")
    return state


@contextlib.contextmanager
def needs(library: str, *, extra: str) -> Iterator[None]:
    """Turn an error while an optional library is imported into a UserError that says how to install it."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"data.features: this needs {library} ({first_line(error)}): pip install 'lookalike[{extra}]'"
        ) from None
    except RuntimeError as error:
        raise UserError(
            f"data.features: {library} can't be imported ({first_line(error)}): torchvision must be of the same build "
            f"as torch {torch.__version__}"
        ) from None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def free(network: nn.Module) -> nn.Module:
    """Return the network without gradients and dropout; its caller chooses the device."""
    return network.requires_grad_(False).eval()
