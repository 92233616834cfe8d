"""Ordinary differential equations from t = 0 to t = 1 or back, solved by torchdiffeq."""

from collections.abc import Callable
from typing import Any, Literal

import torch

from lookalike.workspace.errors import UserError

FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4")
"""Solvers that take `steps` and treat every point of a batch alike."""

Solver = Literal["euler", "midpoint", "heun2", "heun3", "rk4", "bosh3", "dopri5", "dopri8"]
"""The solvers of `FIXED`, and solvers that adapt their steps to a `tolerance` on the error of the whole batch."""


def check_solver(solver: Solver, *, steps: int | None, tolerance: float | None) -> None:
    """Raise a UserError unless a solver has the one setting that it needs."""
    needs, lacks = ("steps", "tolerance") if solver in FIXED else ("a tolerance", "steps")
    if (steps is None) == (solver in FIXED) or (tolerance is None) != (solver in FIXED):
        found = f"solver={solver}, steps={steps}, tolerance={tolerance}"
        raise UserError(f"{found}: it takes {needs} and no {lacks}; set to null what it does not take")


def integrate(
    field: Callable[[torch.Tensor, Any], Any],
    start: Any,
    *,
    solver: Solver,
    steps: int | None,
    tolerance: float | None,
    device: torch.device,
    reverse: bool = False,
) -> Any:
    """Carry `start` (a tensor or a tuple of tensors) along dy/dt = field(t, y) and return where it ends.

    Args:
        field: the derivative, a function of the time (a scalar tensor) and the state.
        start: the state at t = 0, or at t = 1 if `reverse`.
        solver: a method of torchdiffeq.
        steps: number of equal steps of a fixed-step solver.
        tolerance: relative and absolute tolerance of an adaptive solver.
        device: device of the times.
        reverse: whether to go from t = 1 to t = 0.
    """
    from torchdiffeq import odeint

    check_solver(solver, steps=steps, tolerance=tolerance)
    times = torch.linspace(0.0, 1.0, (steps or 1) + 1, device=device)
    if reverse:
        times = times.flip(0)
    if tolerance is None:
        path = odeint(field, start, times, method=solver)
    else:
        path = odeint(
            field, start, times, method=solver, rtol=tolerance, atol=tolerance, options={"step_t": times[-1:]}
        )
    return tuple(part[-1] for part in path) if isinstance(path, tuple) else path[-1]
