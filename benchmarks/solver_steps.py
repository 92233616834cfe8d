"""What a solver's steps do to a likelihood: `python benchmarks/solver_steps.py`, after the cells were trained.

Bits a dimension of the same test points, with the same noise, by several solvers and numbers of steps, and how far each
is from the finest: a paired difference, whose error is far smaller than that of the bits themselves.
"""

import argparse
import math

import numpy as np
import torch

from lookalike.core.config import compose
from lookalike.core.likelihood import bits_per_dimension
from lookalike.core.stage import Cell
from lookalike.data import Prepared
from lookalike.evaluation import log_likelihoods, subset
from lookalike.models.build import set_threads
from lookalike.trained import Trained

TRIED = (("midpoint", 20), ("midpoint", 40), ("midpoint", 80), ("rk4", 10), ("rk4", 20), ("rk4", 40))
"""The last is the finest; the field is evaluated two times a step by `midpoint`, four times by `rk4`."""


def main() -> None:
    parser = argparse.ArgumentParser(description="What a solver's steps do to a likelihood.")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--model", default="flow_matching")
    parser.add_argument("--points", type=int, default=100, help="test points")
    arguments = parser.parse_args()
    config = compose([f"data={arguments.data}", f"model={arguments.model}", "tracking=none"])
    set_threads(config.trainer.threads)
    cell = Cell(config)
    prepared = Prepared(cell.prepared)
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
    print("| solver | steps | bits a dimension | off the finest |\n| --- | ---: | ---: | ---: |")
    for (solver, steps), found in bits.items():
        value, off = (f"{part.mean():.4f} ± {deviation(part):.4f}" for part in (found, found - finest))
        print(f"| `{solver}` | {steps} | {value} | {off if found is not finest else '—'} |")


def deviation(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


if __name__ == "__main__":
    main()
