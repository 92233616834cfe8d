"""Draw samples from any family, batch by batch, as values on the data's own grid."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.workspace.devices import device_in_use, place
from lookalike.workspace.errors import UserError
from lookalike.workspace.processes import shared
from lookalike.workspace.progress import progress


def class_number(model: Any, domain: Domain, label: str) -> int:
    """Return the number of the class with a name, or with a number where no class has that name.

    Raises:
        UserError: there is no such class, or the model is not conditional.
    """
    family = type(model).__name__
    if not domain.labels:
        raise UserError(f"label={label}: {domain.name} has no labels")
    if model.classes is None:
        raise UserError(
            f"label={label}: this {family} is not conditional; train and sample with model.conditional=true"
        )
    if label in domain.labels:
        return domain.labels.index(label)
    if label.isdecimal() and int(label) < len(domain.labels):
        return int(label)
    raise UserError(f"label={label}: {domain.name} has no such class; choose one of {', '.join(domain.labels)}")


def draw_classes(model: Any, n: int, *, seed: int) -> NDArray[np.int64] | None:
    """Draw class numbers `[n]` by the classes' shares of the training data; None for a model without classes."""
    classes = model.classes
    if classes is None:
        return None
    torch.manual_seed(stream(seed, 0))
    numbers: NDArray[np.int64] = classes.draw(n).cpu().numpy()
    return numbers


def stream(seed: int, number: int) -> int:
    """Return the seed of one of many independent streams of random numbers.

    It has 32 bits, because torch's generator on a CPU ignores higher ones.
    """
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def draw(model: Any, domain: Domain, **settings: Any) -> NDArray[Any]:
    """Return values `[samples, *shape]` drawn from a model; see `draw_batches` for the arguments."""
    return np.concatenate(list(draw_batches(model, domain, **settings)))


def draw_batches(
    model: Any,
    domain: Domain,
    *,
    samples: int,
    batch_size: int,
    seed: int,
    settings: dict[str, Any],
    labels: NDArray[np.int64] | None = None,
) -> Iterator[NDArray[Any]]:
    """Yield values `[batch_size, *shape]` drawn from a model, batch by batch.

    The processes of a stage share the batches. Every batch has random numbers of its own, so the values do not depend
    on the number of processes.

    Args:
        model: on the device to sample on.
        domain: the model's.
        samples: number of samples in all batches together.
        batch_size: samples per batch.
        seed: all random numbers follow from it.
        settings: keyword arguments of `model.sample`.
        labels: class numbers `[samples]` for a conditional model, which otherwise draws its own.

    Raises:
        UserError: the model returned another shape than its domain's, or values off its grid.
    """
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
    shown = place().rank == 0
    with progress(shared(one, numbers), "sampling", total=len(numbers), unit="batch", shown=shown) as batches:
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
    """Return the values of batch `number` of `draw_batches`."""
    torch.manual_seed(stream(seed, 1 + number))
    start = number * batch_size
    count = min(batch_size, samples - start)
    classes = {}
    if labels is not None:
        classes["labels"] = torch.from_numpy(labels[start : start + count]).to(device_in_use(model))
    grid = model.sample(count, **classes, **settings)
    if tuple(grid.shape) != (count, *domain.shape) or grid.is_floating_point():
        raise UserError(f"{type(model).__name__} sampled {grid.dtype} of shape {tuple(grid.shape)}")
    if grid.min() < 0 or grid.max() >= domain.levels:
        raise UserError(f"{type(model).__name__} sampled outside the grid of {domain.levels} levels")
    return domain.to_values(grid.cpu().numpy())
