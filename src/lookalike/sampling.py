"""Draws samples from any family, a batch at a time, and keeps them on the data's own grid."""

import functools
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.progress import progress
from lookalike.processes import divided

KEPT = 10_000
"""Samples that stay in memory: more than a picture shows."""


def class_number(model: Any, domain: Domain, label: str) -> int:
    """The number of the class that a name stands for; what is no class's name may be a class's number.

    Raises:
        UserError: there is no such class, or the model can't be told one.
    """
    family = type(model).__name__
    if not domain.labels:
        raise UserError(f"label={label}: {domain.name} has no labels")
    if not hasattr(model, "classes"):
        raise UserError(f"label={label}: {family} can't be told a class")
    if model.classes is None:
        raise UserError(f"label={label}: this {family} was not told classes; train it with model.conditional=true")
    if label in domain.labels:
        return domain.labels.index(label)
    if label.isdecimal() and int(label) < len(domain.labels):
        return int(label)
    raise UserError(f"label={label}: {domain.name} has no such class; choose one of {', '.join(domain.labels)}")


def draw_classes(model: Any, n: int, *, seed: int) -> NDArray[np.int64] | None:
    """Class numbers `[n]` for a conditional model to be told, by their shares; None for another model."""
    classes = getattr(model, "classes", None)
    if classes is None:
        return None
    torch.manual_seed(stream(seed, 0))
    numbers: NDArray[np.int64] = classes.draw(n).cpu().numpy()
    return numbers


def stream(seed: int, number: int) -> int:
    """The seed of one of many streams of random numbers that have nothing to do with each other.

    Of 32 bits: of more, torch's generator on a CPU looks at the lower 32 alone.
    """
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def draw(
    model: Any,
    domain: Domain,
    *,
    samples: int,
    batch_size: int,
    seed: int,
    settings: dict[str, Any],
    labels: NDArray[np.int64] | None = None,
    processes: int = 1,
) -> NDArray[Any]:
    """Values `[samples, *shape]` drawn from a model; only one batch at a time is in the model's hands.

    A conditional model is told class numbers `labels` `[samples]`, or draws its own. Several processes share the
    batches; the values are those that one draws.

    Raises:
        UserError: the model left its domain's shape or grid.
    """
    batches = draw_batches(
        model,
        domain,
        samples=samples,
        batch_size=batch_size,
        seed=seed,
        settings=settings,
        labels=labels,
        processes=processes,
    )
    return np.concatenate(list(batches))


def draw_batches(
    model: Any,
    domain: Domain,
    *,
    samples: int,
    batch_size: int,
    seed: int,
    settings: dict[str, Any],
    labels: NDArray[np.int64] | None = None,
    processes: int = 1,
) -> Iterator[NDArray[Any]]:
    """What `draw` returns, a batch at a time."""
    one = functools.partial(
        draw_batch,
        model,
        domain,
        samples=samples,
        batch_size=batch_size,
        seed=seed,
        settings=settings,
        labels=labels,
    )
    numbers = range(-(-samples // batch_size))
    with progress(divided(one, numbers, processes=processes), "sampling", total=len(numbers), unit="batch") as batches:
        yield from batches


@torch.inference_mode()
def draw_batch(
    model: Any,
    domain: Domain,
    number: int,
    *,
    samples: int,
    batch_size: int,
    seed: int,
    settings: dict[str, Any],
    labels: NDArray[np.int64] | None,
) -> NDArray[Any]:
    """Batch `number` of what `draw` returns, from random numbers of its own."""
    torch.manual_seed(stream(seed, 1 + number))
    start = number * batch_size
    count = min(batch_size, samples - start)
    told = {} if labels is None else {"labels": torch.from_numpy(labels[start : start + count])}
    grid = model.sample(count, **told, **settings)
    if tuple(grid.shape) != (count, *domain.shape) or grid.is_floating_point():
        raise UserError(f"{type(model).__name__} sampled {grid.dtype} of shape {tuple(grid.shape)}")
    if grid.min() < 0 or grid.max() >= domain.levels:
        raise UserError(f"{type(model).__name__} sampled outside the grid of {domain.levels} levels")
    return domain.to_values(grid.cpu().numpy())


def save_samples(
    path: Path,
    batches: Iterable[NDArray[Any]],
    domain: Domain,
    *,
    samples: int,
    labels: NDArray[np.int64] | None = None,
) -> NDArray[Any]:
    """Write batches of values as they come to the array `samples` of a `.npz`; return the first `KEPT` of them.

    Class numbers `[samples]` become its array `labels`. The bytes are those of `save_arrays`, the memory is that of a
    batch.
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
    """The array `samples` of a file that `sample`, or anything else, wrote; checked against the domain.

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
        raise UserError(f"{path}: it holds {len(samples) or 'no'} samples; a score and its error take two at least")
    return samples
