"""The same runs in Weights & Biases, by the fingerprint as their id; offline where there is no API key.

W&B merges what processes tell of one id when it has them, so a run offline is a folder for every stage. What of it was
recorded can't be asked of a server then: it stands in a file beside the folders.
"""

import json
import netrc
import os
import shutil
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from lookalike.tracking.content import ROOT, Content, Point, Record, flat, made_here

SETTINGS = {
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""Environment variables that are set where the user has not."""


class WandbRuns:
    """A project. Its folder is `wandb/` in the repository, or in WANDB_DIR."""

    def __init__(self, *, project: str) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("WANDB_MODE", "online" if has_key() else "offline")
        self.project, self.home = project, Path(os.environ.get("WANDB_DIR") or ROOT)
        (self.home / "wandb").mkdir(parents=True, exist_ok=True)

    def open(self, record: Record, *, training: bool, sweep: str | None = None) -> "WandbRun":
        """The run of a trained model, which begins with the first thing that there is to tell."""
        state = made_here(record, training=training)
        about = {key: record[key] for key in ("fingerprint", "data_digest", "code_digest")}
        arguments = {
            "project": self.project,
            "id": record["fingerprint"],
            "name": record["name"],
            "group": sweep,
            "resume": "allow",
            "dir": str(self.home),
            "tags": [record["domain"]["name"]],
            "config": flat(record["configuration"])
            | about
            | {"git_commit": state["commit"], "git_dirty": state["dirty"]},
        }
        run = WandbRun(arguments, self.home / "wandb" / "recorded.json")
        if training:
            run.run()
        return run


class WandbRun:
    """One run: losses against their own step, since W&B's may not go back, and final values as its summary."""

    def __init__(self, arguments: dict[str, Any], ledger: Path) -> None:
        self.arguments, self.ledger = arguments, ledger
        self.told: set[tuple[str, int]] = set()
        self.shown: set[int] = set()
        self.started: Any = None

    def run(self) -> Any:
        """Start the run when it is needed: a folder that tells nothing new leaves no trace."""
        if self.started is None:
            import wandb

            settings = wandb.Settings(silent=True, console="off", init_timeout=20)
            self.started = wandb.init(**self.arguments, settings=settings)
            self.started.define_metric("step", hidden=True)
            for group in ("train/*", "validation/*", "samples"):
                self.started.define_metric(group, step_metric="step")
        return self.started

    def points(self, points: list[Point]) -> None:
        """Losses by step, those that this process did not tell."""
        rows: dict[int, dict[str, float]] = {}
        for point in points:
            if (point.key, point.step) not in self.told:
                self.told.add((point.key, point.step))
                rows.setdefault(point.step, {})[point.key] = point.value
        for step, row in rows.items():
            self.run().log(row | {"step": step})

    def preview(self, picture: Path, step: int) -> None:
        """Samples drawn at a step of training."""
        import wandb

        self.shown.add(step)
        self.run().log({"samples": wandb.Image(str(picture)), "step": step})

    def previewed(self) -> set[int]:
        """The steps whose samples this process showed."""
        return self.shown

    def recorded(self, stage: str) -> str | None:
        """The digest of what was recorded of a stage, if anything was."""
        found: str | None = self._ledger().get(self.arguments["id"], {}).get(stage)
        return found

    def stage(self, stage: str, content: Content) -> None:
        """All that a stage's folder tells, but for the previews."""
        self.run().config.update(content.parameters | content.tags, allow_val_change=True)
        self.points(content.curves)
        self.run().summary.update({point.key: point.value for point in content.results})
        self._keep(content.files, ".")
        self._note(stage, content.digest)

    def report(self, files: dict[str, list[Path]], digest: str) -> None:
        """Keep a report's files with the run, by the folder that they stand in."""
        for folder, paths in files.items():
            self._keep(paths, folder)
        self._note("report", digest)

    def tick(self) -> None:
        """W&B looks at the machine by itself."""

    def close(self, state: str) -> None:
        """End the run in this process."""
        if self.started is not None:
            self.started.finish(exit_code={"FINISHED": 0, "FAILED": 1}.get(state, 255))

    def _keep(self, files: list[Path], folder: str) -> None:
        """Copies: W&B would link to files, and a stage's draft moves."""
        home = Path(self.run().dir)
        for path in files:
            (home / folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, home / folder / path.name)
            self.run().save(str(home / folder / path.name), base_path=str(home), policy="now")

    def _ledger(self) -> dict[str, dict[str, str]]:
        content: dict[str, dict[str, str]] = json.loads(self.ledger.read_text()) if self.ledger.is_file() else {}
        return content

    def _note(self, stage: str, digest: str) -> None:
        with FileLock(f"{self.ledger}.lock", timeout=60):
            content = self._ledger()
            content.setdefault(self.arguments["id"], {})[stage] = digest
            draft = self.ledger.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}")
            draft.write_text(json.dumps(content, indent=2) + "\n")
            draft.replace(self.ledger)


def has_key() -> bool:
    """Whether the user has an API key, in WANDB_API_KEY or from `wandb login`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
