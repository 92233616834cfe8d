"""Write and read files of samples."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.workspace.errors import UserError

KEPT = 10_000
"""Number of samples that stay in memory, which is more than a picture shows."""


def save_samples(
    path: Path,
    batches: Iterable[NDArray[Any]],
    domain: Domain,
    *,
    samples: int,
    labels: NDArray[np.int64] | None = None,
) -> NDArray[Any]:
    """Write batches of values as they come to the array `samples` of a `.npz`; return the first `KEPT` of them.

    Class numbers `[samples]` become the array `labels`. The bytes equal those of `save_arrays`; the memory is that of
    one batch.
    """
    shape = (samples, *domain.shape)
    header = {"descr": np.lib.format.dtype_to_descr(domain.dtype), "fortran_order": False, "shape": shape}
    kept: list[NDArray[Any]] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("samples.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for batch in batches:
                member.write(batch.tobytes())
                kept += [batch] if sum(map(len, kept)) < KEPT else []
        if labels is not None:
            with archive.open("labels.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, labels, allow_pickle=False)
    return np.concatenate(kept)[:KEPT]


def load_samples(path: Path, domain: Domain) -> NDArray[Any]:
    """Return the array `samples` of a file, checked against the domain.

    Raises:
        UserError: no such file, no such array, another shape or type, NaN, or values off the grid.
    """
    if not path.is_file():
        raise UserError(f"no samples in {path}: run the sample stage first")
    try:
        with np.load(path, allow_pickle=False) as file:
            if "samples" not in file:
                raise UserError(f"{path}: no array named 'samples', only {', '.join(file) or 'nothing'}")
            samples: NDArray[Any] = file["samples"]
    except UserError:
        raise
    except Exception as error:  # a damaged archive raises whatever its first bad byte makes of it
        raise UserError(f"samples damaged: {path} ({error}). Run the sample stage again") from None
    try:
        domain.to_grid(samples)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if len(samples) < 2:
        raise UserError(f"{path}: it holds {len(samples) or 'no'} samples; a score and its error need at least two")
    return samples
