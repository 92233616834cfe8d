"""Reads what the other stages left behind: a `Table` a data set, a `Row` for the real data and for every family."""

import csv
import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from lookalike.core.config import choices
from lookalike.core.errors import UserError
from lookalike.core.files import read_json as read_record
from lookalike.data import Prepared
from lookalike.report.contest import Entrant, difference

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

VERSIONS = "versions"
"""What in a `metrics.json` is no metric."""

REAL_FILES = ("metrics.json", "samples.npz", "details.npz", "cost.json")

IN_GIT = "metrics.json"
"""A clone has it before any other file of its cell, so that it alone makes no cell."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """What the pipeline runs: `conf/pipeline.yaml`."""

    data: list[str]
    models: list[str]
    seeds: list[int] = dataclasses.field(default_factory=list)

    def of(self, data: str) -> "Listed":
        """The same of one data set.

        Raises:
            UserError: it is not listed.
        """
        if data not in self.data:
            raise UserError(f"data={data}: conf/pipeline.yaml lists {', '.join(self.data)}; add it there")
        return dataclasses.replace(self, data=[data])

    def check(self) -> None:
        """Raise a UserError if a data set or a family has no file in `conf/`."""
        for key, group, names in (("data", "data", self.data), ("models", "model", self.models)):
            for name in names:
                if name not in choices(group):
                    raise UserError(
                        f"conf/pipeline.yaml: '{key}' lists {name}, and there is no conf/{group}/{name}.yaml; choose "
                        f"from {', '.join(choices(group))}"
                    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One family, or real data, on one data set.

    Attributes:
        model: the family's name, or `REAL`.
        metrics: as `evaluate` wrote them. Where the cell was repeated with other seeds, every entry holds `mean` and
            `deviation` over training seeds too, and `seeds`, the value of each.
        samples: values `[N, *shape]`.
        costs: `cost.json` by stage.
        record: `model.json`; empty for real data.
        curves: losses by split and name; empty where nothing was trained by gradient descent.
        arrays: log-likelihoods and the rows they belong to, by split; the density curve of a one-dimensional domain;
            rows and distances of the training points nearest to the first samples.
        versions: of what scored it.
    """

    model: str
    metrics: dict[str, Entry]
    samples: NDArray[Any]
    costs: dict[str, dict[str, float]]
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    curves: dict[str, dict[str, Curve]] = dataclasses.field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)


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
    """The data sets, families and training seeds of `conf/pipeline.yaml`.

    Raises:
        UserError: one of the first two lists is missing or holds something else than names; the last one holds
            something else than seeds.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from None
    lists = {key: content.get(key) if isinstance(content, dict) else None for key in ("data", "models")}
    for key, names in lists.items():
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path}: '{key}' must list names, it is {names!r}")
    seeds = content.get("seeds", [])
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UserError(f"{path}: 'seeds' must list whole numbers from 0 on, such as [0, 1, 2], it is {seeds!r}")
    return Listed(data=list(lists["data"] or ()), models=list(lists["models"] or ()), seeds=list(dict.fromkeys(seeds)))


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
            tables.append(read_table(artifacts / data, present, seeds=listed.seeds))
            for row in tables[-1].families:
                places = repeats(artifacts / data / row.model, row.record, listed.seeds)
                skipped += [f"{data}/{row.model} with seed {seed}" for seed, p in places.items() if not is_begun(p)]
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


def read_table(folder: Path, models: list[str], *, seeds: list[int]) -> Table:
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
            samples=read_arrays(folder / REAL / "samples.npz", ("samples",))["samples"],
            costs={},
            arrays=read_arrays(folder / REAL / "details.npz"),
            versions=read_versions(folder / REAL / "metrics.json"),
        ),
        families=[read_family(folder / model, seeds=seeds) for model in models],
    )


def read_family(folder: Path, *, seeds: list[int]) -> Row:
    """One cell, `artifacts/<data>/<model>`, and the scores of its repeats with the listed seeds that are there."""
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
    scores = read_scores(evaluate / "metrics.json")
    others = {
        seed: read_repeat(place, record, scores)
        for seed, place in repeats(folder, record, seeds).items()
        if is_begun(place)
    }
    return Row(
        model=folder.name,
        metrics=over_seeds(scores, others, own=own_seed(record)),
        samples=read_arrays(folder / "sample" / "samples.npz", ("samples",))["samples"],
        costs=costs,
        record=record,
        curves={split: curve for split, curve in curves.items() if curve},
        arrays=read_arrays(evaluate / "details.npz", details_of(scores)),
        versions=read_versions(evaluate / "metrics.json"),
    )


def own_seed(record: dict[str, Any]) -> int:
    """The seed that a cell was trained with, by its `model.json`."""
    return int(record["configuration"]["seed"])


def repeats(folder: Path, record: dict[str, Any], seeds: list[int]) -> dict[int, Path]:
    """Where a cell's repeats with some seeds belong. Its own seed is no repeat: that is the cell."""
    return {seed: folder / "seeds" / str(seed) for seed in seeds if seed != own_seed(record)}


