"""Shows files in views: a stage's folder in its run, and all cells with their report."""

import dataclasses
import json
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from lookalike.core.domain import Domain
from lookalike.pictures import save_picture
from lookalike.tracking.content import STAGES, Content, Point, Record, digest, read

REPEATS = "*/*/seeds/*/train/model.json"
"""The models of cells that were repeated with other seeds, below `artifacts/`."""


class Run(Protocol):
    """The run of a trained model in one view."""

    def points(self, points: list[Point]) -> None: ...

    def preview(self, picture: Path, step: int) -> None: ...

    def previewed(self) -> set[int]: ...

    def recorded(self, stage: str) -> str | None: ...

    def stage(self, stage: str, content: Content) -> None: ...

    def report(self, files: dict[str, list[Path]], digest: str) -> None: ...

    def tick(self) -> None: ...

    def close(self, state: str) -> None: ...


class Server(Protocol):
    """A view: where the runs are."""

    def open(self, record: Record, *, training: bool, sweep: str | None = None) -> Run: ...


def show_preview(run: Run, record: Record, samples: NDArray[Any], step: int) -> None:
    """Draw the picture of samples and show it at a step of training, unless the run has it.

    Training that goes astray draws samples that have no picture, such as the same huge number over and over: they are
    passed over.
    """
    if step in run.previewed():
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        picture = Path(folder) / "samples.png"
        try:
            save_picture(samples, Domain.from_dict(record["domain"]), picture, title=f"{record['name']}: step {step}")
        except ValueError:
            return
        run.preview(picture, step)


def show_stage(run: Run, record: Record, stage: str, folder: Path, *, settings: Record | None = None) -> bool:
    """Show what a stage's folder tells; whether there was anything that the run did not have."""
    content = read(stage, folder, settings=settings)
    if run.recorded(stage) == content.digest:
        return False
    for step, samples in content.previews.items():
        show_preview(run, record, samples, step)
    run.stage(stage, content)
    return True


def belongs(folder: Path, fingerprint: str) -> bool:
    """Whether a stage's folder is there and is that of the trained model, not of one that stood there before it."""
    path = folder / "cost.json"
    return path.is_file() and json.loads(path.read_text()).get("fingerprint", fingerprint) == fingerprint


def catch_up(run: Run, record: Record, cell: Path, *, before: str) -> None:
    """Show the stages before one whose view was away while they ran."""
    trained = cell / "train" / "model.json"
    if not trained.is_file() or json.loads(trained.read_text())["fingerprint"] != record["fingerprint"]:
        return
    for stage in STAGES[: STAGES.index(before)]:
        if run.recorded(stage) is None and belongs(cell / stage, record["fingerprint"]):
            show_stage(run, record, stage, cell / stage)


def show_cells(server: Server, artifacts: Path, results: Path) -> Iterator[str]:
    """Show every cell of a workspace and its report, again with every seed that it was repeated with.

    Yields a line a cell on what was new to the view. A repeat of the cell's own seed is the cell.
    """
    shown = set()
    for path in [*sorted(artifacts.glob("*/*/train/model.json")), *sorted(artifacts.glob(REPEATS))]:
        cell, record = path.parents[1], json.loads(path.read_text())
        if record["fingerprint"] in shown:
            continue
        shown.add(record["fingerprint"])
        new = show_cell(server, cell, artifacts, results)
        seed = f"with seed {cell.name} " if cell.parent.name == "seeds" else ""
        yield f"{record['name']} {seed}{record['fingerprint']}: {', '.join(new) or 'up to date'}"


def show_cell(server: Server, cell: Path, artifacts: Path, results: Path) -> list[str]:
    """Show a cell and its report; what was new to the view."""
    record: Record = json.loads((cell / "train" / "model.json").read_text())
    run = server.open(record, training=False)
    new = [
        stage
        for stage in STAGES
        if belongs(cell / stage, record["fingerprint"]) and show_stage(run, record, stage, cell / stage)
    ]
    report = Report(results, artifacts)
    if report.covers(cell) and show_report(run, report.files(cell)):
        new.append("report")
    run.close("FINISHED")
    return new


def show_report(run: Run, files: dict[str, list[Path]]) -> bool:
    """Keep a report with a run; whether the run did not have it."""
    found = digest([path for paths in files.values() for path in paths])
    if run.recorded("report") == found:
        return False
    run.report(files, found)
    return True


@dataclasses.dataclass(frozen=True)
class Report:
    """The folder that `compare` writes, and the cells that it may be about."""

    folder: Path
    artifacts: Path

    def covers(self, cell: Path) -> bool:
        """Whether the report's table has the cell as it is, or as one of its seeds: with the scores of its files."""
        board, scores = self.folder / "leaderboard.json", cell / "evaluate" / "metrics.json"
        # Scores come with git; that they are of this run is said beside them, by what does not.
        if not (board.is_file() and scores.is_file() and (cell / "evaluate" / "cost.json").is_file()):
            return False
        data, model, *repeat = cell.relative_to(self.artifacts).parts
        row: Record = json.loads(board.read_text()).get(data, {}).get(model, {})
        found: Record = {name: entry for name, entry in json.loads(scores.read_text()).items() if name != "versions"}
        entries = {name: row[name] for name in found if name in row}
        told = {name: e.get("seeds", {}).get(repeat[1]) if repeat else e["value"] for name, e in entries.items()}
        shared = [(found[name]["value"], value) for name, value in told.items() if value is not None]
        return bool(shared) and all(math.isclose(a, b, rel_tol=1e-3) for a, b in shared)

    def files(self, cell: Path) -> dict[str, list[Path]]:
        """The page, the figures and the cell's card, by the folder that they go to.

        Figures named for other data sets are left out.
        """
        data, model, *_ = cell.relative_to(self.artifacts).parts
        card = self.folder / "cards" / f"{data}-{model}.md"
        known = [path.name for path in self.artifacts.iterdir() if path.is_dir()]
        kept: dict[str, list[Path]] = {}
        for path in [self.folder / "report.html", card, *sorted((self.folder / "figures").rglob("*"))]:
            place = path.relative_to(self.folder)
            named = [name for name in known if re.search(rf"(^|[\W_]){re.escape(name)}([\W_]|$)", str(place))]
            if path.is_file() and (not named or max(named, key=len) == data):
                kept.setdefault((Path("report") / place.parent).as_posix(), []).append(path)
        return kept
