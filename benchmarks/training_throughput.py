"""Training images a second against a plain PyTorch loop: `python benchmarks/training_throughput.py`.

Same network, batch, optimizer, clipping, schedule and weight averaging; validation, checkpoints and loss curves are on
in the project's loop and absent from the plain one. The two run in turn, so that a machine that slows down slows both.
"""

import argparse
import copy
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookalike.config import Config, compose
from lookalike.domain import Domain
from lookalike.models.build import build
from lookalike.training import Silent, train

DOMAIN = Domain(
    name="mnist",
    kind="image",
    shape=(1, 28, 28),
    levels=256,
    low=(0.0,),
    step=(1.0,),
    unit="intensity",
    labels=tuple("0123456789"),
    location=(127.5,),
    scale=(127.5,),
)


def plain_loop(model: Any, images: np.ndarray[Any, Any], config: Config, steps: int) -> None:
    """What one would write without a framework."""
    settings = config.optimizer
    assert settings is not None
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.99), fused=True)
    warmup = max(1.0, settings.warmup * steps)
    average = copy.deepcopy(model)
    order = np.random.default_rng(0).permutation(len(images))
    for step in range(steps):
        rate = settings.lr * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        start = step * config.data.batch_size % (len(images) - config.data.batch_size)
        batch = torch.from_numpy(images[order[start : start + config.data.batch_size]])
        loss = model.losses(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 / (settings.average * steps))


def measure(family: str, *, steps: int, pairs: int) -> dict[str, Any]:
    """Images a second of both loops, and the median of their ratio over pairs."""
    config = compose([f"model={family}", "data=mnist"])
    assert config.optimizer is not None
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (5000, 1, 28, 28), dtype=np.uint8)
    held_out = generator.integers(0, 256, (config.trainer.validation_points, 1, 28, 28), dtype=np.uint8)
    # Checks and previews as often as in a whole training of 1,500 steps.
    checks = max(1, round(config.trainer.checks * steps / 1500))
    trainer = config.trainer.model_copy(update={"checks": checks, "previews": 0})
    rates: dict[str, list[float]] = {"lookalike": [], "plain": []}
    for _ in range(pairs):
        model = build(config.model, DOMAIN, seed=0)
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            train(
                model,
                (images,),
                (held_out,),
                optimizer=config.optimizer,
                steps=steps,
                batch_size=config.data.batch_size,
                trainer=trainer,
                seed=0,
                scratch=Path(scratch),
                observer=Silent(),
                preview=None,
            )
            rates["lookalike"].append(steps * config.data.batch_size / (time.perf_counter() - start))
        model = build(config.model, DOMAIN, seed=0)
        start = time.perf_counter()
        plain_loop(model, images, config, steps)
        rates["plain"].append(steps * config.data.batch_size / (time.perf_counter() - start))
    ratios = [a / b for a, b in zip(rates["lookalike"], rates["plain"], strict=True)]
    return {
        "family": family,
        "steps": steps,
        "batch_size": config.data.batch_size,
        "images_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "ratio": {"median": round(statistics.median(ratios), 3), "of": [round(ratio, 3) for ratio in ratios]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=["vae", "flow_matching"])
    parser.add_argument("--steps", type=int, default=75, help="optimizer steps of a run")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each loop, in turn")
    options = parser.parse_args()
    for family in options.families:
        found = measure(family, steps=options.steps, pairs=options.pairs)
        rates = found["images_per_second"]
        print(f"{family}: {rates['lookalike']} images/s, a plain loop {rates['plain']}: {found['ratio']['median']} x")
        print(json.dumps(found))


if __name__ == "__main__":
    main()
