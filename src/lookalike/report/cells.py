"""Read what the other stages wrote: one `Table` per data set, one `Row` for real data and for every family."""

import csv
import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.prepared import Prepared
from lookalike.metrics.catalogue import LIKELIHOOD
from lookalike.report.lacks import (
    CELL_FILES,
    DATA_FILES,
    REMEDY,
    STAGES,
    choice_of,
    first_lack,
    lack_of,
    mismatch_of,
    read_json,
)
from lookalike.report.likelihoods import on_common_points
from lookalike.report.protocols import difference, protocol_of
from lookalike.workspace.errors import UserError
from lookalike.workspace.pipeline import Listed

Entry = dict[str, Any]
Curve = NDArray[np.float64]
"""Steps and losses `[N, 2]`."""

REAL = "real"
"""The row of real data, which are scored as the samples of a model are."""

VERSIONS = "versions"
"""The key of a `cost.json` that holds versions; in the `metrics.json` of earlier releases it is no metric."""

NUMBERS = frozenset({"value", "standard_error", "p_value", "points", "of", "samples", "reference_count"})
"""The parts of an entry that are numbers."""

MISSING = "missing"
"""The key of a `metrics.json` that is no metric."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One family, or real data, on one data set.

    Attributes:
        model: the name of the family, or `REAL`.
        metrics: entries by metric, as `evaluate` wrote them. With several training seeds an entry also holds `mean` and
            `deviation` over the seeds, and `seeds`, the value for each seed. A likelihood on fewer points than that of
            other families is the anchored one, with its `anchor`; `scored` has the numbers that `evaluate` wrote.
        samples: values `[N, *shape]`.
        costs: `cost.json` by stage.
        record: `model.json`; empty for real data.
        curves: losses by split and name; empty where nothing was trained by gradient descent.
        arrays: log-likelihoods and the rows they belong to, by split; the density curve of a one-dimensional domain;
            rows and distances of the training points nearest to the first samples.
        resampled: resampled values by `<metric>/joint`, `<metric>/samples` and `<metric>/reference`, `[S, B]` for S
            training seeds.
        log_likelihoods: log-likelihoods `[S, N]` of the scored points for S training seeds; None where there are none.
        versions: versions of the packages that computed the scores.
        missing: why there is no number of a metric, by metric.
    """

    model: str
    metrics: dict[str, Entry]
    samples: NDArray[Any]
    costs: dict[str, dict[str, float]]
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    curves: dict[str, dict[str, Curve]] = dataclasses.field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    resampled: dict[str, NDArray[np.float64]] = dataclasses.field(default_factory=dict)
    log_likelihoods: NDArray[np.float64] | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_floor(self) -> bool:
        """Whether the family is there to be compared with, and takes no part in contests."""
        return bool(self.record.get("is_floor", False))

    @property
    def is_trained(self) -> bool:
        """Whether the family was trained in steps."""
        return bool(self.record.get("steps"))

    @property
    def title(self) -> str:
        """The name of the row for reading."""
        return "real data" if self.model == REAL else self.model


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """One data set: its prepared arrays, the extractor that scored it, real data and families.

    `costs` holds the `cost.json` of the stages that belong to no family.
    """

    prepared: Prepared
    extractor: dict[str, Any]
    costs: dict[str, dict[str, float]]
    real: Row
    families: list[Row]

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.prepared.domain.name

    @property
    def rows(self) -> list[Row]:
        """Real data first, then the families."""
        return [self.real, *self.families]

    @property
    def floors(self) -> list[str]:
        """The names of the floors."""
        return [row.model for row in self.families if row.is_floor]

    @property
    def has_several_seeds(self) -> bool:
        """Whether any family was trained with several seeds."""
        return any("seeds" in entry for row in self.families for entry in row.metrics.values())


