"""Find trials that a sweep finished before by their overrides, without composing or launching anything."""

from collections.abc import Sequence
from pathlib import Path

from lookalike.sweeps.keys import key_of, print_state
from lookalike.sweeps.objectives import OBJECTIVES, values_of
from lookalike.sweeps.places import MAX_DEATHS, Record, Sweep, read


class Remembered:
    """The finished trials of a sweep whose code, configuration files and data have not changed since.

    Args:
        folder: the folder of the sweep.
    """

    def __init__(self, folder: str) -> None:
        self.sweep = Sweep(Path(folder))
        self.about = self.sweep.read()
        states = self.sweep.all_states()
        self.done = {state["key"]: state for state in states if state["state"] == "finished"}
        self.pruned = {state["key"]: state for state in states if state["state"] == "pruned"}
        self.dangerous = {state["key"] for state in states if state.get("deaths", 0) >= MAX_DEATHS}

    def recall(self, overrides: Sequence[str], *, searched: bool = False) -> Record | None:
        """Return the state of a finished trial and add it to this command; return None if it has to run.

        Args:
            overrides: the overrides of the trial.
            searched: whether a study asks; it treats a pruned trial like a finished one.
        """
        key = key_of(overrides, self.about["base"])
        if searched and key in self.pruned:
            state = self.pruned[key] | {"session": self.about["session"]}
        elif key in self.done and (record := self.sweep.trial(self.done[key]["fingerprint"]).record).is_file():
            wanted = [OBJECTIVES[name] for name in self.about["objective"]]
            state = self.done[key] | {"session": self.about["session"], "values": values_of(read(record), wanted)}
        else:
            return None
        self.sweep.put(state)
        print_state(state, self.about)
        return state

    def batches(self, jobs: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
        """Return what to launch at once: all jobs, then one by one those whose processes died repeatedly."""
        alone = [job for job in jobs if key_of(job, self.about["base"]) in self.dangerous]
        together = [job for job in jobs if job not in alone]
        return [*([together] if together else []), *([job] for job in alone)]
