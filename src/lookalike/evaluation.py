"""Scores one cell: how likely it finds unseen data, how close its samples come to them, and how far the truth is."""

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike import truth
from lookalike.core.config import Config, LikelihoodPoints
from lookalike.core.errors import UserError
from lookalike.core.likelihood import bits_per_dimension
from lookalike.core.progress import progress
from lookalike.data import Prepared, Split
from lookalike.distances import compare_and_part, find_copies
from lookalike.extractor import Extractor
from lookalike.features import features_of
from lookalike.landscape import has_one, landscape
from lookalike.metrics import Score
from lookalike.operations import Operations
from lookalike.processes import divided

Entry = dict[str, Any]


def likelihoods(
    model: Any,
    prepared: Prepared,
    *,
    split: Split,
    settings: dict[str, Any],
    points: LikelihoodPoints,
    batch_size: int,
    processes: int = 1,
) -> tuple[dict[str, Entry], dict[str, NDArray[Any]]]:
    """Bits a dimension on every split, but for the test split when the validation split is asked for.

    The split asked for gets as many points as `points` affords, the others `points.others`; where that is not all,
    they are a random subset that is the same for every family.

    Returns:
        Entries `bits_per_dim` (of the split asked for), `bits_per_dim_validation` and `bits_per_dim_train`, each with
        its kind, settings, points and standard error; and by split the points' rows and log-likelihoods in nats.

    Raises:
        UserError: a log-likelihood is NaN or infinite.
    """
    entries: dict[str, Entry] = {}
    details: dict[str, NDArray[Any]] = {}
    splits: tuple[Split, ...] = ("test", "validation", "train")
    for part in splits[splits.index(split) :]:
        grid = prepared.grid(part)
        affordable = points.most
        if part != split:
            affordable = points.others
        elif len(grid) > points.least and (cost := operations_per_point(model, grid, settings)):
            affordable = min(points.most, max(points.least, int(points.flops / cost)))
        rows = subset(len(grid), affordable)
        nats = log_likelihoods(
            model, grid, rows, settings=settings, batch_size=batch_size, split=part, processes=processes
        )
        bits = bits_per_dimension(torch.from_numpy(nats), prepared.domain).numpy()
        entries["bits_per_dim" if part == split else f"bits_per_dim_{part}"] = {
            "value": float(bits.mean()),
            "standard_error": float((bits - bits[0]).std(ddof=1) / math.sqrt(len(bits))),
            "kind": model.likelihood_kind,
            "unit": prepared.domain.likelihood_unit,
            "split": part,
            "points": len(rows),
            "of": len(grid),
            "settings": settings,
        }
        details |= {f"rows_{part}": rows, f"log_likelihood_{part}": nats}
    if hasattr(model, "coarser"):
        entries["bits_per_dim"]["coarser"] = coarser(
            model, prepared, details[f"rows_{split}"], details[f"log_likelihood_{split}"],
            split=split, settings=model.coarser(settings), batch_size=batch_size, processes=processes,
        )  # fmt: skip
    return entries, details


COMPARED = 100
"""Points that are scored with coarser steps of a solver, too."""


def coarser(
    model: Any,
    prepared: Prepared,
    rows: NDArray[np.int64],
    nats: NDArray[np.float64],
    *,
    split: Split,
    settings: dict[str, Any],
    batch_size: int,
    processes: int,
) -> Entry:
    """How many bits a dimension coarser settings of a solver would add, on some of the points scored: what is left to
    gain by finer ones is less, as long as errors shrink with the steps."""
    few = subset(len(rows), COMPARED)
    rough = log_likelihoods(
        model, prepared.grid(split), rows[few], settings=settings, batch_size=batch_size,
        split=f"{split}, coarser steps", processes=processes,
    )  # fmt: skip
    change = bits_per_dimension(torch.from_numpy(rough - nats[few]), prepared.domain).numpy()
    return {
        "change": float(change.mean()),
        "standard_error": float(change.std(ddof=1) / math.sqrt(len(change))),
        "points": len(few),
        "settings": settings,
    }


