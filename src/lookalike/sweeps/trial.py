"""One trial: a configuration that this process trains, samples and scores with the functions of the stages."""

import csv
import functools
import importlib
import json
import math
import multiprocessing
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lookalike.domain.prepared import Prepared
from lookalike.sweeps import devices
from lookalike.sweeps.keys import key_of, print_state, relevant
from lookalike.sweeps.objectives import objectives, values_of
from lookalike.sweeps.places import Record, Sweep, Trial, read, write
from lookalike.sweeps.pruning import Pruned, Pruning
from lookalike.tracking import views
from lookalike.workspace.arguments import Section
from lookalike.workspace.configuration import Config, Paths, Tracking, check
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import read_json
from lookalike.workspace.fingerprint import code_digest, fingerprint, source_of
from lookalike.workspace.interrupts import end_with_parent
from lookalike.workspace.places import Cell

STAGES = ("train", "sample", "evaluate")

SWEEP_KEYS = ("objective", "sweep")
"""Keys of a sweep's configuration that no stage has."""


def run_trial(composed: DictConfig) -> float | list[float]:
    """Run one trial; Hydra calls this in a process that its launcher chose.

    Returns:
        The values of the objectives, NaN for a trial that failed or was pruned: one trial never ends a sweep.

    Raises:
        KeyboardInterrupt: the user stopped the sweep; the trial continues from its checkpoint later.
    """
    if multiprocessing.current_process().name != "MainProcess":  # A worker of joblib; others end by themselves.
        end_with_parent()
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    asked = {key: plain.pop(key) for key in SWEEP_KEYS}
    count = len(objectives(asked["objective"]))
    overrides = relevant(HydraConfig.get().overrides.task)
    try:
        values = carry_out(Sweep(Path(asked["sweep"]["folder"])), check(plain), overrides, asked)["values"]
    except Exception as error:  # An error of the settings; errors of the trial itself are part of its state.
        print(f"{' '.join(overrides)}: {first_line(error)}", flush=True)
        values = None
    values = values or [math.nan] * count
    return float(values[0]) if count == 1 else values


def carry_out(sweep: Sweep, config: Config, overrides: list[str], asked: Record) -> Record:
    """Run a trial unless its result exists; return its state in the sweep."""
    prepared = Prepared(Cell(config).prepared)
    found = identity(config, prepared)
    trial, about = sweep.trial(found["fingerprint"]), sweep.read()
    with trial.held():
        old = sweep.state(found["fingerprint"]) or {}
        is_recorded = trial.record.is_file()
        if old.get("given_up") == about["session"] and not is_recorded:
            return old
        state = old | {
            "fingerprint": found["fingerprint"],
            "overrides": overrides,
            "data": config.data.name,
            "model": config.model_name,
            "seed": config.seed,
            "key": key_of(overrides, about["base"]),
            "study_trial": asked["sweep"]["trial"],
            "session": about["session"],
            "first": old.get("first", time.time()),
            "values": None,
            "error": old.get("error"),
        }
        if old.get("state") == "pruned" and state["study_trial"] is not None:
            sweep.put(state)
            return state
        if not is_recorded:
            state |= {"state": "running", "started": time.time(), "seconds": None, "ended": None, "error": None}
            write(trial.identity, found)
            sweep.put(state)
            state = work(sweep, trial, config, found, state, asked)
        if trial.record.is_file():
            record = read(trial.record)
            state |= {"state": "finished", "values": values_of(record, objectives(asked["objective"]))}
            state |= {key: record[key] for key in ("seconds", "ended")}
        sweep.put(state)
    print_state(state, about)
    return state


