"""Register trained families in MLflow: one registered model per data set, one version per trained family.

The alias of a version is the name of its family; the best one also has the alias `champion`:
`models:/lookalike-mnist@champion`.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lookalike.metrics.catalogue import LIKELIHOOD, MAIN_DISTANCE
from lookalike.report.cells import Row
from lookalike.report.champion import find_champion, read_cells
from lookalike.report.numbers import describe
from lookalike.tracking.mlflow_server import MlflowRuns
from lookalike.tracking.servers import asked_for
from lookalike.tracking.workspace import show_cell
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import read_json

CHAMPION = "champion"

EXAMPLE = [{"count": 1, "seed": 0}]
"""A request that every model can answer."""


def register(
    tracking: dict[str, Any], *, data: str, artifacts: Path, results: Path, objective: str | None
) -> Iterator[str]:
    """Register the complete cells of a data set, each with its training run as source; yield one line per cell.

    Nothing is registered twice. Runs that the store does not have are recorded first.

    Args:
        tracking: the section `tracking`.
        data: the data set's name.
        artifacts, results: folders.
        objective: the metric whose best family becomes champion; None for the data set's distance.

    Raises:
        UserError: MLflow is not among the views or cannot be reached, there is nothing to register, or the objective
            does not exist.
    """
    if not tracking["mlflow"]:
        raise UserError("tracking: the registry belongs to MLflow. Choose tracking=mlflow")
    folder, (tracker, *_) = artifacts / data, asked_for(tracking)
    rows, left_out = read_cells(folder)
    best = find_champion(rows, objective)
    try:
        server = tracker.connect()
        registry = Registry(server, f"lookalike-{data}")
        yield f"{tracker.place}: {registry.name}"
        versions = {}
        for row in rows:
            cell = folder / row.model / str(row.record["configuration"]["seed"])
            show_cell(server, row.record, cell, artifacts, results)
            version, is_new = registry.add(row, cell)
            registry.point(row.model, version)
            versions[row.model] = version
            yield f"  {row.model}: version {version}{'' if is_new else ', as before'}"
        yield from (f"  {model}: left out, {why}" for model, why in left_out.items())
        if best is None:
            yield f"  no {CHAMPION}: none of these families takes part in the contest"
        else:
            registry.point(CHAMPION, versions[best.row.model])
            yield f"  {CHAMPION}: {best}"
    except Exception as error:
        raise UserError(tracker.complaint(error)) from None


class Registry:
    """One registered model, which is created if it does not exist."""

    def __init__(self, server: MlflowRuns, name: str) -> None:
        from mlflow.exceptions import MlflowException

        self.server, self.client, self.name = server, server.client, name
        try:
            self.client.create_registered_model(name, description=f"Generative models of {name.partition('-')[2]}.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def add(self, row: Row, cell: Path) -> tuple[str, bool]:
        """Return the version of a cell, and whether it is new. Other settings of sampling or scoring make a new one."""
        settings = settings_of(row, cell)
        identity = {
            "fingerprint": str(row.record["fingerprint"]),
            "settings": json.dumps(settings, sort_keys=True),
        }
        with self.server.lock():
            if (found := self.find(identity)) is not None:
                return found, False
            run_id = str(
                self.server.find(str(row.record["domain"]["name"]), "fingerprint", identity["fingerprint"]).info.run_id
            )
            model_id = self.log(row, cell, settings, run_id)
            version = self.client.create_model_version(
                self.name,
                f"models:/{model_id}",
                run_id,
                tags=identity | tags_of(row),
                description=described(row),
                model_id=model_id,
            )
        return str(version.version), True

    def find(self, identity: dict[str, str]) -> str | None:
        """Return the number of the version with the tags of an identity, or None."""
        found = self.client.search_model_versions(
            f"name = '{self.name}' and tags.fingerprint = '{identity['fingerprint']}'"
        )
        same = [str(version.version) for version in found if version.tags.get("settings") == identity["settings"]]
        return same[0] if same else None

    def log(self, row: Row, cell: Path, settings: dict[str, Any], run_id: str) -> str:
        """Keep the model with its run, for `mlflow.pyfunc` to load and serve; return its id."""
        from mlflow.entities import LoggedModelOutput

        # This imports torch, which is not needed if everything is registered already.
        from lookalike.tracking.package import write_model

        logged = self.client.create_logged_model(
            self.server.experiment_of(data_of(row)),
            str(row.record["name"]),
            run_id,
            tags={"fingerprint": row.record["fingerprint"]},
        )
        try:
            with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
                write_model(row, cell, settings, Path(folder) / "model")
                save(row, Path(folder), logged, run_id)
                self.client.log_model_artifacts(logged.model_id, str(Path(folder) / "saved"))
        except BaseException:
            self.client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        return str(logged.model_id)

    def point(self, alias: str, version: str) -> None:
        """Let an alias name a version."""
        self.client.set_registered_model_alias(self.name, alias, version)


def settings_of(row: Row, cell: Path) -> dict[str, Any]:
    """Return how a cell was sampled, and how its likelihood was computed, which is None without a likelihood."""
    return {
        "sampling": read_json(cell / "sample" / "settings.json", remedy="Run the sample stage again"),
        "likelihood": row.metrics.get("bits_per_dim", {}).get("settings"),
    }


def save(row: Row, folder: Path, logged: Any, run_id: str) -> None:
    """Write what MLflow keeps of `folder/model` to `folder/saved`, with code, signature, example and environment."""
    import mlflow

    from lookalike.tracking.package import SCRIPT, requirements, write_code

    write_code(row, folder / "code")
    mlflow.pyfunc.save_model(
        path=str(folder / "saved"),
        mlflow_model=mlflow.models.Model(
            artifact_path=logged.artifact_location, model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id
        ),
        python_model=str(SCRIPT),
        model_config={"axes": len(row.record["domain"]["shape"])},
        artifacts={"model": str(folder / "model")},
        code_paths=[str(folder / "code" / "lookalike")],
        pip_requirements=requirements(row),
        input_example=EXAMPLE,
        metadata={"fingerprint": row.record["fingerprint"], "data_digest": row.record["data_digest"]},
    )


def data_of(row: Row) -> str:
    """Return the name of the data set that a model was trained on."""
    return str(row.record["domain"]["name"])


def tags_of(row: Row) -> dict[str, str]:
    """Return what a version shows beside its identity."""
    section = row.record["configuration"]["model"]
    return {
        "data": data_of(row),
        "model": row.model,
        "data_digest": str(row.record["data_digest"]),
        "code_digest": str(row.record["code_digest"]),
        "conditional": str(bool(section.get("conditional", False))).lower(),
    }


def described(row: Row) -> str:
    """Return the scores by which people choose, with their errors."""
    scores = {name: row.metrics[name] for name in (LIKELIHOOD, *MAIN_DISTANCE.values()) if name in row.metrics}
    return f"{row.model}: " + ", ".join(f"{name} {describe(entry)}" for name, entry in scores.items())
