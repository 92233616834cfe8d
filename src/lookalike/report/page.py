"""`report.html`: one file that needs nothing beside it, from tables, their ranking and their figures."""

import base64
import dataclasses
import io
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from lookalike.report import clouds, densities, figures, maps, style
from lookalike.report.cells import REAL, Entry, Row, Table
from lookalike.report.leaderboard import (
    BITS,
    COPIES,
    DISTANCES,
    METRICS,
    NOVELTY,
    SEEDS,
    SIGNS,
    SUPPORT,
    TESTS,
    TRUTH,
    Metric,
    Ranking,
    caught,
    describe,
    has_several_seeds,
    paired_difference,
    present,
    rank,
    rounded,
    shown_metrics,
    winners,
)
from lookalike.report.mistakes import mistakes
from lookalike.report.panels import PANEL, Draw, panel

KINDS = {
    "exact": "The number itself, up to the error of averaging over test points.",
    "lower bound": "The likelihood is at least this, so the bits are at most this (≤). The truth is better than shown.",
    "estimate": "The likelihood comes from a numerical solver or random probes (≈). It can err to either side.",
}
"""A likelihood's kinds in plain words."""

GROUPS: tuple[tuple[str, tuple[Metric, ...], str], ...] = (
    (
        "Fidelity and diversity",
        SUPPORT,
        "Precision and density: do samples lie where test data lie? Recall and coverage: does every test point have "
        "samples near it? The nearest-sample distance is how far test points are from a sample. Classifier confidence "
        "has no better side: it should be that of real data.",
    ),
    (
        "Two-sample tests",
        TESTS,
        "How often would two draws of one distribution differ by as much? A small p says that samples are not from the "
        "distribution of the test data, a large one that this test can't tell. Classifier accuracy is 0.5 where "
        "nothing tells them apart. Kernel and energy distance are unbiased, so they may fall below zero.",
    ),
    (
        "Novelty",
        NOVELTY,
        "Authenticity is the share of samples that are farther from the nearest training point than that one is from "
        "another. C_T is far below zero for copies; its p is how often it would be as low without copying. Real data "
        "are the yardstick here, not the most or the least.",
    ),
    (
        "Against the truth",
        TRUTH,
        "The distribution of these data is known. Divergences are in nats an observation, 0 where model and truth are "
        "one; ≤ and ≥ say on which side of the number it lies where the likelihood is a bound. Where samples are "
        "impossible under the truth, KL(P_model‖P_data) is infinite and not shown.",
    ),
)
"""The tables after the first: title, metrics, how to read them."""


def render(tables: list[Table]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        copies=COPIES if any(row.model == COPIES for table in tables for row in table.families) else None,
        families=count(len({row.model for table in tables for row in table.families}), "family", "families"),
        kinds=[(SIGNS[kind].strip() or "=", kind, meaning) for kind, meaning in KINDS.items()],
        light=style.page_variables(dark=False),
        dark=style.page_variables(dark=True),
        same_compute=all(same_compute(table) for table in tables),
        sections=[section(table) for table in tables],
    )