def subset(count: int, most: int) -> NDArray[np.int64]:
    """All of `range(count)`, or a fixed random choice of `most`, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def operations_per_point(model: Any, grid: NDArray[Any], settings: dict[str, Any]) -> float:
    """Floating-point operations of one point's likelihood."""
    pair = torch.from_numpy(np.array(grid[:2]))
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
    processes: int = 1,
) -> NDArray[np.float64]:
    """Nats `[len(rows)]` of some rows of a grid `[N, *shape]`; several processes share the batches."""
    batches = np.array_split(rows, -(-len(rows) // batch_size))
    one = functools.partial(batch_log_likelihoods, model, grid, settings)
    parts = []
    nats = divided(one, batches, processes=processes)
    with progress(nats, f"likelihood ({split})", total=len(batches), unit="batch") as bar:
        for batch, part in zip(batches, bar, strict=True):
            if not np.isfinite(part).all():
                first = batch[~np.isfinite(part)][0]
                raise UserError(
                    f"the likelihood of {int((~np.isfinite(part)).sum())} {split} points is NaN or infinite, the "
                    f"first in row {first}"
                )
            parts.append(part)
    return np.concatenate(parts)


@torch.no_grad()
def batch_log_likelihoods(
    model: Any, grid: NDArray[Any], settings: dict[str, Any], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Nats `[len(rows)]` of one batch."""
    nats: NDArray[np.float64] = model.log_likelihood(torch.from_numpy(grid[rows]), **settings).double().cpu().numpy()
    return nats


def over_grid(
    model: Any,
    prepared: Prepared,
    *,
    settings: dict[str, Any],
    points: LikelihoodPoints,
    batch_size: int,
    processes: int = 1,
) -> NDArray[np.float64] | None:
    """Nats of every grid point `[levels ** D]` of one dimension; of two, where `points` pays for them; else None."""
    domain = prepared.domain
    if not has_one(domain):
        return None
    if domain.dimensions == 2:
        cost = operations_per_point(model, prepared.grid("validation"), settings)
        if domain.levels**2 * cost > points.flops:
            return None
    grid = truth.whole_grid(domain)
    every = np.arange(len(grid))
    return log_likelihoods(
        model, grid, every, settings=settings, batch_size=batch_size, split="whole grid", processes=processes
    )


EXACTNESS = {
    "exact": "the probabilities are exact",
    "lower bound": "an upper bound, since the likelihood is a lower one",
    "estimate": "an estimate, since the likelihood is one",
}
"""What a divergence from the truth is by the kind of the likelihood that stands in it, P_data first."""


def against_truth(
    model: Any,
    prepared: Prepared,
    details: dict[str, NDArray[Any]],
    samples: NDArray[Any],
    *,
    log_prob: truth.LogProb,
    split: Split,
    everywhere: NDArray[np.float64] | None,
    settings: dict[str, Any],
    points: LikelihoodPoints,
    batch_size: int,
    processes: int = 1,
) -> dict[str, Entry]:
    """Divergences in nats between a model with a likelihood and the known distribution of its data.

    Args:
        details: likelihoods of held-out points, as `likelihoods` gives them.
        samples: the model's, as grid points `[N, *shape]`.
        log_prob: of grid points under the truth.
        everywhere: nats of every grid point, as `over_grid` gives them.

    Returns:
        Entries `kl`, `total_variation`, and `kl_reverse` where no sample is impossible under the truth.
    """
    held_out = prepared.grid(split)
    rows, nats = details[f"rows_{split}"], details[f"log_likelihood_{split}"]
    log_p = log_prob(np.asarray(held_out[rows]))
    kind: str = model.likelihood_kind
    of_test = {"kind": kind, "reference": "the known density", "split": split, "points": len(rows), "of": len(held_out)}
    of_mean = {"exactness": EXACTNESS[kind], "settings": settings, "error_of": f"{split} points, mean over them"}

    def entry(score: Score, *protocols: Entry) -> Entry:
        merged = {key: value for protocol in protocols for key, value in protocol.items()}
        return {"value": score.value, "standard_error": score.error, **merged}

    in_batches: dict[str, int] = {"batch_size": batch_size, "processes": processes}
    nat = {"unit": "nats/observation"}
    found = {"kl": entry(truth.forward_kl(log_p, nats), nat, of_test, of_mean)}

    cost = operations_per_point(model, held_out, settings)
    if everywhere is not None:
        grid = truth.whole_grid(prepared.domain)
        total = Score(truth.total_variation_on_grid(log_prob(grid), everywhere), 0.0)
        summed = {"kind": kind, "reference": "the known density", "points": len(grid), "of": len(grid)}
        found["total_variation"] = entry(total, summed, of_mean, {"error_of": "nothing: summed over the whole grid"})
    else:
        found["total_variation"] = entry(truth.total_variation_from_draws(log_p, nats), of_test, of_mean)

    log_p = log_prob(samples)
    if not np.isneginf(log_p).any():
        most = min(points.most, max(points.least, int(points.flops / cost))) if cost else points.most
        rows = subset(len(samples), most)
        log_q = log_likelihoods(model, samples, rows, settings=settings, split="samples", **in_batches)
        found["kl_reverse"] = entry(
            truth.reverse_kl(log_p[rows], log_q),
            nat,
            {
                "kind": "at least" if kind == "lower bound" else kind,
                "reference": "the known density",
                "samples": len(samples),
                "points": len(rows),
                "exactness": EXACTNESS[kind].replace("an upper bound", "a lower bound"),
                "settings": settings,
                "error_of": "samples, mean over them",
            },
        )
    return found


def impossible(samples: NDArray[Any], log_prob: truth.LogProb) -> Entry:
    """The share of samples, as grid points `[N, *shape]`, that the known distribution can't draw."""
    share = truth.share_outside(log_prob(samples))
    return {
        "value": share.value,
        "standard_error": share.error,
        "samples": len(samples),
        "reference": "the known density",
        "error_of": "samples, binomial",
    }


def score(
    model: Any, samples: NDArray[Any], prepared: Prepared, extractor: Extractor, config: Config
) -> tuple[dict[str, Entry], dict[str, NDArray[Any]]]:
    """All metrics of a cell, and the arrays behind them.

    Args:
        model: trained.
        samples: its values `[N, *shape]`.
        prepared, extractor: of the data set.
        config: `split`, `data.reader`, `likelihood`, `budget`, `trainer.batch_size` and `trainer.devices` are used.

    Returns:
        Entries by metric name; arrays: log-likelihoods by split, the density of a domain of one or two dimensions,
        the training points nearest to the first samples, the rows where samples and test data part.

    Raises:
        UserError: a likelihood is not finite, or the data were drawn from another density than `data.reader` says.
    """
    prepared.check_drawn_from(config.data.reader)
    entries: dict[str, Entry] = {}
    details: dict[str, NDArray[Any]] = {}
    everywhere: NDArray[np.float64] | None = None
    batch_size = config.trainer.batch_size
    if config.likelihood is not None:
        entries, details = likelihoods(
            model,
            prepared,
            split=config.split,
            settings=config.likelihood,
            points=config.budget.likelihood,
            batch_size=batch_size,
            processes=config.trainer.devices,
        )
        everywhere = over_grid(
            model,
            prepared,
            settings=config.likelihood,
            points=config.budget.likelihood,
            batch_size=batch_size,
            processes=config.trainer.devices,
        )
        if everywhere is not None:
            details |= landscape(prepared.domain, everywhere)
    if (log_prob := truth.known(config.data.reader)) is not None:
        drawn = prepared.domain.to_grid(samples)
        if config.likelihood is not None:
            entries |= against_truth(
                model,
                prepared,
                details,
                drawn,
                log_prob=log_prob,
                split=config.split,
                everywhere=everywhere,
                settings=config.likelihood,
                points=config.budget.likelihood,
                batch_size=batch_size,
                processes=config.trainer.devices,
            )
        entries["share_outside"] = impossible(drawn, log_prob)
    features = features_of(extractor, samples, batch_size=batch_size, processes=config.trainer.devices)
    new, nearest = find_copies(samples, features, extractor, split=config.split)
    close, farthest = compare_and_part(features, extractor, split=config.split)
    return entries | close | new, details | nearest | farthest
