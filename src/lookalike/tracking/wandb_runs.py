"""The runs in Weights & Biases, with the fingerprint in their configuration; offline if `wandb` knows no API key.

Offline, every stage writes a folder of its own, and W&B merges the folders of one id when it receives them. A file
beside the folders lists the ids and what was recorded, because offline there is no server to ask. W&B never accepts
the id of a deleted run again, so ids are random, and a server is asked for the run with a fingerprint.
"""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from lookalike.tracking.content import ROOT, Content, Point, Record, commit_of, flat
from lookalike.workspace.files import replace_json
from lookalike.workspace.locks import file_lock

SETTINGS = {
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""Environment variables that are set unless the user has set them."""


class WandbRuns:
    """A project. Its folder is `wandb/` in the repository, or in WANDB_DIR."""

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

    def open(self, record: Record, *, training: bool, group: str | None = None) -> "WandbRun":
        """Return the run of a trained model, which starts as soon as there is something to record."""
        state = commit_of(record, training=training)
        about = {key: record[key] for key in ("fingerprint", "data_digest", "code_digest")}
        about |= {"git_commit": state["commit"], "git_dirty": state["dirty"]}
        arguments = {
            "project": self.project,
            "id": self._id(record["fingerprint"]),
            "name": record["name"],
            "group": group,
            "resume": "allow",
            "mode": self.mode,
            "dir": str(self.home),
            "tags": [record["domain"]["name"]],
            "config": flat(record["configuration"]) | about,
        }
        run = WandbRun(arguments, self.ledger, record["fingerprint"])
        if training:
            run.run()
        return run

    def overview(self, shown: list[tuple[Record, Any]]) -> None:
        """Do nothing: W&B computes means over a group of runs by itself."""

    def _id(self, fingerprint: str) -> str:
        """Return the id of the run with a fingerprint; a new one if there is no such run, or no longer."""
        entry = self.ledger.read().get(fingerprint)
        noted = entry.get("id", fingerprint) if entry else None  # Earlier versions used the fingerprint.
        found = self._ask(fingerprint, noted) if self.mode == "online" else noted
        if found is None or found != noted:
            found = found or secrets.token_hex(8)
            self.ledger.note(fingerprint, {"id": found}, replace=True)
        return found

    def _ask(self, fingerprint: str, noted: str | None) -> str | None:
        """Return the id of the server's run with a fingerprint, or with the id that was noted, if there is one."""
        import wandb

        either = [{"config.fingerprint": fingerprint}, *([{"name": noted}] if noted else [])]
        runs = wandb.Api(timeout=20).runs(self.project, filters={"$or": either}, per_page=1)
        try:
            return next((str(run.id) for run in runs), None)
        except ValueError:  # The project does not exist yet.
            return None


class WandbRun:
    """One run: losses over their own step, because W&B's step may not go back, and final values in the summary."""

    def __init__(self, arguments: dict[str, Any], ledger: "Ledger", fingerprint: str) -> None:
        self.arguments, self.ledger, self.fingerprint = arguments, ledger, fingerprint
        self.sent: set[tuple[str, int]] = set()
        self.shown: set[int] = set()
        self.started: Any = None

    def run(self) -> Any:
        """Return the run, which starts when it is first needed, so that a folder without news leaves no trace."""
        if self.started is None:
            import wandb

            settings = wandb.Settings(silent=True, console="off", init_timeout=20)
            self.started = wandb.init(**self.arguments, settings=settings)
            self.started.define_metric("step", hidden=True)
            for group in ("train/*", "validation/*", "samples"):
                self.started.define_metric(group, step_metric="step")
        return self.started

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
        found: str | None = self.ledger.read().get(self.fingerprint, {}).get(stage)
        return found

    def stage(self, stage: str, content: Content) -> None:
        """Record everything that the folder of a stage says, except previews."""
        self.run().config.update(content.parameters | content.tags, allow_val_change=True)
        self.points(content.curves)
        self.run().summary.update({point.key: point.value for point in content.results})
        self._keep(content.files, ".")
        self.ledger.note(self.fingerprint, {stage: content.digest})

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
            self.started.finish(exit_code={"FINISHED": 0, "FAILED": 1}.get(state, 255))

    def _keep(self, files: list[Path], folder: str) -> None:
        """Keep copies of files, because W&B would link to them and the draft of a stage moves."""
        home = Path(self.run().dir)
        for path in files:
            (home / folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, home / folder / path.name)
            self.run().save(str(home / folder / path.name), base_path=str(home), policy="now")


class Ledger:
    """The file that lists the id of each run by fingerprint, and the digest of each stage that was recorded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, dict[str, str]]:
        """Return everything that was noted."""
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else "{}"
        content: dict[str, dict[str, str]] = json.loads(text)
        return content

    def note(self, fingerprint: str, news: dict[str, str], *, replace: bool = False) -> None:
        """Note something about a run, and perhaps forget all else."""
        with file_lock(Path(f"{self.path}.lock"), timeout=60):
            content = self.read()
            content[fingerprint] = news if replace else content.get(fingerprint, {}) | news
            replace_json(self.path, content)
