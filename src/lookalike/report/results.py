"""Show the leaderboard and where the report is: `lookalike report`.

Here is also `save`, which writes the files that `lookalike compare` leaves in `results/<run>/`.
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from lookalike.report import style
from lookalike.report.cards import cards
from lookalike.report.cells import Entry, Table, read_scores
from lookalike.report.figures import sheets
from lookalike.report.lacks import lack_of
from lookalike.report.leaderboard import leaderboard, to_csv, to_markdown
from lookalike.report.likelihoods import as_scored
from lookalike.report.page import page
from lookalike.report.shown import shown
from lookalike.workspace.configuration import CONF, ROOT, Config, choices
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import read_json, write_json
from lookalike.workspace.litter import is_litter
from lookalike.workspace.pipeline import Listed, read_listed

NAMES = ("cards", "figures", "leaderboard.csv", "leaderboard.json", "leaderboard.md", "report.html")
"""The files and folders that `save` writes."""

AGAIN = "Delete it and run `lookalike compare` again"


def own_files(folder: Path) -> list[Path]:
    """Return the cards and figures in a results folder that `save` wrote, which begin with a data set, and litter."""
    board = folder / "leaderboard.json"
    known = read_json(board, remedy=AGAIN) if board.is_file() else {}
    starts = tuple(f"{name}-" for name in {*choices("data"), *known})
    below = [path for name in ("cards", "figures") for path in (folder / name).glob("*")]
    litter = [path for path in (*folder.glob("*"), *below) if is_litter(Path(path.name))]
    return litter + [path for path in below if path.name.startswith(starts)]


def save(tables: list[Table], folder: Path) -> None:
    """Write leaderboard, cards, figures and page.

    The same cells give the same bytes, except for the page, which shows what the cells cost.
    """
    write_json(folder / "leaderboard.json", leaderboard(tables))
    (folder / "leaderboard.csv").write_text(to_csv(tables), encoding="utf-8")
    (folder / "leaderboard.md").write_text(to_markdown(tables), encoding="utf-8")
    (folder / "cards").mkdir()
    (folder / "figures").mkdir()
    for table in tables:
        for name, card in cards(table).items():
            (folder / "cards" / name).write_text(card, encoding="utf-8")
        save_figures(table, folder / "figures")
    (folder / "report.html").write_text(page(tables), encoding="utf-8")


def save_figures(table: Table, folder: Path) -> None:
    """Write pictures of the samples of each row, and every other figure in light and dark colours."""
    for row in table.rows:
        pictures = shown(table.prepared.domain).pictures(row, table, zoom=2)
        for name in pictures.keys() & {"samples", "nearest"}:
            pictures[name].save(folder / f"{table.name}-{name}-{row.model}.png")
    for name, svg in sheets(table).items():
        (folder / f"{table.name}-{name}-light.svg").write_text(svg, encoding="utf-8")
        (folder / f"{table.name}-{name}-dark.svg").write_text(style.dark(svg), encoding="utf-8")


def report(config: Config) -> None:
    """Run `lookalike report`: print the leaderboard and where the report is, and whether scores have changed since.

    Raises:
        UserError: `compare` has not run.
    """
    folder, artifacts = config.path("results"), config.path("artifacts")
    show(folder)
    # Another folder may hold a report on cells that are no longer there.
    if any(item.startswith("paths.results=") for item in sys.argv[1:]) or not (folder / "leaderboard.json").is_file():
        return
    if changed := changed_cells(folder, artifacts, read_listed(CONF / "pipeline.yaml")):
        print(f"older than the scores of {', '.join(changed)}: `lookalike compare` brings it up to date")


def changed_cells(folder: Path, artifacts: Path, listed: Listed) -> list[str]:
    """Return the listed cells whose scores are not those in the leaderboard of a results folder."""
    board = read_json(folder / "leaderboard.json", remedy=AGAIN)
    return [
        f"{data}/{model}/{seed}"
        for data in listed.data
        for model in listed.all_models
        for seed in listed.seeds_of(model)
        if has_changed(artifacts / data / model / str(seed), board.get(data, {}).get(model, {}), listed.seeds_of(model))
    ]


def has_changed(cell: Path, row: dict[str, Entry], seeds: list[int]) -> bool:
    """Return whether a cell is complete and not in a row of a leaderboard, or has other scores than the row."""
    entries = {name: as_scored(entry) for name, entry in row.items()}
    shown = {name: entry.get("seeds", {str(seeds[0]): entry["value"]}) for name, entry in entries.items()}
    if not any(cell.name in values for values in shown.values()):
        return lack_of(cell) is None
    scores = cell / "evaluate" / "metrics.json"
    values = {name: entry["value"] for name, entry in (read_scores(scores) if scores.is_file() else {}).items()}
    return any(shown.get(name, {}).get(cell.name, value) != value for name, value in values.items())


def show(folder: Path) -> None:
    """Print the leaderboard of a results folder and where its report is.

    Raises:
        UserError: `compare` has not run.
    """
    board, page_file = folder / "leaderboard.md", folder / "report.html"
    if not board.is_file():
        raise UserError(f"no leaderboard in {folder}: run `lookalike compare` first")
    print_board(board.read_text(encoding="utf-8"))
    print(f"\nreport with all figures: {page_file.relative_to(ROOT) if page_file.is_relative_to(ROOT) else page_file}")


def print_board(markdown: str) -> None:
    """Print the tables of `leaderboard.md`, each as wide as its numbers need, however narrow the terminal is."""
    for part in markdown.split("\n## ")[1:]:
        data, *lines = part.splitlines()
        rows = [[field.strip() for field in line[1:-1].split("|")] for line in lines if line.startswith("|")]
        head, _, *rows = rows
        scope = next(line for line in lines if line)
        grid = Grid(title=data, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for i, name in enumerate(head):
            grid.add_column(name, justify="left" if i < 2 else "right", no_wrap=True)
        for row in rows:
            grid.add_row(*(f"[bold green]{f.strip('*')}[/]" if f.startswith("**") else f for f in row))
        print(f"\n{scope}")
        Console(width=1000).print(grid)
        for note in (line for line in lines if line and not line.startswith("|") and line != scope):
            print(note)