def read_repeat(folder: Path, record: dict[str, Any], scores: dict[str, Entry]) -> dict[str, Entry]:
    """The scores of a cell's repeat, `artifacts/<data>/<model>/seeds/<seed>`.

    Raises:
        UserError: it is not complete, or not trained or scored as the cell was, but for the seed.
    """
    data, model, _, seed = folder.parts[-4:]
    again = f"run `python pipelines/repeat.py data={data} model={model} seed={seed}`"
    for name in ("train/model.json", "evaluate/metrics.json", "evaluate/cost.json"):
        if not (folder / name).is_file():
            raise UserError(f"{data}/{model} with seed {seed} is not complete, {folder / name} is missing: {again}")
    trained, own = (flat_identity(found) for found in (read_json(folder / "train" / "model.json"), record))
    found = read_scores(folder / "evaluate" / "metrics.json")
    differences = [difference(trained, own)]
    differences += [
        f"{metric}: {words}"
        for metric in scores.keys() & found.keys()
        if (words := difference(measured_by(found[metric]), measured_by(scores[metric])))
    ]
    if any(differences):
        raise UserError(
            f"{data}/{model} with seed {seed} is no repeat of the cell: {next(filter(None, differences))}; {again}"
        )
    return found


def flat_identity(record: dict[str, Any]) -> Entry:
    """Of `model.json` what repeats with other seeds share: settings, data, code."""
    settings = {key: value for key, value in record["configuration"].items() if key != "seed"}
    return settings | {key: record[key] for key in ("data_digest", "code_digest")}


def measured_by(entry: Entry) -> Entry:
    """Of an entry what repeats share: its protocol, and of a likelihood its kind and settings."""
    likelihood = {key: entry[key] for key in ("kind", "settings") if "kind" in entry and key in entry}
    # Settings of other metrics are the code's, or follow from the samples.
    return {key: value for key, value in Entrant(entry=entry).protocol.items() if key != "settings"} | likelihood


def over_seeds(scores: dict[str, Entry], others: dict[int, dict[str, Entry]], *, own: int) -> dict[str, Entry]:
    """A cell's scores, those that every seed has with mean and deviation over its own and the other training seeds."""
    merged = {}
    for metric, entry in scores.items():
        merged[metric] = entry
        if others and all(metric in found for found in others.values()):
            values = {own: entry["value"]} | {seed: found[metric]["value"] for seed, found in others.items()}
            merged[metric] = entry | {
                "mean": float(np.mean(list(values.values()))),
                "deviation": float(np.std(list(values.values()), ddof=1)),
                "seeds": {str(seed): values[seed] for seed in sorted(values)},
            }
    return merged


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
    scores = {metric: entry for metric, entry in read_json(path).items() if metric != VERSIONS}
    if not scores:
        raise damaged(path, "no metric in it")
    for metric, entry in scores.items():
        if not isinstance(entry, dict) or "value" not in entry:
            raise UserError(f"damaged: {path} (no value of {metric}). Run its stage again")
    return {metric: {names.get(k, k): v for k, v in entry.items()} for metric, entry in scores.items()}


def read_versions(path: Path) -> dict[str, str]:
    """The versions that a `metrics.json` was computed with."""
    return {name: str(version) for name, version in read_json(path).get(VERSIONS, {}).items()}


def read_json(path: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    return read_record(path, remedy="Delete it and run its stage again", keys=keys)


def details_of(scores: dict[str, Entry]) -> tuple[str, ...]:
    """Names of the arrays that belong to a cell's likelihood."""
    if (likelihood := scores.get("bits_per_dim")) is None:
        return ()
    return (f"rows_{(split := likelihood.get('split', 'test'))}", f"log_likelihood_{split}")


def read_arrays(path: Path, names: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """The arrays of an archive, in which some names must be."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(path, str(error)) from None
    if missing := [name for name in names if name not in arrays]:
        raise damaged(path, f"no array {missing[0]}")
    return arrays


def read_curves(path: Path) -> dict[str, Curve]:
    """The curve `loss`, or every curve of a family with several objectives; none where nothing was trained."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else ()) if name != "step"]
    try:
        return {
            name: np.array([(float(row["step"]), float(row[name])) for row in rows])
            for name in (["loss"] if "loss" in names else names)
        }
    except KeyError:
        raise damaged(path, "no column step") from None
    except (TypeError, ValueError):  # a line that was cut off, or a word
        raise damaged(path, "a line has something else than a number in every column") from None


def damaged(path: Path, problem: str) -> UserError:
    """The error of a file that a stage can't have left like this."""
    return UserError(f"damaged: {path} ({problem}). Delete it and run its stage again")
