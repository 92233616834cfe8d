"""Show the leaderboard and where the report is: `lookalike report`.

Here is also `save`, which writes the files that `lookalike compare` leaves in `results/<run>/`.
"""

from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid

from lookalike.report import style
from lookalike.report.cards import cards
from lookalike.report.cells import Table
from lookalike.report.figures import sheets
from lookalike.report.leaderboard import leaderboard, to_csv, to_markdown
from lookalike.report.page import page
from lookalike.report.shown import shown
from lookalike.workspace.configuration import ROOT, Config
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import write_json

NAMES = ("cards", "figures", "leaderboard.csv", "leaderboard.json", "leaderboard.md", "report.html")
"""The files and folders that `save` writes."""


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
    """Run `lookalike report`: print the leaderboard and where the report is.

    Raises:
        UserError: `compare` has not run.
    """
    show(config.path("results"))


def show(folder: Path) -> None:
    """Print the leaderboard of a results folder and where its report is.

    Raises:
        UserError: `compare` has not run.
    """
    board, page_file = folder / "leaderboard.md", folder / "report.html"
    if not board.is_file():
        raise UserError(f"no leaderboard in {folder}: run `lookalike compare` first")
    print_board(board.read_text(encoding="utf-8"), Console())
    print(f"\nreport with all figures: {page_file.relative_to(ROOT) if page_file.is_relative_to(ROOT) else page_file}")


def print_board(markdown: str, console: Console) -> None:
    """Print the tables of `leaderboard.md`, each as wide as its numbers need."""
    for part in markdown.split("\n## ")[1:]:
        data, *lines = part.splitlines()
        rows = [[field.strip() for field in line[1:-1].split("|")] for line in lines if line.startswith("|")]
        head, _, *rows = rows
        grid = Grid(title=data, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for i, name in enumerate(head):
            grid.add_column(name, justify="left" if i < 2 else "right", no_wrap=True)
        for row in rows:
            grid.add_row(*(f"[bold green]{f.strip('*')}[/]" if f.startswith("**") else f for f in row))
        needed = Measurement.get(console, console.options.update(max_width=1000), grid).maximum
        print()
        Console(width=max(console.width, needed)).print(grid)
        for note in (line for line in lines if line.startswith("†")):
            print(note)
