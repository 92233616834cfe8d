"""Weights of extractors: named by what is in them, read without running any code that is in them."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lookalike.core.errors import UserError
from lookalike.models.build import load_weights

Network = TypeVar("Network", bound=nn.Module)


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names and bytes of weights, the first 16 hexadecimal digits: the extractor's name in a protocol."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def load_own(network: Network, record: dict[str, Any], folder: Path) -> Network:
    """Read what this project trained and wrote into a network, and freeze it.

    Raises:
        UserError: the weights are damaged, or not those of the record.
    """
    load_weights(network, folder / "weights.safetensors")
    if digest(network.state_dict()) != record["digest"]:
        raise UserError(f"{folder}: the weights are not those of extractor {record['digest']}; run the features stage")
    return network


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bring(path: Path, folder: Path) -> dict[str, Any]:
    """Copy published weights into a folder as they are: scoring needs neither the place they came from nor a network.

    Returns:
        `digest`, the first 16 digits of the file's SHA-256; `sha256`, all of it; `weights`, the name in the folder.

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
    """Tensors by name, of safetensors or of a PyTorch file that holds nothing but tensors.

    Raises:
        UserError: the file is missing, damaged, holds something else than tensors, or is not the one that the record
            names.
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
    except Exception as error:  # whatever its first bad byte makes of it
        raise UserError(
            f"data.features.weights: no tensors can be read from {path.name} ({first_line(error)})"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"data.features.weights: {path.name} holds something else than tensors by name")
    return state


@contextlib.contextmanager
def needs(library: str, *, extra: str) -> Iterator[None]:
    """While an optional library is imported: what goes wrong is told as a UserError that says how to install it."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"data.features: this takes {library} ({first_line(error)}): pip install 'lookalike[{extra}]'"
        ) from None
    except RuntimeError as error:
        raise UserError(
            f"data.features: {library} can't be imported ({first_line(error)}): torchvision must be of the same build "
            f"as torch {torch.__version__}"
        ) from None


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def free(network: nn.Module) -> nn.Module:
    """A network that is only looked through: no gradients, no dropout, on the fastest device there is."""
    return network.requires_grad_(False).eval().to("cuda" if torch.cuda.is_available() else "cpu")
