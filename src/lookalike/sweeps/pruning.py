"""What happens while a trial trains: its curves go into its folder, and Optuna's pruner stops a hopeless one."""

import json
import math
import time
from typing import Any

from lookalike.sweeps.places import Sweep, Trial
from lookalike.views import View


class Pruned(Exception):  # noqa: N818
    """A trial's curve is hopeless beside those of the others."""


class Pruning(View):
    """A view that writes losses to `curves.jsonl`, and asks the study after each check of validation.

    What a study is told has the number of the check as its step: trials of one budget differ in their steps.
    """

    def __init__(self, sweep: Sweep, trial: Trial, asked: dict[str, Any]) -> None:
        self.sweep, self.trial = sweep, trial
        self.key = asked["prune"] if asked["trial"] is not None else None
        self.number = asked["trial"]
        self.file: Any = None
        self.checked: set[int] = set()

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Write losses down.

        Raises:
            Pruned: the trial is hopeless.
        """
        if self.file is None:
            self._open()
        line = {"step": step, "milliseconds": int(time.time() * 1000), "values": values}
        self.file.write(json.dumps(line, default=float) + "\n")
        self.file.flush()
        self._report(values, step, ask=True)

    def _open(self) -> None:
        """Go on with the curves of a training that was interrupted; the last line of one that was killed may be cut."""
        content = self.trial.curves.read_text() if self.trial.curves.is_file() else ""
        self.file = self.trial.curves.open("a")
        self.file.write("" if content.endswith("\n") or not content else "\n")
        for line in content.splitlines():
            if line.endswith("}}"):
                row = json.loads(line)
                self._report(row["values"], row["step"], ask=False)

    def _report(self, values: dict[str, float], step: int, *, ask: bool) -> None:
        if self.key is None or self.key not in values or step in self.checked:
            return
        from lookalike.sweeps.study import hopeless, report

        self.checked.add(step)
        value = float(values[self.key])
        report(self.sweep, self.number, value if math.isfinite(value) else 1e300, step=len(self.checked))
        if ask and hopeless(self.sweep, self.number):
            raise Pruned(f"at check {len(self.checked)}, {self.key} {value:.5g} is worse than what others had there")

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
