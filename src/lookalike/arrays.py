"""Arrays on disk: NumPy's own archive, whose bytes follow from the arrays alone."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a compressed `.npz`; the same arrays give the same bytes, since NumPy dates every member 1980."""
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
