"""The files of a sweep, which are its memory: a folder for every trial, and one for the sweep that says where each is.

multirun/trials/<fingerprint>/   train/ sample/ evaluate/ as in a cell, curves.jsonl, record.json: of all sweeps
multirun/<sweep>/sweep.json      what was asked for
multirun/<sweep>/trials/         a file a trial: its state in this sweep
multirun/<sweep>/summary.json    what came out, with summary.csv and figures/
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lookalike.core.errors import UserError

Record = dict[str, Any]

DEATHS = 2
"""How often a trial's process may die before the trial is launched alone: its neighbours may have died of it."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """The folder of one trial, which every sweep that comes to it shares."""

    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    @property
    def curves(self) -> Path:
        return self.folder / "curves.jsonl"

    @property
    def identity(self) -> Path:
        return self.folder / "identity.json"

    @property
    def error(self) -> Path:
        return self.folder / "error.txt"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Only one process works on a trial; another one waits for it, and then finds its record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"trial {self.folder.name}: another process works on it, and is waited for", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def is_held(self) -> bool:
        """Whether a process works on it now."""
        try:
            with (self.folder / "lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The folder of one sweep."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def states(self) -> Path:
        return self.folder / "trials"

    @property
    def about(self) -> Path:
        return self.folder / "sweep.json"

    @property
    def summary(self) -> Path:
        return self.folder / "summary.json"

    @property
    def journal(self) -> Path:
        return self.folder / "optuna.journal"

    def trial(self, fingerprint: str) -> Trial:
        """A trial's own folder."""
        return Trial(self.folder.parent / "trials" / fingerprint)

    def read(self) -> Record:
        """What was asked for."""
        return read(self.about)

    def state(self, fingerprint: str) -> Record | None:
        """Where a trial is, if this sweep came to it."""
        path = self.states / f"{fingerprint}.json"
        return read(path) if path.is_file() else None

    def put(self, state: Record) -> None:
        """Say where a trial is."""
        write(self.states / f"{state['fingerprint']}.json", state)

    def all_states(self) -> list[Record]:
        """Where every trial is, in the order that they came in."""
        states = [read(path) for path in self.states.glob("*.json")]
        return sorted(states, key=lambda state: (state["first"], state["fingerprint"]))

    def end(self, state: str) -> None:
        """Say how the sweep ended."""
        write(self.about, self.read() | {"state": state})

    def correct(self) -> list[Record]:
        """A trial that says that it runs, and that no process works on, was killed; those of which that was news."""
        died = [
            state | {"state": "killed", "deaths": state.get("deaths", 0) + 1}
            for state in self.all_states()
            if state["state"] == "running" and not self.trial(state["fingerprint"]).is_held()
        ]
        for state in died:
            self.put(state)
        return died

    def give_up(self, died: list[Record]) -> None:
        """Of trials whose processes died, call those failed that died too often: this command runs them no more."""
        for state in died:
            if state["deaths"] > DEATHS:
                problem = f"its process was killed {state['deaths']} times, perhaps since it took too much memory"
                given_up = {"state": "failed", "error": problem, "ended": time.time(), "given_up": state["session"]}
                self.put(state | given_up)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Only one command at a time runs a sweep.

        Raises:
            UserError: another one does.
        """
        try:
            self.states.mkdir(parents=True, exist_ok=True)
            file = (self.folder / "lock").open("w")
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"the sweep {self.name} is at work in another process: wait for it, or give this one another "
                    f"sweep.name"
                ) from None
            yield


def title(overrides: list[str], space: Iterable[str]) -> str:
    """What tells a trial from the others of a sweep, with the last part of a key where that is enough."""
    keys = list(space)
    last = [key.rpartition(".")[2] for key in keys]
    parts = []
    for item in overrides:
        key, _, value = item.lstrip("+").partition("=")
        if key in keys:
            name = key.rpartition(".")[2]
            parts.append(f"{name if last.count(name) == 1 else key}={value}")
    return " ".join(parts)


def read(path: Path) -> Record:
    """A record that a sweep wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        content: Record = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"damaged: {path} ({error}). Delete it and run the sweep again") from None
    return content


def write(path: Path, content: Any) -> None:
    """Indented JSON, whole or not at all, whoever reads meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    draft.write_text(json.dumps(content, indent=2) + "\n")
    draft.replace(path)
