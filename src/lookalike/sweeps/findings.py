"""What a sweep asked for and what it found on one data set, as parameters, tags and metrics of its run in a tracker."""

from lookalike.sweeps.objectives import OBJECTIVES
from lookalike.sweeps.places import Record
from lookalike.tracking.content import Point


def parameters(about: Record, data: str) -> dict[str, str]:
    """Return what a sweep on one data set was asked for, as parameters: the searched space and what is fixed."""
    fixed = [item.lstrip("+~").partition("=")[::2] for item in about["fixed"]]
    return {
        "data": data,
        "objective": ", ".join(about["objective"]),
        "split": about["split"],
        "sampler": about["sweeper"]["name"],
        **{f"space.{key}": value for key, value in about["space"].items()},
        **{f"fixed.{key}": value for key, value in fixed if key != "data"},
    }


def outcome(summary: Record) -> dict[str, str]:
    """Return the results of a sweep on one data set, as tags."""
    tags = {f"trials.{kind}": str(count) for kind, count in summary["counts"].items()}
    for found in summary.get("verdict", {}).values():
        tags["best"] = found["best"]
        tags["winner"] = "none: within error" if found["winner"] is None else found["winner"]
    if "pareto_front" in summary:
        tags["pareto_front"] = "; ".join(row["title"] for row in summary["pareto_front"])
    return tags


def best_scores(summary: Record) -> list[Point]:
    """Return the best mean of each objective, with its error if it has one."""
    found = []
    for name in summary["objective"] if summary["configurations"] else []:
        scores = [row["scores"][name] for row in summary["configurations"]]
        best = (max if OBJECTIVES[name].higher else min)(scores, key=lambda score: float(score["mean"]))
        found.append(Point(name, best["mean"]))
        found += [Point(f"{name}_error", best["error"])] if best["error"] is not None else []
    return found
