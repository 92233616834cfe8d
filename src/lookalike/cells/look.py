"""A first look at a data set: a few families on a small budget, in a folder of its own, which DVC does not know."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from lookalike.cells.pipeline import CELL_STAGES, Plan
from lookalike.cells.records import Done, Job, StageOrder, content_digest, stat_digest
from lookalike.workspace.files import replace_json
from lookalike.workspace.pipeline import Listed

SOURCES = ["conf", "src/lookalike"]
"""The code and configuration of a first look; after a change of anything in them, everything is run again."""


class Look:
    """The stages of a first look in the form that `Rounds` works on; what is done is noted in a file.

    One core would be idle while another trains the feature extractor, so the models are trained beside it, and a cell
    is two jobs: to train and sample, and to evaluate when the extractor is there.

    Args:
        listed: one data set, the families and their seeds.
        folder: where everything is written.
        overrides: overrides of every stage.
    """

    def __init__(self, listed: Listed, *, folder: Path, overrides: list[str]) -> None:
        self.data, self.ledger = listed.data[0], folder / "done.json"
        common, self.inputs = [f"data={self.data}", *overrides], [f"data/{self.data}"]
        self.stages: dict[str, StageOrder] = {}
        self.needs: dict[str, list[str]] = {}
        self.jobs: dict[str, str] = {}

        def add(job: str, function: str, *more: str, needs: list[str]) -> str:
            name = f"{function}@{job}"
            self.stages[name] = StageOrder(
                name=name, function=function, overrides=[*common, *more], sources=SOURCES, inputs=self.inputs
            )
            self.needs[name], self.jobs[name] = needs, job
            return name

        prepared = add(self.data, "prepare", needs=[])
        features = add(f"{self.data}-features", "features", needs=[prepared])
        add(f"{self.data}-features", "real", needs=[features])
        for model in listed.all_models:
            for seed in listed.seeds_of(model):
                cell, needs = f"{self.data}-{model}-{seed}", [prepared]
                for function in CELL_STAGES:
                    needs = needs if function != "evaluate" else [*needs, features]
                    needs = [add(cell, function, f"model={model}", f"seed={seed}", needs=needs)]

    def plan(self) -> Plan:
        """Return the jobs whose needs are met, with their stages that are not done."""
        done, now = self.done(), [content_digest(SOURCES), stat_digest(self.inputs)]
        stale = {name for name in self.stages if done.get(name) != now}
        ready: dict[str, list[StageOrder]] = {}
        met = set(self.stages) - stale
        for name in self.stages:
            own = {order.name for order in ready.get(self.jobs[name], [])}
            if name in stale and set(self.needs[name]) <= met | own:
                ready.setdefault(self.jobs[name], []).append(self.stages[name])
        started = {order.name for orders in ready.values() for order in orders}
        blocked = {self.jobs[name] for name in stale - started}
        jobs = [Job(name=job, data=self.data, stages=stages) for job, stages in ready.items()]
        return Plan(ready=jobs, blocked=sorted(blocked), restored=[])

    def record(self, done: Done) -> bool:
        """Note that a stage is done; return False if the code, the configuration or the data changed meanwhile."""
        if [done.sources, done.inputs] != [content_digest(SOURCES), stat_digest(self.inputs)]:
            return False
        replace_json(self.ledger, self.done() | {done.name: [done.sources, done.inputs]})
        return True

    def done(self) -> dict[str, list[str]]:
        """Return the digests of what each stage depended on when it was run."""
        try:
            found: dict[str, list[str]] = json.loads(self.ledger.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    @contextlib.contextmanager
    def opened(self) -> Iterator["Look"]:
        """Yield this look; `Rounds` opens its pipeline anew for every round."""
        self.ledger.parent.mkdir(parents=True, exist_ok=True)
        yield self
