"""Reads what the other stages left behind: a `Table` a data set, a `Row` for the real data and for every family."""

import csv
import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from lookalike.core.errors import UserError
from lookalike.core.files import read_json as read_record
from lookalike.data import Prepared

Entry = dict[str, Any]
Curve = NDArray[np.float64]
"""Steps and losses `[N, 2]`."""

REAL = "real"
"""The row of real data, which is scored as a model's samples would be."""

STAGES = {
    "train": ("model.json", "loss_train.csv", "loss_validation.csv", "cost.json"),
    "sample": ("samples.npz", "cost.json"),
    "evaluate": ("metrics.json", "details.npz", "cost.json"),
}
"""What a family's row is read from, by stage."""

REAL_FILES = ("metrics.json", "samples.npz", "details.npz", "cost.json")

IN_GIT = "metrics.json"
"""A clone has it before any other file of its cell, so that it alone makes no cell."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """What the pipeline runs: `conf/pipeline.yaml`."""

    data: list[str]
    models: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One family, or real data, on one data set.

    Attributes:
        model: the family's name, or `REAL`.
        metrics: as `evaluate` wrote them.
        samples: values `[N, *shape]`.
        costs: `cost.json` by stage.
        record: `model.json`; empty for real data.
        curves: losses by split and name; empty where nothing was trained by gradient descent.
        arrays: log-likelihoods and the rows they belong to, by split; the density curve of a one-dimensional domain;
            rows and distances of the training points nearest to the first samples.
    """

    model: str
    metrics: dict[str, Entry]
    samples: NDArray[Any]
    costs: dict[str, dict[str, float]]
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    curves: dict[str, dict[str, Curve]] = dataclasses.field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """One data set: its prepared arrays, the extractor that scored it, real data and families."""

    prepared: Prepared
    extractor: dict[str, Any]
    costs: dict[str, dict[str, float]]
    """`cost.json` of stages that belong to no family."""
    real: Row
    families: list[Row]

    @property
    def name(self) -> str:
        return self.prepared.domain.name

    @property
    def rows(self) -> list[Row]:
        """Real data first, then the families."""
        return [self.real, *self.families]


def read_listed(path: Path) -> Listed:
    """The data sets and families of `conf/pipeline.yaml`.

    Raises:
        UserError: one of the two lists is missing or holds something else than names.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from None
    lists = {key: content.get(key) if isinstance(content, dict) else None for key in ("data", "models")}
    for key, names in lists.items():
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path}: '{key}' must list names, it is {names!r}")
    return Listed(data=list(lists["data"] or ()), models=list(lists["models"] or ()))


def read_tables(artifacts: Path, listed: Listed) -> tuple[list[Table], list[str]]:
    """The listed cells that are there, and the names of those of which nothing is there yet.

    Raises:
        UserError: nothing is there at all, or a cell only in part; with the command that makes what is missing.
    """
    tables, skipped = [], []
    for data in listed.data:
        present = [model for model in listed.models if is_begun(artifacts / data / model)]
        absent = [model for model in listed.models if model not in present]
        skipped += [f"{data}/{model}" for model in absent] if present else [data]
        if present:
            tables.append(read_table(artifacts / data, present))
    if not tables:
        raise UserError(
            f"nothing to compare in {artifacts}: `dvc repro` makes all that conf/pipeline.yaml lists; a first cell "
            f"takes {', '.join(STAGES)} and real, such as `python pipelines/train.py data={listed.data[0]} "
            f"model={listed.models[0]}`"
        )
    return tables, skipped


def is_begun(folder: Path) -> bool:
    """Whether any stage of a family left a file that git does not bring."""
    return any((folder / stage / name).is_file() for stage in STAGES for name in STAGES[stage] if name != IN_GIT)


def read_table(folder: Path, models: list[str]) -> Table:
    """All of one data set, `artifacts/<data>`."""
    prepared = Prepared(folder / "prepared")
    features = folder / "features"
    require(features, ("extractor/extractor.json", "cost.json"), stage="features")
    require(folder / REAL, REAL_FILES, stage="real")
    return Table(
        prepared=prepared,
        extractor=read_json(features / "extractor" / "extractor.json", ("name", "digest")),
        costs={"features": read_json(features / "cost.json"), "real": read_json(folder / REAL / "cost.json")},
        real=Row(
            model=REAL,
            metrics=read_scores(folder / REAL / "metrics.json"),
            samples=read_arrays(folder / REAL / "samples.npz")["samples"],
            costs={},
            arrays=read_arrays(folder / REAL / "details.npz"),
        ),
        families=[read_family(folder / model) for model in models],
    )


def read_family(folder: Path) -> Row:
    """One cell, `artifacts/<data>/<model>`."""
    for stage, names in STAGES.items():
        require(folder / stage, names, stage=stage, model=folder.name)
    train, evaluate = folder / "train", folder / "evaluate"
    record = read_json(train / "model.json", ("steps",))
    costs = {stage: read_json(folder / stage / "cost.json") for stage in STAGES}
    for stage, cost in costs.items():
        if cost.get("fingerprint", record.get("fingerprint")) != record.get("fingerprint"):
            raise UserError(
                f"{folder / stage} is of another model than {train}: run `python pipelines/{stage}.py "
                f"data={folder.parent.name} model={folder.name}` again"
            )
    curves = {split: read_curves(train / f"loss_{split}.csv") for split in ("train", "validation")}
    return Row(
        model=folder.name,
        metrics=read_scores(evaluate / "metrics.json"),
        samples=read_arrays(folder / "sample" / "samples.npz")["samples"],
        costs=costs,
        record=record,
        curves={split: curve for split, curve in curves.items() if curve},
        arrays=read_arrays(evaluate / "details.npz"),
    )


def require(folder: Path, names: tuple[str, ...], *, stage: str, model: str | None = None) -> None:
    """Raise a UserError that names the first file that is missing and the commands that bring it."""
    for name in names:
        if not (folder / name).is_file():
            data = folder.parents[1].name if model else folder.parent.name
            cell, choice = (f"{data}/{model}", f"data={data} model={model}") if model else (data, f"data={data}")
            raise UserError(
                f"{cell} is not complete, {folder / name} is missing: run `python pipelines/{stage}.py {choice}` "
                f"(or `dvc pull`, if somebody ran and pushed it)"
            )


def read_scores(path: Path) -> dict[str, Entry]:
    """The entries of a `metrics.json`, their `standard_error` as the leaderboard's `error`.

    The file can't call it so: `dvc metrics show` takes a key of that name for a failure to load.
    """
    names = {"standard_error": "error"}
    scores = read_json(path)
    for metric, entry in scores.items():
        if not isinstance(entry, dict) or "value" not in entry:
            raise UserError(f"damaged: {path} (no value of {metric}). Run its stage again")
    return {metric: {names.get(k, k): v for k, v in entry.items()} for metric, entry in scores.items()}


def read_json(path: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    return read_record(path, remedy="Delete it and run its stage again", keys=keys)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"damaged: {path} ({error}). Delete it and run its stage again") from None


def read_curves(path: Path) -> dict[str, Curve]:
    """The curve `loss`, or every curve of a family with several objectives; none where nothing was trained."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else ()) if name != "step"]
    return {
        name: np.array([(float(row["step"]), float(row[name])) for row in rows])
        for name in (["loss"] if "loss" in names else names)
    }
