"""The command line: overrides, help, error messages and exit codes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from lookalike.workspace.configuration import ROOT, Config, choices, compose, compose_unchecked, groups
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import INTERRUPTED
from lookalike.workspace.streams import written


def usage(stage: Callable[[Config], None]) -> str:
    """Return the page that `--help` prints."""
    lines = [(sys.modules[stage.__module__].__doc__ or "").strip(), ""]
    lines += [f"usage: lookalike {stage.__name__} [GROUP=CHOICE ...] [KEY=VALUE ...]", ""]
    lines += [f"  {group}=  {', '.join(choices(group))}" for group in groups()]
    lines += ["", "Any key of the configuration can be set, such as seed=1 or optimizer.lr=1e-3.", ""]
    lines += ["  --cfg   print the whole composed configuration and stop", "  --help  print this page"]
    return "\n".join(lines)


def show(text: str) -> None:
    """Print to standard output, with paths in the checkout relative to it."""
    print(text.replace(f"{ROOT}{os.sep}", ""), flush=True)


def check_checkout() -> None:
    """Raise a UserError if the working directory lies in another checkout than the code that runs."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "src" / "lookalike" / "stages").is_dir() and (folder / "conf" / "pipeline.yaml").is_file():
            if folder.resolve() != ROOT:
                raise UserError(f"the installed package is that of {ROOT}: run `pip install -e .` in {folder}")
            return


def run(stage: Callable[[Config], None]) -> None:
    """Run a stage with the overrides on the command line; exit with 0, 1 (an error) or 130 (interrupted)."""
    with written():
        run_with(stage, sys.argv[1:])


def run_with(stage: Callable[[Config], None], overrides: list[str]) -> None:
    """Run a stage with overrides; exit with an error message or if it is interrupted."""
    try:
        if {"--help", "-h"} & set(overrides):
            show(usage(stage))
            return
        check_checkout()
        if "--cfg" in overrides:
            from omegaconf import OmegaConf

            show(OmegaConf.to_yaml(compose_unchecked([item for item in overrides if item != "--cfg"])))
            return
        config = compose(overrides)
        if config.label is not None and stage.__name__ != "sample":
            raise UserError(f"label={config.label}: only `lookalike sample` draws one class")
        stage(config)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None:
            raise  # perhaps of standard output
        sys.exit(f"error: {error.strerror}: {error.filename}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
