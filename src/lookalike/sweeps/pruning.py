"""What happens while a trial trains: its curves go into its folder, and a hopeless one is stopped by Optuna's pruner."""

import json
import time
from typing import Any

from lookalike.sweeps.places import Sweep, Trial
from lookalike.views import View


class Pruned(Exception):  # noqa: N818: it is no error
    """A trial's curve is hopeless beside those of the others."""


class Pruning(View):
    """A view that writes losses to `curves.jsonl`, and asks the study after each check of validation."""

    def __init__(self, sweep: Sweep, trial: Trial, asked: dict[str, Any]) -> None:
        self.key, self.number = asked["prune"], asked["trial"]
        self.sweep, self.trial = sweep, trial
        self.file: Any = None
        self.study_trial: Any = None
        self.checked = self._checked_before()

    def _checked_before(self) -> set[int]:
        """Steps at which validation was scored before the training was interrupted."""
        if not self.trial.curves.is_file():
            return set()
        lines = self.trial.curves.read_text().splitlines()
        # The last line of a process that was killed may be cut.
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return {row["step"] for row in rows if any(key.startswith("validation/") for key in row["values"])}

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Write losses down.

        Raises:
            Pruned: the trial is hopeless.
        """
        if self.file is None:
            cut = self.trial.curves.is_file() and not self.trial.curves.read_bytes().endswith(b"\n")
            self.file = self.trial.curves.open("a")
            self.file.write("\n" if cut else "")
        line = {"step": step, "milliseconds": int(time.time() * 1000), "values": values}
        self.file.write(json.dumps(line, default=float) + "\n")
        self.file.flush()
        if any(key.startswith("validation/") for key in values):
            self.checked.add(step)
        if self.number is not None and self.key in values:
            self._ask(float(values[self.key]))

    def _ask(self, value: float) -> None:
        """Report a value; its step is the number of the check, since trials of one budget differ in their steps."""
        from lookalike.sweeps.study import hopeless

        number = len(self.checked)
        if hopeless(self.sweep, self.number, value, step=number):
            raise Pruned(f"at check {number}, {self.key} {value:.5g} is worse than what the others had")

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
