"""What the files of a stage have to tell of a run: settings, curves, scores, cost, pictures. It knows no tool."""

import csv
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.fingerprint import SOURCE, code_digest, git_state, source_of

Record = dict[str, Any]

ROOT = SOURCE.parent
"""The checkout; `config` says so too, but takes Hydra along, and a recorder should start quickly."""

STAGES = ("train", "sample", "evaluate")
"""The stages that a run is made of, in their order."""


class Point(NamedTuple):
    """One value of a metric; without a time, that of the recording counts."""

    key: str
    value: float
    step: int = 0
    milliseconds: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """All that a stage's folder tells.

    Attributes:
        digest: of the folder's files: recorded once, it need not be recorded again.
        parameters: settings by dotted key.
        tags: what describes the run but may change when a stage is run again.
        curves: losses by step.
        results: final values, at step 0.
        previews: samples drawn during training, by step.
        files: what is kept with the run as it is.
    """

    digest: str
    parameters: dict[str, str]
    tags: dict[str, str]
    curves: list[Point]
    results: list[Point]
    previews: dict[int, NDArray[Any]]
    files: list[Path]


def read(stage: str, folder: Path, *, settings: Record | None = None) -> Content:
    """What a stage's folder tells.

    Args:
        stage: one of `STAGES`.
        folder: its output.
        settings: what a sampling stage was told, while it is known; else `settings.json` says it, if it is there.
    """
    empty = Content(
        digest=digest(sorted(path for path in folder.rglob("*") if path.is_file())),
        parameters={},
        tags={},
        curves=[],
        results=cost(stage, folder),
        previews={},
        files=[],
    )
    if stage == "sample":
        return of_sample(folder, empty, settings)
    readers: dict[str, Callable[[Path, Content], Content]] = {"train": of_train, "evaluate": of_evaluate}
    return readers[stage](folder, empty)


def of_train(folder: Path, content: Content) -> Content:
    """Settings, loss curves, previews, size and weights of a trained model."""
    record = json.loads((folder / "model.json").read_text())
    with np.load(folder / "previews.npz", allow_pickle=False) as previews:
        drawn = {int(name.removeprefix("step_")): previews[name] for name in previews.files}
    size = [Point("cost/parameters", record["parameters"])]
    size += [Point(f"cost/train_{name}", record[name]) for name in ("steps", "flops") if name in record]
    return dataclasses.replace(
        content,
        parameters=flat(record["configuration"]),
        curves=[point for split in ("train", "validation") for point in curve(folder / f"loss_{split}.csv", split)],
        results=content.results + size,
        previews=drawn,
        files=[folder / "weights.safetensors", folder / "model.json"],
    )


def of_sample(folder: Path, content: Content, settings: Record | None) -> Content:
    """How samples were drawn, and their picture."""
    written = folder / "settings.json"
    if written.is_file():
        settings = json.loads(written.read_text())
    return dataclasses.replace(
        content, parameters=flat({"sampling": settings}) if settings else {}, files=[folder / "samples.png"]
    )


def of_evaluate(folder: Path, content: Content) -> Content:
    """Every score with its error and p-value, and as a tag its protocol: what else its entry says, and the versions."""
    scores: dict[str, Record] = json.loads((folder / "metrics.json").read_text())
    versions = scores.pop("versions", {})
    results, tags = list(content.results), {f"protocol.versions.{name}": used for name, used in versions.items()}
    for name, entry in scores.items():
        keys = {"value": name, "standard_error": f"{name}_error", "p_value": f"{name}_p_value"}
        numbers = {shown: entry.get(key) for key, shown in keys.items()}
        results += [Point(key, float(number)) for key, number in numbers.items() if number is not None]
        protocol = flat({key: value for key, value in entry.items() if key not in keys})
        tags[f"protocol.{name}"] = "; ".join(f"{key}={value}" for key, value in protocol.items())
    likelihood = scores.get("bits_per_dim", {}).get("settings")
    return dataclasses.replace(
        content,
        parameters=flat({"likelihood": likelihood}) if likelihood else {},
        tags=tags,
        results=results,
        files=[folder / "metrics.json"],
    )


def flat(nested: Record, prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted key, as text; an empty section stands for itself."""
    lines: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and value:
            lines |= flat(value, f"{prefix}{key}.")
        else:
            lines[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return lines


def cost(stage: str, folder: Path) -> list[Point]:
    """What the stage took: seconds, memory, throughput."""
    path = folder / "cost.json"
    record: Record = json.loads(path.read_text()) if path.is_file() else {}
    return [
        Point(f"cost/{stage}_{name}", float(value)) for name, value in record.items() if isinstance(value, int | float)
    ]


def curve(path: Path, split: str) -> list[Point]:
    """A loss curve, under the keys that training tells it by."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [
            Point(f"{split}/{name}", float(value), int(row["step"]))
            for row in csv.DictReader(file)
            for name, value in row.items()
            if name != "step"
        ]


def digest(paths: list[Path]) -> str:
    """16 hexadecimal digits of the names and contents of files."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def made_here(record: Record, *, training: bool) -> dict[str, str]:
    """The git commit that a model was trained at, and whether it was dirty.

    For a model that comes from its files, it is this checkout's commit where that holds the very code that trained it,
    and unknown otherwise.
    """
    return git_state(ROOT) if training or has_its_code(record) else {"commit": "unknown", "dirty": "unknown"}


def has_its_code(record: Record) -> bool:
    """Whether this checkout would train the model by the same code."""
    module = str(record["configuration"]["model"].get("_target_", "")).rpartition(".")[0]
    source = source_of(module) if module else None
    return source is not None and code_digest([ROOT / "pipelines" / "train.py", source]) == record["code_digest"]
