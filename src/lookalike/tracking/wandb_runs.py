"""The runs in Weights & Biases, with the fingerprint in their configuration; offline if `wandb` knows no API key.

There is one project per data set. The seeds of a model are one group.

Offline, every stage writes a folder of its own, and W&B merges the folders of one id when it receives them. A file
beside the folders lists the ids and what was recorded, because offline there is no server to ask. W&B never accepts
the id of a deleted run again, so ids are random, and a server is asked for the run with a fingerprint.
"""

import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from lookalike.domain.domain import Domain
from lookalike.domain.kinds import load_domain
from lookalike.tracking.content import HEADLINE, ROOT, Content, Point, Record, commit_of, family_of, flat
from lookalike.tracking.layout import FINAL
from lookalike.tracking.mlflow_server import name_of, run_name
from lookalike.tracking.wandb_tables import sample_table
from lookalike.workspace.files import replace_json
from lookalike.workspace.locks import claim, file_lock

SETTINGS = {
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""Environment variables that are set unless the user has set them."""


class WandbRuns:
    """The projects, whose names begin alike. The folder of all is `wandb/` in the repository, or in WANDB_DIR."""

    def __init__(self, *, project: str) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        import wandb
        from wandb.sdk.lib import wbauth

        settings = wandb.setup().settings
        asking = {"host": settings.base_url, "source": "lookalike", "prompt": False, "update_session": False}
        is_known = settings.mode != "online" or wbauth.authenticate_session(**asking) is not None
        self.mode = settings.mode if is_known else "offline"
        self.project, self.home = project, Path(os.environ.get("WANDB_DIR") or ROOT)
        (self.home / "wandb").mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.home / "wandb" / "recorded.json")

    def project_of(self, data: str) -> str:
        """Return the name of the project of a data set; W&B allows no `/ \\ # ? % :` in it."""
        return re.sub(r"[/\\#?%:]", "-", f"{self.project}-{data}")

    def open(
        self, record: Record, *, training: bool, place: str | None = None, more: Record | None = None, **arguments: Any
    ) -> "WandbRun":
        """Return the run of a trained model, which starts as soon as there is something to record.

        Args:
            record: the content of `model.json`, or the part of it that is known before training.
            training: whether the model is about to be trained.
            place: what the name of the project ends with; None for the data set's name.
            more: further settings.
            arguments: those of `wandb.init` that are not as for the model of a cell.
        """
        state, domain, family = commit_of(record, training=training), load_domain(record["domain"]), family_of(record)
        about = {key: record[key] for key in ("data_digest", "code_digest")} | {"family": family}
        about |= {"git_commit": state["commit"], "git_dirty": state["dirty"]}
        own = {"name": run_name(record), "group": name_of(record), "job_type": "train", "tags": [domain.name, family]}
        config = typed(flat(record["configuration"])) | about | (more or {})
        place = self.project_of(place or domain.name)
        run = self.start(record["fingerprint"], place, domain, config=config, **(own | arguments))
        if training:
            run.run()
        return run

    def start(self, fingerprint: str, project: str, domain: Domain | None, **arguments: Any) -> "WandbRun":
        """Return the run with a fingerprint in a project.

        Args:
            fingerprint: what identifies the run.
            project: the name of the project.
            domain: the domain of its samples, if it has some.
            arguments: those of `wandb.init` that describe the run.
        """
        arguments["config"] |= {"fingerprint": fingerprint}
        run_id = self._id(fingerprint, project)
        arguments |= {"project": project, "id": run_id, "resume": "allow", "mode": self.mode, "dir": str(self.home)}
        return WandbRun(arguments, self.ledger, fingerprint, domain)

    def overview(self, shown: list[tuple[Record, Any]]) -> None:
        """Do nothing: W&B computes means over a group of runs by itself."""

    def _id(self, fingerprint: str, project: str) -> str:
        """Return the id of the run with a fingerprint; a new one if there is no such run, or no longer."""
        entry = self.ledger.read().get(fingerprint, {})
        noted = entry.get("id") if entry.get("project") == project else None  # Earlier versions had one project.
        found = self._ask(fingerprint, project, noted) if self.mode == "online" else noted
        if found is None or found != noted:
            found = found or secrets.token_hex(8)
            self.ledger.note(fingerprint, {"id": found, "project": project}, replace=True)
        return found

    def _ask(self, fingerprint: str, project: str, noted: str | None) -> str | None:
        """Return the id of the server's run with a fingerprint, or with the id that was noted, if there is one."""
        import wandb

        either = [{"config.fingerprint": fingerprint}, *([{"name": noted}] if noted else [])]
        runs = wandb.Api(timeout=20).runs(project, filters={"$or": either}, per_page=1)
        try:
            return next((str(run.id) for run in runs), None)
        except ValueError:  # The project does not exist yet.
            return None


class WandbRun:
    """One run: losses over their own step, because W&B's step may not go back, and final values in the summary."""

    def __init__(self, arguments: Record, ledger: "Ledger", fingerprint: str, domain: Domain | None) -> None:
        self.arguments, self.ledger, self.fingerprint, self.domain = arguments, ledger, fingerprint, domain
        self.sent: set[tuple[str, int]] = set()
        self.shown: set[int] = set()
        self.started: Any = None

    def run(self) -> Any:
        """Return the run, which starts when it is first needed, so that a folder without news leaves no trace."""
        if self.started is None:
            import wandb

            settings = wandb.Settings(silent=True, console="off", init_timeout=20)
            self.started = wandb.init(**self.arguments, settings=settings)
            self.release = claim(Path(self.started.dir).parent)  # Nothing is uploaded while it is written.
            self.started.define_metric("step", hidden=True)
            for group in ("train/*", "validation/*", "samples"):
                self.started.define_metric(group, step_metric="step")
            if self.arguments["mode"] == "offline":
                # `wandb sync` replaces the summary on the server by that of the last folder of the run.
                self.started.summary.update(self._entry().get("summary", {}))
        return self.started

    def _entry(self) -> Record:
        return self.ledger.read().get(self.fingerprint, {})

    def points(self, points: list[Point]) -> None:
        """Record losses by step, except those that this process recorded."""
        rows: dict[int, dict[str, float]] = {}
        for point in points:
            if (point.key, point.step) not in self.sent:
                self.sent.add((point.key, point.step))
                rows.setdefault(point.step, {})[point.key] = point.value
        for step, row in rows.items():
            self.run().log(row | {"step": step})

    def preview(self, picture: Path, step: int) -> None:
        """Record samples that were drawn at a step of training."""
        import wandb

        self.shown.add(step)
        self.run().log({"samples": wandb.Image(str(picture)), "step": step})

    def previewed(self) -> set[int]:
        """Return the steps whose samples this process recorded."""
        return self.shown

    def recorded(self, stage: str) -> str | None:
        """Return the digest of what was recorded of a stage, if anything was."""
        found: str | None = self._entry().get(stage)
        return found

    def stage(self, stage: str, content: Content) -> None:
        """Record everything that the folder of a stage says, except previews. Headline scores get charts."""
        self.run().config.update(typed(content.parameters | content.tags), allow_val_change=True)
        self.points(content.curves)
        charted = {p.key: p.value for p in content.results if p.key.removesuffix("_error") in HEADLINE}
        if charted := charted | self._samples(content):
            self.run().log(charted)
        self.summary(content.results)
        self._keep(content.files, ".")
        self.ledger.note(self.fingerprint, {stage: content.digest})

    def summary(self, results: list[Point]) -> None:
        """Record final values."""
        self.run().summary.update({point.key: point.value for point in results})

    def _samples(self, content: Content) -> Record:
        """Return the picture of samples and a table of the first ones."""
        import wandb

        found: Record = {}
        for path in content.files:
            if path.name == "samples.png":
                found[FINAL] = wandb.Image(str(path))
        if self.domain is not None and content.arrays:
            found["sample_table"] = sample_table(self.domain, content.arrays)
        return found

    def report(self, files: dict[str, list[Path]], digest: str) -> None:
        """Keep the files of a report with the run, by folder."""
        for folder, paths in files.items():
            self._keep(paths, folder)
        self.ledger.note(self.fingerprint, {"report": digest})

    def tick(self) -> None:
        """Do nothing: W&B records the load of the machine by itself."""

    def close(self, state: str) -> None:
        """End the run in this process."""
        if self.started is not None:
            held = dict(self.started.summary)
            kept = {
                key: dict(value) if hasattr(value, "keys") else value for key, value in held.items() if key[0] != "_"
            }
            self.started.finish(exit_code={"FINISHED": 0, "FAILED": 1}.get(state, 255))
            self.release()
            self.ledger.note(self.fingerprint, {"summary": kept})

    def _keep(self, files: list[Path], folder: str) -> None:
        """Keep copies of files, because W&B would link to them and the draft of a stage moves."""
        home = Path(self.run().dir)
        for path in files:
            (home / folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, home / folder / path.name)
            self.run().save(str(home / folder / path.name), base_path=str(home), policy="now")


def typed(lines: dict[str, str]) -> Record:
    """Return settings as numbers, lists and truth values where their text is one, so that W&B can draw them."""
    found: Record = {}
    for key, text in lines.items():
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


class Ledger:
    """The file that lists the id, the project and the summary of each run by fingerprint, and what was recorded.

    Of each stage that was recorded it has the digest.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Record]:
        """Return everything that was noted."""
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else "{}"
        content: dict[str, Record] = json.loads(text)
        return content

    def note(self, fingerprint: str, news: Record, *, replace: bool = False) -> None:
        """Note something about a run, and perhaps forget all else."""
        with file_lock(Path(f"{self.path}.lock"), timeout=60):
            content = self.read()
            content[fingerprint] = news if replace else content.get(fingerprint, {}) | news
            replace_json(self.path, content)
