"""The path from noise to data: schedules, ODE solvers and couplings."""
