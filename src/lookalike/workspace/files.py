"""Arrays and records on disk whose bytes depend on their content alone."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.workspace.errors import UserError


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a compressed `.npz`; the same arrays give the same bytes, because NumPy dates every member 1980."""
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON with a final newline; NaN and infinity raise a ValueError."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, remedy: str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Return a record that a stage wrote and that has certain keys.

    Raises:
        UserError: the file is damaged or lacks a key; the message ends with the remedy.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"damaged: {path} ({error}). {remedy}") from None
    missing = sorted(set(keys) - set(content)) if isinstance(content, dict) else ["object"]
    if missing:
        raise UserError(f"damaged: {path} (it has no {missing[0]}). {remedy}")
    return dict(content)
