"""Show the summary of a sweep on a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from lookalike.sweeps.places import Record

MAX_ROWS = 20
"""Number of rows that are shown; `summary.csv` has all."""

LOG_WIDTH = 120
"""Width of the table in a log file."""


def show(summary: Record) -> None:
    """Print the table, the verdict and the failures."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    table = Table(box=box.SIMPLE, pad_edge=False, title_justify="left")
    table.add_column("configuration", overflow="fold")
    table.add_column("seeds", justify="right")
    for name in summary["objective"]:
        table.add_column(f"{name} ({summary['split']})", justify="right")
    table.add_column("training", justify="right")
    for row in summary["configurations"][:MAX_ROWS]:
        scores = [describe(row["scores"][name]) for name in summary["objective"]]
        seconds = f"{row['training_seconds']:.1f} s"
        table.add_row(row["title"] or "(all the same)", str(len(row["seeds"])), *scores, seconds)
    console.print()
    if summary["configurations"]:
        console.print(table)
    if (more := len(summary["configurations"]) - MAX_ROWS) > 0:
        console.print(f"… and {more} more in summary.csv")
    for line in conclusions(summary):
        console.print(line, soft_wrap=True, markup=False)


def describe(score: Record) -> str:
    """Return a mean with half of the width of its interval."""
    half = score["half_width"]
    return f"{score['mean']:.5g}" + (f" ± {half:.2g}" if half is not None else "")


def conclusions(summary: Record) -> list[str]:
    """Return what follows from the table, in sentences."""
    lines = [
        f"± is half of a {summary['level']:.0%} interval over seeds; for one seed it covers the score's own error."
    ]
    for data, verdict in summary.get("verdict", {}).items():
        close = verdict["within_error"]
        if verdict["winner"] is not None:
            lines.append(f"{data}: the winner is {verdict['best'] or 'the only configuration'}{verdict['alone']}")
        else:
            are = "another one is" if len(close) == 1 else f"{len(close)} others are"
            lines.append(
                f"{data}: no winner. {verdict['best']} is the best, and {are} within error of it. Run more seeds"
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