def section(table: Table) -> dict[str, Any]:
    """All that the page says about one data set."""
    ranking = rank(table)
    table = in_order(table, ranking)
    rows = table.rows
    image = table.prepared.domain.kind == "image"
    return {
        "name": table.name,
        "about": about(table),
        "tiles": tiles(table),
        "ranking": ranking,
        "several": SEEDS if has_several_seeds(table) else "",
        "real": REAL,
        "groups": [
            {"title": title, "note": note, "ranking": rank(table, metrics), "novelty": known is NOVELTY}
            for title, known, note in GROUPS
            if (metrics := present(table, known))
        ],
        "caught": caught(table),
        "wrong": mistakes(table),
        "trades": panels(
            clouds.likelihood_panels(table) | clouds.cost_panels(table), f"{table.name}-trades", size=clouds.CLOUD
        ),
        "gaps": [found for row in rows if image and (found := gaps(row, table))],
        "contours": with_truth(panels(maps.contour_panels(table), f"{table.name}-contours", size=maps.MAP), table),
        "maps": with_truth(panels(maps.map_panels(table), f"{table.name}-maps", size=maps.MAP), table),
        "held": " and ".join(f"{100 * share:.0f} %" for share in maps.HELD),
        "known": any(name.startswith("density_") for name in table.real.arrays),
        "fidelity": panels(clouds.fidelity_panels(table), f"{table.name}-fidelity", size=clouds.CLOUD),
        "nearest": [found for row in rows if image and (found := nearest(row, table))],
        "pairs": figures.PAIRS,
        "scores": panels(figures.score_panels(table), f"{table.name}-scores", size=figures.score_size(table)),
        "losses": panels(figures.loss_panels(table), f"{table.name}-losses"),
        "densities": with_truth(panels(densities.density_panels(table), f"{table.name}-densities"), table),
        "grids": [
            {"model": row.model, "source": picture(figures.sample_grid(row, zoom=1)), "score": closeness(row)}
            for row in rows
            if image
        ],
        "shown": figures.SHOWN,
        "labels": table.prepared.domain.labels,
        "classes": [classes(row) for row in rows if "class_gap" in row.metrics],
        "protocols": [protocol(row, table) for row in rows],
        "facts": facts(table),
        "costs": [cost_line(row) for row in rows if row.model != REAL],
        "overhead": overhead(table),
    }


def in_order(table: Table, ranking: Ranking) -> Table:
    """The same table, its families as they are ranked."""
    order = {line.model: i for i, line in enumerate(ranking.lines)}
    return dataclasses.replace(table, families=sorted(table.families, key=lambda row: order[row.model]))


def count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def same_compute(table: Table) -> bool:
    """Whether trained families had the same operations, but for the rounding to whole steps."""
    flops = [row.record["flops"] for row in table.families if row.record["steps"]]
    return not flops or max(flops) <= 1.05 * min(flops)


def about(table: Table) -> str:
    """What the data are and how they are split."""
    domain, splits = table.prepared.domain, table.prepared.summary["splits"]
    sizes = {split: int(found["count"]) for split, found in splits.items()}
    if domain.kind == "image":
        channels, height, width = domain.shape
        colours = "" if channels == 1 else f" in {channels} channels"
        what = f"images of {height} × {width} pixels{colours}, {domain.levels} levels each"
    else:
        numbers = "one number" if domain.dimensions == 1 else f"{domain.dimensions} numbers"
        what = f"observations of {numbers} ({domain.unit}), on a grid of {domain.levels:,} points"
    split = f"{sizes['train']:,} to train on, {sizes['validation']:,} to validate, {sizes['test']:,} to test"
    samples = sorted({len(row.samples) for row in table.families})
    drawn = " to ".join(f"{number:,}" for number in dict.fromkeys((samples[0], samples[-1])))
    return f"{sum(sizes.values()):,} {what}: {split}. {drawn} samples of each family."


def tiles(table: Table) -> list[dict[str, str]]:
    """The data set's headline: fewest bits, nearest to a known truth, closest samples, what real data reach."""
    found = []
    questions = (("Fewest bits", (BITS,)), ("Nearest to the truth", ("kl",)), ("Closest samples", DISTANCES))
    for title, names in questions:
        metric = next((m for m in [*shown_metrics(table), *present(table, TRUTH)] if m.name in names), None)
        first = winners(table.families, metric) if metric else []
        if metric and first:
            best = next(row for row in table.families if row.model == first[0]).metrics[metric.name]
            note = verdict(best) if metric.name == BITS else ""
            if len(first) > 1:
                note = f"Too close to call: {', '.join(first)}."
            found.append(tile(title, first[0], describe(best), metric.title, note))
    name = next((name for name in DISTANCES if name in table.real.metrics), None)
    if name:
        title = next(metric.title for metric in METRICS if metric.name == name)
        text = describe(table.real.metrics[name])
        note = "What perfect samples would score: the data differ from themselves."
        found.append(tile("The bar", "real data", text, title, note))
    return found


