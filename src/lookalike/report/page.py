"""`report.html`: one file that needs no other file, made of tables, their rankings and their figures."""

import dataclasses
from typing import Any

import numpy as np
from markupsafe import Markup

from lookalike.metrics.catalogue import LIKELIHOOD, NOVELTY, SUPPORT, TESTS, TRUTH, main_distance, title_of
from lookalike.report import clouds, figures, maps, pictures, style
from lookalike.report.cells import REAL, Row, Table
from lookalike.report.common_points import anchored
from lookalike.report.leaderboard import SEEDS
from lookalike.report.likelihoods import scored_bits
from lookalike.report.mistakes import mistakes
from lookalike.report.numbers import KINDS, SIGNS, describe, rounded, si
from lookalike.report.panels import Panels, panel
from lookalike.report.ranking import OF_THESE, caught, missing, present, rank, scope, shown_metrics, standings
from lookalike.report.rendering import render
from lookalike.report.shown import about, shown

GROUPS = {
    "Fidelity and diversity": SUPPORT,
    "Two-sample tests": TESTS,
    "Novelty": NOVELTY,
    "Against the truth": TRUTH,
}
"""The tables after the first one, by title. The template has a note on how to read each of them."""


def page(tables: list[Table]) -> str:
    """Return the page."""
    return render(
        "page.html",
        floors=list(dict.fromkeys(floor for table in tables for floor in table.floors)),
        families=len({row.model for table in tables for row in table.families}),
        kinds=[(SIGNS[kind].strip() or "=", kind, meaning) for kind, meaning in KINDS.items()],
        light=style.page_variables(dark=False),
        dark=style.page_variables(dark=True),
        same_compute=all(has_same_compute(table) for table in tables),
        held=" and ".join(f"{100 * share:.0f} %" for share in maps.HELD),
        shown=pictures.SHOWN,
        pairs=pictures.PAIRS,
        seeds=SEEDS if any(table.has_several_seeds for table in tables) else "",
        sections=[section(table) for table in tables],
    )


def section(table: Table) -> dict[str, Any]:
    """Return the content of the section on one data set."""
    ranking = rank(table)
    order = {line.model: i for i, line in enumerate(ranking.lines)}
    table = dataclasses.replace(table, families=sorted(table.families, key=lambda row: order[row.model]))
    kind = shown(table.prepared.domain)
    drawn = [(row, kind.pictures(row, table)) for row in table.rows]
    names = ("nearest", "missed", "made_up", "samples")
    drawings = figures.figures_of(table)
    trades = Panels(draws=drawings.pop("likelihood").draws | clouds.cost_panels(table), size=clouds.CLOUD)
    scores = {row.model: caption(row) for row in table.rows}
    return {
        "name": table.name,
        "table": table,
        "about": about(table),
        "tiles": tiles(table),
        "ranking": ranking,
        "scope": scope(table),
        "more_seeds": more_seeds(table),
        "missing": missing(table),
        "groups": {
            title: rank(table, metrics) for title, known in GROUPS.items() if (metrics := present(table, known))
        },
        "caught": caught(table),
        "wrong": mistakes(table),
        "scores": scores,
        "is_known": any(name.startswith("density_") for name in table.real.arrays),
        "figures": {
            name: svgs(panels, f"{table.name}-{name}") for name, panels in (drawings | {"trades": trades}).items()
        },
        "pictures": {
            name: [(row, pictures.data_uri(images[name])) for row, images in drawn if name in images] for name in names
        },
        "behind": behind(table),
        "facts": facts(table),
        "overhead": overhead(table),
    }


def has_same_compute(table: Table) -> bool:
    """Return whether all trained families took the same operations, up to the rounding to whole steps."""
    flops = [row.record["flops"] for row in table.families if row.is_trained]
    return not flops or max(flops) <= 1.05 * min(flops)


