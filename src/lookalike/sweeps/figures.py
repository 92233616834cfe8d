"""Pictures of a sweep, drawn by Optuna: how it went on, which parameters mattered, what goes with what."""

import warnings
from pathlib import Path
from typing import Any

from lookalike.sweeps.objectives import OBJECTIVES, Objective
from lookalike.sweeps.places import Record, Sweep

LEAST = 4
"""Finished trials that pictures are worth drawing of."""


def draw(sweep: Sweep, states: list[Record]) -> list[Path]:
    """Draw what can be drawn of a sweep's trials into its folder `figures/`; the pictures' paths."""
    about = sweep.read()
    wanted = [OBJECTIVES[name] for name in about["objective"]]
    finished = [state for state in states if state["state"] == "finished"]
    if len(finished) < LEAST or not about["space"]:
        return []
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    study = study_of(finished, list(about["space"]), wanted)
    folder = sweep.folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn = []
    for name, plot in pictures(study, wanted).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls its pictures by matplotlib experimental
            axes = plot()
            figure = plt.gcf() if not hasattr(axes, "figure") else axes.figure
            figure.set_size_inches(9, 5)
            figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close("all")
        drawn.append(folder / f"{name}.png")
    return drawn


def study_of(states: list[Record], keys: list[str], wanted: list[Objective]) -> Any:
    """An Optuna study of finished trials, whoever proposed them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=[objective.direction for objective in wanted])
    rows = [values_of(state, keys) for state in states]
    spaces = {
        key: distribution([row[key] for row in rows if key in row]) for key in keys if any(key in r for r in rows)
    }
    for state, row in zip(states, rows, strict=True):
        params = {
            k: v if isinstance(spaces[k], optuna.distributions.FloatDistribution) else str(v) for k, v in row.items()
        }
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions={key: spaces[key] for key in params}, values=state["values"]
            )
        )
    return study


def values_of(state: Record, keys: list[str]) -> dict[str, Any]:
    """What a trial was told of the parameters, numbers as numbers."""
    told = (item.lstrip("+").partition("=") for item in state["overrides"])
    return {key: number(value) for key, _, value in told if key in keys}


def number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def distribution(values: list[Any]) -> Any:
    """Numbers as a range, logarithmic where they span much; other values as a choice."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if all(isinstance(value, float) for value in values) and len(set(values)) > 1:
        low, high = min(values), max(values)
        return FloatDistribution(low, high, log=low > 0 and high / low >= 8)
    return CategoricalDistribution(sorted(set(map(str, values))))


def pictures(study: Any, wanted: list[Objective]) -> dict[str, Any]:
    """What can be drawn of a study, by the picture's name."""
    import optuna.visualization.matplotlib as optuna_plots
    from optuna.importance import PedAnovaImportanceEvaluator

    found: dict[str, Any] = {}
    varied = [name for name, values in told(study).items() if len(values) > 1]
    for i, objective in enumerate(wanted):
        own: dict[str, Any] = {"target_name": objective.name}
        if len(wanted) > 1:
            own["target"] = lambda trial, i=i: trial.values[i]
        end = f"_{objective.name}" if len(wanted) > 1 else ""
        found[f"optimization_history{end}"] = lambda own=own: optuna_plots.plot_optimization_history(study, **own)
        if len(varied) > 1:
            found[f"parallel_coordinates{end}"] = lambda own=own: optuna_plots.plot_parallel_coordinate(
                study, params=varied, **own
            )
            evaluator = PedAnovaImportanceEvaluator()
            found[f"importance{end}"] = lambda own=own, evaluator=evaluator: optuna_plots.plot_param_importances(
                study, evaluator=evaluator, params=shared(study, varied), **own
            )
    if len(wanted) == 2:
        names = [objective.name for objective in wanted]
        found["pareto_front"] = lambda: optuna_plots.plot_pareto_front(study, target_names=names)
    return found


def told(study: Any) -> dict[str, set[Any]]:
    """The values of every parameter of a study."""
    values: dict[str, set[Any]] = {}
    for trial in study.trials:
        for key, value in trial.params.items():
            values.setdefault(key, set()).add(value)
    return values


def shared(study: Any, names: list[str]) -> list[str]:
    """Parameters that every trial has: importance is of those."""
    return [name for name in names if all(name in trial.params for trial in study.trials)]
