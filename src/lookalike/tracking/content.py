"""What the files of a stage say about a run: settings, curves, scores, cost, pictures. No tool is imported here."""

import csv
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.catalogue import MAIN
from lookalike.workspace.fingerprint import SOURCE, code_digest, git_state, source_of
from lookalike.workspace.litter import files_below

Record = dict[str, Any]

ROOT = SOURCE.parent
"""The checkout. `configuration` defines it too, but imports Hydra, and a recorder must start quickly."""

TRAIN = Path(__file__).resolve().parents[1] / "stages" / "train.py"

STAGES = ("train", "sample", "evaluate")
"""The stages of a run, in order."""

HEADLINE = tuple(metric.name for metric in MAIN)
"""The scores at the top level of a run. Names of all other numbers have a part before `/`, by which pages fold them."""

PREVIEW_SAMPLES = 64
"""Number of samples that are kept with a run."""


class Point(NamedTuple):
    """One value of a metric; without a time, the time of recording counts."""

    key: str
    value: float
    step: int = 0
    milliseconds: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """Everything that the folder of a stage says.

    Attributes:
        digest: digest of the folder's files; the same content need not be recorded twice.
        parameters: settings by dotted key.
        tags: descriptions that may change when a stage is run again.
        curves: losses by step.
        results: final values, at step 0.
        previews: samples drawn during training, by step.
        arrays: the first samples of the cell, and their classes if it has some, for `preview.npz`.
        files: files that are kept with the run.
    """

    digest: str
    parameters: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    curves: list[Point] = dataclasses.field(default_factory=list)
    results: list[Point] = dataclasses.field(default_factory=list)
    previews: dict[int, NDArray[Any]] = dataclasses.field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    files: list[Path] = dataclasses.field(default_factory=list)


def read(stage: str, folder: Path, *, settings: Record | None = None) -> Content:
    """Return what the folder of a stage says.

    Args:
        stage: one of `STAGES`.
        folder: its output.
        settings: the sampling settings, used if the folder has no `settings.json`.
    """
    found = digest(list(files_below(folder)))
    if stage == "train":
        return read_train(folder, found)
    if stage == "sample":
        return read_sample(folder, found, settings)
    return read_evaluate(folder, found)


def read_train(folder: Path, found: str) -> Content:
    """Return settings, loss curves, previews, size and weights of a trained model."""
    record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    with np.load(folder / "previews.npz", allow_pickle=False) as previews:
        drawn = {int(name.removeprefix("step_")): previews[name] for name in previews.files}
    size = [Point("cost/parameters", record["parameters"])]
    size += [Point(f"cost/train_{name}", record[name]) for name in ("steps", "flops") if name in record]
    return Content(
        digest=found,
        parameters=flat(record["configuration"]) | {"family": family_of(record)},
        curves=[point for split in ("train", "validation") for point in curve(folder / f"loss_{split}.csv", split)],
        results=cost("train", folder) + size,
        previews=drawn,
        files=[folder / "weights.safetensors", folder / "model.json"],
    )


def read_sample(folder: Path, found: str, settings: Record | None) -> Content:
    """Return the settings of sampling, the picture and the first samples."""
    written, samples = folder / "settings.json", folder / "samples.npz"
    settings = json.loads(written.read_text(encoding="utf-8")) if written.is_file() else settings
    arrays: dict[str, NDArray[Any]] = {}
    if samples.is_file():
        with np.load(samples, allow_pickle=False) as file:
            arrays = {name: file[name][:PREVIEW_SAMPLES] for name in file.files}
    return Content(
        digest=found,
        parameters=flat({"sampling": settings}) if settings else {},
        results=cost("sample", folder),
        arrays=arrays,
        files=[folder / "samples.png"],
    )


def read_evaluate(folder: Path, found: str) -> Content:
    """Return every score with its error and p-value; its protocol is a tag, and so are the versions of libraries."""
    scores: dict[str, Record] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    versions = scores.pop("versions", {})
    results, tags = cost("evaluate", folder), {f"protocol.versions.{name}": used for name, used in versions.items()}
    for name, entry in scores.items():
        shown = score_key(name)
        keys = {"value": shown, "standard_error": f"{shown}_error", "p_value": f"scores/{name}_p_value"}
        results += [Point(shown, float(entry[key])) for key, shown in keys.items() if entry.get(key) is not None]
        protocol = flat({key: value for key, value in entry.items() if key not in keys})
        tags[f"protocol.{name}"] = "; ".join(f"{key}={value}" for key, value in protocol.items())
    likelihood = scores.get("bits_per_dim", {}).get("settings")
    return Content(
        digest=found,
        parameters=flat({"likelihood": likelihood}) if likelihood else {},
        tags=tags,
        results=results,
        files=[folder / "metrics.json"],
    )


def score_key(name: str) -> str:
    """Return the name of a score in a view: headline scores are at the top level."""
    return name if name in HEADLINE else f"scores/{name}"


def family_of(record: Record) -> str:
    """Return the family of a model: the file of its class."""
    return str(record["configuration"]["model"]["_target_"]).split(".")[-2]


def flat(nested: Record, prefix: str = "") -> dict[str, str]:
    """Return nested settings by dotted key, as text; an empty section keeps its key."""
    lines: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and value:
            lines |= flat(value, f"{prefix}{key}.")
        else:
            lines[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return lines


def cost(stage: str, folder: Path) -> list[Point]:
    """Return the cost of a stage: seconds, memory, throughput."""
    path = folder / "cost.json"
    record: Record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return [
        Point(f"cost/{stage}_{name}", float(value)) for name, value in record.items() if isinstance(value, int | float)
    ]


def curve(path: Path, split: str) -> list[Point]:
    """Return a loss curve under the keys that training reports."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Point(f"{split}/{name}", float(value), int(row["step"]))
            for row in csv.DictReader(file)
            for name, value in row.items()
            if name != "step"
        ]


def digest(paths: list[Path]) -> str:
    """Return 16 hexadecimal digits that identify the names and contents of files."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def commit_of(record: Record, *, training: bool) -> dict[str, str]:
    """Return the git commit that a model was trained at, and whether the checkout had changes.

    A model that is read from its files is attributed to the commit of this checkout only if the checkout holds the
    very code that trained it; otherwise the commit is "unknown".
    """
    module = str(record["configuration"]["model"].get("_target_", "")).rpartition(".")[0]
    source = source_of(module) if module else None
    if training or (source is not None and code_digest([TRAIN, source]) == record["code_digest"]):
        return git_state(ROOT)
    return {"commit": "unknown", "dirty": "unknown"}
