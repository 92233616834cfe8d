"""Writes the tables in README.md and docs/families.md that come from a run: `python docs/run_tables.py`.

After `make repro`: leaderboards are those of `results/`, what cells cost is read in `artifacts/`.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COSTS = "| family | numbers learned | steps | seconds of training | samples a second | seconds of scoring |"
COSTS_RULE = "| --- | ---: | ---: | ---: | ---: | ---: |"


def leaderboards(page: str) -> dict[str, str]:
    """The table of each data set in a leaderboard's Markdown."""
    return {data: table.strip() for data, table in re.findall(r"^## (\w+)\n\n((?:\|.*\n)+)", page, flags=re.MULTILINE)}


def with_leaderboards(readme: str, page: str) -> str:
    """The text with every table that follows a data set's heading replaced by that of the leaderboard."""
    tables = leaderboards(page)
    for data in tables:
        readme = re.sub(
            rf"(^### {data}\n\n)(?:\|.*\n)+",
            lambda found: f"{found[1]}{tables[found[1].split()[1]]}\n",
            readme,
            flags=re.MULTILINE,
        )
    return readme


def with_costs(families: str, folder: Path) -> str:
    """The text with its table of costs written anew from the cells in a folder, in the order that it had."""
    (rows,) = re.findall(rf"{re.escape(COSTS)}\n{re.escape(COSTS_RULE)}\n((?:\|.*\n)+)", families)
    names = re.findall(r"^\| `(\w+)`", rows, flags=re.MULTILINE)
    return families.replace(rows, "".join(f"{cost(folder / name)}\n" for name in names))


def cost(cell: Path) -> str:
    """A cell's row."""
    model, train, sample, score = (
        read(cell / name) for name in ("train/model.json", "train/cost.json", "sample/cost.json", "evaluate/cost.json")
    )
    numbers = (model["parameters"], model["steps"], train["work_seconds"])
    return (
        f"| `{cell.name}` | "
        + " | ".join(f"{number:,.0f}" for number in (*numbers, sample["samples_per_second"], score["work_seconds"]))
        + " |"
    )


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def main() -> None:
    readme, families = ROOT / "README.md", ROOT / "docs" / "families.md"
    leaderboard = (ROOT / "results" / "leaderboard.md").read_text()
    readme.write_text(with_leaderboards(readme.read_text(), leaderboard))
    families.write_text(with_costs(families.read_text(), ROOT / "artifacts" / "mnist"))


if __name__ == "__main__":
    main()
