"""The files of a sweep: one folder per trial, shared by all sweeps, and one folder per sweep.

multirun/trials/<fingerprint>/   train/ sample/ evaluate/ as in a cell, curves.jsonl, record.json
multirun/<sweep>/sweep.json      the command
multirun/<sweep>/trials/         one file per trial: its state in this sweep
multirun/<sweep>/summary.json    the results, with summary.csv and figures/
"""

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import Timeout

from lookalike.workspace.errors import UserError
from lookalike.workspace.files import read_json, replace_json
from lookalike.workspace.locks import file_lock, holder_of

Record = dict[str, Any]

MAX_DEATHS = 2
"""How often the process of a trial may die before the trial is launched alone, so that others do not die with it."""

TAKEN = ("data", "model", "family", "seed", "split")
"""Names that mean one thing for every trial, so that no other key is shortened to one of them."""


class Trial:
    """The folder of one trial, which all sweeps that contain the trial share."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder, folder / "lock"
        self.identity, self.record = folder / "identity.json", folder / "record.json"
        self.curves, self.error = folder / "curves.jsonl", folder / "error.txt"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let only one process work on the trial; another process waits and then finds the record."""
        lock = file_lock(self.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"trial {self.folder.name[:8]}: waiting for another process that works on it", flush=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def is_held(self) -> bool:
        """Return whether a process works on the trial now."""
        if not self.lock.exists():
            return False
        try:
            with file_lock(self.lock, timeout=0):
                return False
        except Timeout:
            return True


class Sweep:
    """The folder of one sweep."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self.about, self.summary = folder / "sweep.json", folder / "summary.json"
        self.states, self.journal = folder / "trials", folder / "optuna.journal"

    def trial(self, fingerprint: str) -> Trial:
        """Return the folder of a trial."""
        return Trial(self.folder.parent / "trials" / fingerprint)

    def read(self) -> Record:
        """Return what the command asked for."""
        return read(self.about)

    def state(self, fingerprint: str) -> Record | None:
        """Return the state of a trial; None if it never began in this sweep."""
        path = self.states / f"{fingerprint}.json"
        return read(path) if path.is_file() else None

    def put(self, state: Record) -> None:
        """Write the state of a trial."""
        replace_json(self.states / f"{state['fingerprint']}.json", state)

    def all_states(self) -> list[Record]:
        """Return the states of all trials in the order in which the trials first began."""
        states = [read(path) for path in self.states.glob("*.json")]
        return sorted(states, key=lambda state: (state["first"], state["fingerprint"]))

    def session_states(self) -> list[Record]:
        """Return the states of the trials that belong to the sweep's last command."""
        session = self.read()["session"]
        return [state for state in self.all_states() if state["session"] == session]

    def is_running(self) -> bool:
        """Return whether a trial of the sweep is marked as running."""
        return any(state["state"] == "running" for state in self.all_states())

    def end(self, state: str) -> None:
        """Write how the sweep ended."""
        replace_json(self.about, self.read() | {"state": state})

    def mark_killed(self) -> list[Record]:
        """Mark trials as killed that are running by their state but have no process; return their new states."""
        killed = [
            state | {"state": "killed", "deaths": state.get("deaths", 0) + 1}
            for state in self.all_states()
            if state["state"] == "running" and not self.trial(state["fingerprint"]).is_held()
        ]
        for state in killed:
            self.put(state)
        return killed

    def give_up(self, killed: list[Record]) -> None:
        """Mark trials as failed whose processes died too often, so that this command does not run them again."""
        for state in killed:
            if state["deaths"] > MAX_DEATHS:
                problem = f"its process was killed {state['deaths']} times, perhaps because it took too much memory"
                given_up = {"state": "failed", "error": problem, "ended": time.time()}
                self.put(state | given_up | {"given_up": state["session"]})

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let only one command at a time run the sweep.

        Raises:
            UserError: another command runs it, or the folder cannot be written to.
        """
        try:
            self.states.mkdir(parents=True, exist_ok=True)
            lock = file_lock(self.folder / "lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise UserError(
                f"the sweep {self.name} is running in another process{holder_of(self.folder / 'lock')}: wait for it, "
                f"or choose another sweep.name"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}") from None
        try:
            yield
        finally:
            lock.release()


def short_names(space: Iterable[str]) -> dict[str, str]:
    """Return a short name of each searched key: its last part where that is unambiguous, or the whole key."""
    keys = list(space)
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: name if last.count(name) == 1 and (name == key or name not in TAKEN) else key
        for key, name in zip(keys, last, strict=True)
    }


def searched(overrides: list[str], space: Iterable[str]) -> dict[str, str]:
    """Return the values that distinguish a trial, by the short name of the key."""
    names = short_names(space)
    pairs = [item.lstrip("+").partition("=")[::2] for item in overrides]
    return {names[key]: value for key, value in pairs if key in names}


def title(overrides: list[str], space: Iterable[str]) -> str:
    """Return the overrides that distinguish a trial in one line."""
    return " ".join(f"{name}={value}" for name, value in searched(overrides, space).items())


def read(path: Path) -> Record:
    """Return a record that a sweep wrote; raise a UserError if it is damaged."""
    return read_json(path, remedy="Delete it and run the sweep again")
