"""`lookalike compare-runs`: a page with the first samples of many runs of one data set, from the tracking store."""

import argparse
import contextlib
import functools
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lookalike.cells.command import Parser
from lookalike.domain.domain import Domain
from lookalike.domain.prepared import Prepared
from lookalike.report.runs_page import Run, runs_page
from lookalike.tracking.layout import path_of_run
from lookalike.tracking.mlflow_server import SERVERS, file_of, is_sqlite
from lookalike.tracking.run_choice import (
    choose,
    entries_of,
    in_order,
    one_data_set,
    quoted,
    score_of,
    split_of,
    title_in,
)
from lookalike.tracking.run_samples import Artifacts, sampling_of
from lookalike.tracking.servers import Tracker, asked_for, quiet
from lookalike.tracking.workspace import lost_connections
from lookalike.workspace.addresses import hide
from lookalike.workspace.configuration import ROOT, Config, absolute, compose
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import INTERRUPTED

LIMIT = 60
"""Runs on a page unless the user asks for more."""

SAMPLES = 64
"""Samples per run unless the user asks for fewer: as many as a run keeps in the store."""

DATA = 5000
"""Training observations at most that are shown beside the samples."""

AT_ONCE = 8
"""Runs whose artifacts are fetched at the same time."""

LOCAL = "http://127.0.0.1:5000"
"""Where `make ui` shows the runs of a database."""

Found = tuple[Run | None, str]
"""A run, or None and the reason why it cannot be shown."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = Parser(
        prog="lookalike compare-runs",
        description="Write a page with the first samples of many runs of one data set, side by side: all families, "
        "seeds and trials in the tracking store, with their scores and differences. With --noise all are drawn from "
        "the same noise.",
        epilog="example: lookalike compare-runs mnist --filter \"params.optimizer.lr = '0.001'\" --sort recall",
    )
    found.add_argument("items", nargs="*", metavar="DATA or KEY=VALUE", help="a data set; settings, as tracking.uri=…")
    found.add_argument("--experiment", metavar="NAME", help="runs of this experiment; default: of tracking.experiment")
    found.add_argument("--filter", metavar="EXPRESSION", help="runs for which MLflow's filter expression holds")
    found.add_argument("--runs", metavar="ID,ID,…", help="these runs")
    found.add_argument("--sweep", metavar="NAME", help="the trials of this sweep")
    found.add_argument("--sort", metavar="SCORE", help="best of this score first; default: the distance of the data")
    found.add_argument("--limit", type=int, default=LIMIT, metavar="N", help=f"runs on the page; default: {LIMIT}")
    found.add_argument("--samples", type=int, default=SAMPLES, metavar="N", help=f"per run; default: {SAMPLES}")
    found.add_argument(
        "--noise", type=int, metavar="SEED", help="draw all samples anew from the weights, with this seed"
    )
    found.add_argument("--to", metavar="FILE", help="the page; default: .lookalike/runs/DATA.html")
    return found


def main(arguments: list[str]) -> None:
    """Run the command line; exit with 0, 1 (an error) or 130 (interrupted)."""
    try:
        compare_runs(parser().parse_intermixed_args(arguments))
    except UserError as error:
        sys.exit(f"error: {hide(str(error))}")
    except OSError as error:
        sys.exit(f"error: {error.strerror}: {error.filename}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def compare_runs(asked: argparse.Namespace) -> None:
    """Write the page.

    Raises:
        UserError: an option is wrong, the store cannot be reached, or it has no such runs or runs of several data sets.
    """
    quiet()
    for name in ("limit", "samples"):
        if getattr(asked, name) < 1:
            raise UserError(f"--{name} {getattr(asked, name)}: it is a whole number from 1 on")
    if asked.noise is not None and not 0 <= asked.noise < 2**32:
        raise UserError(f"--noise {asked.noise}: it must be from 0 to {2**32 - 1}")
    names = [item for item in asked.items if "=" not in item]
    if len(names) > 1:
        raise UserError(f"'{names[1]}': give one data set")
    config = compose([item for item in asked.items if "=" in item])
    tracker = store_of(config)
    try:
        client = tracker.connect().client
        found = choose(client, config.tracking.experiment, asked, names[0] if names else None)
        data = one_data_set(found, names[0] if names else None)
        score = score_of(found, asked.sort)
        found = in_order(found, score)
        page, shown, without = write_page(client, tracker, config, asked, found, data, score)
    except UserError:
        raise
    except Exception as error:
        raise UserError(tracker.complaint(error)) from None
    target = absolute(asked.to) if asked.to else config.path("scratch") / "runs" / f"{data}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}-{os.getpid()}")
    draft.write_text(page, encoding="utf-8")
    draft.replace(target)
    shorter = target.relative_to(ROOT) if target.is_relative_to(ROOT) else target
    print(f"{shown} of {len(found)} runs of {data}: {shorter}")
    if without:
        print(f"without samples: {', '.join(without)}")


def store_of(config: Config) -> Tracker:
    """Return the MLflow store of a configuration.

    Raises:
        UserError: it is a database that does not exist.
    """
    tracker, *_ = asked_for(config.tracking.model_dump() | {"mlflow": True})
    if is_sqlite(tracker.uri) and not file_of(tracker.uri).is_file():
        raise UserError(f"no runs: there is no {tracker.place} yet. `make heights` or `lookalike record` makes it")
    return tracker


def write_page(
    client: Any,
    tracker: Tracker,
    config: Config,
    asked: argparse.Namespace,
    found: list[Any],
    data: str,
    score: str | None,
) -> tuple[str, int, list[str]]:
    """Return the page, the number of runs on it, and the names of those that cannot be shown."""
    prepared = prepared_of(config, data, found)
    domain = prepared.domain if prepared else domain_of(client, found)
    fetch = functools.partial(run_of, client, domain=domain, asked=asked, score=score, server=server_of(tracker.uri))
    runs: list[Run] = []
    without: list[tuple[str, str, str]] = []
    for raw, (run, reason) in fetched(fetch, found, asked.limit):
        if run is not None:
            runs.append(run)
        else:
            without.append((raw.info.run_name or raw.info.run_id, address_of(raw, server_of(tracker.uri)), reason))
        if len(runs) == asked.limit:
            break
    if not runs:
        reasons = "; ".join(f"{name}: {reason}" for name, _, reason in without[:3])
        raise UserError(f"none of the {len(found)} runs can be shown ({reasons})")
    place = tracker.place.replace(f"{ROOT}{os.sep}", "")
    page = runs_page(
        runs,
        domain,
        data=prepared.values("train", slice(DATA)) if prepared else None,
        data_name=data,
        sorted_by=score,
        titles={name: title_in(found, name) for run in runs for name in run.scores},
        chosen=f"{len(found)} {'run' if len(found) == 1 else 'runs'} in {place}.",
        command=hide(shlex.join(["lookalike", "compare-runs", *sys.argv[1:]]), tracker.uri),
        store=place,
        limit=asked.limit,
        matching=len(found),
        versions=len({raw.data.tags.get("data_digest") for raw in found}),
        without=without,
        local=not tracker.uri.startswith(SERVERS),
        redrawn=asked.noise is not None,
    )
    return page, len(runs), [name for name, _, _ in without]


def fetched(fetch: Any, found: list[Any], limit: int) -> Iterator[tuple[Any, Found]]:
    """Yield runs with their samples, in order; some more may be fetched than are needed."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(found), max(AT_ONCE, limit)):
            part = found[start : start + max(AT_ONCE, limit)]
            yield from zip(part, pool.map(fetch, part), strict=True)


