"""Trials that a sweep already did, found by what they were told: nothing is composed, launched or computed again."""

from collections.abc import Sequence
from pathlib import Path

from lookalike.sweeps.objectives import OBJECTIVES, values_of
from lookalike.sweeps.places import Record, Sweep, read
from lookalike.sweeps.trial import key_of, tell, told


class Remembered:
    """The finished trials of a sweep whose code, configuration files and data are still those of today."""

    def __init__(self, folder: str) -> None:
        self.sweep = Sweep(Path(folder))
        self.about = self.sweep.read()
        self.done = {state["key"]: state for state in self.sweep.all_states() if state["state"] == "finished"}

    def tell(self, overrides: Sequence[str]) -> Record | None:
        """The state of a finished trial, which is now one of this command; None where it has to be run."""
        state = self.done.get(key_of(told(list(overrides)), self.about["base"]))
        if state is None or not (record := self.sweep.trial(state["fingerprint"]).record).is_file():
            return None
        wanted = [OBJECTIVES[name] for name in self.about["objective"]]
        state = state | {"session": self.about["session"], "values": values_of(read(record), wanted)}
        self.sweep.put(state)
        tell(state, self.about)
        return state
