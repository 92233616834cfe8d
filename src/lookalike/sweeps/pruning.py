"""The view of a trial while it trains: it writes the loss curves and stops the trial if they are hopeless."""

import json
import math
import time
from typing import TYPE_CHECKING, Any

from lookalike.sweeps.places import Sweep, Trial
from lookalike.tracking.views import View

if TYPE_CHECKING:
    import optuna

NOT_FINITE = 1e300
"""Reported to the study in place of a value that is NaN or infinite."""


class Pruned(Exception):  # noqa: N818
    """The curve of a trial is hopeless compared with those of the others."""


class Pruning(View):
    """Write losses to `curves.jsonl`, and ask the study's pruner after each validation check.

    The study counts checks and not training steps, since trials of the same budget differ in their number of steps.

    Args:
        sweep, trial: their folders.
        asked: the section `sweep` of the trial's configuration.
    """

    def __init__(self, sweep: Sweep, trial: Trial, asked: dict[str, Any]) -> None:
        self.sweep, self.trial, self.number = sweep, trial, asked["trial"]
        self.key = asked["prune"] if self.number is not None else None
        self.file: Any = None
        self.checked: set[int] = set()
        self.study_trial: optuna.Trial | None = None

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Write losses.

        Raises:
            Pruned: the trial is hopeless.
        """
        if self.file is None:
            self._open()
        line = {"step": step, "milliseconds": int(time.time() * 1000), "values": values}
        self.file.write(json.dumps(line, default=float) + "\n")
        self.file.flush()
        self._report(values, step, may_stop=True)

    def _open(self) -> None:
        """Continue the curves of an interrupted training; a kill may have cut the last line."""
        content = self.trial.curves.read_text(encoding="utf-8") if self.trial.curves.is_file() else ""
        self.file = self.trial.curves.open("a", encoding="utf-8")
        self.file.write("" if content.endswith("\n") or not content else "\n")
        for line in content.splitlines():
            if line.endswith("}}"):
                row = json.loads(line)
                self._report(row["values"], row["step"], may_stop=False)

    def _report(self, values: dict[str, float], step: int, *, may_stop: bool) -> None:
        if self.key is None or self.key not in values or step in self.checked:
            return
        if self.study_trial is None:
            from lookalike.sweeps.study import open_trial

            self.study_trial = open_trial(self.sweep, self.number)
        self.checked.add(step)
        value = float(values[self.key])
        self.study_trial.report(value if math.isfinite(value) else NOT_FINITE, len(self.checked))
        if may_stop and self.study_trial.should_prune():
            raise Pruned(f"at check {len(self.checked)}, {self.key} {value:.5g} is worse than that of other trials")

    def close(self) -> None:
        """Close the file of curves."""
        if self.file is not None:
            self.file.close()
