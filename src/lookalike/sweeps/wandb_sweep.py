"""A sweep in Weights & Biases: per data set one group with the runs of finished trials and the run of the sweep."""

import json
from pathlib import Path
from typing import Any

from lookalike.sweeps.findings import best_scores, outcome, parameters
from lookalike.sweeps.places import Record, Sweep, searched, short_names, title
from lookalike.sweeps.summary import summary_of
from lookalike.sweeps.table import conclusions
from lookalike.tracking.content import STAGES, Content, Point, digest
from lookalike.tracking.wandb_runs import WandbRun, WandbRuns, typed
from lookalike.tracking.workspace import show_stage


class WandbSweep:
    """The runs of one sweep, in a project of sweeps per data set."""

    def __init__(self, server: WandbRuns, sweep: Sweep) -> None:
        self.sweep, self.server, self.about = sweep, server, sweep.read()
        self.shown: set[str] = set()

    def update(self) -> int:
        """Record finished trials; return how many of them were new."""
        new = 0
        for state in self.sweep.all_states():
            if state["state"] == "finished" and state["fingerprint"] not in self.shown:
                new += self._record(state)
                self.shown.add(state["fingerprint"])
        return new

    def _record(self, state: Record) -> bool:
        folder = self.sweep.trial(state["fingerprint"]).folder
        identity = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
        values = searched(state["overrides"], self.about["space"])
        run = self.server.open(
            identity | {"fingerprint": f"{self.sweep.name}-{state['fingerprint']}"},
            training=False,
            place=place_of(state["data"]),
            name=title(state["overrides"], self.about["space"]) or f"{state['data']}-{state['model']}",
            group=self.sweep.name,
            job_type="trial",
            more=typed(values) | {"trial": state["fingerprint"]},
        )
        news = [show_stage(run, identity, stage, folder / stage) for stage in STAGES]
        if any(news):
            run.summary([Point(*pair) for pair in zip(self.about["objective"], state["values"], strict=True)])
        run.close("FINISHED")
        return any(news)

    def close(self) -> None:
        """Record what the sweep found."""
        about = self.sweep.read()
        for data in about["data"] if about["state"] != "running" else []:
            summary = summary_of(self.sweep, data=data)
            figures = sorted((self.sweep.folder / "figures").glob("*.png"))
            kept = [self.sweep.about, self.sweep.summary, self.sweep.folder / "summary.csv"]
            kept = [path for path in kept if path.is_file()]
            run = self._run(about, data, summary)
            found = digest([*kept, *figures])
            if run.recorded("sweep") != found:
                self._conclude(run, summary, kept, figures)
                run.ledger.note(run.fingerprint, {"sweep": found})
            run.close("FAILED" if about["state"] == "failed" else "FINISHED")

    def _run(self, about: Record, data: str, summary: Record) -> WandbRun:
        return self.server.start(
            f"{about['id']}-{data}",
            self.server.project_of(place_of(data)),
            None,
            name=self.sweep.name,
            group=self.sweep.name,
            job_type="sweep",
            tags=[data],
            notes="\n".join([*conclusions(summary), "", about["command"]]),
            config=typed(parameters(about, data)),
        )

    def _conclude(self, run: WandbRun, summary: Record, files: list[Path], figures: list[Path]) -> None:
        """Record the results, the table of all configurations, the figures, and samples of the best trial."""
        import wandb

        if rows := summary["configurations"]:
            best = self.sweep.trial(rows[0]["trials"][0]).folder
            files = [*files, best / "sample" / "samples.png"]
            values = typed(searched(rows[0]["overrides"], self.about["space"]))
            run.run().config.update({"best": values | {"trial": best.name}}, allow_val_change=True)
        run.stage("sweep", Content(digest="", tags=outcome(summary), results=best_scores(summary), files=files))
        run.run().log({path.stem: wandb.Image(str(path)) for path in figures} | {"configurations": self._table(rows)})

    def _table(self, rows: list[Record]) -> Any:
        """Return the configurations as a table, the best first."""
        import wandb

        names, wanted = [n for k, n in short_names(self.about["space"]).items() if k != "seed"], self.about["objective"]
        parts = ("mean", "error")
        lines = []
        for row in rows:
            values = searched(row["overrides"], self.about["space"])
            scores = [row["scores"][name][part] for name in wanted for part in parts]
            lines.append([row["trials"][0], *(values.get(name) for name in names), len(row["seeds"]), *scores])
        scores_of = [f"{name}{end}" for name in wanted for end in ("", "_error")]
        return wandb.Table(columns=["trial", *names, "seeds", *scores_of], data=lines)


def place_of(data: str) -> str:
    """Return what the name of the project of sweeps on a data set ends with."""
    return f"{data}-sweeps"
