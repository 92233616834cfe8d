"""Show files in views: the folder of a stage in its run, and all cells with their report."""

import dataclasses
import json
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from lookalike.domain.kinds import load_domain
from lookalike.tracking.content import STAGES, Content, Point, Record, digest, read
from lookalike.workspace.files import read_json
from lookalike.workspace.litter import files_below

CELLS = "*/*/*/train/model.json"
"""The trained models of all cells, below `artifacts/`."""


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
    """A view, which holds runs."""

    def open(self, record: Record, *, training: bool) -> Run: ...

    def overview(self, shown: list[tuple[Record, Any]]) -> None: ...


def lost_connections(error: BaseException) -> list[BaseException]:
    """Return the errors of a connection behind an error."""
    return [e for e in causes(error) if isinstance(e, ConnectionError | TimeoutError) or "Max retries" in str(e)]


def causes(error: BaseException) -> list[BaseException]:
    """Return an error and the errors behind it, including those that urllib3 wraps."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return seen


def show_preview(run: Run, record: Record, samples: NDArray[Any], step: int) -> None:
    """Show a picture of samples at a step of training, unless the run has it.

    A training that diverges may draw samples that have no picture, such as one huge number; these are skipped.
    """
    if step in run.previewed():
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        picture = Path(folder) / "samples.png"
        try:
            load_domain(record["domain"]).save_picture(samples, picture, title=f"{record['name']}: step {step}")
        except ValueError:
            return
        run.preview(picture, step)


def show_stage(run: Run, record: Record, stage: str, folder: Path, *, settings: Record | None = None) -> bool:
    """Show the folder of a stage; return whether it has anything that the run did not have."""
    content = read(stage, folder, settings=settings)
    if run.recorded(stage) == content.digest:
        return False
    for step, samples in content.previews.items():
        show_preview(run, record, samples, step)
    run.stage(stage, content)
    return True


def belongs(folder: Path, fingerprint: str) -> bool:
    """Return whether the folder of a stage exists and belongs to a trained model, not to an earlier one."""
    path = folder / "cost.json"
    return (
        path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("fingerprint", fingerprint) == fingerprint
    )


def catch_up(run: Run, record: Record, cell: Path, *, before: str) -> None:
    """Show the earlier stages of a cell that were not recorded, because the view could not be reached."""
    trained = cell / "train" / "model.json"
    if not trained.is_file() or json.loads(trained.read_text(encoding="utf-8"))["fingerprint"] != record["fingerprint"]:
        return
    for stage in STAGES[: STAGES.index(before)]:
        if run.recorded(stage) is None and belongs(cell / stage, record["fingerprint"]):
            show_stage(run, record, stage, cell / stage)


def show_cells(server: Server, artifacts: Path, results: Path) -> Iterator[str]:
    """Show every cell of a workspace and its report; yield one line per cell about what the view did not have.

    Raises:
        Exception: the first error of a cell, after all other cells; or at once if the view is away.
    """
    problem, shown = None, []
    for path in sorted(artifacts.glob(CELLS)):
        cell = path.parents[1]
        data, model, seed = path.relative_to(artifacts).parts[:3]
        name = f"{data}-{model}" + (f" with seed {seed}" if seed != "0" else "")
        try:
            record = read_json(path, remedy=f"Delete {cell} and train again", keys=("fingerprint",))
            run, new = show_cell(server, record, cell, artifacts, results)
            shown.append((record, run))
            yield f"{name} {record['fingerprint']}: {', '.join(new) or 'up to date'}"
        except Exception as error:
            if lost_connections(error):
                raise
            problem = problem or error
            yield f"{name}: not everything could be recorded"
    server.overview(shown)
    if problem:
        raise problem


def show_cell(server: Server, record: Record, cell: Path, artifacts: Path, results: Path) -> tuple[Run, list[str]]:
    """Show a cell and its report; return its run and what the view did not have."""
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
    return run, new


def show_report(run: Run, files: dict[str, list[Path]]) -> bool:
    """Keep a report with a run; return whether the run did not have it."""
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
        """Return whether the table of the report has the scores of a cell, alone or as one of several seeds."""
        board, scores = self.folder / "leaderboard.json", cell / "evaluate" / "metrics.json"
        # Scores are in git and may come from another machine; the cost is not, so it says that they come from here.
        if not (board.is_file() and scores.is_file() and (cell / "evaluate" / "cost.json").is_file()):
            return False
        data, model, seed = cell.relative_to(self.artifacts).parts
        row: Record = json.loads(board.read_text(encoding="utf-8")).get(data, {}).get(model, {})
        pairs = [
            (entry["value"], row[name].get("seeds", {seed: row[name]["value"]}).get(seed))
            for name, entry in json.loads(scores.read_text(encoding="utf-8")).items()
            if name != "versions" and name in row
        ]
        shared = [(value, shown) for value, shown in pairs if shown is not None]
        return bool(shared) and all(math.isclose(value, shown, rel_tol=1e-3) for value, shown in shared)

    def files(self, cell: Path) -> dict[str, list[Path]]:
        """Return the page, the figures and the card of a cell, by the folder of the run that keeps them.

        Figures that are named after other data sets are left out.
        """
        data, model, _ = cell.relative_to(self.artifacts).parts
        card = self.folder / "cards" / f"{data}-{model}.md"
        known = [path.name for path in self.artifacts.iterdir() if path.is_dir()]
        kept: dict[str, list[Path]] = {}
        for path in [self.folder / "report.html", card, *files_below(self.folder / "figures")]:
            place = path.relative_to(self.folder)
            named = [name for name in known if re.search(rf"(^|[\W_]){re.escape(name)}([\W_]|$)", str(place))]
            if path.is_file() and (not named or max(named, key=len) == data):
                kept.setdefault((Path("report") / place.parent).as_posix(), []).append(path)
        return kept
