"""Trials that a sweep already did, found by what they were told: nothing is composed, launched or computed again."""

from collections.abc import Sequence
from pathlib import Path

from lookalike.sweeps.objectives import OBJECTIVES, values_of
from lookalike.sweeps.places import DEATHS, Record, Sweep, read
from lookalike.sweeps.trial import key_of, tell, told


class Remembered:
    """The finished trials of a sweep whose code, configuration files and data are still those of today."""

    def __init__(self, folder: str) -> None:
        self.sweep = Sweep(Path(folder))
        self.about = self.sweep.read()
        states = self.sweep.all_states()
        self.done = {state["key"]: state for state in states if state["state"] == "finished"}
        self.pruned = {state["key"]: state for state in states if state["state"] == "pruned"}
        self.dangerous = {state["key"] for state in states if state.get("deaths", 0) >= DEATHS}

    def tell(self, overrides: Sequence[str], *, searched: bool = False) -> Record | None:
        """The state of a finished trial, which is now one of this command; None where it has to be run.

        Args:
            overrides: what the trial was told.
            searched: whether a study asks, to which a trial that was stopped early is as good as done.
        """
        key = key_of(told(list(overrides)), self.about["base"])
        if searched and key in self.pruned:
            state = self.pruned[key] | {"session": self.about["session"]}
        elif key in self.done and (record := self.sweep.trial(self.done[key]["fingerprint"]).record).is_file():
            wanted = [OBJECTIVES[name] for name in self.about["objective"]]
            state = self.done[key] | {"session": self.about["session"], "values": values_of(read(record), wanted)}
        else:
            return None
        self.sweep.put(state)
        tell(state, self.about)
        return state

    def batches(self, jobs: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
        """What to launch at once: all jobs, but one by one at the end those whose processes died again and again."""
        alone = [job for job in jobs if key_of(told(list(job)), self.about["base"]) in self.dangerous]
        together = [job for job in jobs if job not in alone]
        return [*([together] if together else []), *([job] for job in alone)]
