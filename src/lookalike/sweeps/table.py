"""A sweep's summary on a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from lookalike.sweeps.places import Record

MOST = 20
"""Rows that are shown; `summary.csv` has all."""

WIDTH = 120
"""Of the table in a log file."""


def show(summary: Record) -> None:
    """Print the table, the verdict, and what failed."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    table = Table(box=box.SIMPLE, pad_edge=False, title_justify="left")
    table.add_column("configuration", overflow="fold")
    table.add_column("seeds", justify="right")
    for name in summary["objective"]:
        table.add_column(f"{name} ({summary['split']})", justify="right")
    table.add_column("training", justify="right")
    for row in summary["configurations"][:MOST]:
        scores = [written(row["scores"][name]) for name in summary["objective"]]
        table.add_row(
            row["title"] or "(all alike)", str(len(row["seeds"])), *scores, f"{row['training_seconds']:.1f} s"
        )
    console.print()
    if summary["configurations"]:
        console.print(table)
    if (more := len(summary["configurations"]) - MOST) > 0:
        console.print(f"… and {more} more in summary.csv")
    for line in conclusions(summary):
        console.print(line, soft_wrap=True, markup=False)


def written(score: Record) -> str:
    """A mean with the half width of its interval."""
    half = score["half_width"]
    return f"{score['mean']:.5g}" + (f" ± {half:.2g}" if half is not None else "")


def conclusions(summary: Record) -> list[str]:
    """What follows from the table, in sentences."""
    lines = [f"± is half of a {summary['level']:.0%} interval: over seeds, or of one seed the score's own error alone."]
    for data, verdict in summary.get("verdict", {}).items():
        close = verdict["within_error"]
        if verdict["winner"] is not None:
            lines.append(f"{data}: the winner is {verdict['best'] or 'the only configuration'}{verdict['alone']}")
        else:
            are = "another is" if len(close) == 1 else f"{len(close)} others are"
            lines.append(
                f"{data}: no winner. {verdict['best']} is the best, and {are} within error of it. More seeds would tell"
            )
    if "pareto_front" in summary:
        lines.append(f"Pareto front ({', '.join(summary['objective'])}):")
        lines += [f"  {row['data']}: {row['title']}" for row in summary["pareto_front"]]
    counted = ", ".join(f"{count} {kind}" for kind, count in summary["counts"].items())
    lines.append(f"trials: {counted or 'none'}")
    lines += [
        f"  {failure['state']}: {failure['title']} ({failure['error'] or 'its process was stopped'})"
        for failure in summary["failures"]
    ]
    return lines
