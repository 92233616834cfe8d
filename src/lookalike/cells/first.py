"""`lookalike first`: a first look at a data set in minutes, with a report of its own."""

import argparse
import dataclasses

from filelock import Timeout
from rich.console import Console

from lookalike.cells.command import Parser, Rounds, finish
from lookalike.cells.launch import Launcher, workers_here
from lookalike.cells.look import Look
from lookalike.cells.records import Folder
from lookalike.stages.compare import compare_cells
from lookalike.workspace.configuration import CONF, ROOT, choices, compose
from lookalike.workspace.errors import UserError
from lookalike.workspace.grammar import quoted
from lookalike.workspace.locks import file_lock, holder_of
from lookalike.workspace.pipeline import read_listed

FIRST = CONF / "first.yaml"

NEXT = """This was a first look: few families, a tenth of the compute, scored on validation data. Next:
  make repro             the whole run: every family, all of the compute, scored on test data
  make first DATA=emoji  a first look at another data set
  docs/adding/data.md    how to add your own data"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = Parser(
        prog="lookalike first",
        description="Take a first look at a data set: train a few families for a minute, score them on validation "
        "data, and write a report. conf/first.yaml lists the families. The same command goes on where it was "
        "interrupted.",
    )
    found.add_argument("data", nargs="?", metavar="DATA", help="the data set; default: the one in conf/first.yaml")
    found.add_argument("--jobs", type=int, metavar="N", help="jobs at once on this machine; default: one per core")
    return found


def run(arguments: argparse.Namespace) -> int:
    """Run what is not done, compare, and say what comes next; return the exit code."""
    listed = read_listed(FIRST)
    data = arguments.data or listed.data[0]
    if data not in choices("data"):
        raise UserError(f"unknown data set '{data}': choose one of {', '.join(choices('data'))}")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: it is a whole number from 1 on")
    listed = dataclasses.replace(listed, data=[data])
    listed.check()
    home = ROOT / ".lookalike" / "first" / data
    own = ["budget=first", "split=validation", f"paths.artifacts={quoted(home / 'artifacts')}"]
    look = Look(listed, folder=home, overrides=own)
    folder = Folder(home / "jobs")
    launcher = Launcher(name="joblib", folder=folder.path, workers=arguments.jobs or workers_here(), overrides=[])
    console = Console(soft_wrap=True)
    try:
        with file_lock(folder.lock, timeout=0):
            code = Rounds(folder=folder, launcher=launcher, pipeline=look.opened, console=console).run()
    except Timeout:
        raise UserError(
            f"another `lookalike first`{holder_of(folder.lock)} is at work in this checkout; wait until it has ended"
        ) from None
    if code:
        return code
    report = home / "report"
    compare_cells(compose([f"data={data}", *own, f"paths.results={quoted(report)}"]), listed)
    print(f"open it in a browser: {(report / 'report.html').as_uri()}")
    print(f"\n{NEXT}", flush=True)
    return 0


def main(arguments: list[str]) -> None:
    """Run the command line of `lookalike first`."""
    finish(lambda: run(parser().parse_args(arguments)))
