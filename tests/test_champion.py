"""Tests of which family is named the best, and when there is a tie."""

from typing import Any

import numpy as np
import pytest

from lookalike.report.cells import Row
from lookalike.report.champion import find_champion
from lookalike.workspace.errors import UserError


def row(model: str, *, is_floor: bool = False, **metrics: tuple[float, float]) -> Row:
    """Return a cell with metrics, each a value and its error, and likelihoods of test points that vary by the error."""
    entries: dict[str, dict[str, Any]] = {name: {"value": v, "error": e} for name, (v, e) in metrics.items()}
    bits, error = metrics.get("bits_per_dim", (1.0, 0.0))
    points = {"rows_test": np.arange(100), "log_likelihood_test": np.full(100, -bits) + error * (-1) ** np.arange(100)}
    record = {"is_floor": is_floor, "configuration": {}, "data_digest": "d", "steps": 0}
    return Row(model=model, metrics=entries, samples=np.empty(0), costs={}, record=record, arrays=points)


def test_the_smallest_distance_wins_and_what_is_within_two_errors_is_named() -> None:
    rows = [
        row("gan", frechet_distance=(70.0, 4.0)),
        row("vae", frechet_distance=(60.0, 4.0)),
        row("flow", frechet_distance=(90.0, 4.0)),
        row("diffusion", frechet_distance=(65.0, 4.0)),
    ]
    best = find_champion(rows)
    assert best is not None
    assert (best.row.model, best.metric.name, best.rivals) == ("vae", "frechet_distance", ["diffusion", "gan"])
    assert str(best) == "vae, frechet_distance 60.0 ± 4.0; not distinguishable from it: diffusion, gan"


def test_floors_win_nothing() -> None:
    floors = [row(model, is_floor=True, wasserstein_1=(0.01, 0.0)) for model in ("copycat", "uniform")]
    best = find_champion([*floors, row("vae", wasserstein_1=(0.3, 0.01))])
    assert best is not None
    assert str(best) == "vae, wasserstein_1 0.300 ± 0.010"
    assert find_champion(floors) is None


def test_another_objective_is_compared_its_own_way() -> None:
    rows = [
        row("vae", frechet_distance=(60.0, 4.0), precision=(0.5, 0.01), bits_per_dim=(1.2, 0.01)),
        row("flow", frechet_distance=(90.0, 4.0), precision=(0.9, 0.01), bits_per_dim=(1.1, 0.01)),
        row("gan", frechet_distance=(50.0, 4.0), precision=(0.7, 0.01)),
    ]
    found = {name: find_champion(rows, name) for name in ("frechet_distance", "bits_per_dim")}
    assert {name: best and best.row.model for name, best in found.items()} == {
        "frechet_distance": "gan", "bits_per_dim": "flow"
    }  # fmt: skip


@pytest.mark.parametrize("objective", ["fid", "authenticity", "precision", "frechet_distance"])
def test_an_objective_that_orders_nothing_here_is_refused(objective: str) -> None:
    rows = [row("vae", wasserstein_1=(0.3, 0.01), authenticity=(0.5, 0.1), precision=(0.5, 0.1))]
    with pytest.raises(UserError, match=f"objective={objective}: choose one of wasserstein_1$"):
        find_champion(rows, objective)


def test_an_objective_that_only_floors_have_makes_no_champion() -> None:
    rows = [
        row("gan", wasserstein_1=(0.3, 0.01)),
        row("uniform", is_floor=True, wasserstein_1=(9.0, 0.1), bits_per_dim=(8.0, 0.0)),
    ]
    assert find_champion(rows, "bits_per_dim") is None