def read_tables(artifacts: Path, listed: Listed) -> tuple[list[Table], dict[str, str]]:
    """Read the listed cells that are complete.

    Returns:
        A table for each data set, and the names of the cells and data sets that are left out, each with what it lacks
        and the command that makes it; with an empty text if it has not begun.

    Raises:
        UserError: no cell is complete, or a file is damaged.
    """
    tables: list[Table] = []
    left_out: dict[str, str] = {}
    for data in listed.data:
        cells = [(model, seed) for model in listed.all_models for seed in listed.seeds_of(model)]
        lacks = {(model, seed): lack_of(artifacts / data / model / str(seed)) for model, seed in cells}
        if all(lack == "" for lack in lacks.values()):
            left_out[data] = ""
            continue
        left_out |= {f"{data}/{model}/{seed}": lack for (model, seed), lack in lacks.items() if lack is not None}
        complete: dict[str, list[int]] = {}
        for model, seed in cells:
            if lacks[model, seed] is None:
                complete.setdefault(model, []).append(seed)
        if complete and (lack := first_lack(artifacts / data, DATA_FILES, choice=f"data={data}")):
            left_out[data] = lack
        elif complete:
            tables.append(read_table(artifacts / data, complete))
    if not tables:
        first = next(filter(None, left_out.values()), "")
        raise UserError(
            f"nothing to compare in {artifacts}: `dvc repro` makes everything that conf/pipeline.yaml lists; a first "
            f"cell takes the stages {', '.join(STAGES)} and real, such as `lookalike train data={listed.data[0]} "
            f"model={listed.all_models[0]}`" + (f"; {first}" if first else "")
        )
    return tables, left_out


def read_table(folder: Path, cells: dict[str, list[int]]) -> Table:
    """Read one data set, `artifacts/<data>`: the seeds of every model in `cells`."""
    features, real = folder / "features", folder / REAL
    costs = {stage: read_json(folder / stage / "cost.json") for stage in ("features", REAL)}
    return Table(
        prepared=Prepared(folder / "prepared"),
        extractor=read_json(features / "extractor" / "extractor.json", keys=("name", "digest")),
        costs=costs,
        real=Row(
            model=REAL,
            metrics=read_scores(real / "metrics.json"),
            samples=read_arrays(real / "samples.npz", ("samples",))["samples"],
            costs={},
            arrays=read_arrays(real / "details.npz"),
            resampled=read_resampled([real]),
            versions=costs[REAL].get(VERSIONS, {}),
            missing=read_json(real / "metrics.json").get(MISSING, {}),
        ),
        families=on_common_points([read_family(folder / model, seeds=seeds) for model, seeds in cells.items()]),
    )


def read_family(folder: Path, *, seeds: list[int]) -> Row:
    """Read the cells of one family, `artifacts/<data>/<model>/<seed>`.

    The first seed gives the row its samples, curves and arrays. With several seeds, scores also hold their mean.

    Raises:
        UserError: a cell is not complete, its stages do not belong together, or the seeds differ in more than the seed.
    """
    cell = folder / str(seeds[0])
    record, scores = read_scored(cell)
    costs = {stage: read_json(cell / stage / "cost.json") for stage in STAGES}
    if mismatch := mismatch_of(cell):
        raise UserError(mismatch)
    others = {seed: read_other_seed(folder / str(seed), record, scores) for seed in seeds[1:]}
    curves = {split: read_curves(cell / "train" / f"loss_{split}.csv") for split in ("train", "validation")}
    split = scores.get(LIKELIHOOD, {}).get("split", "test")
    likelihoods = (f"rows_{split}", f"log_likelihood_{split}") if LIKELIHOOD in scores else ()
    scored = [folder / str(seed) / "evaluate" for seed in seeds]
    arrays = [read_arrays(place / "details.npz", likelihoods) for place in scored]
    if any(not np.array_equal(own[name], arrays[0][name]) for own in arrays for name in likelihoods[:1]):
        raise UserError(f"the seeds of {folder} were scored on different points: run `dvc repro`")
    return Row(
        model=folder.name,
        metrics=over_seeds(scores, others, own=seeds[0]),
        samples=read_arrays(cell / "sample" / "samples.npz", ("samples",))["samples"],
        costs=costs,
        record=record,
        curves={split: curve for split, curve in curves.items() if curve},
        arrays=arrays[0],
        resampled=read_resampled(scored),
        log_likelihoods=np.stack([own[likelihoods[1]] for own in arrays]) if likelihoods else None,
        versions=costs["evaluate"].get(VERSIONS, {}),
        missing=read_json(cell / "evaluate" / "metrics.json").get(MISSING, {}),
    )


def read_scored(cell: Path) -> tuple[dict[str, Any], dict[str, Entry]]:
    """Return `model.json` and the scores of a complete cell."""
    if lack := first_lack(cell, CELL_FILES, choice=choice_of(cell)):
        raise UserError(lack)
    return read_json(cell / "train" / "model.json", keys=("steps",)), read_scores(cell / "evaluate" / "metrics.json")


