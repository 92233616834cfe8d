"""Tests of leaderboard, figures and page, on cells written by hand whose numbers are all known."""

import csv
import dataclasses
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from lookalike.domain.domain import Domain
from lookalike.domain.image import GAP, Image, pixel
from lookalike.domain.table import Table as Columns
from lookalike.domain.variables import Ordered
from lookalike.metrics.catalogue import DETAILS, METRICS, NOVELTY, SUPPORT, TRUTH
from lookalike.metrics.catalogue import LIKELIHOOD as BITS
from lookalike.report import clouds, densities, figures, pictures, style
from lookalike.report.cells import REAL, Row, Table, read_tables
from lookalike.report.leaderboard import leaderboard, to_csv, to_markdown
from lookalike.report.likelihoods import on_common_points
from lookalike.report.numbers import describe, p_value, rounded
from lookalike.report.page import behind, facts, more_seeds
from lookalike.report.panels import Draw, panel
from lookalike.report.ranking import OF_SEEDS, caught, present, rank
from lookalike.report.results import NAMES, save, show
from lookalike.workspace.configuration import ROOT, choices
from lookalike.workspace.errors import UserError
from lookalike.workspace.pipeline import Listed, read_listed

HEIGHTS = Columns(
    name="heights",
    shape=(1,),
    variables=(Ordered(levels=1120, step=0.1, unit="inch", location=667.0, scale=36.0),),
)
DIGITS = Image(name="digits", shape=(1, 8, 8), variables=(pixel(),), labels=("left", "right"))
TILES = Image(name="tiles", shape=(3, 8, 8), variables=(pixel(),), labels=("left", "right"))
DOMAINS = {"heights": HEIGHTS, "digits": DIGITS, "tiles": TILES}
KINDS = {"independent": "exact", "vae": "lower bound", "flow_matching": "estimate", "copycat": None}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_arrays(path: Path, **arrays: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def draw(domain: Domain, count: int, rng: np.random.Generator, *, std: float = 1.0) -> np.ndarray[Any, Any]:
    if domain.kind == "image":
        y, x = np.mgrid[:8, :8]
        centre = 3.5 + std * rng.normal(size=(count, 2, 1, 1))
        blob = np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / 4)
        brightness = np.array([255, 128, 64])[: domain.shape[0], None, None]
        return np.asarray(blob[:, None] * brightness).astype(np.uint8)
    return np.round(rng.normal(66.7, 3.6 * std, size=(count, 1)).clip(0, 111), 1)


def distances(domain: Domain, value: float, samples: int) -> dict[str, Any]:
    protocol = {"samples": samples, "reference": "test", "reference_count": 40}
    if domain.kind == "image":
        more = {"extractor": "classifier", "extractor_digest": "0123456789abcdef", "error_of": "samples, jackknife"}
        classes = {"error": 0.01, **protocol, **more, "unit": "share of the samples"}
        counts = {"counts": [30, 18], "reference_counts": [20, 20]}
        return {
            "frechet_distance": {"value": value, "error": value / 30, **protocol, **more},
            "class_distance": {"value": value / 20, **classes, **counts},
            "class_gap": {"value": value / 30, **classes, "class": "left", "chance": 0.01, "short": ["right"]},
        }
    more = {"extractor": "values", "error_of": "samples, bootstrap of 200"}
    return {
        "wasserstein_1": {"value": value / 20, "error": value / 200, **protocol, **more},
        "kolmogorov_smirnov": {"value": value / 100, "error": value / 1000, **protocol, **more},
    }


def nearest(rng: np.random.Generator) -> dict[str, Any]:
    return {"nearest_training_rows": rng.integers(0, 300, 48), "nearest_training_distances": rng.random(48)}


def of_points(value: float, samples: int, *, copied: bool) -> dict[str, Any]:
    """Return fidelity, diversity, two-sample tests and novelty of samples that get worse with a value, or of copies."""
    protocol = {"samples": samples, "reference": "test", "reference_count": 40, "extractor": "some"}
    tested = {"error": 0.02, "p_value": 0.0005 if value > 2 else 0.32, "settings": {"permutations": 999}}
    near = {"authenticity": 0.0, "data_copying": -20.0, "training_copies": 1.0}
    if not copied:
        near = {"authenticity": 0.5 + value / 100, "data_copying": value, "training_copies": 0.0}
    entries: dict[str, Any] = {}
    for name in ("precision", "recall", "density", "coverage"):
        entries[name] = {"value": 1 / value, "error": 0.01}
    for name in ("nearest_sample_distance", "frechet_distance_infinite"):
        entries[name] = {"value": value, "error": 0.1}
    for i, name in enumerate(("classifier_accuracy", "kernel_distance", "energy_distance", "sliced_wasserstein")):
        entries[name] = {"value": value / (10 + i)} | tested
    for name, number in near.items():
        entries[name] = {"value": number, "error": 0.02}
    entries["duplicates"] = {"value": 0.0, "error": 0.0}
    return {name: entry | protocol | {"error_of": "samples"} for name, entry in entries.items()}


def write_data(artifacts: Path, domain: Domain, rng: np.random.Generator) -> None:
    """Write what `prepare`, `features` and `real` leave."""
    folder = artifacts / domain.name
    counts = {"train": 300, "validation": 40, "test": 40}
    for split, count in counts.items():
        (folder / "prepared").mkdir(parents=True, exist_ok=True)
        np.save(folder / "prepared" / f"{split}.npy", domain.to_grid(draw(domain, count, rng)))
    write(folder / "prepared" / "domain.json", domain.to_dict())
    summary = {"name": domain.name, "digest": "d" * 64, "splits": {k: {"count": v} for k, v in counts.items()}}
    write(folder / "prepared" / "summary.json", summary)
    image = domain.kind == "image"
    extractor = {"name": "classifier", "digest": "0123456789abcdef"} if image else {"name": "values", "digest": None}
    write(folder / "features" / "extractor" / "extractor.json", extractor)
    cost = {"startup_seconds": 1.0, "work_seconds": 3.0, "process_seconds": 5.5, "peak_memory_mb": 300.0}
    write(folder / "features" / "cost.json", cost)
    write(folder / "real" / "cost.json", cost)
    scored = distances(domain, 1.0, 40) | of_points(1.0, 40, copied=False)
    write(folder / "real" / "metrics.json", {k: v | {"source": "validation"} for k, v in scored.items()})
    write_arrays(folder / "real" / "details.npz", **nearest(rng))
    write_arrays(folder / "real" / "resampled.npz", **resampled(scored))
    write_arrays(folder / "real" / "samples.npz", samples=draw(domain, 48, rng))


