"""The command line: overrides, help, error messages and exit codes."""

import os
import sys
from collections.abc import Callable

from lookalike.workspace.addresses import hide, read_address
from lookalike.workspace.configuration import ROOT, Config, choices, compose, compose_unchecked, groups
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import INTERRUPTED
from lookalike.workspace.streams import written
from lookalike.workspace.tries import placed, with_profiles


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
        overrides = with_profiles(stage.__name__, overrides)
        if "--cfg" in overrides:
            from omegaconf import OmegaConf

            plain = compose_unchecked([item for item in overrides if item != "--cfg"])
            plain["tracking"]["uri"] = read_address(str(plain["tracking"]["uri"])).shown
            show(OmegaConf.to_yaml(plain))
            return
        config = compose(overrides)
        if config.label is not None and stage.__name__ != "sample":
            raise UserError(f"label={config.label}: only `lookalike sample` draws one class")
        stage(placed(stage.__name__, config, overrides))
    except UserError as error:
        sys.exit(f"error: {hide(str(error))}")
    except OSError as error:
        if error.filename is None:
            raise  # perhaps of standard output
        sys.exit(f"error: {error.strerror}: {error.filename}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