def read_other_seed(cell: Path, record: dict[str, Any], scores: dict[str, Entry]) -> dict[str, Entry]:
    """Return the scores of a cell with another seed than the row's own.

    Raises:
        UserError: the cell is not complete, or differs in more than the seed in how it was trained or scored.
    """
    other, found = read_scored(cell)
    differences = [difference(identity(other), identity(record))]
    differences += [
        f"{metric}: {words}"
        for metric in scores.keys() & found.keys()
        if (words := difference(measured_by(found[metric]), measured_by(scores[metric])))
    ]
    if any(differences):
        raise UserError(
            f"{'/'.join(cell.parts[-3:])} differs from the first seed in more than the seed: "
            f"{next(filter(None, differences))}; run `dvc repro evaluate@{'-'.join(cell.parts[-3:])}`"
        )
    return found


def identity(record: dict[str, Any]) -> Entry:
    """Return the part of `model.json` that all seeds share: settings, data, code."""
    settings = {key: value for key, value in record["configuration"].items() if key != "seed"}
    return settings | {key: record[key] for key in ("data_digest", "code_digest")}


def measured_by(entry: Entry) -> Entry:
    """Return the part of an entry that all seeds share: its protocol, and kind and settings of a likelihood.

    Settings of other metrics follow from the code or from the samples.
    """
    likelihood = {key: entry[key] for key in ("kind", "settings") if "kind" in entry and key in entry}
    return {key: value for key, value in protocol_of(entry).items() if key != "settings"} | likelihood


def over_seeds(scores: dict[str, Entry], others: dict[int, dict[str, Entry]], *, own: int) -> dict[str, Entry]:
    """Return the scores of a cell, with mean and deviation for every metric that the other seeds have as well.

    The error becomes that of the mean. It consists of the error of the test points, which all seeds share, and of the
    deviation over seeds, which holds what other samples would change.
    """
    merged = dict(scores)
    for metric, entry in scores.items():
        if others and all(metric in found for found in others.values()):
            values = {own: entry["value"]} | {seed: found[metric]["value"] for seed, found in others.items()}
            deviation = float(np.std(list(values.values()), ddof=1))
            shared = entry.get("error_reference", entry.get("error") if metric.startswith(LIKELIHOOD) else None) or 0.0
            merged[metric] = entry | {
                "error": float(np.hypot(shared, deviation / np.sqrt(len(values)))),
                "mean": float(np.mean(list(values.values()))),
                "deviation": deviation,
                "seeds": {str(seed): values[seed] for seed in sorted(values)},
            }
    return merged


def read_resampled(folders: list[Path]) -> dict[str, NDArray[np.float64]]:
    """Return the resampled values that the cells of all seeds have in common, `[S, B]` for each."""
    cells = [read_arrays(folder / "resampled.npz") for folder in folders]
    shared = [name for name in cells[0] if all(name in cell for cell in cells)]
    return {name: np.stack([cell[name] for cell in cells]) for name in shared}


def read_scores(path: Path) -> dict[str, Entry]:
    """Return the entries of a `metrics.json`, their `standard_error` renamed to `error`.

    The file itself cannot use the key `error`, because `dvc metrics show` takes it for a failure to load.
    """
    content = {key: entry for key, entry in read_json(path).items() if key not in (VERSIONS, MISSING)}
    if not content:
        raise damaged(path, "no metric in it")
    for metric, entry in content.items():
        if not isinstance(entry, dict) or "value" not in entry:
            raise damaged(path, f"no value of {metric}")
        for key in NUMBERS & entry.keys():
            if not isinstance(entry[key], int | float):
                raise damaged(path, f"the {key} of {metric} is no number")
    names = {"standard_error": "error"}
    return {metric: {names.get(k, k): v for k, v in entry.items()} for metric, entry in content.items()}


def read_arrays(path: Path, names: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """Return the arrays of an archive that holds some names at least."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(path, str(error)) from None
    if missing := [name for name in names if name not in arrays]:
        raise damaged(path, f"no array {missing[0]}")
    return arrays


def read_curves(path: Path) -> dict[str, Curve]:
    """Return the curve `loss`, or every curve of a family with several objectives; none where nothing was trained."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in (rows[0] if rows else ()) if name != "step"]
        return {
            name: np.array([(float(row["step"]), float(row[name])) for row in rows])
            for name in (["loss"] if "loss" in names else names)
        }
    except KeyError:
        raise damaged(path, "no column step") from None
    except (TypeError, ValueError, csv.Error):  # A line was cut off, or holds a word or other bytes.
        raise damaged(path, "a line has something else than a number in every column") from None


def damaged(path: Path, problem: str) -> UserError:
    """Return the error for a file that no stage leaves like this."""
    return UserError(f"damaged: {path} ({problem}). {REMEDY}")