def work(sweep: Sweep, trial: Trial, config: Config, found: Record, state: Record, asked: Record) -> Record:
    """Run the missing stages of a trial; return its state, whatever happens."""
    started = time.monotonic()
    if config.trainer.accelerator != "cpu":
        devices.choose(sweep.folder)
    curves = Pruning(sweep, trial, asked["sweep"])
    outcome: Record = {}
    try:
        run_stages(trial, config, curves)
        write(trial.record, found | gather(trial.folder, started))
        trial.error.unlink(missing_ok=True)
    except Pruned as stop:
        outcome = {"state": "pruned", "error": str(stop)}
    except KeyboardInterrupt:
        sweep.put(state | {"state": "killed", "ended": time.time()})
        raise
    except Exception as error:
        trial.error.write_text(traceback.format_exc(), encoding="utf-8")
        outcome = {"state": "failed", "error": first_line(error)}
    finally:
        curves.close()
    return state | outcome | {"seconds": time.monotonic() - started, "ended": time.time()}


def run_stages(trial: Trial, config: Config, view: views.View) -> None:
    """Train, sample and score in silence; a stage whose output exists is skipped, because outputs are always whole."""
    paths = config.paths.model_dump() | {"cell": str(trial.folder), "scratch": str(trial.folder / "scratch")}
    tracking = config.tracking.model_dump() | {"mlflow": False, "wandb": False}
    config = config.model_copy(update={"paths": Paths(**paths), "tracking": Tracking(**tracking)})
    with views.instead(view):
        for stage in STAGES:
            if not (trial.folder / stage).is_dir():
                function_of(stage)(config)


def function_of(stage: str) -> Callable[[Config], None]:
    """Return the function of a stage."""
    function: Callable[[Config], None] = getattr(importlib.import_module(f"lookalike.stages.{stage}"), stage)
    return function


def identity(config: Config, prepared: Prepared) -> Record:
    """Return a trial's fingerprint and its parts: everything that its weights, samples and scores depend on."""
    configuration = configuration_of(config)
    extractor = read_json(Cell(config).features / "extractor" / "extractor.json", remedy="Run `dvc repro` again")
    code = digest_of(str(config.model["_target_"]), str(config.data.reader["_target_"]))
    data = {"prepared": prepared.digest, "extractor": extractor}
    return {
        "fingerprint": fingerprint(configuration=configuration, data=json.dumps(data, sort_keys=True), code=code),
        "name": f"{config.data.name}-{config.model_name}",
        "configuration": configuration,
        "domain": prepared.domain.to_dict(),
        "data_digest": prepared.digest,
        "code_digest": code,
    }


def configuration_of(config: Config) -> Section:
    """Return the settings that a trial depends on: no places, no views, nothing about the extractor's training."""
    plain = config.model_dump(exclude={"tracking", "paths", "label"})
    del plain["data"]["features"], plain["budget"]["features"], plain["budget"]["training_images"]
    return plain


@functools.cache
def digest_of(model: str, reader: str) -> str:
    """Return the digest of the code that trains, samples and scores, as it was at the first call in this process."""
    modules = [*(f"lookalike.stages.{stage}" for stage in STAGES), *(t.rpartition(".")[0] for t in (model, reader))]
    return code_digest([source for source in map(source_of, modules) if source])


def gather(folder: Path, started: float) -> Record:
    """Return the record of a finished trial: its scores with their errors, and its cost."""
    metrics = json.loads((folder / "evaluate" / "metrics.json").read_text(encoding="utf-8"))
    model = json.loads((folder / "train" / "model.json").read_text(encoding="utf-8"))
    seconds = {
        stage: json.loads((folder / stage / "cost.json").read_text(encoding="utf-8")).get("work_seconds", 0.0)
        for stage in STAGES
    }
    with (folder / "train" / "loss_validation.csv").open(newline="", encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    return {
        "training_fingerprint": model["fingerprint"],
        "metrics": {
            name: {key: entry.get(key) for key in ("value", "standard_error")}
            for name, entry in metrics.items()
            if "value" in entry
        },
        "validation_losses": losses,
        "cost": {
            "training_seconds": seconds["train"],
            "sampling_seconds": seconds["sample"],
            "scoring_seconds": seconds["evaluate"],
            "parameters": model["parameters"],
            "flops": model["flops"],
        },
        "seconds": time.monotonic() - started,
        "ended": time.time(),
    }


def first_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    text = next(iter(str(error).splitlines()), "")
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
