"""What trials can be compared by: the scores of `metrics.json` that say which way is better, and what a trial costs."""

import dataclasses
from typing import Any, Literal

from lookalike.core.errors import UserError

Needs = Literal["likelihood", "image", "vector", "labels", "nothing"]

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """A number that a trial ends with.

    Attributes:
        name: of the score, or of the cost.
        needs: what a model, or the data set, has to be for it.
        higher: whether more is better.
    """

    name: str
    needs: Needs = "nothing"
    higher: bool = False

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        return "maximize" if self.higher else "minimize"

    def better(self, a: float, b: float) -> bool:
        """Whether a is better than b."""
        return a > b if self.higher else a < b


COSTS = ("sampling_seconds", "training_seconds", "parameters")
"""What a trial's record has under `cost`."""

OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective(name="bits_per_dim", needs="likelihood"),
        Objective(name="frechet_distance", needs="image"),
        Objective(name="frechet_distance_infinite", needs="image"),
        Objective(name="kernel_distance", needs="image"),
        Objective(name="wasserstein_1", needs="vector"),
        Objective(name="kolmogorov_smirnov", needs="vector"),
        Objective(name="class_distance", needs="labels"),
        Objective(name="precision", higher=True),
        Objective(name="recall", higher=True),
        Objective(name="density", higher=True),
        Objective(name="coverage", higher=True),
        Objective(name="nearest_sample_distance"),
        Objective(name="classifier_accuracy"),
        Objective(name="energy_distance"),
        Objective(name="sliced_wasserstein"),
        *(Objective(name=name) for name in COSTS),
    )
}


def objectives(wanted: Any) -> list[Objective]:
    """The objectives that the key `objective` names.

    Raises:
        UserError: there is no such objective, or one twice.
    """
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, list) or not names:
        raise UserError(f"objective={wanted}: name one, or a list of several, of {', '.join(OBJECTIVES)}")
    for name in names:
        if name not in OBJECTIVES:
            raise UserError(f"objective={name}: there is no such objective; choose from {', '.join(OBJECTIVES)}")
        if names.count(name) > 1:
            raise UserError(f"objective={wanted}: {name} is there twice")
    return [OBJECTIVES[name] for name in names]


def check_available(
    objective: Objective, *, model: str, data: str, kind: str, has_likelihood: bool, has_labels: bool
) -> None:
    """Raise a UserError if a model on a data set of a kind (image or vector) can't be compared by an objective."""
    if objective.needs == "likelihood" and not has_likelihood:
        other = "frechet_distance" if kind == "image" else "wasserstein_1"
        raise UserError(
            f"objective={objective.name}: {model} has no likelihood. Compare by its samples, with objective={other}"
        )
    met = {kind, "nothing"} | ({"likelihood"} if has_likelihood else set()) | ({"labels"} if has_labels else set())
    if objective.needs not in met:
        lacks = f"{data} has no labels" if objective.needs == "labels" else f"{data} are {kind}s"
        raise UserError(
            f"objective={objective.name}: it is of {objective.needs.removesuffix('s')}s, and {lacks}. Choose from "
            f"{', '.join(o.name for o in OBJECTIVES.values() if o.needs in met)}"
        )


def values_of(record: Record, wanted: list[Objective]) -> list[float]:
    """The objectives' values in a trial's record.

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