def tile(title: str, model: str, text: str, what: str, note: str) -> dict[str, str]:
    return {"title": title, "model": model, "text": text, "what": what, "note": note}


def verdict(best: Entry) -> str:
    """What the kind of the best likelihood means for the order."""
    return {
        "exact": "Exact: ahead of all exact values above it. A family that shows a bound may in truth do better still.",
        "lower bound": "A bound: the truth is lower still, so it is ahead of every exact value above it for certain.",
        "estimate": "An estimate, which errs to either side: it settles no order against another kind.",
    }[best["kind"]]


def closeness(row: Row) -> str:
    """The distance of a row's samples, for a caption."""
    name = next((name for name in DISTANCES if name in row.metrics), None)
    title = next((metric.title for metric in METRICS if metric.name == name), "")
    return f"{title} {describe(row.metrics[name])}" if name else ""


def classes(row: Row) -> dict[str, Any]:
    """How many of a row's samples are of each class, in per cent, and which classes are short."""
    counts, gap = row.metrics["class_distance"]["counts"], row.metrics["class_gap"]
    return {
        "model": row.model,
        "shares": [f"{100 * number / sum(counts):.1f}" for number in counts],
        "short": gap["short"],
        "gap": describe({"value": 100 * gap["value"], "error": 100 * gap["error"]}),
    }


def nearest(row: Row, table: Table) -> dict[str, str] | None:
    """A row's samples with the training images nearest to them."""
    found = figures.nearest_grid(row, table, zoom=1)
    if found is None:
        return None
    score = row.metrics.get("authenticity")
    return {"model": row.model, "source": picture(found), "score": f"Authenticity {describe(score)}" if score else ""}


def gaps(row: Row, table: Table) -> dict[str, str] | None:
    """The test images that a row's samples are farthest from, and the samples that are farthest from any of these."""
    missed, made_up = (figures.gap_grid(row, table, kind=kind, zoom=1) for kind in ("missed", "made_up"))
    if missed is None or made_up is None:
        return None
    scores = {name: describe(row.metrics[name]) for name in ("coverage", "precision")}
    return {"model": row.model, "missed": picture(missed), "made_up": picture(made_up), **scores}


def with_truth(shown: list[dict[str, Any]], table: Table) -> list[dict[str, Any]]:
    """Panels by family, each with the divergence of its family from the truth, or its distance, for a caption."""
    scores = {row.model: divergence(row) or closeness(row) for row in table.families}
    return [panel | {"score": scores.get(panel["title"], "")} for panel in shown]


def divergence(row: Row) -> str:
    """KL from the truth, where that is known and the family has a likelihood."""
    return f"KL {describe(row.metrics['kl'])} nats" if "kl" in row.metrics else ""


def picture(image: Image.Image) -> str:
    """A picture as a data URI: a pixel a pixel, the page enlarges it."""
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def panels(draws: dict[str, Draw], name: str, *, size: tuple[float, float] = PANEL) -> list[dict[str, Any]]:
    """Figures to stand in the page, with their titles."""
    return [
        # Our own drawing: the one thing on the page that is not escaped.
        {"title": title, "svg": Markup(style.inline(panel(draw, size=size), name=f"{name}-{i}"))}
        for i, (title, draw) in enumerate(draws.items())
    ]


def protocol(row: Row, table: Table) -> dict[str, Any]:
    """Every entry of a row as it stands in `leaderboard.json`, and how far its bits are from the best ones."""
    return {
        "model": row.model,
        "entries": [(name, *spread(entry)) for name, entry in row.metrics.items()],
        "behind": behind(row, table),
    }


def spread(entry: Entry) -> tuple[str, str, list[tuple[str, str]]]:
    """An entry's value, error and everything else, in words."""
    others = {key: value for key, value in entry.items() if key not in ("value", "error")}
    words = [(key.replace("_", " "), settings(value)) for key, value in others.items() if value not in ({}, None)]
    return repr(entry["value"]), "—" if entry.get("error") is None else repr(entry["error"]), words


