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
        """Record finished trials; return how many of them were new."""
        new = 0
        for state in self.sweep.all_states():
            fingerprint = state["fingerprint"]
            if state["state"] != "finished" or fingerprint in self.shown:
                continue
            folder = self.sweep.trial(fingerprint).folder
            record = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
            own = record | {"fingerprint": f"{self.sweep.name}-{fingerprint}"}
            run = self.server.open(own, training=False, group=self.sweep.name)
            news = [show_stage(run, record, stage, folder / stage) for stage in STAGES]
            new += any(news)
            run.close("FINISHED")
            self.shown.add(fingerprint)
        return new

    def close(self) -> None:
        """Do nothing: a group of runs has no end."""