def tiles(table: Table) -> list[dict[str, Any]]:
    """Return the headline: best likelihood, nearest to a known truth, closest samples, and the score of real data."""
    found = []
    known = {metric.name: metric for metric in [*shown_metrics(table), *present(table, TRUTH)]}
    distance = main_distance(known)
    for question in (LIKELIHOOD, "kl", distance):
        first = standings(table, known[question]).first if question in known else []
        if question and first:
            best = next(row for row in table.families if row.model == first[0]).metrics[question]
            title, (model, *rivals) = known[question].title, first
            found.append({"question": question, "model": model, "entry": best, "title": title, "rivals": rivals})
    if distance in table.real.metrics:
        entry = table.real.metrics[str(distance)]
        found.append({"question": REAL, "model": "real data", "entry": entry, "title": title_of(str(distance))})
    return found


def caption(row: Row) -> str:
    """Return the divergence of a family from the truth where it is known, or its main distance."""
    if "kl" in row.metrics:
        return f"KL {describe(row.metrics['kl'])} nats"
    name = main_distance(row.metrics)
    return f"{title_of(name)} {describe(row.metrics[name])}" if name else ""


def svgs(panels: Panels, name: str) -> dict[str, Markup]:
    """Return panels as SVGs to stand in the page, by title. They are our own drawings, and are not escaped."""
    return {
        title: Markup(style.inline(panel(draw, size=panels.size), name=f"{name}-{i}"))
        for i, (title, draw) in enumerate(panels.draws.items())
    }


def behind(table: Table) -> dict[str, str]:
    """Return in words the difference of the bits of every other family to those of the best one, on common points."""
    metric = next((m for m in shown_metrics(table) if m.name == LIKELIHOOD), None)
    first = standings(table, metric).first[:1] if metric else []
    means, found = anchored(scored_bits(table.families)), {}
    for model in means.keys() - set(first) if first and first[0] in means else ():
        gap = means[model].values.mean() - means[first[0]].values.mean()
        value, error = rounded(gap, float(np.linalg.norm(means[model].influence - means[first[0]].influence)))
        anchor = f", anchored to {means[model].anchor}" if means[model].anchor else ""
        found[model] = f"{value}{f' ± {error}' if error else ''} bits above {first[0]}, on common test points{anchor}."
    return found


def more_seeds(table: Table) -> str:
    """Return what three training seeds would cost, in words; an empty text where there are several."""
    if scope(table) != OF_THESE:
        return ""
    costs = [cost for row in table.families if not row.is_floor for cost in row.costs.values()]
    minutes = 2 * sum(cost["process_seconds"] for cost in costs) / 60
    return (
        f"Two more training seeds for every family would take about {minutes:.0f} minutes of the machine that ran "
        f"these cells, one cell at a time: make repro SEEDS=3."
    )


def facts(table: Table) -> list[tuple[str, str]]:
    """Return what all numbers of a data set have in common."""
    trained = sorted((row.record for row in table.families if row.is_trained), key=lambda record: record["flops"])
    scales = sorted({f"{record['configuration']['budget']['scale']:g}" for record in trained})
    flops = " to ".join(dict.fromkeys(si(record["flops"]) for record in (trained[0], trained[-1]))) if trained else ""
    published = " and ".join(table.extractor.get("known_as", {}).values())
    versions = dict.fromkeys(", ".join(f"{k} {v}" for k, v in row.versions.items()) for row in table.rows)
    digest = table.extractor["digest"]
    return [
        ("scored on", f"the test split, {table.prepared.summary['splits']['test']['count']:,} observations"),
        ("extractor of features", table.extractor["name"] + (f", digest {digest}" if digest else " (no features)")),
        *([("published names", f"the Fréchet and kernel distances are {published}")] if published else []),
        ("digest of the data", table.prepared.digest),
        *([("scored with", "; ".join(filter(None, versions)))] if any(versions) else []),
        *([("compute", f"{flops} operations per trained family, budget scale {', '.join(scales)}")] if trained else []),
        (
            "errors",
            "standard errors under other samples and other test points together, unless a number says otherwise",
        ),
    ]


def overhead(table: Table) -> dict[str, Any]:
    """Return the seconds of all stages of a data set, and those outside training, sampling and scoring."""
    costs = [*table.costs.values(), *(cost for row in table.families for cost in row.costs.values())]
    whole, work = (sum(cost[name] for cost in costs) for name in ("process_seconds", "work_seconds"))
    return {"stages": len(costs), "whole": whole, "rest": whole - work}
