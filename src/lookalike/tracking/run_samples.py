"""The samples of a run in MLflow: those that it keeps, or new ones that are drawn from its weights."""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.domain.domain import Domain
from lookalike.domain.kinds import load_domain
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import read_json, write_json

FILES = ("preview.npz", "samples.npz")
"""Artifacts with the first samples of a run; the second name if these are all of its samples."""

PICTURE = "samples.png"

MAX_BYTES = 256_000_000
"""Largest array of samples that is read."""

MAX_PIXELS = 30_000_000
"""Largest picture that is read."""

Array = NDArray[Any]


class Artifacts:
    """The artifacts of one run."""

    def __init__(self, client: Any, run: str) -> None:
        self.client, self.run = client, run
        self.names = {file.path for file in client.list_artifacts(run)}

    def fetch(self, name: str, folder: str) -> Path:
        """Return the path of a copy of an artifact."""
        return Path(self.client.download_artifacts(self.run, name, folder))

    def domain(self) -> Domain | None:
        """Return the domain that the model of the run was trained on; None if the run has no model."""
        if "model.json" not in self.names:
            return None
        with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
            record = read_json(self.fetch("model.json", folder), remedy="Train the model again", keys=["domain"])
        return load_domain(record["domain"])

    def samples(self, domain: Domain | None, count: int) -> Array | Image.Image | None:
        """Return the first samples that the run keeps; its picture of some, if there are no others; None without both.

        Raises:
            UserError: the file of samples is damaged.
        """
        name = next((name for name in FILES if name in self.names), None)
        with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
            if name is not None and domain is not None:
                return read_array(self.fetch(name, folder), domain)[:count]
            if PICTURE in self.names:
                return read_picture(self.fetch(PICTURE, folder))
        return None

    def draw(self, sampling: dict[str, Any], *, count: int, seed: int) -> Array:
        """Return samples that are drawn now from the weights of the run.

        Raises:
            UserError: the run has no weights, or those of another version of this project.
        """
        from lookalike.tracking.serving import Request, Served

        with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
            for name in ("model.json", "weights.safetensors"):
                if name not in self.names:
                    raise UserError(f"the run keeps no {name}, so its samples cannot be drawn again")
                self.fetch(name, folder)
            write_json(Path(folder) / "settings.json", {"sampling": sampling, "likelihood": {}, "code": ""})
            served = Served(Path(folder))
            drawn = served.answer([Request(count=count, seed=seed)])[0]["samples"]
            return np.array(drawn, dtype=served.domain.dtype)


def read_array(path: Path, domain: Domain) -> Array:
    """Return the array `samples` of a file that may come from anywhere, checked against a domain."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise UserError(f"{path.name} holds {size:,} bytes, more than {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as file:
            values: Array = file["samples"]
        domain.to_grid(values)
    except UserError:
        raise
    except Exception as error:  # a damaged archive raises whatever its first bad byte makes of it
        raise UserError(f"{path.name} is damaged ({error})") from None
    if not len(values):
        raise UserError(f"{path.name} holds no samples")
    return values


def read_picture(path: Path) -> Image.Image:
    """Return a picture that may come from anywhere."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{path.name} has {image.width} × {image.height} pixels")
            return image.convert("RGB")
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path.name} is damaged ({error})") from None


def sampling_of(parameters: dict[str, str]) -> dict[str, Any]:
    """Return the settings that a run was sampled with, which it keeps as parameters by dotted key."""
    nested: dict[str, Any] = {}
    for key, text in parameters.items():
        first, *rest = key.split(".")
        if first != "sampling" or not rest:
            continue
        node = nested
        for part in rest[:-1]:
            node = node.setdefault(part, {})
        try:
            node[rest[-1]] = json.loads(text)
        except ValueError:
            node[rest[-1]] = text  # Text is kept as it is.
    return nested
