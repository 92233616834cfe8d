"""The console command `lookalike`: `lookalike COMMAND [GROUP=CHOICE ...] [KEY=VALUE ...]`."""

import functools
import importlib
import os
import sys
from pathlib import Path

from lookalike.workspace.interrupts import end_at_once
from lookalike.workspace.streams import open_closed_streams, written
from lookalike.workspace.utf8 import use_utf8

STAGES = ("prepare", "features", "train", "sample", "evaluate", "real", "compare")
"""Stages of the pipeline, each a function of its name in `lookalike.stages`."""

COMMANDS = {
    "data": "bring the bundled raw data that are missing; all other files stay as they are",
    "first": "take a first look at a data set in minutes: a few families, a small budget, a report",
    "cells": "run everything in the pipeline that is stale, several cells at once",
    "sweep": "train and score many configurations on validation data",
    "promote": "write the winner of a sweep into conf/",
    "record": "bring MLflow and W&B up to date with the files",
    "register": "register the trained families of a data set in MLflow",
    "compare-runs": "write a page with the samples of many runs, side by side",
    "ui": "open MLflow's pages of all runs",
    "report": "show the leaderboard and where the report lies",
}


def usage() -> str:
    """Return the page that `lookalike --help` prints."""
    lines = ["usage: lookalike COMMAND [GROUP=CHOICE ...] [KEY=VALUE ...]", "", "stages of the pipeline:"]
    for stage in STAGES:
        line = (importlib.import_module(f"lookalike.stages.{stage}").__doc__ or stage).splitlines()[0]
        lines.append(f"  {stage:<14}{line.partition(':')[0].rstrip('.')}")
    lines += ["", "more commands:", *(f"  {name:<14}{text}" for name, text in COMMANDS.items())]
    return "\n".join([*lines, "", "`lookalike COMMAND --help` lists what a command accepts."])


def follow_checkout() -> None:
    """Start again with the code of the checkout that the working directory lies in, if this is another one's.

    The installed package may be that of another checkout: a git worktree, a copy, or an environment that several share.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        source = folder / "src"
        if (source / "lookalike" / "stages").is_dir() and (folder / "conf" / "pipeline.yaml").is_file():
            inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            if source == Path(__file__).resolve().parents[1]:
                return
            if inherited[0] == str(source):  # and Python ignores it
                sys.exit(
                    f"error: the installed package is that of another checkout: run `pip install -e .` in {folder}"
                )
            os.environ["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, inherited)])
            os.execv(sys.executable, [sys.executable, "-m", "lookalike", *sys.argv[1:]])


def main() -> None:
    """Run the command line."""
    open_closed_streams()
    end_at_once()
    use_utf8()
    follow_checkout()
    with written():
        run_command()


def run_command() -> None:
    """Run the command that the first argument names."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("--help", "-h", "help"):
        print(usage())
        return
    if command not in (*STAGES, *COMMANDS):
        sys.exit(f"error: unknown command '{command}': choose one of {', '.join((*STAGES, *COMMANDS))}")
    sys.argv[1:2] = []
    if command in ("cells", "first"):
        importlib.import_module("lookalike.cells.command" if command == "cells" else "lookalike.cells.first").main(
            sys.argv[1:]
        )
        return
    if command == "compare-runs":
        from lookalike.tracking.compare_runs import main as compare_runs

        compare_runs(sys.argv[1:])
        return
    if command in ("sweep", "promote"):
        importlib.import_module("lookalike.sweeps.command" if command == "sweep" else "lookalike.sweeps.promote").main()
        return
    from lookalike.workspace.command_line import run

    if command == "data":
        from lookalike.cells.raw_data import data

        run(data)
    elif command == "report":
        from lookalike.report.results import report

        run(report)
    elif command == "record":
        from lookalike.sweeps.record import record

        run(record)
    elif command == "ui":
        from lookalike.tracking.commands import ui

        run(ui)
    elif command == "register":
        from lookalike.tracking.commands import register

        chosen = [item.partition("=")[2] for item in sys.argv[1:] if item.startswith("objective=")]
        kept = [item for item in sys.argv[1:] if not item.startswith("objective=")]
        sys.argv[1:] = [item if "=" in item or item.startswith("-") else f"data={item}" for item in kept]
        run(functools.update_wrapper(functools.partial(register, objective=chosen[-1] if chosen else None), register))
    else:
        run(getattr(importlib.import_module(f"lookalike.stages.{command}"), command))


if __name__ == "__main__":
    main()
