"""How fast every family trains and samples on MNIST, and how much of the machine's matrix products it uses.

    python benchmarks/families.py [--models vae flow] [--seconds 5] [--profile 0.25]

Needs the prepared data (`dvc repro prepare@mnist`). Training is a plain loop over batches of the configured size:
images a second, and operations a second as counted by torch over those of a product of two 1024x1024 matrices on the
same machine, measured before and after. Sampling is a batch with the settings of `sampling:`. Networks have their
first weights, which cost the same as trained ones. Prints a table in markdown, and another that says where a training
step's time goes, for families that reach less than a share of the matrix products.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from lookalike.core.config import choices, compose
from lookalike.core.stage import Cell
from lookalike.data import Prepared
from lookalike.models import Fitted, Startable
from lookalike.models.build import build, set_threads
from lookalike.muon import Muon
from lookalike.training import groups, operations_per_step

SAMPLES = 250


def pace(work: Callable[[], object], seconds: float) -> float:
    """The median of the seconds that a piece of work takes, once it is warm."""
    work()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def matrix_products() -> float:
    """Operations a second of a product of two matrices."""
    a, b = torch.randn(2, 1024, 1024).unbind()
    return 2 * 1024**3 / pace(lambda: a @ b, 1.0)


PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "mkldnn_convolution", "convolution_backward")
"""Operators whose operations are counted."""


def profile(step: Callable[[], object], *, repeats: int = 5) -> str:
    """The time of a step that goes into matrix products and convolutions, and into the five other dearest operators."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
        for _ in range(repeats):
            step()
    taken = {row.key.removeprefix("aten::"): row.self_cpu_time_total for row in trace.key_averages()}
    total = sum(taken.values())
    products = sum(taken.pop(name, 0.0) for name in PRODUCTS)
    dearest = sorted(taken.items(), key=lambda item: -item[1])[:5]
    return f"{products / total:.0%} | " + ", ".join(f"`{name}` {time / total:.0%}" for name, time in dearest)


def measure(family: str, seconds: float, least: float) -> tuple[str, str]:
    """A family's line of the table, and of that of profiles, empty where it reaches the least share."""
    config = compose([f"model={family}", "data=mnist"])
    prepared = Prepared(Cell(config).prepared)
    model = build(config.model, prepared.domain, seed=0)
    grid = torch.from_numpy(np.array(prepared.grid("train")[:2000]))
    training, profiled = "fitted | — | —", ""
    if isinstance(model, Fitted):
        model.fit(grid)
    else:
        if isinstance(model, Startable):
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
        if share < least:
            profiled = f"| `{family}` | {share:.0%} | {profile(step)} |"
    with torch.inference_mode():
        drawn = SAMPLES / pace(lambda: model.sample(SAMPLES, **config.sampling), seconds)
    return f"| `{family}` | {training} | {drawn:,.0f} |", profiled


def main() -> None:
    parser = argparse.ArgumentParser(description="Training and sampling speed of every family.")
    parser.add_argument("--models", nargs="+", default=choices("model"), choices=choices("model"), help="families")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument(
        "--profile", type=float, default=0.25, metavar="SHARE", help="profile families that reach less of the products"
    )
    arguments = parser.parse_args()
    set_threads(compose([]).trainer.threads)
    print(f"{torch.get_num_threads()} threads, {matrix_products() / 1e9:,.0f} Gflop/s in matrix products\n")
    print("| family | training images a second | Gflop/s | of matrix products | samples a second |")
    print("| --- | ---: | ---: | ---: | ---: |")
    profiles = []
    for family in arguments.models:
        line, profiled = measure(family, arguments.seconds, arguments.profile)
        print(line, flush=True)
        profiles += [profiled] if profiled else []
    if profiles:
        print("\n| family | of matrix products | of a step's time in them | in others |")
        print("| --- | ---: | ---: | --- |")
        print("\n".join(profiles))


if __name__ == "__main__":
    main()
