"""What trials can be compared by: scores of `metrics.json` that have a better direction, and costs."""

import dataclasses
from typing import Any, Literal

from lookalike.metrics.catalogue import MAIN, MAIN_DISTANCE, SUPPORT, TESTS
from lookalike.workspace.errors import UserError

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """A number that every trial ends with.

    Attributes:
        name: name of the score or cost.
        needs: "likelihood", "labels" or a kind of data, if a model or data set must have that; None for no condition.
        higher: whether more is better.
    """

    name: str
    needs: str | None = None
    higher: bool = False

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        return "maximize" if self.higher else "minimize"

    def better(self, a: float, b: float) -> bool:
        """Return whether a is better than b."""
        return a > b if self.higher else a < b


COSTS = ("sampling_seconds", "training_seconds", "parameters")
"""Costs in the record of a trial."""

NEEDS = {
    "bits_per_dim": "likelihood",
    "frechet_distance": "image",
    "frechet_distance_infinite": "image",
    "kernel_distance": "image",
    "wasserstein_1": "table",
    "kolmogorov_smirnov": "table",
    "class_distance": "labels",
}
"""What a model or data set must have for a score: a likelihood, labels, or a kind of data."""

OBJECTIVES = {
    metric.name: Objective(name=metric.name, needs=NEEDS.get(metric.name), higher=metric.better == "higher")
    for metric in (*MAIN, *SUPPORT, *TESTS)
    if metric.better is not None
} | {name: Objective(name=name) for name in COSTS}


def objectives(wanted: Any) -> list[Objective]:
    """Return the objectives that the key `objective` names.

    Raises:
        UserError: an objective does not exist or is named twice.
    """
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, list) or not names:
        raise UserError(f"objective={wanted}: name one, or a list of several, of {', '.join(OBJECTIVES)}")
    for name in names:
        if name not in OBJECTIVES:
            raise UserError(f"objective={name}: there is no such objective; choose from {', '.join(OBJECTIVES)}")
        if names.count(name) > 1:
            raise UserError(f"objective={wanted}: {name} is named twice")
    return [OBJECTIVES[name] for name in names]


def check_available(
    objective: Objective, *, model: str, data: str, kind: str, has_likelihood: bool, has_labels: bool
) -> None:
    """Raise a UserError if a model on a data set cannot be compared by an objective."""
    if objective.needs == "likelihood" and not has_likelihood:
        raise UserError(
            f"objective={objective.name}: {model} has no likelihood. Compare it by its samples, with "
            f"objective={MAIN_DISTANCE[kind]}"
        )
    met = {None, kind} | ({"likelihood"} if has_likelihood else set()) | ({"labels"} if has_labels else set())
    if objective.needs not in met:
        needed = "data with labels" if objective.needs == "labels" else f"data of kind {objective.needs}"
        found = "has no labels" if objective.needs == "labels" else f"is of kind {kind}"
        raise UserError(
            f"objective={objective.name}: it needs {needed}, and {data} {found}. Choose from "
            f"{', '.join(o.name for o in OBJECTIVES.values() if o.needs in met)}"
        )


def values_of(record: Record, wanted: list[Objective]) -> list[float]:
    """Return the values of objectives in the record of a trial.

    Raises:
        UserError: the trial has no such score.
    """
    found = []
    for objective in wanted:
        entry = record["metrics"].get(objective.name, {}).get("value", record["cost"].get(objective.name))
        if entry is None:
            raise UserError(f"objective={objective.name}: this trial has only {', '.join(record['metrics'])}")
        found.append(float(entry))
    return found
