"""Compute log-likelihoods of held-out data under a model, batch by batch, and summarize them in bits."""

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.domain.grid import bits_per_dimension
from lookalike.domain.prepared import Prepared, Split
from lookalike.evaluation import truth
from lookalike.evaluation.landscape import has_one
from lookalike.training.operations import Operations
from lookalike.workspace.configuration import LikelihoodPoints
from lookalike.workspace.devices import device_in_use, place
from lookalike.workspace.errors import UserError
from lookalike.workspace.processes import shared
from lookalike.workspace.progress import progress

Entry = dict[str, Any]

POINTS_COMPARED = 100
"""Points that are also scored with coarser steps of a solver."""

DRAWS = ("levels", "importance_samples", "dequantizations", "probes")
"""Settings of likelihoods that are numbers of random draws, over which they average."""

MORE_DRAWS = 4
"""Largest factor of these numbers for the probabilities of a whole grid."""


def likelihoods(
    model: Any,
    prepared: Prepared,
    *,
    split: Split,
    settings: dict[str, Any],
    points: LikelihoodPoints,
    batch_size: int,
) -> tuple[dict[str, Entry], dict[str, NDArray[Any]]]:
    """Return bits per dimension of the splits, and the log-likelihoods behind them.

    All splits are scored if `split` is test, all but test if it is validation. The split asked for gets as many points
    as the budget affords, the others `points.others`. Where that is not all, the points are a random subset that is the
    same for every family.

    Args:
        model: a family with a likelihood, on the device to compute on.
        prepared: the data set.
        split: the split asked for.
        settings: keyword arguments of `model.log_likelihood`.
        points: how many points the budget affords.
        batch_size: points per batch.

    Returns:
        Entries `bits_per_dim` (of the split asked for), `bits_per_dim_validation` and `bits_per_dim_train`, each with
        its kind, settings, points and standard error; arrays `rows_<split>` and `log_likelihood_<split>` (in nats).

    Raises:
        UserError: a log-likelihood is NaN or infinite.
    """
    entries: dict[str, Entry] = {}
    details: dict[str, NDArray[Any]] = {}
    splits: tuple[Split, ...] = ("test", "validation", "train")
    for part in splits[splits.index(split) :]:
        grid = prepared.grid(part)
        count = affordable(model, grid, settings, points) if part == split else points.others
        rows = subset(len(grid), count)
        nats = log_likelihoods(model, grid, rows, settings=settings, batch_size=batch_size, split=part)
        entries["bits_per_dim" if part == split else f"bits_per_dim_{part}"] = {
            **mean_bits(nats, prepared.domain),
            "kind": model.likelihood_kind,
            "unit": prepared.domain.likelihood_unit,
            "split": part,
            "points": len(rows),
            "of": len(grid),
            "settings": settings,
        }
        details |= {f"rows_{part}": rows, f"log_likelihood_{part}": nats}
    if (rough := model.coarser(settings)) is not None:
        rows, nats = details[f"rows_{split}"], details[f"log_likelihood_{split}"]
        few = subset(len(rows), POINTS_COMPARED)
        entries["bits_per_dim"]["coarser"] = coarser(
            model, prepared, rows[few], nats[few], split=split, settings=rough, batch_size=batch_size
        )
    return entries, details


def mean_bits(nats: NDArray[np.float64], domain: Domain) -> Entry:
    """Return the mean of log-likelihoods in bits per dimension, and its standard error."""
    bits = bits_per_dimension(torch.from_numpy(nats), domain).numpy()
    # Differences to the first value: equal values have an error of exactly 0.
    error = (bits - bits[0]).std(ddof=1) / math.sqrt(len(bits))
    return {"value": float(bits.mean()), "standard_error": float(error)}