def resampled(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what `evaluate` leaves of resamples of samples and test points, for all scores but likelihoods."""
    rng = np.random.default_rng(0)
    return {
        f"{name}/{part}": entry["value"] + size * entry["error"] * rng.normal(size=200)
        for name, entry in metrics.items()
        if not name.startswith(BITS)
        for part, size in (("joint", 1.0), ("samples", 0.8), ("reference", 0.6))
    }


def write_family(artifacts: Path, domain: Domain, model: str, rng: np.random.Generator, *, rank: int) -> None:
    """Write what `train`, `sample` and `evaluate` leave of seed 0; families get worse with their rank."""
    folder, kind, trained = artifacts / domain.name / model / "0", KINDS.get(model), model not in FLOORS
    cost = {"startup_seconds": 1.0, "work_seconds": 2.0 + rank, "process_seconds": 4.0 + rank, "peak_memory_mb": 250.0}
    record = {"fingerprint": f"{rank:016x}", "parameters": 1000 * rank, "steps": 200 if trained else 0,
              "flops": 3e10 if trained else 0.0, "is_floor": model in FLOORS,
              "code_digest": "c" * 64, "data_digest": "d" * 64,
              "configuration": {"budget": {"scale": 1.0}, "seed": 0}}  # fmt: skip
    write(folder / "train" / "model.json", record)
    write(folder / "train" / "cost.json", cost | {"images_per_second": 1234.5})
    for split in ("train", "validation"):
        steps = np.arange(1, 201, 1 if split == "train" else 10)
        losses = 4 + 3 * np.exp(-steps / 40) + rng.normal(size=len(steps)) * (0.2 if split == "train" else 0.02)
        lines = [f"{step},{loss:.6g},0.1" for step, loss in zip(steps, losses, strict=True)] if trained else []
        (folder / "train" / f"loss_{split}.csv").write_text("\n".join(["step,loss,rate", *lines]) + "\n")
    write_arrays(folder / "sample" / "samples.npz", samples=draw(domain, 48, rng, std=1 + rank / 10))
    write(folder / "sample" / "cost.json", cost | {"samples_per_second": 567.8})
    metrics, details = distances(domain, 1.5 + rank, 48), nearest(rng)
    metrics |= of_points(1.0 if model == "copycat" else 1.5 + rank, 48, copied=model == "copycat")
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
        if domain.kind == "table":
            values = domain.to_values(np.arange(domain.levels)[:, None])[:, 0]
            density = np.exp(-0.5 * ((values - 66.7) / (3.6 * (1 + rank / 10))) ** 2)
            details |= {"density_values": values, "density_probabilities": density / density.sum()}
    write(folder / "evaluate" / "metrics.json", metrics)
    write(folder / "evaluate" / "cost.json", cost)
    write_arrays(folder / "evaluate" / "details.npz", **details)
    write_arrays(folder / "evaluate" / "resampled.npz", **resampled(metrics))


def write_cells(artifacts: Path, *, data: list[str], models: list[str]) -> None:
    rng = np.random.default_rng(0)
    for name in data:
        write_data(artifacts, DOMAINS[name], rng)
        for model in models:
            write_family(artifacts, DOMAINS[name], model, rng, rank=[*TRAINED, *FLOORS].index(model))


TRAINED = ["flow_matching", "vae"]
FLOORS = ["independent", "copycat"]
MODELS = [*FLOORS, *TRAINED]
LISTED = Listed(data=["heights", "digits"], models=[*TRAINED, "gan"], floors=FLOORS)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    write_cells(folder, data=["heights", "digits"], models=MODELS)
    return folder


@pytest.fixture(scope="module")
def tables(artifacts: Path) -> list[Table]:
    return read_tables(artifacts, LISTED)[0]


@pytest.fixture(scope="module")
def results(tables: list[Table], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    save(tables, folder)
    return folder


@pytest.fixture
def copy(artifacts: Path, tmp_path: Path) -> Path:
    """Return a copy of the cells that a test may damage."""
    return Path(shutil.copytree(artifacts, tmp_path / "artifacts"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def table_of(*rows: tuple[str, dict[str, Any]], real: dict[str, Any] | None = None) -> Table:
    """Return a table of metrics alone; the likelihoods are of points that all families share."""
    noise = np.linspace(-1, 1, 50)
    families = [
        Row(
            model=model,
            metrics=metrics,
            samples=np.zeros((1, 1)),
            costs={},
            record={"is_floor": model in FLOORS, "configuration": {}, "data_digest": "d", "steps": 0},
            arrays={"rows_test": np.arange(50), "log_likelihood_test": -metrics[BITS]["value"] - noise}
            if BITS in metrics
            else {},
        )
        for model, metrics in rows
    ]
    prepared: Any = type("Prepared", (), {"domain": HEIGHTS})()
    there = Row(model=REAL, metrics=real or {}, samples=np.zeros((1, 1)), costs={})
    return Table(prepared=prepared, extractor={}, costs={}, real=there, families=families)


def bits(value: float, error: float, kind: str = "exact") -> dict[str, Any]:
    return {BITS: {"value": value, "error": error, "kind": kind}}


def distance(value: float, error: float) -> dict[str, Any]:
    return {"frechet_distance": {"value": value, "error": error}}


# The leaderboard


def test_leaderboard_carries_every_entry_of_every_cell_as_it_is(results: Path, artifacts: Path) -> None:
    board = json.loads((results / "leaderboard.json").read_text())
    assert list(board) == ["heights", "digits"]
    for data, models in board.items():
        assert list(models) == [REAL, *MODELS]
        for model, metrics in models.items():
            folder = artifacts / data / model / ("" if model == REAL else "0/evaluate")
            assert metrics == json.loads((folder / "metrics.json").read_text())


def test_leaderboard_and_figures_repeat_to_the_byte_and_hold_no_cost(results: Path, copy: Path, tmp_path: Path) -> None:
    for path in copy.rglob("cost.json"):
        write(path, {key: value * 2 for key, value in json.loads(path.read_text()).items()})
    again = tmp_path / "again"
    again.mkdir()
    save(read_tables(copy, LISTED)[0], again)
    first, second = files(results), files(again)
    assert first.pop("report.html") != second.pop("report.html")
    assert first == second


def test_csv_has_a_line_per_number_with_all_that_its_entry_holds(results: Path) -> None:
    board = json.loads((results / "leaderboard.json").read_text())
    with (results / "leaderboard.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(len(metrics) for models in board.values() for metrics in models.values())
    for line in lines:
        entry = board[line["data"]][line["model"]][line["metric"]]
        assert float(line["value"]) == entry["value"]
        assert float(line["error"]) == entry["error"]
        assert line["kind"] == entry.get("kind", "")
        assert json.loads(line["settings"] or "{}") == entry.get("settings", {})


def test_markdown_has_real_data_first_then_bits_then_families_without_a_likelihood() -> None:
    table = table_of(
        ("gan", distance(3, 0.1)), ("copycat", distance(1, 0.1)), ("vae", bits(1.3, 0.1) | distance(9, 0.1)),
        ("flow", bits(1.2, 0.1) | distance(8, 0.1)), real=distance(2, 0.1),
    )  # fmt: skip
    lines = [line for line in to_markdown([table]).splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [REAL, "flow", "vae", "copycat", "gan"]
    assert lines[2] == "| real |  |  | 2.00 ± 0.10 |"
    assert [line.split(" | ")[1] for line in lines[3:]] == ["exact", "exact", "none", "none"]


def test_a_bound_and_an_estimate_are_marked() -> None:
    assert describe({"value": 1.2345, "error": 0.012, "kind": "exact"}) == "1.234 ± 0.012"
    assert describe({"value": 1.2345, "error": 0.012, "kind": "lower bound"}) == "≤ 1.234 ± 0.012"
    assert describe({"value": 1.2345, "error": 0.012, "kind": "estimate"}) == "≈ 1.234 ± 0.012"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.23456, 0.0123, ("1.235", "0.012")),
        (1.23456, 0.00996, ("1.235", "0.010")),
        (981.81, 4.38, ("981.8", "4.4")),
        (12345.6, 234.5, ("12350", "230")),
        (-0.0001234, 0.00021, ("−0.00012", "0.00021")),
        (2.5, 0.0, ("2.5", "")),
        (0.123456, None, ("0.1235", "")),
    ],
)
def test_numbers_are_as_exact_as_their_errors(value: float, error: float | None, text: tuple[str, str]) -> None:
    assert rounded(value, error) == text


def best(table: Table, metric: str) -> list[str]:
    ranking = rank(table)
    column = [m.name for m in ranking.metrics].index(metric)
    return [line.model for line in ranking.lines if (number := line.numbers[column]) and number.best]


def test_the_best_are_those_that_none_is_certainly_better_than_and_floors_and_real_data_do_not_compete() -> None:
    table = table_of(
        ("copycat", distance(1, 0.1)), ("vae", distance(5.0, 0.1)), ("gan", distance(5.2, 0.1)),
        ("flow", distance(5.45, 0.1)), real=distance(1, 0.1),
    )  # fmt: skip
    assert best(table, "frechet_distance") == ["vae", "gan"]


def test_likelihoods_are_compared_point_by_point() -> None:
    table = table_of(("vae", bits(7.0, 0.3)), ("flow", bits(7.1, 0.3)))
    assert best(table, BITS) == [
        "vae"
    ]  # The points differ from each other, and the two families by the same amount at each point.
    assert behind(table) == {"flow": "0.1 bits above vae, on common test points."}


def on_parts() -> Table:
    """Return a table in which `vae` was scored on a part of the points alone, on easy ones."""
    table = table_of(("autoregressive", bits(7.0, 0.08)), ("vae", bits(7.1, 0.08, "lower bound")))
    (whole, part), easy = table.families, np.r_[0:25, 26:50:6]
    hard = -7.1 - 0.9 * np.linspace(-1, 1, 50)[easy] + 0.01 * np.cos(np.arange(29))
    entry = part.metrics[BITS] | {"value": -hard.mean(), "points": 29}
    moved = dataclasses.replace(part, metrics={BITS: entry}, arrays={"rows_test": easy, "log_likelihood_test": hard})
    return dataclasses.replace(table, families=on_common_points([whole, moved]))


def test_a_likelihood_on_fewer_points_is_anchored_to_one_on_all_points() -> None:
    table = on_parts()
    entry = table.families[1].metrics[BITS]
    assert entry["anchor"] == "autoregressive"
    assert entry["scored"]["value"] < 6.8
    assert entry["value"] == pytest.approx(7.1, abs=0.01)
    assert "| vae | lower bound, n = 29 | ≤ 7.1" in to_markdown([table])
    assert "anchored to autoregressive" in behind(table)["vae"]
    column = [line for line in csv.DictReader(to_csv([table]).splitlines()) if line["model"] == "vae"]
    assert (column[0]["rank"], column[0]["rank_as_stated"], column[0]["anchor"]) == ("1–2?", "2", "autoregressive")


def test_a_metric_outside_the_catalogue_is_shown_without_a_winner() -> None:
    table = table_of(("vae", {"memorisation_ratio": {"value": 0.5, "error": 0.01}}))
    assert rank(table).metrics[0].title == "Memorisation ratio"
    assert best(table, "memorisation_ratio") == []


@pytest.mark.parametrize("content", ["seeds: 3", "seeds: [zero]", "seeds: [-1]", "seeds: [1.5]", "seeds: [true]"])
def test_a_list_of_seeds_that_are_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "pipeline.yaml").write_text(f"data: [a]\nmodels: [a]\n{content}\n")
    with pytest.raises(UserError, match=r"'seeds' must list whole numbers from 0 on, such as \[0, 1, 2\]"):
        read_listed(tmp_path / "pipeline.yaml")


# Ranks


def test_ranks_and_ties_stand_in_the_markdown_table_and_in_the_csv() -> None:
    table = table_of(
        ("copycat", distance(1, 0.1)), ("vae", distance(5.0, 0.1)), ("gan", distance(5.2, 0.1)),
        ("flow", distance(5.45, 0.1)), ("independent", distance(9.0, 0.1)), real=distance(1, 0.1),
    )  # fmt: skip
    lines = [line for line in to_markdown([table]).splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[2].strip("| ") for line in lines] == [
        "1.00 ± 0.10", "1.00 ± 0.10", "**5.00 ± 0.10 (1–2)**", "**5.20 ± 0.10 (1–3)**", "5.45 ± 0.10 (2–3)",
        "9.00 ± 0.10",
    ]  # fmt: skip
    ranks = {line["model"]: line["rank"] for line in csv.DictReader(to_csv([table]).splitlines())}
    assert ranks == {REAL: "", "copycat": "", "vae": "1–2", "gan": "1–3", "flow": "2–3", "independent": ""}


def test_a_number_of_another_protocol_is_shown_without_a_rank_and_the_difference_is_named() -> None:
    table = table_of(
        ("vae", {"frechet_distance": {"value": 5.0, "error": 0.1, "samples": 10000}}),
        ("gan", {"frechet_distance": {"value": 6.0, "error": 0.1, "samples": 10000}}),
        ("flow", {"frechet_distance": {"value": 1.0, "error": 0.1, "samples": 200}}),
    )
    board = to_markdown([table])
    assert "| flow | none | 1.00 ± 0.10 † |" in board
    assert "is certain in 4 of 5 cases: Fréchet distance 0.4" in board
    note = "flow is not ranked by Fréchet distance, because its protocol differs: samples 200, not 10,000."
    assert f"\n\n† {note}\n" in board
    assert best(table, "frechet_distance") == ["vae"]
    (line,) = [line for line in csv.DictReader(to_csv([table]).splitlines()) if line["model"] == "flow"]
    assert (line["rank"], line["not_ranked"]) == ("", "its protocol differs: samples 200, not 10,000")


def test_a_family_with_another_budget_is_refused_and_one_without_training_is_not(copy: Path) -> None:
    path = copy / "heights" / "vae" / "0" / "train" / "model.json"
    record = json.loads(path.read_text())
    write(path, record | {"configuration": {"budget": {"scale": 10.0}, "seed": 0}})
    table = read_tables(copy, LISTED)[0][0]
    (vae,) = (line for line in rank(table).lines if line.model == "vae")
    # The first of two trained families sets the protocol; families without steps agree with any.
    refused = "its protocol differs: budget.scale 10.0, not 1.0"
    assert [number.place.refused for number in vae.numbers if number] == [refused] * 3
    ranked = {line.model for line in rank(table).lines if line.numbers[0] and line.numbers[0].place.truth}
    assert ranked == {"flow_matching"}


def test_bits_of_different_splits_are_not_compared_point_by_point(copy: Path) -> None:
    folder = copy / "heights" / "vae" / "0" / "evaluate"
    metrics = json.loads((folder / "metrics.json").read_text())
    write(folder / "metrics.json", metrics | {BITS: metrics[BITS] | {"split": "validation"}})
    table = read_tables(copy, LISTED)[0][0]
    (vae,) = (line for line in rank(table).lines if line.model == "vae")
    assert vae.numbers[0]
    assert vae.numbers[0].place.refused == "its protocol differs: split validation, not test"
    assert "vae" not in behind(table)


# Several training seeds


def write_seeds(artifacts: Path, *, shifts: dict[int, float]) -> None:
    """Write cells of heights with other seeds: copies of the first but for the seed and a shift of every score."""
    for model in TRAINED:
        family = artifacts / "heights" / model
        for seed, shift in shifts.items():
            place = family / str(seed)
            shutil.copytree(family / "0", place)
            record = json.loads((place / "train" / "model.json").read_text())
            record["configuration"]["seed"] = seed
            write(place / "train" / "model.json", record)
            metrics = json.loads((place / "evaluate" / "metrics.json").read_text())
            shifted = {name: entry | {"value": entry["value"] + shift} for name, entry in metrics.items()}
            write(place / "evaluate" / "metrics.json", shifted)


REPEAT = "dvc repro evaluate@heights-vae-1"
SEEDED = Listed(data=["heights"], models=TRAINED, floors=FLOORS, seeds=[0, 1, 2])


@pytest.fixture
def repeated(copy: Path) -> Path:
    """Return cells of three seeds; floors have the first one alone."""
    write_seeds(copy, shifts={1: 0.3, 2: -0.6})
    return copy


def test_scores_over_seeds_are_mean_and_deviation_and_say_of_how_many(repeated: Path) -> None:
    tables, skipped = read_tables(repeated, SEEDED)
    assert not skipped
    board = leaderboard(tables)["heights"]
    for model in TRAINED:
        cell = json.loads((repeated / "heights" / model / "0" / "evaluate" / "metrics.json").read_text())
        for name, entry in board[model].items():
            value = cell[name]["value"]
            assert entry["value"] == value
            assert entry["seeds"] == {"0": value, "1": value + 0.3, "2": value - 0.6}
            assert entry["mean"] == pytest.approx(value - 0.1)
            assert entry["deviation"] == pytest.approx(np.std([0, 0.3, -0.6], ddof=1))
            own = cell[name].get("error", 0.0) if name.startswith(BITS) else 0.0
            of_points = cell[name].get("error_reference", own)
            assert entry["error"] == pytest.approx(np.hypot(of_points, entry["deviation"] / np.sqrt(3))), name
    for model in (REAL, *FLOORS):
        assert "seeds" not in board[model]["wasserstein_1"]
    text = describe(board["vae"][BITS])
    assert text.startswith("≤ ")
    shown = re.fullmatch(r"≤ [0-9.]+ ± ([0-9.]+), 3 seeds", text)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(board["vae"][BITS]["error"], rel=0.05)
    markdown = to_markdown(tables)
    assert text in markdown
    assert "Value ± standard error, of several training seeds that of their mean" in markdown
    assert f"## heights\n\n{OF_SEEDS}\n" in markdown
    assert more_seeds(tables[0]) == ""
    (line,) = [
        line
        for line in csv.DictReader(to_csv(tables).splitlines())
        if (line["model"], line["metric"]) == ("vae", "wasserstein_1")
    ]
    assert float(line["mean"]) == board["vae"]["wasserstein_1"]["mean"]
    assert json.loads(line["seeds"]) == board["vae"]["wasserstein_1"]["seeds"]


def test_a_deviation_over_seeds_ties_what_one_seed_separates(artifacts: Path, copy: Path) -> None:
    assert best(read_tables(artifacts, SEEDED)[0][0], "wasserstein_1") == ["flow_matching"]
    write_seeds(copy, shifts={1: 0.3, 2: -0.6})
    assert best(read_tables(copy, SEEDED)[0][0], "wasserstein_1") == ["flow_matching", "vae"]


def test_resampled_scores_of_all_seeds_are_read(repeated: Path) -> None:
    (table,), _ = read_tables(repeated, SEEDED)
    sizes = {row.model: row.resampled["wasserstein_1/reference"].shape for row in table.rows}
    assert sizes == {REAL: (1, 200), **dict.fromkeys(FLOORS, (1, 200)), **dict.fromkeys(TRAINED, (3, 200))}
    vae = next(row for row in table.families if row.model == "vae")
    assert vae.log_likelihoods is not None
    assert vae.log_likelihoods.shape == (3, 40)
    (repeated / "heights" / "vae" / "1" / "evaluate" / "resampled.npz").unlink()
    tables, left_out = read_tables(repeated, SEEDED)
    assert "resampled.npz is missing: run `lookalike evaluate" in left_out["heights/vae/1"]
    assert tables[0].families[-1].resampled["wasserstein_1/joint"].shape == (2, 200)


def test_seeds_that_are_not_there_yet_are_named_and_the_others_counted(repeated: Path) -> None:
    shutil.rmtree(repeated / "heights" / "vae" / "2")
    tables, skipped = read_tables(repeated, SEEDED)
    assert skipped == {"heights/vae/2": ""}
    assert {row.model: len(row.metrics["wasserstein_1"].get("seeds", "1")) for row in tables[0].families} == {
        "flow_matching": 3, "vae": 2, "independent": 1, "copycat": 1
    }  # fmt: skip


def test_seeds_that_are_no_longer_listed_do_not_count(repeated: Path) -> None:
    (table,), _ = read_tables(repeated, dataclasses.replace(SEEDED, seeds=[0]))
    assert "seeds" not in table.families[0].metrics["wasserstein_1"]


@pytest.mark.parametrize(
    ("file", "edit", "words", "command"),
    [
        ("train/model.json", {"code_digest": "e" * 64}, "code digest eeee", REPEAT),
        ("train/model.json", {"configuration": {"budget": {"scale": 5.0}, "seed": 1}}, "budget (scale 5.0), not",
         REPEAT),
        ("evaluate/metrics.json", {"wasserstein_1": {"value": 1.0, "samples": 7}}, "wasserstein_1: samples 7, not 48",
         REPEAT),
    ],
)  # fmt: skip
def test_what_is_no_repeat_of_the_cell_is_refused_with_the_command_that_makes_one(
    repeated: Path, file: str, edit: dict[str, Any], words: str, command: str
) -> None:
    path = repeated / "heights" / "vae" / "1" / file
    write(path, json.loads(path.read_text()) | edit)
    with pytest.raises(UserError) as error:
        read_tables(repeated, SEEDED)
    assert words in str(error.value)
    assert command in str(error.value)


def test_versions_stand_in_the_report_and_are_no_metric(copy: Path) -> None:
    for path in (
        copy / "heights" / REAL / "cost.json",
        copy / "heights" / "vae" / "0" / "evaluate" / "cost.json",
    ):
        write(path, json.loads(path.read_text()) | {"versions": {"numpy": "2.4.0", "torch": "2.13.0"}})
    (table,), _ = read_tables(copy, dataclasses.replace(SEEDED, seeds=[0]))
    vae = next(row for row in table.families if row.model == "vae")
    assert table.real.versions == vae.versions == {"numpy": "2.4.0", "torch": "2.13.0"}
    assert "versions" not in table.real.metrics
    assert ("scored with", "numpy 2.4.0, torch 2.13.0") in facts(table)


# Tables after the first


def novelty(
    authenticity: float, copying: float, copies: float, repeats: float = 0.0, samples: int = 50
) -> dict[str, Any]:
    numbers = {"authenticity": authenticity, "data_copying": copying, "training_copies": copies, "duplicates": repeats}
    return {name: {"value": value, "error": 0.02, "samples": samples} for name, value in numbers.items()}


def test_the_first_table_stays_small_and_every_metric_is_in_one_table(tables: list[Table]) -> None:
    titles = [metric.name for metric in rank(tables[1]).metrics]
    assert titles == ["bits_per_dim", "frechet_distance", "class_distance"]
    assert [metric.name for metric in rank(tables[0]).metrics] == [BITS, "wasserstein_1", "kolmogorov_smirnov"]
    assert {name for row in tables[1].rows for name in row.metrics} <= {*METRICS, *DETAILS}


def test_copies_are_caught_by_what_real_data_score() -> None:
    table = table_of(
        ("copycat", novelty(0.01, -30, 1)), ("vae", novelty(0.49, 0.5, 0)), ("gan", novelty(0.3, 0, 0, 0.5)),
        ("uniform", novelty(1, 40, 0)), real=novelty(0.5, 0, 0),
    )  # fmt: skip
    assert caught(table) == [
        ("copycat", ["Authenticity", "Data copying C_T", "Training copies"]), ("gan", ["Authenticity"])
    ]  # fmt: skip
    lines = {line.model: line.numbers for line in rank(table, present(table, NOVELTY)).lines}
    assert [number.copied for number in lines["gan"] if number] == [True, False, True, False]
    assert not any(number.copied for model in (REAL, "uniform") for number in lines[model] if number)
    # Families are ranked by their distance to real data, in whichever direction.
    assert [[str(number.place) for number in lines[model] if number][:2] for model in ("vae", "gan")] == [
        ["1", "2"], ["2", "1"]
    ]  # fmt: skip


def test_repeats_are_compared_at_one_number_of_samples_only() -> None:
    table = table_of(("gan", novelty(0.5, 0, 0, 0.5, samples=5000)), real=novelty(0.5, 0, 0))
    (line,) = (line for line in rank(table, present(table, NOVELTY)).lines if line.model == "gan")
    assert not any(number.copied for number in line.numbers if number)


def test_real_data_and_floors_do_not_compete_in_fidelity_and_ties_are_marked() -> None:
    def precision(value: float) -> dict[str, Any]:
        return {"precision": {"value": value, "error": 0.01}}

    table = table_of(
        ("copycat", precision(0.99)), ("vae", precision(0.8)), ("gan", precision(0.82)), ("flow", precision(0.6)),
        real=precision(0.9),
    )  # fmt: skip
    ranking = rank(table, present(table, SUPPORT))
    assert {line.model for line in ranking.lines if line.numbers[0] and line.numbers[0].best} == {"vae", "gan"}


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0002, "p < 0.001"), (0.001, "p = 0.001"), (0.0449, "p = 0.045"), (0.32, "p = 0.32"), (1, "p = 1.00")],
)
def test_p_values_are_short(p: float, text: str) -> None:
    assert p_value(p) == text


def test_a_divergence_says_on_which_side_of_it_the_truth_lies() -> None:
    kinds = {"exact": "2.00 ± 0.10", "lower bound": "≤ 2.00 ± 0.10", "at least": "≥ 2.00 ± 0.10"}
    for kind, text in kinds.items():
        table = table_of(("vae", {"kl_reverse": {"value": 2.0, "error": 0.1, "kind": kind}}))
        (_, line) = rank(table, present(table, TRUTH)).lines
        assert line.numbers[0]
        assert line.numbers[0].text == text
        assert rank(table).metrics == []


# Cells that are not there


def test_what_has_not_begun_is_left_out_and_named(artifacts: Path) -> None:
    listed = Listed(data=["heights", "faces"], models=["vae", "gan"])
    tables, skipped = read_tables(artifacts, listed)
    assert [[row.model for row in table.families] for table in tables] == [["vae"]]
    assert skipped == {"heights/gan/0": "", "faces": ""}


def test_metrics_alone_which_git_brings_to_every_clone_are_no_cell(copy: Path) -> None:
    for path in (copy / "digits").rglob("*.*"):
        if path.is_file() and path.name != "metrics.json":
            path.unlink()
    tables, skipped = read_tables(copy, LISTED)
    assert [table.name for table in tables] == ["heights"]
    assert "digits" in skipped


def test_what_is_listed_has_files() -> None:
    Listed(data=["heights"], models=["vae", "gan"]).check()
    with pytest.raises(UserError, match=r"'models' lists unifrom, and there is no conf/model/unifrom\.yaml; .*uniform"):
        Listed(data=["heights"], models=["vae", "unifrom"]).check()
    with pytest.raises(UserError, match=r"'data' lists foo, and there is no conf/data/foo\.yaml"):
        Listed(data=["foo"], models=["vae"]).check()


def test_nothing_at_all_is_refused_with_a_first_command(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nothing to compare.*dvc repro.*lookalike train data=heights model=independent"
    ):
        read_tables(tmp_path, LISTED)


@pytest.mark.parametrize(
    "name", ["train/model.json", "sample/samples.npz", "evaluate/details.npz", "evaluate/resampled.npz"]
)
def test_a_damaged_file_is_named(copy: Path, name: str) -> None:
    (copy / "heights" / "vae" / "0" / name).write_text("x")
    with pytest.raises(UserError, match=f"damaged: .*{name}"):
        read_tables(copy, LISTED)


def test_scores_without_a_metric_are_named(copy: Path) -> None:
    (copy / "heights" / "vae" / "0" / "evaluate" / "metrics.json").write_text('{"versions": {}}')
    with pytest.raises(UserError, match=r"damaged: .*evaluate/metrics\.json .*no metric in it"):
        read_tables(copy, LISTED)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("loss_train.csv", "loss\n1.0\n", "no column step"),
        ("loss_train.csv", "step,loss\n1,2.0\n2\n", "something else than a number"),
        ("loss_validation.csv", "step,loss\n1,two\n", "something else than a number"),
    ],
)
def test_a_curve_that_is_no_curve_is_named(copy: Path, name: str, content: str, problem: str) -> None:
    (copy / "heights" / "vae" / "0" / "train" / name).write_text(content)
    with pytest.raises(UserError, match=f"damaged: .*{name} .*{problem}"):
        read_tables(copy, LISTED)


@pytest.mark.parametrize(
    ("name", "array"), [("sample/samples.npz", "samples"), ("evaluate/details.npz", "log_likelihood_test")]
)
def test_an_archive_without_an_array_is_named(copy: Path, name: str, array: str) -> None:
    path = copy / "heights" / "vae" / "0" / name
    with np.load(path) as archive:
        others = {key: archive[key] for key in archive.files if key != array}
    np.savez(path, **others)
    with pytest.raises(UserError, match=f"damaged: .*{name} .*no array {array}"):
        read_tables(copy, LISTED)


@pytest.mark.parametrize("content", ["data: []\nmodels: [a]", "models: [a]", "data: heights\nmodels: [a]", "- a", "{"])
def test_a_pipeline_file_without_its_lists_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "pipeline.yaml").write_text(content)
    with pytest.raises(UserError, match=r"pipeline\.yaml"):
        read_listed(tmp_path / "pipeline.yaml")


def test_the_pipeline_file_of_this_project_can_be_read() -> None:
    listed = read_listed(ROOT / "conf" / "pipeline.yaml")
    assert "heights" in listed.data
    assert "copycat" in listed.floors


# Figures


def test_histogram_bins_never_have_a_recorded_value_on_an_edge() -> None:
    values = np.round(np.arange(560, 791) * 0.1, 1)
    edges = densities.bins(values, step=0.1)
    assert np.diff(edges) == pytest.approx(1.0)
    assert np.abs(values[:, None] - edges).min() > 0.04
    counts = np.histogram(values, edges)[0]
    assert set(counts[counts > 0][1:-1]) == {10}


def test_dark_figures_are_the_light_ones_in_other_colours(results: Path) -> None:
    light = (results / "figures" / "heights-densities-light.svg").read_text()
    dark = (results / "figures" / "heights-densities-dark.svg").read_text()
    strip = re.compile("#[0-9a-f]{6}")
    assert strip.sub("", light) == strip.sub("", dark)
    assert not {pair[0] for pair in style.COLOURS.values()} & set(strip.findall(dark))
    assert "<dc:date>" not in light


def test_every_row_of_images_has_a_picture_and_only_trained_families_a_loss(results: Path, tables: list[Table]) -> None:
    pictures = {path.name for path in (results / "figures").glob("*.png")}
    assert pictures == {f"digits-{kind}-{model}.png" for model in [REAL, *MODELS] for kind in ("samples", "nearest")}
    assert list(figures.loss_panels(tables[0]).draws) == ["flow_matching", "vae"]


def test_every_curve_of_a_family_with_two_objectives_is_read(copy: Path) -> None:
    for split in ("train", "validation"):
        lines = ["step,generator,critic", "1,0.5,1.5", "2,0.25,1.25"]
        (copy / "heights" / "vae" / "0" / "train" / f"loss_{split}.csv").write_text("\n".join(lines) + "\n")
    table = read_tables(copy, Listed(data=["heights"], models=["vae"]))[0][0]
    assert list(table.families[0].curves["train"]) == ["generator", "critic"]
    assert panel(figures.loss_panels(table).draws["vae"]).count("training: critic") == 1


def test_samples_stand_above_the_training_images_nearest_to_them(tables: list[Table]) -> None:
    table = tables[1]
    row = table.families[0]
    shown = np.asarray(pictures.image_pictures(row, table)["nearest"])
    height = GAP + DIGITS.shape[1]
    training = table.prepared.values("train")[row.arrays["nearest_training_rows"][: pictures.PAIRS]]
    for i in range(pictures.PAIRS):
        line, left = 2 * (i // pictures.COLUMNS), GAP + i % pictures.COLUMNS * height
        for down, image in ((line, row.samples[i]), (line + 1, training[i])):
            assert (shown[GAP + down * height :][:8, left : left + 8] == image[0]).all()
    assert set(pictures.image_pictures(dataclasses.replace(row, arrays={}), table)) == {"samples"}


def test_pictures_of_colour_images_are_in_colour(tmp_path: Path) -> None:
    write_cells(tmp_path / "artifacts", data=["tiles"], models=["vae"])
    ((table,), _) = read_tables(tmp_path / "artifacts", Listed(data=["tiles"], models=["vae"]))
    (tmp_path / "results").mkdir()
    save([table], tmp_path / "results")
    row = table.families[0]
    nearest = table.prepared.values("train")[row.arrays["nearest_training_rows"][0]]
    for name, down, image in (("samples", 0, row.samples[0]), ("nearest", 8 + GAP, nearest)):
        shown = np.asarray(pictures.image_pictures(row, table)[name])
        assert (shown[GAP + down :][:8, GAP : GAP + 8] == image.transpose(1, 2, 0)).all()
        written = PIL.Image.open(tmp_path / "results" / "figures" / f"tiles-{name}-vae.png")
        assert (np.asarray(written)[::2, ::2] == shown).all()
    assert "images of 8 × 8 pixels in colour" in (tmp_path / "results" / "report.html").read_text()


def test_a_kind_of_data_that_the_report_does_not_know_is_shown_by_its_numbers(copy: Path, tmp_path: Path) -> None:
    class Melody(Columns):
        kind: ClassVar[str] = "melody"

    table = read_tables(copy, LISTED)[0][0]
    table.prepared.domain = Melody(**{name: getattr(HEIGHTS, name) for name in ("name", "shape", "variables")})
    save([table], tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert "380 observations of 1 values, each on a grid of 1,120 points" in " ".join(page.words)
    assert not [attributes for tag, attributes in page.tags if tag == "img"]
    assert "pipeline_tag" not in (tmp_path / "cards" / "heights-vae.md").read_text()


def test_every_family_has_a_mark_of_its_own_in_fidelity_and_diversity(tables: list[Table]) -> None:
    for table in tables:
        panels = clouds.fidelity_panels(table)
        assert list(panels) == ["Precision and recall", "Density and coverage"]
        for draw_panel in panels.values():
            svg = panel(draw_panel, size=clouds.CLOUD)
            assert all(f">{name}<" in svg for name in [*MODELS, "real data"])
    assert len(set(clouds.SHAPES)) == len(clouds.SHAPES) >= len(choices("model"))


def boxes(draw_panel: Draw) -> tuple[Any, Any, list[Any]]:
    """Return the places of the axes and the figure of a panel, and of the names beside it, in pixels."""
    with style.styled(text="none"):
        figure = Figure(figsize=clouds.CLOUD, layout="constrained")
        axes = figure.add_subplot()
        draw_panel(axes)
        figure.draw_without_rendering()
        legend = axes.get_legend()
        assert legend is not None
        names = [text.get_window_extent() for text in legend.get_texts()]
        return axes.get_window_extent(), figure.bbox, names


def test_names_beside_fidelity_and_diversity_overlap_with_nothing(tables: list[Table]) -> None:
    many = [dataclasses.replace(tables[1].families[0], model=name) for name in choices("model")]
    table = dataclasses.replace(tables[1], families=many)
    for draw_panel in clouds.fidelity_panels(table).values():
        frame, whole, names = boxes(draw_panel)
        assert len(names) == len(many) + 1
        assert not any(name.overlaps(frame) for name in names)
        assert not any(one.overlaps(other) for i, one in enumerate(names) for other in names[:i])
        assert all(name.x1 <= whole.x1 and name.y0 >= whole.y0 for name in names)


# The page


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page(results: Path) -> Page:
    return Page((results / "report.html").read_text())


def test_page_needs_nothing_beside_it_and_is_small(page: Page, results: Path) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "srcset", "href", "xlink:href", "poster"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:image/png;base64,")), (tag, target[:80])
    text = (results / "report.html").read_text()
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert len(text) < 5_000_000


def test_page_describes_every_picture_and_repeats_no_id(page: Page) -> None:
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2 * (1 + len(MODELS))
    assert all(attributes.get("alt") for attributes in images)
    figure_tags = [attributes for tag, attributes in page.tags if tag == "figure" and attributes.get("role") == "img"]
    assert sum(tag == "svg" for tag, _ in page.tags) == len(figure_tags)
    assert all(attributes.get("aria-label") for attributes in figure_tags)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_numbers_of_the_page_are_those_of_the_leaderboard(page: Page, results: Path) -> None:
    board = json.loads((results / "leaderboard.json").read_text())
    words = {word.strip() for word in page.words}
    for models in board.values():
        for metrics in models.values():
            for metric, entry in metrics.items():
                assert repr(entry["value"]) in words
                assert repr(entry["error"]) in words
                if metric not in DETAILS:
                    assert describe(entry) in words


def test_page_shows_the_shares_of_classes_and_marks_those_that_are_short(page: Page) -> None:
    marked = [attributes for tag, attributes in page.tags if tag == "td" and attributes.get("class") == "short"]
    assert len(marked) == 1 + len(MODELS)
    words = [word.strip() for word in page.words]
    assert words.count("62.5") == words.count("37.5") == 1 + len(MODELS)


def test_a_class_distance_has_a_column_and_what_belongs_to_one_class_has_none(tables: list[Table]) -> None:
    titles = [metric.title for metric in rank(tables[1]).metrics]
    assert "Class distance" in titles
    assert "Class gap" not in titles


def test_page_has_a_table_for_every_question_and_names_who_copies(page: Page) -> None:
    labels = [attributes.get("aria-label") for tag, attributes in page.tags if attributes.get("role") == "region"]
    for question in ("Fidelity and diversity", "Two-sample tests", "Novelty"):
        assert {f"{question} of heights", f"{question} of digits"} <= set(labels)
    assert "Against the truth of heights" not in labels
    text = html.unescape(" ".join(" ".join(page.words).split()))
    assert text.count("copycat (Authenticity, Data copying C_T, Training copies).") == 2
    marked = [attributes for tag, attributes in page.tags if tag == "td" and attributes.get("class") == "copied"]
    assert len(marked) == 2 * 3
    words = [word.strip() for word in page.words]
    assert {"p < 0.001", "p = 0.32"} <= set(words)


def test_page_explains_kinds_copies_and_distances(page: Page) -> None:
    text = html.unescape(" ".join(" ".join(page.words).split()))
    for phrase in (
        "lower bound",
        "estimate",
        "conclusive",
        "is this “FID”",
        "returns observations from the training data",
    ):
        assert phrase in text


@pytest.mark.parametrize("flops", [1e9, 0.0])
def test_page_says_when_compute_was_not_the_same(copy: Path, tmp_path: Path, page: Page, flops: float) -> None:
    assert "Every trained family had the same compute" in " ".join(page.words)
    path = copy / "heights" / "vae" / "0" / "train" / "model.json"
    write(path, json.loads(path.read_text()) | {"flops": flops})
    save(read_tables(copy, LISTED)[0], tmp_path)
    assert "did not have the same compute" in (tmp_path / "report.html").read_text()


def test_terminal_shows_every_number_and_where_the_page_is(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(results)
    printed = capsys.readouterr().out
    for line in (results / "leaderboard.md").read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            assert all(field.strip("| *") in printed for field in line.split(" | "))
    assert "report.html" in printed


def test_no_leaderboard_yet_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lookalike compare"):
        show(tmp_path)


def test_comparing_imports_neither_torch_nor_a_tracker() -> None:
    program = (
        "import sys; sys.path.insert(0, 'pipelines'); import compare; "
        "print(sorted({'torch', 'scipy', 'mlflow', 'wandb', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


def widths(page: str, folder: Path, *, width: int) -> list[str]:
    """Return the width of a frame with the unfolded page in it, the width of its content, and the tags that stick out.

    It takes a frame, because a window of Chromium cannot be narrower than 500 pixels.
    """
    probe = (
        "<script>addEventListener('load', () => { document.querySelectorAll('details').forEach(d => d.open = true); "
        "const out = [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg') && "
        f"e.getBoundingClientRect().right > {width} + 0.5).map(e => e.tagName); "
        "parent.postMessage([innerWidth, document.documentElement.scrollWidth, out.join()].join(' '), '*') })</script>"
    )
    framed = page.replace("</body>", f"{probe}</body>")
    outer = (
        "<script>addEventListener('message', e => document.title = 'measured ' + e.data)</script>"
        f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{html.escape(framed)}"></iframe>'
    )
    (folder / "outer.html").write_text(outer)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    options += [f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", "--virtual-time-budget=5000"]
    command = [CHROMIUM, *options, "--dump-dom", (folder / "outer.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    measured = re.search(r"<title>measured ([^<]*)</title>", done.stdout)
    assert measured, done.stdout[:300]
    return measured[1].split()


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
@pytest.mark.parametrize("width", [360, 1280])
def test_page_does_not_scroll_sideways(results: Path, tmp_path: Path, width: int) -> None:
    page = (results / "report.html").read_text()
    assert widths(page, tmp_path, width=width) == [str(width), str(width)]


def test_results_in_git_are_what_compare_writes_and_nothing_else() -> None:
    """`compare` replaces the whole folder, and refuses to delete files that it does not write."""
    listed = subprocess.run(
        ["git", "ls-files", "results/default"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    if not listed:
        pytest.skip("no checkout of git")
    assert {Path(name).parts[2] for name in listed.splitlines()} == set(NAMES)
