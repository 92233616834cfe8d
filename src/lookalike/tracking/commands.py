"""`lookalike record` and `lookalike register`: bring MLflow and W&B up to date with the files."""

from lookalike.tracking.registry import register as register_models
from lookalike.tracking.servers import quiet, record_all
from lookalike.tracking.sweeps import record_sweeps
from lookalike.workspace.configuration import ROOT, Config
from lookalike.workspace.errors import UserError


def record(config: Config) -> None:
    """Record all cells and sweeps that the views do not hold yet, for example after an outage."""
    quiet()
    tracking = config.tracking.model_dump()
    problems: list[str] = []
    for lines in (
        record_all(tracking, config.path("artifacts"), config.path("results")),
        record_sweeps(tracking, ROOT / "multirun"),
    ):
        try:
            for line in lines:
                print(line, flush=True)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("; ".join(dict.fromkeys(problems)))


def register(config: Config, *, objective: str | None = None) -> None:
    """Register every trained family of a data set in MLflow's registry.

    Args:
        config: names the data set and the tracking server.
        objective: the metric whose best family gets the alias `champion`; None for the data set's distance.
    """
    quiet()
    for line in register_models(
        config.tracking.model_dump(),
        data=config.data.name,
        artifacts=config.path("artifacts"),
        results=config.path("results"),
        objective=objective,
    ):
        print(line, flush=True)
