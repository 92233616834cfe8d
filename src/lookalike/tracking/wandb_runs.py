"""The runs in Weights & Biases, with the fingerprint as their id; offline if there is no API key.

Offline, every stage writes a folder of its own, and W&B merges the folders of one id when it receives them. A file
beside the folders lists what was recorded, because offline there is no server to ask.
"""

import json
import netrc
import os
import shutil
import time
from pathlib import Path
from typing import Any

from lookalike.tracking.content import ROOT, Content, Point, Record, commit_of, flat
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
        os.environ.setdefault("WANDB_MODE", "online" if has_key() else "offline")
        self.project, self.home = project, Path(os.environ.get("WANDB_DIR") or ROOT)
        (self.home / "wandb").mkdir(parents=True, exist_ok=True)

    def open(self, record: Record, *, training: bool, group: str | None = None) -> "WandbRun":
        """Return the run of a trained model, which starts as soon as there is something to record."""
        state = commit_of(record, training=training)
        about = {key: record[key] for key in ("fingerprint", "data_digest", "code_digest")}
        about |= {"git_commit": state["commit"], "git_dirty": state["dirty"]}
        arguments = {
            "project": self.project,
            "id": record["fingerprint"],
            "name": record["name"],
            "group": group,
            "resume": "allow",
            "dir": str(self.home),
            "tags": [record["domain"]["name"]],
            "config": flat(record["configuration"]) | about,
        }
        run = WandbRun(arguments, self.home / "wandb" / "recorded.json")
        if training:
            run.run()
        return run


class WandbRun:
    """One run: losses over their own step, because W&B's step may not go back, and final values in the summary."""

    def __init__(self, arguments: dict[str, Any], ledger: Path) -> None:
        self.arguments, self.ledger = arguments, ledger
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
        found: str | None = self._ledger().get(self.arguments["id"], {}).get(stage)
        return found

    def stage(self, stage: str, content: Content) -> None:
        """Record everything that the folder of a stage says, except previews."""
        self.run().config.update(content.parameters | content.tags, allow_val_change=True)
        self.points(content.curves)
        self.run().summary.update({point.key: point.value for point in content.results})
        self._keep(content.files, ".")
        self._note(stage, content.digest)

    def report(self, files: dict[str, list[Path]], digest: str) -> None:
        """Keep the files of a report with the run, by folder."""
        for folder, paths in files.items():
            self._keep(paths, folder)
        self._note("report", digest)

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

    def _ledger(self) -> dict[str, dict[str, str]]:
        content: dict[str, dict[str, str]] = (
            json.loads(self.ledger.read_text(encoding="utf-8")) if self.ledger.is_file() else {}
        )
        return content

    def _note(self, stage: str, digest: str) -> None:
        with file_lock(Path(f"{self.ledger}.lock"), timeout=60):
            content = self._ledger()
            content.setdefault(self.arguments["id"], {})[stage] = digest
            draft = self.ledger.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}")
            draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            draft.replace(self.ledger)


def has_key() -> bool:
    """Return whether the user has an API key, in WANDB_API_KEY or from `wandb login`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
