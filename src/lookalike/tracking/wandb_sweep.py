"""A sweep in Weights & Biases: its finished trials are the runs of one group."""

import json

from lookalike.sweeps.places import Sweep
from lookalike.tracking.content import STAGES
from lookalike.tracking.wandb_runs import WandbRuns
from lookalike.tracking.workspace import show_stage


class WandbSweep:
    """The runs of one sweep."""

    def __init__(self, sweep: Sweep, *, project: str) -> None:
        self.sweep, self.server = sweep, WandbRuns(project=project)
        self.shown: set[str] = set()

    def update(self) -> int:
        """Show trials that finished; how many of them were new."""
        new = 0
        for state in self.sweep.all_states():
            fingerprint = state["fingerprint"]
            if state["state"] != "finished" or fingerprint in self.shown:
                continue
            folder = self.sweep.trial(fingerprint).folder
            record = json.loads((folder / "identity.json").read_text())
            own = record | {"fingerprint": f"{self.sweep.name}-{fingerprint}"}
            run = self.server.open(own, training=False, sweep=self.sweep.name)
            told = [show_stage(run, record, stage, folder / stage) for stage in STAGES]
            run.close("FINISHED")
            self.shown.add(fingerprint)
            new += any(told)
        return new

    def close(self) -> None:
        """A group of runs has no end."""