def run_of(
    client: Any, raw: Any, *, domain: Domain | None, asked: argparse.Namespace, score: str | None, server: str
) -> Found:
    """Return a run with its samples, or why it has none."""
    from mlflow.exceptions import MlflowException

    tags, now = raw.data.tags, "now."
    parameters = raw.data.params | {key.removeprefix(now): v for key, v in tags.items() if key.startswith(now)}
    seed = tags.get("seed") or parameters.get("seed", "")
    try:
        artifacts = Artifacts(client, raw.info.run_id)
        if asked.noise is not None:
            samples: Any = artifacts.draw(sampling_of(parameters), count=asked.samples, seed=asked.noise)
        else:
            samples = artifacts.samples(domain, asked.samples)
    except (UserError, OSError, MlflowException) as error:
        if lost_connections(error):
            raise
        return None, next(iter(str(error).splitlines()), repr(error))
    if samples is None:
        return None, f"it has no samples ({raw.info.status.lower()})"
    is_array = not hasattr(samples, "convert")
    run = Run(
        id=raw.info.run_id,
        name=raw.info.run_name or raw.info.run_id,
        address=address_of(raw, server),
        family=tags.get("family") or tags["model"],
        seed=seed,
        noise=(
            seed if asked.noise is None else str(asked.noise),
            parameters.get("trainer.batch_size", "unknown size"),
            parameters.get("trainer.accelerator", "unknown device") if asked.noise is None else "cpu",
        ),
        scores=entries_of(raw, score),
        split=split_of(raw),
        parameters=parameters,
        samples=samples if is_array else None,
        picture=None if is_array else samples,
    )
    return run, ""


def prepared_of(config: Config, data: str, found: list[Any]) -> Prepared | None:
    """Return the prepared data of this checkout, if runs were trained on them."""
    try:
        prepared = Prepared(config.path("artifacts") / data / "prepared")
    except UserError:
        return None
    return prepared if prepared.digest in {run.data.tags.get("data_digest") for run in found} else None


def domain_of(client: Any, found: list[Any]) -> Domain | None:
    """Return the domain of a data set, from any run of it that keeps its model; None if none does."""
    digest = next((run.data.tags["data_digest"] for run in found if "data_digest" in run.data.tags), "")
    experiments = list({run.info.experiment_id for run in found})
    # Trials of a sweep keep no model; the runs of cells do, and have a fingerprint.
    trained = f"tags.data_digest = {quoted(digest)} and tags.fingerprint != ''"
    for run in client.search_runs(experiments, trained, max_results=AT_ONCE):
        with contextlib.suppress(UserError, OSError):
            if (domain := Artifacts(client, run.info.run_id).domain()) is not None:
                return domain
    return None


def server_of(uri: str) -> str:
    """Return the address of the pages of a store."""
    if not uri.startswith(SERVERS):
        return LOCAL
    return "" if uri.startswith("databricks") else hide(uri, uri).rstrip("/")


def address_of(run: Any, server: str) -> str:
    """Return the address of the page of a run; empty if it is not known."""
    return f"{server}/{path_of_run(run.info.experiment_id, run.info.run_id)}" if server else ""
