"""Compare the training speed of `lookalike.training.loop.train` with a loop in plain PyTorch.

    python benchmarks/training_throughput.py [trainer.threads=1 ...] [--models vae] [--pairs 4] [--seconds 3.5]

Both train the same network on the same data with the same batches, optimizer, clipping, schedule and averaging. A pair
is one run of each, in alternating order, so that a change of the machine's speed affects both. The time runs from the
first to the last logged step. Setting up is reported separately, and checks during training are switched off. A second
ratio counts processor time: it is steadier if other programs compete for the cores and `threads` is 1.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lookalike.domain.image import Image, pixel
from lookalike.families.build import build
from lookalike.training.loop import train
from lookalike.training.optimizer import Muon, groups
from lookalike.workspace.configuration import Config, Optimizer, compose
from lookalike.workspace.threads import set_threads

TARGET = 0.9

MNIST = Image(name="mnist", shape=(1, 28, 28), variables=(pixel(),), labels=tuple("0123456789"))


class Pace(NamedTuple):
    """Images per second, by the clock and by processor time."""

    wall: float
    processor: float


class Clock:
    """Observer of training that records when steps ended."""

    def __init__(self) -> None:
        self.times: dict[int, tuple[float, float]] = {}

    def tick(self, step: int) -> None:
        self.times[step] = time.perf_counter(), time.process_time()

    def metrics(self, values: dict[str, float], step: int) -> None:
        if any(name.startswith("train/") for name in values):
            self.tick(step)

    def samples(self, samples: NDArray[Any], step: int) -> None: ...

    def pace(self, batch_size: int) -> Pace:
        first, last = min(self.times), max(self.times)
        images = (last - first) * batch_size
        return Pace(*(images / (b - a) for a, b in zip(self.times[first], self.times[last], strict=True)))


def ours(model: nn.Module, images: NDArray[Any], config: Config, *, steps: int) -> tuple[Pace, float]:
    """Return the speed of the package's training, and the seconds outside of its steps."""
    assert config.optimizer is not None
    clock, start = Clock(), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        train(
            model, (images,), (images[: config.data.batch_size],), optimizer=config.optimizer, steps=steps,
            batch_size=config.data.batch_size, trainer=config.trainer, seed=0, scratch=Path(scratch), observer=clock,
            preview=None,
        )  # fmt: skip
    whole = time.perf_counter() - start
    pace = clock.pace(config.data.batch_size)
    return pace, whole - steps * config.data.batch_size / pace.wall


def plain(model: nn.Module, images: NDArray[Any], optimizer: Optimizer, *, batch_size: int, steps: int) -> Pace:
    """Return the speed of a plain loop with the same steps."""
    generator = np.random.default_rng(0)
    descent = Muon(groups(model, optimizer), lr=optimizer.lr, betas=(optimizer.beta1, 0.99), fused=True)
    warmup = max(1.0, optimizer.warmup * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        descent, lambda step: min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    )
    decay = max(0.0, 1 - 1 / (optimizer.ema_horizon * steps)) if optimizer.ema_horizon else None
    ema = get_ema_multi_avg_fn(decay) if decay is not None else None
    averaged = None if ema is None else AveragedModel(model, multi_avg_fn=ema)
    model.train()
    clock, order = Clock(), np.empty(0, dtype=np.int64)
    for step in range(steps):
        if len(order) < batch_size:
            order = generator.permutation(len(images))
        rows, order = order[:batch_size], order[batch_size:]
        loss = model.losses(torch.from_numpy(images[rows]))["loss"]  # type: ignore[operator]
        descent.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), optimizer.clip)
        descent.step()
        schedule.step()
        if averaged is not None:
            averaged.update_parameters(model)
        if step in (0, steps - 1):
            clock.tick(step)
    return clock.pace(batch_size)


def measure(config: Config, *, pairs: int, seconds: float) -> dict[str, Any]:
    """Return medians over pairs of runs that take about `seconds` each."""
    assert config.optimizer is not None
    images = np.random.default_rng(0).integers(0, 256, (10_000, *MNIST.shape), dtype=np.uint8)
    config = config.model_copy(
        update={"trainer": config.trainer.model_copy(update={"checks": 1, "previews": 0, "validation_points": 64})}
    )
    set_threads(config.trainer)
    batch_size = config.data.batch_size

    def run_plain(steps: int) -> Pace:
        assert config.optimizer is not None
        return plain(build(config.model, MNIST, seed=0), images, config.optimizer, batch_size=batch_size, steps=steps)

    run_plain(5)  # the first steps are slow: torch chooses kernels
    steps = max(50, round(seconds * run_plain(10).wall / batch_size))
    paces: dict[str, list[Pace]] = {"lookalike": [], "plain": []}
    outside = []
    for pair in range(pairs):
        for name in sorted(paces, reverse=bool(pair % 2)):
            if name == "plain":
                paces[name].append(run_plain(steps))
            else:
                pace, rest = ours(build(config.model, MNIST, seed=0), images, config, steps=steps)
                paces[name].append(pace)
                outside.append(rest)
    pairs_of = list(zip(paces["lookalike"], paces["plain"], strict=True))
    ratios = [a.wall / b.wall for a, b in pairs_of]
    return {
        "data": config.data.name,
        "model": config.model_name,
        "batch_size": batch_size,
        "steps": steps,
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "images_per_second": {
            name: round(statistics.median(p.wall for p in values), 1) for name, values in paces.items()
        },
        "ratio": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "ratio_of_processor_time": round(statistics.median(a.processor / b.processor for a, b in pairs_of), 4),
        "seconds_outside_of_steps": round(statistics.median(outside), 2),
        "target": TARGET,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4, help="runs of each loop (default: 4)")
    parser.add_argument("--seconds", type=float, default=3.5, help="approximate duration of a run (default: 3.5)")
    parser.add_argument("--models", nargs="+", default=["flow_matching", "vae"], help="families to train")
    parser.add_argument(
        "overrides", nargs="*", default=[], help="changes of the configuration, such as trainer.threads=1"
    )
    arguments = parser.parse_intermixed_args()
    results = []
    for model in arguments.models:
        config = compose(["data=mnist", f"model={model}", "tracking=none", *arguments.overrides])
        result = measure(config, pairs=arguments.pairs, seconds=arguments.seconds)
        results.append(result)
        rates = result["images_per_second"]
        verdict = "reaches" if result["ratio"] >= TARGET else "MISSES"
        print(f"{model}: {rates['lookalike']:.0f} images/s, plain loop {rates['plain']:.0f}: ratio "
              f"{result['ratio']:.3f} {verdict} the target of {TARGET} "
              f"(by processor time {result['ratio_of_processor_time']:.3f})", flush=True)  # fmt: skip
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
