"""The comparison of cells: leaderboard, figures, page. Cells are written by hand, so that every number is known."""

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.domain import Domain

HEIGHTS = Domain(name="heights", kind="vector", shape=(1,), levels=1120, low=(0.0,), step=(0.1,), unit="inch",
                 labels=(), location=(667.0,), scale=(36.0,))  # fmt: skip
DIGITS = Domain(name="digits", kind="image", shape=(1, 8, 8), levels=256, low=(0.0,), step=(1.0,), unit="intensity",
                labels=(), location=(127.5,), scale=(127.5,))  # fmt: skip
DOMAINS = {"heights": HEIGHTS, "digits": DIGITS}
KINDS = {"independent": "exact", "vae": "lower bound", "flow_matching": "estimate", "copycat": None}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_arrays(path: Path, **arrays: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def draw(domain: Domain, count: int, rng: np.random.Generator, *, spread: float = 1.0) -> np.ndarray[Any, Any]:
    if domain.kind == "image":
        y, x = np.mgrid[:8, :8]
        centre = 3.5 + spread * rng.normal(size=(count, 2, 1, 1))
        blob = np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / 4)
        return np.asarray(blob * 255).astype(np.uint8)[:, None]
    return np.round(rng.normal(66.7, 3.6 * spread, size=(count, 1)).clip(0, 111), 1)


def distances(domain: Domain, value: float, samples: int) -> dict[str, Any]:
    protocol = {"samples": samples, "reference": "test", "reference_count": 40}
    if domain.kind == "image":
        more = {"extractor": "classifier", "extractor_digest": "0123456789abcdef", "error_of": "samples, jackknife"}
        return {"frechet_distance": {"value": value, "error": value / 30, **protocol, **more}}
    more = {"extractor": "values", "error_of": "samples, bootstrap of 200"}
    return {
        "wasserstein_1": {"value": value / 20, "error": value / 200, **protocol, **more},
        "kolmogorov_smirnov": {"value": value / 100, "error": value / 1000, **protocol, **more},
    }


def write_data(artifacts: Path, domain: Domain, rng: np.random.Generator) -> None:
    """What `prepare`, `features` and `real` leave."""
    folder = artifacts / domain.name
    counts = {"train": 300, "validation": 40, "test": 40}
    for split, count in counts.items():
        (folder / "prepared").mkdir(parents=True, exist_ok=True)
        np.save(folder / "prepared" / f"{split}.npy", draw(domain, count, rng))
    write(folder / "prepared" / "domain.json", dataclasses.asdict(domain))
    summary = {"name": domain.name, "digest": "d" * 64, "splits": {k: {"count": v} for k, v in counts.items()}}
    write(folder / "prepared" / "summary.json", summary)
    image = domain.kind == "image"
    extractor = {"name": "classifier", "digest": "0123456789abcdef"} if image else {"name": "values", "digest": None}
    write(folder / "features" / "extractor" / "extractor.json", extractor)
    cost = {"startup_seconds": 1.0, "work_seconds": 3.0, "process_seconds": 5.5, "peak_memory_mb": 300.0}
    write(folder / "features" / "cost.json", cost)
    write(folder / "real" / "cost.json", cost)
    entries = {k: v | {"source": "validation"} for k, v in distances(domain, 1.0, 40).items()}
    write(folder / "real" / "metrics.json", entries)
    write_arrays(folder / "real" / "samples.npz", samples=draw(domain, 48, rng))


def write_family(artifacts: Path, domain: Domain, model: str, rng: np.random.Generator, *, rank: int) -> None:
    """What `train`, `sample` and `evaluate` leave; families get worse with their rank."""
    folder, kind, trained = artifacts / domain.name / model, KINDS.get(model), model not in ("independent", "copycat")
    cost = {"startup_seconds": 1.0, "work_seconds": 2.0 + rank, "process_seconds": 4.0 + rank, "peak_memory_mb": 250.0}
    record = {"fingerprint": f"{rank:016x}", "parameters": 1000 * rank, "steps": 200 if trained else 0,
              "flops": 3e10 if trained else 0.0, "code_digest": "c" * 64, "data_digest": "d" * 64,
              "configuration": {"budget": {"scale": 1.0}, "seed": 0}}  # fmt: skip
    write(folder / "train" / "model.json", record)
    write(folder / "train" / "cost.json", cost | {"images_per_second": 1234.5})
    for split in ("train", "validation"):
        steps = np.arange(1, 201, 1 if split == "train" else 10)
        losses = 4 + 3 * np.exp(-steps / 40) + rng.normal(size=len(steps)) * (0.2 if split == "train" else 0.02)
        lines = [f"{step},{loss:.6g},0.1" for step, loss in zip(steps, losses, strict=True)] if trained else []
        (folder / "train" / f"loss_{split}.csv").write_text("\n".join(["step,loss,rate", *lines]) + "\n")
    write_arrays(folder / "sample" / "samples.npz", samples=draw(domain, 48, rng, spread=1 + rank / 10))
    write(folder / "sample" / "cost.json", cost | {"samples_per_second": 567.8})
    metrics, details = distances(domain, 1.5 + rank, 48), {}
    if kind:
        factor = domain.dimensions * np.log(2)
        entries = {}
        for split, points in (("test", 40), ("validation", 20), ("train", 20)):
            bits = 7 + 0.1 * rank + np.random.default_rng(points).normal(size=points)
            details |= {f"rows_{split}": np.arange(points), f"log_likelihood_{split}": -bits * factor}
            entries["bits_per_dim" if split == "test" else f"bits_per_dim_{split}"] = {
                "value": float(bits.mean()), "error": float(bits.std(ddof=1) / points**0.5), "kind": kind,
                "unit": domain.likelihood_unit, "split": split, "points": points, "of": points,
                "settings": {"importance_samples": 50} if kind == "lower bound" else {},
            }  # fmt: skip
        metrics = entries | metrics
        if domain.kind == "vector":
            values = domain.to_values(np.arange(domain.levels)[:, None])[:, 0]
            density = np.exp(-0.5 * ((values - 66.7) / (3.6 * (1 + rank / 10))) ** 2)
            details |= {"density_values": values, "density_probabilities": density / density.sum()}
    write(folder / "evaluate" / "metrics.json", metrics)
    write(folder / "evaluate" / "cost.json", cost)
    write_arrays(folder / "evaluate" / "details.npz", **details)


def write_cells(artifacts: Path, *, data: list[str], models: list[str]) -> None:
    rng = np.random.default_rng(0)
    for name in data:
        write_data(artifacts, DOMAINS[name], rng)
        for rank, model in enumerate(models):
            write_family(artifacts, DOMAINS[name], model, rng, rank=rank)