def settings(value: Any) -> str:
    """`solver midpoint, steps 20` of a dictionary, what a list holds, anything else as it is."""
    if isinstance(value, dict):
        return ", ".join(
            f"{key.replace('_', ' ')} {settings(inner)}" for key, inner in value.items() if inner is not None
        )
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if type(value) is int else str(value)


def behind(row: Row, table: Table) -> str:
    """The paired difference of a family's bits to the best family's."""
    metric = next((m for m in shown_metrics(table) if m.name == BITS), None)
    first = winners(table.families, metric)[:1] if metric else []
    if not first or row.model == first[0]:
        return ""
    difference = paired_difference(row, next(other for other in table.families if other.model == first[0]))
    if difference is None:
        return ""
    value, error = rounded(*difference[:2])
    return f"{value} ± {error} bits above {first[0]}, over the {difference[2]:,} test points that both were scored on."


def facts(table: Table) -> list[tuple[str, str]]:
    """What all numbers of a data set have in common."""
    trained = sorted((row.record for row in table.families if row.record["steps"]), key=lambda record: record["flops"])
    scales = sorted({f"{record['configuration']['budget']['scale']:g}" for record in trained})
    flops = " to ".join(dict.fromkeys(si(record["flops"]) for record in (trained[0], trained[-1]))) if trained else ""
    known_as = " and ".join(table.extractor.get("known_as", {}).values())
    called = f"; its Fréchet and kernel distances are {known_as}" if known_as else ""
    return [
        ("scored on", f"the test split, {table.prepared.summary['splits']['test']['count']:,} observations"),
        (
            "compared in",
            f"{table.extractor['name']}, digest {table.extractor['digest'] or '— (numbers as they are)'}{called}",
        ),
        ("data digest", table.prepared.digest),
        ("scored with", versions_of(table)),
        ("compute", f"{flops} operations a trained family, budget scale {', '.join(scales)}" if trained else "—"),
        ("error of a likelihood", "standard error of the mean over test points"),
    ]


def versions_of(table: Table) -> str:
    """What computed a data set's numbers; every set of versions, where there are several."""
    rows = [row for row in table.rows if row.versions]
    found = dict.fromkeys(", ".join(f"{name} {used}" for name, used in row.versions.items()) for row in rows)
    return "; ".join(found) or "—"


def cost_line(row: Row) -> dict[str, str]:
    """What a family took, for reading."""
    costs, trained = row.costs, row.record["steps"] > 0
    return {
        "model": row.model,
        "parameters": f"{row.record['parameters']:,}" if row.record["parameters"] else "—",
        "steps": f"{row.record['steps']:,}" if trained else "—",
        "operations": si(row.record["flops"]) if trained else "—",
        "train": seconds(costs["train"]["work_seconds"]),
        "train_rate": si(costs["train"]["images_per_second"]) if trained else "—",
        "sample": seconds(costs["sample"]["work_seconds"]),
        "sample_rate": si(costs["sample"]["samples_per_second"]),
        "score": seconds(costs["evaluate"]["work_seconds"]),
        "memory": f"{max(cost['peak_memory_mb'] for cost in costs.values()):,.0f} MB",
    }


def overhead(table: Table) -> dict[str, str]:
    """Seconds of all stages of a data set, and what of them was no training, sampling or scoring."""
    costs = [*table.costs.values(), *(cost for row in table.families for cost in row.costs.values())]
    whole, work = (sum(cost[name] for cost in costs) for name in ("process_seconds", "work_seconds"))
    return {
        "stages": str(len(costs)),
        "whole": seconds(whole),
        "rest": seconds(whole - work),
        "share": f"{100 * (whole - work) / whole:.0f} %",
    }


def seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s" if value >= 0.1 else f"{value:.3f} s"


def si(value: float) -> str:
    """Three digits and a prefix: 12.3 k, 10 T."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"
