"""From a reader's arrays to the files that every later stage reads."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.data import SPLITS, Array, Raw, Split


def digest(raw: Raw) -> str:
    """SHA-256 over the names, types, shapes and bytes of all arrays, in hexadecimal."""
    total = hashlib.sha256()
    for split in SPLITS:
        for array in (raw.values[split], raw.labels[split]):
            total.update(f"{split} {array.dtype.str} {array.shape}".encode())
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def check_labels(domain: Domain, labels: Array, *, count: int, split: Split) -> None:
    """Raise a UserError unless labels `[N]` number the domain's classes, or are none where there are no classes."""
    expected, classes = (count if domain.labels else 0), len(domain.labels)
    if labels.shape != (expected,):
        raise UserError(f"{domain.name}: {split} has labels of shape {labels.shape} where {expected} are expected")
    if labels.size and not (labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < classes):
        raise UserError(
            f"{domain.name}: {split} has labels {labels.min()} to {labels.max()} of type {labels.dtype} for {classes} "
            f"classes"
        )


def summarize(raw: Raw) -> dict[str, Any]:
    """Counts, range, moments and class balance by split, and the digest that names these data."""
    splits = {}
    for split in SPLITS:
        values, labels = raw.values[split], raw.labels[split]
        raw.domain.to_grid(values)
        check_labels(raw.domain, labels, count=len(values), split=split)
        counts = np.bincount(labels, minlength=len(raw.domain.labels))
        splits[split] = {
            "count": len(values),
            "minimum": float(values.min()),
            "maximum": float(values.max()),
            "mean": round(float(values.mean()), 4),
            "standard_deviation": round(float(values.std()), 4),
            "classes": {name: int(count) for name, count in zip(raw.domain.labels, counts, strict=True)},
        }
    return {"name": raw.domain.name, "digest": digest(raw), "splits": splits, "expected": raw.expected}


def write(raw: Raw, folder: Path) -> dict[str, Any]:
    """Write arrays, `domain.json` and `summary.json` into a folder; return the summary."""
    summary = summarize(raw)
    for split in SPLITS:
        np.save(folder / f"{split}.npy", np.ascontiguousarray(raw.values[split]), allow_pickle=False)
        np.save(folder / f"{split}_labels.npy", np.ascontiguousarray(raw.labels[split]), allow_pickle=False)
    raw.domain.save(folder / "domain.json")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary
