"""From a reader's arrays to the files that every later stage reads."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.data import SPLITS, Raw


def digest(raw: Raw) -> str:
    """SHA-256 over the names, types, shapes and bytes of all arrays, in hexadecimal."""
    total = hashlib.sha256()
    for split in SPLITS:
        for array in (raw.values[split], raw.labels[split]):
            total.update(f"{split} {array.dtype.str} {array.shape}".encode())
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def summarize(raw: Raw) -> dict[str, Any]:
    """Counts, range, moments and class balance by split, and the digest that names these data."""
    splits = {}
    for split in SPLITS:
        values, labels = raw.values[split], raw.labels[split]
        raw.domain.to_grid(values)
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
