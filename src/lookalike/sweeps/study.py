"""The search: Optuna asks for trials and is told what came of them; its journal lies in the sweep's folder."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from lookalike.core.errors import UserError
from lookalike.sweeps.objectives import OBJECTIVES
from lookalike.sweeps.places import Record, Sweep
from lookalike.sweeps.remembered import Remembered
from lookalike.sweeps.trial import key_of, told

WARM_UP = 4
"""Checks of validation before a trial can be called hopeless, of `trainer.checks` (20)."""

OTHERS = 5
"""Trials that the median of others takes."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that count."""

INSTEAD = "instead of"
"""Attribute of trials that try the parameters of a failed one again: its number."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


def search(overrides: Sequence[Override], *, folder: str, launcher: Any, **settings: Any) -> None:
    """Ask for trials until enough of them are finished or pruned, and have them launched, a batch at a time.

    Args:
        overrides: what is searched, and what is fixed.
        folder: the sweep's.
        launcher: Hydra's.
        settings: those of conf/hydra/sweeper/optuna.yaml.

    Raises:
        UserError: a setting is wrong.
    """
    check_settings(settings)
    space = {str(o.get_key_element()): distribution(o) for o in overrides if o.is_sweep_override()}
    fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in overrides if not o.is_sweep_override()]
    sweep = Sweep(Path(folder))
    remembered = Remembered(folder)
    study = open_study(sweep)
    for ended in study.get_trials(deepcopy=False, states=ENDED):
        remembered.tell(told_to(ended, fixed), searched=True)
    queue_again(study)
    failed = 0
    while (missing := settings["n_trials"] - count(study) - failed) > 0:
        trials = []
        for _ in range(min(settings["n_jobs"], missing)):
            # A trial's proposal follows from the seed, its number and what came before, whenever it is made.
            study.sampler = sampler(settings, number=len(study.get_trials(deepcopy=False)))
            trials.append(study.ask(space))
        jobs = [[*told_to(trial, fixed), f"sweep.trial={trial.number}"] for trial in trials]
        results = run(jobs, launcher=launcher, remembered=remembered, first=trials[0].number)
        for trial, result in zip(trials, results, strict=True):
            failed += not tell(study, trial.number, result)


def told_to(trial: Any, fixed: list[str]) -> list[str]:
    """The overrides of a trial of a study."""
    return [*fixed, *(f"{key}={short(value)}" for key, value in trial.params.items())]


def short(value: Any) -> str:
    """A value with four digits: more of them mean nothing, and somebody has to read them."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run(jobs: list[list[str]], *, launcher: Any, remembered: Remembered, first: int) -> list[Record]:
    """The states of jobs: as they are remembered, or after they were launched."""
    states: list[Record | None] = [remembered.tell(job, searched=True) for job in jobs]
    missing = [job for job, state in zip(jobs, states, strict=True) if state is None]
    for batch in remembered.batches(missing):
        launcher.launch(batch, initial_job_idx=first)
    now = {state["key"]: state for state in remembered.sweep.all_states()} if missing else {}
    base = remembered.about["base"]
    lost: Record = {"state": "failed", "values": None}
    return [state or now.get(key_of(told(job), base), lost) for job, state in zip(jobs, states, strict=True)]


def tell(study: optuna.Study, number: int, state: Record) -> bool:
    """Tell a study what came of a trial; whether it counts."""
    values = state["values"]
    if state["state"] == "pruned":
        study.tell(number, state=TrialState.PRUNED)
    elif values and all(map(math.isfinite, values)):
        study.tell(number, values)
    else:
        study.tell(number, state=TrialState.FAIL)
        return False
    return True


def check_settings(settings: Record) -> None:
    """Raise a UserError for a setting that the sweeper can't work with."""
    for key in ("n_trials", "n_jobs"):
        if type(settings[key]) is not int or settings[key] < 1:
            raise UserError(f"hydra.sweeper.{key}={settings[key]}: it is a whole number above 0")
    for key, known in (("sampler", ("tpe", "random", "nsga2", "gp")), ("pruner", ("median", "hyperband", None))):
        if settings[key] not in known:
            raise UserError(f"hydra.sweeper.{key}={settings[key]}: choose from {', '.join(map(str, known))}")


def distribution(override: Override) -> BaseDistribution:
    """What Optuna draws a parameter from. Values of a choice go back to Hydra as they were written."""
    swept: Any = override.value()
    if isinstance(swept, IntervalSweep):
        assert swept.start is not None
        assert swept.end is not None
        log = "log" in swept.tags
        if "int" in swept.tags or (type(swept.start) is int and type(swept.end) is int):
            return IntDistribution(int(swept.start), int(swept.end), log=log)
        return FloatDistribution(float(swept.start), float(swept.end), log=log)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def open_study(sweep: Sweep) -> optuna.Study:
    """The study of a sweep's code, data, fixed settings and objectives, which goes on where it is there."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    about = sweep.read()
    return optuna.create_study(
        study_name=f"{sweep.name} {key_of(told(about['fixed']), about['base'])} {' '.join(about['objective'])}",
        storage=JournalStorage(JournalFileBackend(str(sweep.journal))),
        directions=[OBJECTIVES[name].direction for name in about["objective"]],
        pruner=pruner(about["sweeper"].get("pruner")),
        load_if_exists=True,
    )


def sampler(settings: Record, *, number: int) -> optuna.samplers.BaseSampler:
    """The sampler that proposes the trial of a number."""
    seed, startup = settings["seed"] * 100_003 + number, settings["startup"]
    if settings["sampler"] == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings["sampler"] == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed)
    if settings["sampler"] == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=settings["n_jobs"] > 1
    )


def pruner(name: str | None) -> optuna.pruners.BasePruner:
    """What stops hopeless trials."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=OTHERS, n_warmup_steps=WARM_UP)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=WARM_UP)
    return optuna.pruners.NopPruner()


def count(study: optuna.Study) -> int:
    """Trials that are finished or pruned."""
    return len(study.get_trials(deepcopy=False, states=ENDED))


def queue_again(study: optuna.Study) -> None:
    """Queue the parameters of trials that failed, or that ran when the sweep was killed."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    queued = {trial.user_attrs.get(INSTEAD) for trial in study.get_trials(deepcopy=False)}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if trial.number not in queued:
            study.enqueue_trial(trial.params, user_attrs={INSTEAD: trial.number})


@functools.cache
def study_here(sweep: Sweep) -> optuna.Study:
    """The study of a sweep, opened once in a process."""
    return open_study(sweep)


def report(sweep: Sweep, number: int, value: float, *, step: int) -> None:
    """Tell a study of a value on a trial's way."""
    study = study_here(sweep)
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    optuna.trial.Trial(study, trial_id).report(value, step)


def hopeless(sweep: Sweep, number: int) -> bool:
    """Whether the study's pruner would stop a trial after what was reported of it."""
    study = study_here(sweep)
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    return optuna.trial.Trial(study, trial_id).should_prune()
