"""Draw a sweep with Optuna's plots: its history, the importance of parameters, parallel coordinates."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lookalike.sweeps.objectives import OBJECTIVES, Objective
from lookalike.sweeps.places import Record, Sweep

MIN_TRIALS = 4
"""Number of finished trials below which nothing is drawn."""


def draw(sweep: Sweep, states: list[Record]) -> list[Path]:
    """Draw the finished trials of a sweep into its folder `figures/`; return the paths of the pictures."""
    about = sweep.read()
    wanted = [OBJECTIVES[name] for name in about["objective"]]
    finished = [state for state in states if state["state"] == "finished"]
    if len(finished) < MIN_TRIALS or not about["space"]:
        return []
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    study = study_of(finished, list(about["space"]), wanted)
    folder = sweep.folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn = []
    for name, plot in plots(study, wanted).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls its matplotlib backend experimental.
            plot()
            figure = plt.gcf()
            figure.set_size_inches(9, 5)
            figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close("all")
        drawn.append(folder / f"{name}.png")
    return drawn


def study_of(states: list[Record], keys: list[str], wanted: list[Objective]) -> Any:
    """Return an Optuna study of finished trials, whatever proposed them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=[objective.direction for objective in wanted])
    rows = [parameters_of(state, keys) for state in states]
    spaces = {key: distribution(values) for key in keys if (values := [row[key] for row in rows if key in row])}
    for state, row in zip(states, rows, strict=True):
        params = {
            k: v if isinstance(spaces[k], optuna.distributions.FloatDistribution) else str(v) for k, v in row.items()
        }
        distributions = {key: spaces[key] for key in params}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, values=state["values"]))
    return study


def parameters_of(state: Record, keys: list[str]) -> dict[str, Any]:
    """Return the values of parameters in a trial, numbers as numbers."""
    pairs = (item.lstrip("+").partition("=") for item in state["overrides"])
    return {key: number(value) for key, _, value in pairs if key in keys}


def number(text: str) -> Any:
    """Return a text as a number if it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def distribution(values: list[Any]) -> Any:
    """Return a range of numbers, logarithmic if it is wide, or a choice of other values."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if all(isinstance(value, float) for value in values) and len(set(values)) > 1:
        low, high = min(values), max(values)
        return FloatDistribution(low, high, log=low > 0 and high / low >= 8)
    return CategoricalDistribution(sorted(set(map(str, values))))


def plots(study: Any, wanted: list[Objective]) -> dict[str, Callable[[], Any]]:
    """Return what can be drawn of a study, by the name of the picture."""
    import optuna.visualization.matplotlib as optuna_plots
    from optuna.importance import PedAnovaImportanceEvaluator

    found: dict[str, Callable[[], Any]] = {}
    trials = study.trials
    names = {key: None for trial in trials for key in trial.params}
    varied = [key for key in names if len({t.params[key] for t in trials if key in t.params}) > 1]
    common = [key for key in varied if all(key in trial.params for trial in trials)]  # Importance needs all trials.
    for i, objective in enumerate(wanted):
        own: dict[str, Any] = {"target_name": objective.name}
        if len(wanted) > 1:
            own["target"] = lambda trial, i=i: trial.values[i]
        end = f"_{objective.name}" if len(wanted) > 1 else ""
        found[f"optimization_history{end}"] = partial(optuna_plots.plot_optimization_history, study, **own)
        if len(varied) > 1:
            found[f"parallel_coordinates{end}"] = partial(
                optuna_plots.plot_parallel_coordinate, study, params=varied, **own
            )
            found[f"importance{end}"] = partial(
                optuna_plots.plot_param_importances,
                study,
                evaluator=PedAnovaImportanceEvaluator(),
                params=common,
                **own,
            )
    if len(wanted) == 2:
        target_names = [objective.name for objective in wanted]
        found["pareto_front"] = partial(optuna_plots.plot_pareto_front, study, target_names=target_names)
    return found
