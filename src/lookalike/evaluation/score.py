"""Score one cell: likelihoods of unseen data, distances of samples from data, and the distance from a known density."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.prepared import Prepared, Split
from lookalike.evaluation import truth
from lookalike.evaluation.distances import compare_with_gaps
from lookalike.evaluation.entries import Entry, entry
from lookalike.evaluation.landscape import landscape
from lookalike.evaluation.likelihoods import affordable, likelihoods, log_likelihoods, over_grid, subset
from lookalike.evaluation.novelty import find_copies
from lookalike.evaluation.resampling import REFERENCE, REPLICATES, SAMPLES, drawn, parted
from lookalike.features.extraction import features_of
from lookalike.features.extractor import Extractor
from lookalike.metrics.resamples import Resampled, exactly
from lookalike.workspace.configuration import Config, LikelihoodPoints
from lookalike.workspace.devices import device_of, place

EXACTNESS = {
    "exact": "the probabilities are exact",
    "lower bound": "an upper bound, since the likelihood is a lower one",
    "estimate": "an estimate, since the likelihood is one",
}
"""Exactness of a divergence of the model from the truth, by the kind of the model's likelihood."""


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
) -> dict[str, Entry]:
    """Return divergences in nats between a model and the known distribution of its data.

    Args:
        model: a family with a likelihood.
        prepared: the data set.
        details: log-likelihoods of held-out points, as `likelihoods` returns them.
        samples: of the model, as grid points `[N, *shape]`.
        log_prob: log-probability of grid points under the truth.
        split: the split of the held-out points.
        everywhere: log-likelihoods of all grid points, as `over_grid` returns them.
        settings, points, batch_size: as for `likelihoods`.

    Returns:
        Entries `kl`, `total_variation`, and `kl_reverse` if every sample is possible under the truth.
    """
    held_out = prepared.grid(split)
    rows, nats = details[f"rows_{split}"], details[f"log_likelihood_{split}"]
    log_p = log_prob(np.asarray(held_out[rows]))
    kind: str = model.likelihood_kind
    weights = drawn(len(held_out), REPLICATES, REFERENCE)[:, rows]
    common = {"kind": kind, "reference": "the known density", "exactness": EXACTNESS[kind], "settings": settings}
    of_points = common | {"split": split, "points": len(rows), "of": len(held_out)}
    of = f"{split} points"
    found = {"kl": divergence(truth.forward_kl(log_p, nats, weights), of_points, error_of=of, unit="nats/observation")}
    if everywhere is not None:
        grid = truth.whole_grid(prepared.domain)
        total = exactly(truth.total_variation_on_grid(log_prob(grid), everywhere), replicates=REPLICATES)
        of_grid = {"points": len(grid), "of": len(grid)}
        found["total_variation"] = entry(total, common | of_grid, error_of="nothing: summed over the whole grid")
    else:
        found["total_variation"] = entry(truth.total_variation_from_draws(log_p, nats, weights), of_points, error_of=of)
    log_p = log_prob(samples)
    if not np.isneginf(log_p).any():
        rows = subset(len(samples), affordable(model, samples, settings, points))
        log_q = log_likelihoods(model, samples, rows, settings=settings, split="samples", batch_size=batch_size)
        reverse = {
            "kind": "at least" if kind == "lower bound" else kind,
            "exactness": EXACTNESS[kind].replace("an upper bound", "a lower bound"),
            "samples": len(samples),
            "points": len(rows),
        }
        weights = drawn(len(samples), REPLICATES, SAMPLES)[:, rows]
        found["kl_reverse"] = divergence(
            truth.reverse_kl(log_p[rows], log_q, weights), common | reverse, error_of="samples", unit="nats/observation"
        )
    return found


def divergence(score: Resampled, protocol: Entry, *, error_of: str, unit: str) -> Entry:
    """Return the entry of a divergence, which may be infinite."""
    reason = "" if np.isfinite(score.value) else "it is infinite"
    return entry(score, protocol, error_of=error_of, unit=unit, why_not_ranked=reason)


def impossible(samples: NDArray[Any], log_prob: truth.LogProb) -> Entry:
    """Return the share of samples, grid points `[N, *shape]`, that have probability 0 under the known distribution."""
    share = truth.share_outside(log_prob(samples), drawn(len(samples), REPLICATES, SAMPLES))
    return entry(share, {"samples": len(samples), "reference": "the known density"}, error_of="samples")


def score(
    model: Any, samples: NDArray[Any], prepared: Prepared, extractor: Extractor, config: Config
) -> tuple[dict[str, Entry], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return all metrics of a cell, the arrays behind them, and their replicates.

    The processes of a stage share likelihoods and features; only rank 0 goes on to the distances, and the others return
    nothing of these.

    Args:
        model: trained, on the device to compute on.
        samples: values `[N, *shape]` drawn from the model.
        prepared, extractor: of the data set.
        config: `split`, `data.reader`, `likelihood`, `budget` and `trainer` are used.

    Returns:
        Entries by metric name; arrays: log-likelihoods by split, the density of a domain of one or two dimensions,
        the training points nearest to the first samples, and the rows where samples and test data differ; the values
        of metrics in resamples.

    Raises:
        UserError: a likelihood is not finite, or the data were drawn from another density than `data.reader` names.
    """
    prepared.check_drawn_from(config.data.reader)
    entries: dict[str, Entry] = {}
    details: dict[str, NDArray[Any]] = {}
    log_prob, drawn = truth.known(config.data.reader), prepared.domain.to_grid(samples)
    if config.likelihood is not None:
        protocol: dict[str, Any] = {
            "settings": config.likelihood,
            "points": config.budget.likelihood,
            "batch_size": config.trainer.batch_size,
        }
        entries, details = likelihoods(model, prepared, split=config.split, **protocol)
        everywhere = over_grid(model, prepared, **protocol)
        if log_prob is not None:
            entries |= against_truth(
                model, prepared, details, drawn, log_prob=log_prob, split=config.split, everywhere=everywhere,
                **protocol,
            )  # fmt: skip
        if everywhere is not None:
            details |= landscape(prepared.domain, everywhere)
    if log_prob is not None:
        entries["share_outside"] = impossible(drawn, log_prob)
    features = features_of(extractor, samples, batch_size=config.trainer.batch_size, device=device_of(config.trainer))
    if place().rank:
        return entries, details, {}
    new, nearest = find_copies(samples, features, extractor, split=config.split)
    close, farthest = compare_with_gaps(features, extractor, split=config.split)
    entries, replicates = parted(entries | close | new)
    return entries, details | nearest | farthest, replicates
