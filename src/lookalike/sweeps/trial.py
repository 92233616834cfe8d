"""One trial: a configuration, trained, sampled and scored in this process by the code of the stages."""

import csv
import dataclasses
import functools
import json
import math
import runpy
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lookalike import fingerprint as fingerprints
from lookalike import views
from lookalike.core.config import ROOT, Config, Paths, Section, Tracking, check
from lookalike.core.errors import UserError
from lookalike.core.files import read_json
from lookalike.core.stage import Cell
from lookalike.data import Prepared
from lookalike.fingerprint import code_digest, fingerprint, source_of
from lookalike.sweeps import devices
from lookalike.sweeps.objectives import objectives, values_of
from lookalike.sweeps.places import Record, Sweep, Trial, read, title, write
from lookalike.sweeps.pruning import Pruned, Pruning

STAGES = ("train", "sample", "evaluate")

OWN = ("objective", "sweep")
"""Keys of a sweep's configuration that no stage has."""

fingerprints.imports = functools.cache(fingerprints.imports)
"""Every training asks which files its code is made of: to read them once in a process saves it most of the answer."""

SILENT = ("sweep.", "objective=", "hydra", "tracking")
"""How overrides begin that can't change a trial."""


def run_trial(composed: DictConfig) -> float | list[float]:
    """What Hydra calls for every trial, in whatever process its launcher chose.

    Returns:
        The objectives' values, NaN for a trial that failed or was pruned: one trial never ends a sweep.

    Raises:
        KeyboardInterrupt: the user stopped it; its checkpoint stays, and the trial goes on from there.
    """
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    asked = {key: plain.pop(key) for key in OWN}
    wanted = objectives(asked["objective"])
    sweep = Sweep(Path(asked["sweep"]["folder"]))
    overrides = told(list(HydraConfig.get().overrides.task))
    try:
        state = carry_out(sweep, check(plain), overrides, asked)
    except Exception as error:  # of the trial's settings: what it did wrong itself stands in its state
        print(f"{' '.join(overrides)}: {first_line(error)}", flush=True)
        return math.nan if len(wanted) == 1 else [math.nan] * len(wanted)
    values = state["values"] or [math.nan] * len(wanted)
    return float(values[0]) if len(wanted) == 1 else values


def told(overrides: list[str]) -> list[str]:
    """The overrides that say what a trial is, in order; not those that say where it is kept."""
    return [item for item in overrides if not item.lstrip("+").startswith(SILENT)]


def carry_out(sweep: Sweep, config: Config, overrides: list[str], asked: Record) -> Record:
    """A trial's state in a sweep: as it is remembered, or after it was run."""
    prepared = Prepared(Cell(config).prepared)
    found = identity(config, prepared)
    trial = sweep.trial(found["fingerprint"])
    wanted = objectives(asked["objective"])
    about = sweep.read()
    with trial.held():
        old = sweep.state(found["fingerprint"]) or {}
        if old.get("given_up") == about["session"] and not trial.record.is_file():
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
        if not trial.record.is_file():
            state |= {"state": "running", "started": time.time(), "seconds": None, "ended": None, "error": None}
            write(trial.identity, found)
            sweep.put(state)
            state = work(sweep, trial, config, found, state, asked)
        if trial.record.is_file():
            record = read(trial.record)
            state |= {"state": "finished", "values": values_of(record, wanted), "seconds": record["seconds"]}
            state["ended"] = record["ended"]
        sweep.put(state)
    tell(state, about)
    return state


def work(sweep: Sweep, trial: Trial, config: Config, found: Record, state: Record, asked: Record) -> Record:
    """Run what is missing of a trial; whatever happens, its state says so."""
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
        trial.error.write_text(traceback.format_exc())
        outcome = {"state": "failed", "error": first_line(error)}
    finally:
        curves.close()
    return state | outcome | {"seconds": time.monotonic() - started, "ended": time.time()}


def run_stages(trial: Trial, config: Config, view: views.View) -> None:
    """Train, sample and score, each unless it is done: what a stage wrote is whole, and of this very trial."""
    paths = config.paths.model_dump() | {"cell": str(trial.folder), "scratch": str(trial.folder / "scratch")}
    tracking = config.tracking.model_dump() | {"mlflow": False, "wandb": False}
    config = config.model_copy(update={"paths": Paths(**paths), "tracking": Tracking(**tracking)})
    with views.instead(view):
        for stage in STAGES:
            if not (trial.folder / stage).is_dir():
                stage_main(stage)(config)


@functools.cache
def stage_main(stage: str) -> Callable[[Config], None]:
    """The function that a stage's script runs."""
    main: Callable[[Config], None] = runpy.run_path(str(script(stage)))["main"]
    return main


def script(stage: str) -> Path:
    return ROOT / "pipelines" / f"{stage}.py"


def identity(config: Config, prepared: Prepared) -> Record:
    """A trial's fingerprint and what it is made of: all that its training, its samples and its scores follow from."""
    configuration = configuration_of(config)
    extractor = read_json(Cell(config).features / "extractor" / "extractor.json", remedy="Run `dvc repro` again")
    code = digest_of(str(config.model["_target_"]), str(config.data.reader["_target_"]))
    data = {"prepared": prepared.digest, "extractor": extractor}
    return {
        "fingerprint": fingerprint(configuration=configuration, data=json.dumps(data, sort_keys=True), code=code),
        "name": f"{config.data.name}-{config.model_name}",
        "configuration": configuration,
        "domain": dataclasses.asdict(prepared.domain),
        "data_digest": prepared.digest,
        "code_digest": code,
    }


def configuration_of(config: Config) -> Section:
    """The settings that a trial follows from: none of places, views and of the extractor's training."""
    plain = config.model_dump(exclude={"tracking", "paths", "label"})
    del plain["data"]["features"], plain["budget"]["features"], plain["budget"]["training_images"]
    return plain


@functools.cache
def digest_of(model: str, reader: str) -> str:
    """The digest of the code that trains, samples and scores, as it was when this process first asked."""
    sources = [source_of(target.rpartition(".")[0]) for target in (model, reader)]
    return code_digest([*map(script, STAGES), *(source for source in sources if source)])


def key_of(overrides: list[str], base: str) -> str:
    """What names a trial before it is composed: what it was told, and the digest of all that it could depend on."""
    return fingerprint(configuration={"overrides": sorted(overrides)}, data=base, code="")


def gather(folder: Path, started: float) -> Record:
    """What a finished trial is remembered by: its scores with their errors, and what it cost."""
    metrics = json.loads((folder / "evaluate" / "metrics.json").read_text())
    model = json.loads((folder / "train" / "model.json").read_text())
    seconds = {
        stage: json.loads((folder / stage / "cost.json").read_text()).get("work_seconds", 0.0) for stage in STAGES
    }
    with (folder / "train" / "loss_validation.csv").open(newline="") as file:
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
    """What an error says, in one line."""
    text = next(iter(str(error).splitlines()), "")
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def tell(state: Record, about: Record) -> None:
    """One line on a trial that ended, or that was remembered."""
    result = f"{state['state']}: {state['error']}" if state["error"] else state["state"]
    if state["values"]:
        pairs = zip(about["objective"], state["values"], strict=True)
        result = ", ".join(f"{name} {value:.5g}" for name, value in pairs)
        result += f" ({state['seconds']:.1f} s)" if state["seconds"] is not None else ""
    print(f"{state['fingerprint'][:8]} {title(state['overrides'], about['space'])}: {result}", flush=True)
