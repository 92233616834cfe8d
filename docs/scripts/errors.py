"""Draw docs/images/interval.png and ranks.png from a run's numbers: `python docs/scripts/errors.py results/default`."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lookalike.report import style

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
PARTS = {"error_samples": ("of the samples", style.SAMPLES), "error_reference": ("of the test set", style.BAR),
         "error": ("of both", style.MODEL)}  # fmt: skip
COLUMNS = {"heights": "wasserstein_1", "mnist": "frechet_distance"}


def interval(board: dict[str, Any], axes: Any) -> None:
    """Draw Wasserstein-1 on heights with two standard errors of each source on both sides."""
    rows = sorted(((m, row["wasserstein_1"]) for m, row in board["heights"].items() if m != "uniform"),
                  key=lambda pair: -pair[1]["value"])  # fmt: skip
    for i, (key, (words, colour)) in enumerate(PARTS.items()):
        y = [place + 0.22 * (1 - i) for place in range(len(rows))]
        bars = [2 * entry[key] for _, entry in rows]
        axes.errorbar([entry["value"] for _, entry in rows], y, xerr=bars, fmt="o", ms=3, color=colour, label=words)
    axes.set_yticks(range(len(rows)), ["real data" if model == "real" else model for model, _ in rows])
    axes.set_xlabel("Wasserstein-1 on heights, inches  (← better)")
    axes.legend(title="two standard errors", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    axes.grid(axis="y", visible=False)


def ranges(lines: list[dict[str, str]], axes: Any, *, data: str, metric: str) -> None:
    """Draw the range of ranks of every family in one column."""
    own = [line for line in lines if (line["data"], line["metric"]) == (data, metric) and line["rank_as_stated"]]
    rows = [(line["model"], list(map(int, line["rank_as_stated"].split("–"))), float(line["value"])) for line in own]
    rows.sort(key=lambda row: -row[2])
    for y, (_, ends, _) in enumerate(rows):
        axes.plot([ends[0], ends[-1]], [y, y], color=style.MODEL, lw=6, marker="o", solid_capstyle="round")
    axes.set_yticks(range(len(rows)), [model for model, _, _ in rows])
    axes.set_xticks(range(1, len(rows) + 1))
    axes.set_xlim(0.5, len(rows) + 0.5)
    axes.set_xlabel(f"rank on {data} by {metric.replace('_', ' ')}")
    axes.grid(axis="y", visible=False)


def save(figure: Figure, name: str) -> None:
    """Write a picture without the date, so that the same numbers give the same bytes."""
    figure.savefig(IMAGES / name, dpi=110, metadata={"Software": None})
    print((IMAGES / name).relative_to(ROOT))


def main() -> None:
    """Draw both pictures."""
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results" / "default"
    board = json.loads((run / "leaderboard.json").read_text(encoding="utf-8"))
    lines = list(csv.DictReader((run / "leaderboard.csv").read_text(encoding="utf-8").splitlines()))
    with style.styled(text="path"):
        if any("error_samples" not in row["wasserstein_1"] for row in board["heights"].values()):
            sys.exit(f"error: {run} has no errors of samples and test set apart: run `lookalike compare` again")
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        interval(board, figure.add_subplot())
        save(figure, "interval.png")
        shown = {data: metric for data, metric in COLUMNS.items() if data in board}
        figure = Figure(figsize=(3.7 * len(shown), 2.6), layout="constrained")
        for i, (data, metric) in enumerate(shown.items()):
            ranges(lines, figure.add_subplot(1, len(shown), i + 1), data=data, metric=metric)
        save(figure, "ranks.png")


if __name__ == "__main__":
    main()