def coarser(
    model: Any,
    prepared: Prepared,
    rows: NDArray[np.int64],
    nats: NDArray[np.float64],
    *,
    split: Split,
    settings: dict[str, Any],
    batch_size: int,
) -> Entry:
    """Return how many bits per dimension coarser settings of a solver add.

    Finer settings would gain less than that, as long as errors shrink with the steps.
    """
    rough = log_likelihoods(
        model, prepared.grid(split), rows, settings=settings, batch_size=batch_size, split=f"{split}, coarser steps"
    )
    change = mean_bits(rough - nats, prepared.domain)
    return {
        "change": change["value"],
        "standard_error": change["standard_error"],
        "points": len(rows),
        "settings": settings,
    }


def subset(count: int, most: int) -> NDArray[np.int64]:
    """Return all of `range(count)`, or a fixed random choice of `most`, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def affordable(model: Any, grid: NDArray[Any], settings: dict[str, Any], points: LikelihoodPoints) -> int:
    """Return how many points of a grid the budget affords: what `points.flops` allow, within the bounds of `points`."""
    if len(grid) <= points.least or not (cost := operations_per_point(model, grid, settings)):
        return points.most
    return min(points.most, max(points.least, int(points.flops / cost)))


def operations_per_point(model: Any, grid: NDArray[Any], settings: dict[str, Any]) -> float:
    """Return the floating-point operations of the likelihood of one point."""
    pair = torch.from_numpy(np.array(grid[:2])).to(device_in_use(model))
    counter = Operations()
    with torch.no_grad(), counter:
        model.log_likelihood(pair, **settings)
    return counter.total / len(pair)


def log_likelihoods(
    model: Any,
    grid: NDArray[Any],
    rows: NDArray[np.int64],
    *,
    settings: dict[str, Any],
    batch_size: int,
    split: str,
) -> NDArray[np.float64]:
    """Return the log-likelihoods `[len(rows)]` in nats of some rows of a grid `[N, *shape]`.

    The processes of a stage share the batches, and all of them get all results.

    Raises:
        UserError: a log-likelihood is NaN or infinite.
    """
    batches = np.array_split(rows, -(-len(rows) // batch_size))
    one = functools.partial(batch_log_likelihoods, model, grid, settings)
    shown, parts = place().rank == 0, []
    with progress(
        shared(one, batches), f"likelihood ({split})", total=len(batches), unit="batch", shown=shown
    ) as results:
        for batch, part in zip(batches, results, strict=True):
            if not (finite := np.isfinite(part)).all():
                raise UserError(
                    f"the likelihood of {int((~finite).sum())} {split} points is NaN or infinite, the first in row "
                    f"{batch[~finite][0]}"
                )
            parts.append(part)
    return np.concatenate(parts)


@torch.no_grad()
def batch_log_likelihoods(
    model: Any, grid: NDArray[Any], settings: dict[str, Any], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the log-likelihoods `[len(rows)]` in nats of one batch."""
    x = torch.from_numpy(grid[rows]).to(device_in_use(model))
    nats: NDArray[np.float64] = model.log_likelihood(x, **settings).double().cpu().numpy()
    return nats


def over_grid(
    model: Any, prepared: Prepared, *, settings: dict[str, Any], points: LikelihoodPoints, batch_size: int
) -> NDArray[np.float64] | None:
    """Return the log-likelihoods `[levels ** D]` in nats of all grid points, for a table of one or two columns.

    Return None for other data, and for two columns whose grid the budget does not afford. A likelihood that is an
    average over random draws takes up to `MORE_DRAWS` times as many of them, as the budget allows: probabilities are
    exponentials of these averages, and noise of variance σ² makes them too large by a factor of exp(σ²/2).
    """
    domain = prepared.domain
    if not has_one(domain):
        return None
    drawn = [name for name in DRAWS if settings.get(name)]
    cost = domain.levels**domain.dimensions * operations_per_point(model, prepared.grid("validation"), settings)
    if domain.dimensions == 2 and cost > points.flops:
        return None
    more = max(1, min(MORE_DRAWS, int(points.flops // cost) if cost else MORE_DRAWS))
    settings = settings | {name: more * settings[name] for name in drawn}
    grid = truth.whole_grid(domain)
    rows = np.arange(len(grid))
    return log_likelihoods(model, grid, rows, settings=settings, batch_size=batch_size, split="whole grid")
