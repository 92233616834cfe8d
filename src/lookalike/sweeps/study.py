"""The search: Optuna proposes trials and learns their results; its journal lies in the folder of the sweep."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from lookalike.sweeps.keys import key_of
from lookalike.sweeps.objectives import OBJECTIVES
from lookalike.sweeps.places import Record, Sweep
from lookalike.sweeps.remembered import Remembered
from lookalike.workspace.errors import UserError

WARM_UP = 4
"""Number of validation checks, of `trainer.checks`, before a trial can be pruned."""

MIN_OTHERS = 5
"""Number of finished trials that the median needs."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that count."""

REPLACES = "replaces"
"""Attribute of a trial that tries the parameters of a failed trial again: the number of that trial."""

CHOICES = {"sampler": ("tpe", "random", "nsga2", "gp"), "pruner": ("median", "hyperband", None)}

optuna.logging.set_verbosity(optuna.logging.ERROR)


def search(overrides: Sequence[Override], *, folder: str, launcher: Any, **settings: Any) -> None:
    """Ask the study for trials and launch them, batch by batch, until enough of them are finished or pruned.

    Args:
        overrides: the space and the fixed values.
        folder: the folder of the sweep.
        launcher: Hydra's launcher.
        settings: the settings of conf/hydra/sweeper/optuna.yaml.

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
        remembered.recall(overrides_of(ended.params, fixed), searched=True)
    queue_again(study)
    failed = 0
    while (missing := settings["n_trials"] - len(study.get_trials(deepcopy=False, states=ENDED)) - failed) > 0:
        trials = []
        for _ in range(min(settings["n_jobs"], missing)):
            # A proposal depends only on the seed, its number and earlier results, and not on the time it is made.
            study.sampler = sampler(settings, number=len(study.get_trials(deepcopy=False)))
            trials.append(study.ask(space))
        jobs = [[*overrides_of(trial.params, fixed), f"sweep.trial={trial.number}"] for trial in trials]
        results = run(jobs, launcher=launcher, remembered=remembered, first=trials[0].number)
        for trial, result in zip(trials, results, strict=True):
            failed += not report_result(study, trial.number, result)


def overrides_of(params: Record, fixed: list[str]) -> list[str]:
    """Return the overrides of a trial; four digits of a number are enough."""
    return [*fixed, *(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())]


def run(jobs: list[list[str]], *, launcher: Any, remembered: Remembered, first: int) -> list[Record]:
    """Return the states of jobs, which are launched unless they are remembered."""
    states: list[Record | None] = [remembered.recall(job, searched=True) for job in jobs]
    missing = [job for job, state in zip(jobs, states, strict=True) if state is None]
    for batch in remembered.batches(missing):
        launcher.launch(batch, initial_job_idx=first)
    now = {state["key"]: state for state in remembered.sweep.all_states()} if missing else {}
    base = remembered.about["base"]
    lost: Record = {"state": "failed", "values": None}
    return [state or now.get(key_of(job, base), lost) for job, state in zip(jobs, states, strict=True)]


def report_result(study: optuna.Study, number: int, state: Record) -> bool:
    """Report the state of a trial to its study; return whether the trial counts."""
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
    """Raise a UserError for a setting that the sweeper cannot use."""
    for key, least in (("n_trials", 1), ("n_jobs", 1), ("startup", 0), ("seed", 0)):
        if type(settings[key]) is not int or settings[key] < least:
            raise UserError(f"hydra.sweeper.{key}={settings[key]}: it must be a whole number from {least} on")
    for key, known in CHOICES.items():
        if settings[key] not in known:
            raise UserError(f"hydra.sweeper.{key}={settings[key]}: choose from {', '.join(map(str, known))}")


def distribution(override: Override) -> BaseDistribution:
    """Return Optuna's distribution of a parameter; values of a choice are returned to Hydra as they were written."""
    swept: Any = override.value()
    if isinstance(swept, IntervalSweep):
        assert swept.start is not None
        assert swept.end is not None
        log = "log" in swept.tags
        if "int" in swept.tags or (type(swept.start) is int and type(swept.end) is int):
            return IntDistribution(int(swept.start), int(swept.end), log=log)
        return FloatDistribution(float(swept.start), float(swept.end), log=log)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def storage_of(sweep: Sweep) -> JournalStorage:
    """Return the storage of a sweep: a file with a lock of its own, for processes on any machine."""
    return JournalStorage(JournalFileBackend(str(sweep.journal)))


def open_study(sweep: Sweep, storage: JournalStorage | None = None) -> optuna.Study:
    """Return the study of a sweep's code, data, fixed settings and objectives; an existing one is continued."""
    about = sweep.read()
    return optuna.create_study(
        study_name=f"{sweep.name} {key_of(about['fixed'], about['base'])} {' '.join(about['objective'])}",
        storage=storage or storage_of(sweep),
        directions=[OBJECTIVES[name].direction for name in about["objective"]],
        pruner=pruner(about["sweeper"].get("pruner")),
        load_if_exists=True,
    )


def open_trial(sweep: Sweep, number: int) -> optuna.Trial:
    """Return a trial of a sweep's study by its number, in the process that runs it."""
    storage = storage_of(sweep)
    study = open_study(sweep, storage)
    study_id = storage.get_study_id_from_name(study.study_name)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


def sampler(settings: Record, *, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler that proposes the trial with a number."""
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
    """Return the rule that stops hopeless trials."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=MIN_OTHERS, n_warmup_steps=WARM_UP)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=WARM_UP)
    return optuna.pruners.NopPruner()


def queue_again(study: optuna.Study) -> None:
    """Queue the parameters of trials that failed, or that were running when the sweep was killed."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    queued = {trial.user_attrs.get(REPLACES) for trial in study.get_trials(deepcopy=False)}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if trial.number not in queued:
            study.enqueue_trial(trial.params, user_attrs={REPLACES: trial.number})
