"""Measure how fast every family trains and samples on MNIST, and print a table in Markdown.

    python benchmarks/families.py [--models vae flow] [--seconds 5] [--profile 0.25]

It needs the prepared data (`dvc repro prepare@mnist`). Training is a plain loop over batches of the configured size.
Its operations per second, as counted by torch, are compared with those of a product of two 1024x1024 matrices, measured
before and after. Sampling draws one batch with the settings of `sampling:`. Networks are not trained: their weights do
not change the cost. A second table shows where the time of a training step goes, for families below a given share.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from lookalike.domain.prepared import Prepared
from lookalike.families.build import build, for_domain
from lookalike.training.budget import operations_per_step
from lookalike.training.optimizer import Muon, groups
from lookalike.workspace.configuration import choices, compose
from lookalike.workspace.places import Cell
from lookalike.workspace.threads import set_threads

SAMPLES = 250


def pace(work: Callable[[], object], seconds: float) -> float:
    """Return the median duration of `work` in seconds, after one warm-up call."""
    work()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def matrix_products() -> float:
    """Return operations per second of a product of two 1024x1024 matrices."""
    a, b = torch.randn(2, 1024, 1024).unbind()
    return 2 * 1024**3 / pace(lambda: a @ b, 1.0)


PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "mkldnn_convolution", "convolution_backward")
"""Operators that are matrix products or convolutions."""


def profile(step: Callable[[], object], *, repeats: int = 5) -> str:
    """Return the shares of a step's time in matrix products and in the five most expensive other operators."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
        for _ in range(repeats):
            step()
    taken = {row.key.removeprefix("aten::"): row.self_cpu_time_total for row in trace.key_averages()}
    total = sum(taken.values())
    products = sum(taken.pop(name, 0.0) for name in PRODUCTS)
    most_expensive = sorted(taken.items(), key=lambda item: -item[1])[:5]
    return f"{products / total:.0%} | " + ", ".join(f"`{name}` {time / total:.0%}" for name, time in most_expensive)


def measure(family: str, seconds: float, min_share: float) -> tuple[str, str]:
    """Return a family's row of the first table, and of the second table, or "" if the family reaches `min_share`."""
    config = compose([f"model={family}", "data=mnist"])
    prepared = Prepared(Cell(config).prepared)
    config = for_domain(config, prepared.domain)
    model = build(config.model, prepared.domain, seed=0)
    grid = torch.from_numpy(np.array(prepared.grid("train")[:2000]))
    training, profiled = "fitted | — | —", ""
    if model.is_fitted:
        model.fit(grid)
    else:
        model.start(grid)
        x = grid[: config.data.batch_size]
        assert config.optimizer is not None
        operations = operations_per_step(model, (x,), config.optimizer)
        optimizer = Muon(groups(model, config.optimizer), lr=1e-4, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            model.losses(x)["loss"].backward()
            optimizer.step()

        before = matrix_products()
        taken = pace(step, seconds)
        speed = operations / taken
        share = speed / statistics.mean([before, matrix_products()])
        training = f"{len(x) / taken:,.0f} | {speed / 1e9:,.0f} | {share:.0%}"
        if share < min_share:
            profiled = f"| `{family}` | {share:.0%} | {profile(step)} |"
    with torch.inference_mode():
        drawn = SAMPLES / pace(lambda: model.sample(SAMPLES, **config.sampling), seconds)
    return f"| `{family}` | {training} | {drawn:,.0f} |", profiled


def main() -> None:
    parser = argparse.ArgumentParser(description="Training and sampling speed of every family.")
    parser.add_argument("--models", nargs="+", default=choices("model"), choices=choices("model"), help="families")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each measurement")
    parser.add_argument(
        "--profile",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="profile families that reach a smaller share of the matrix products",
    )
    arguments = parser.parse_args()
    set_threads(compose([]).trainer)
    print(f"{torch.get_num_threads()} threads, {matrix_products() / 1e9:,.0f} Gflop/s in matrix products\n")
    print("| family | training images per second | Gflop/s | share of matrix products | samples per second |")
    print("| --- | ---: | ---: | ---: | ---: |")
    profiles = []
    for family in arguments.models:
        line, profiled = measure(family, arguments.seconds, arguments.profile)
        print(line, flush=True)
        profiles += [profiled] if profiled else []
    if profiles:
        print("\n| family | share of matrix products | share of a step in products | most expensive others |")
        print("| --- | ---: | ---: | --- |")
        print("\n".join(profiles))


if __name__ == "__main__":
    main()
