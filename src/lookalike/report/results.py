"""`results/`: what `compare` writes there, and how it is shown in a terminal."""

from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid

from lookalike.core.config import ROOT
from lookalike.core.errors import UserError
from lookalike.core.files import write_json
from lookalike.report import figures, style
from lookalike.report.cards import cards
from lookalike.report.cells import Table
from lookalike.report.leaderboard import leaderboard, to_csv, to_markdown
from lookalike.report.page import render

NAMES = ("cards", "figures", "leaderboard.csv", "leaderboard.json", "leaderboard.md", "report.html")
"""What `save` writes."""


def save(tables: list[Table], folder: Path) -> None:
    """Write leaderboard, cards, figures and page; all but the page, which shows cost, repeat to the byte."""
    boards = leaderboard(tables)
    write_json(folder / "leaderboard.json", boards)
    (folder / "leaderboard.csv").write_text(to_csv(tables))
    (folder / "leaderboard.md").write_text(to_markdown(tables))
    (folder / "cards").mkdir()
    (folder / "figures").mkdir()
    for table in tables:
        for name, card in cards(table).items():
            (folder / "cards" / name).write_text(card)
        save_figures(table, folder / "figures")
    (folder / "report.html").write_text(render(tables))


def save_figures(table: Table, folder: Path) -> None:
    """Pictures of each row's images and the nearest training images; every other kind as one figure, light and dark."""
    if table.prepared.domain.kind == "image":
        for row in table.rows:
            figures.sample_grid(row, zoom=2).save(folder / f"{table.name}-samples-{row.model}.png")
            if nearest := figures.nearest_grid(row, table, zoom=2):
                nearest.save(folder / f"{table.name}-nearest-{row.model}.png")
    for kind, svg in figures.sheets(table).items():
        (folder / f"{table.name}-{kind}-light.svg").write_text(svg)
        (folder / f"{table.name}-{kind}-dark.svg").write_text(style.dark(svg))


def show(folder: Path) -> None:
    """Print the leaderboard of `results/` and where the report lies.

    Raises:
        UserError: `compare` has not run.
    """
    board, page = folder / "leaderboard.md", folder / "report.html"
    if not board.is_file():
        raise UserError(f"no leaderboard in {folder}: run `python pipelines/compare.py` first")
    print_board(board.read_text(), Console())
    place = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page
    print(f"\nfigures and evidence: {place}")


def print_board(markdown: str, console: Console) -> None:
    """Print the tables of `leaderboard.md`, each as wide as its numbers need."""
    for part in markdown.split("\n## ")[1:]:
        data, *lines = part.splitlines()
        rows = [[field.strip() for field in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
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
