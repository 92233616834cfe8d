"""Measure how a solver's steps change a likelihood: `python benchmarks/solver_steps.py`, with a trained cell.

The table shows bits per dimension of the same test points, with the same noise, for several solvers and numbers of
steps, and the difference of each to the finest. The difference is paired, so its error is small.
"""

import argparse
import math

import numpy as np
import torch

from lookalike.domain.grid import bits_per_dimension
from lookalike.domain.prepared import Prepared
from lookalike.evaluation.likelihoods import log_likelihoods, subset
from lookalike.families.build import for_domain
from lookalike.sampling.trained import Trained
from lookalike.workspace.configuration import compose
from lookalike.workspace.places import Cell
from lookalike.workspace.threads import set_threads

TRIED = (("midpoint", 20), ("midpoint", 40), ("midpoint", 80), ("rk4", 10), ("rk4", 20), ("rk4", 40))
"""Solvers and steps; the last is the finest. Per step, `midpoint` evaluates the field twice, `rk4` four times."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how a solver's steps change a likelihood.")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--model", default="flow_matching")
    parser.add_argument("--points", type=int, default=100, help="test points")
    arguments = parser.parse_args()
    config = compose([f"data={arguments.data}", f"model={arguments.model}", "tracking=none"])
    set_threads(config.trainer)
    cell = Cell(config)
    prepared = Prepared(cell.prepared)
    config = for_domain(config, prepared.domain)
    model = Trained(cell.train, family=config.model_name, prepared=prepared).model
    grid = prepared.grid("test")
    rows = subset(len(grid), arguments.points)
    bits = {}
    for solver, steps in TRIED:
        settings = (config.likelihood or {}) | {"solver": solver, "steps": steps}
        nats = log_likelihoods(model, grid, rows, settings=settings, batch_size=config.trainer.batch_size, split="test")
        bits[solver, steps] = bits_per_dimension(torch.from_numpy(nats), prepared.domain).numpy()
    finest = bits[TRIED[-1]]
    print(f"{arguments.data}-{arguments.model}, {len(rows)} test points")
    print("| solver | steps | bits per dimension | difference to the finest |\n| --- | ---: | ---: | ---: |")
    for (solver, steps), found in bits.items():
        value, off = (f"{part.mean():.4f} ± {standard_error(part):.4f}" for part in (found, found - finest))
        print(f"| `{solver}` | {steps} | {value} | {off if found is not finest else '—'} |")


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


if __name__ == "__main__":
    main()
