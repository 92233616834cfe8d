"""`lookalike record`: bring MLflow and W&B up to date with the files of all cells and sweeps."""

from collections.abc import Iterator
from typing import Any

from lookalike.sweeps.recorder import record_sweeps
from lookalike.tracking.servers import quiet, record_all
from lookalike.workspace.configuration import ROOT, Config
from lookalike.workspace.errors import UserError


def record(config: Config) -> None:
    """Record all cells and sweeps that the views do not hold yet, for example after an outage."""
    quiet()
    tracking = config.tracking.model_dump()
    problems: list[str] = []
    for lines in (
        uploaded(tracking),
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


def uploaded(tracking: dict[str, Any]) -> Iterator[str]:
    """Upload the runs that W&B has not received, before it is asked what it holds."""
    if tracking["wandb"]:
        from lookalike.tracking.wandb_upload import upload

        yield from upload(project=tracking["experiment"])
