"""Write the tables of the committed run into README.md and docs/families/index.md: `python docs/scripts/run_tables.py`.

Run it after `make repro`. The leaderboards come from `results/default/`, the costs of cells from `artifacts/`.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BOARD = r"(?:[^#|\n].*\n\n)?(?:\|.*\n)+"
"""The sentence that says what ranks are of, if there is one, and a table."""

COSTS = "| family | numbers learned | steps | seconds of training | samples per second | seconds of scoring |"
COSTS_RULE = "| --- | ---: | ---: | ---: | ---: | ---: |"


def leaderboards(page: str) -> dict[str, str]:
    """Return what stands under each data set in the Markdown of a leaderboard: what ranks are of, and the table."""
    found = re.findall(rf"^## (\w+)\n\n({BOARD})", page, flags=re.MULTILINE)
    return {data: table.strip() for data, table in found}


def with_leaderboards(readme: str, page: str) -> str:
    """Return the README with the table below each data set's heading replaced by the leaderboard's."""
    tables = leaderboards(page)
    for data in tables:
        readme = re.sub(
            rf"(^### {data}\n\n){BOARD}",
            lambda found: f"{found[1]}{tables[found[1].split()[1]]}\n",
            readme,
            flags=re.MULTILINE,
        )
    return readme


def with_costs(families: str, folder: Path) -> str:
    """Return the page with its table of costs updated from the cells of a data set, in the order of the page.

    Args:
        families: the page.
        folder: `artifacts/<data>`, with a folder `<model>/<seed>` per cell; the first seed is shown.
    """
    (rows,) = re.findall(rf"{re.escape(COSTS)}\n{re.escape(COSTS_RULE)}\n((?:\|.*\n)+)", families)
    names = re.findall(r"^\| `(\w+)`", rows, flags=re.MULTILINE)
    return families.replace(rows, "".join(f"{cost(min((folder / name).iterdir()))}\n" for name in names))


def cost(cell: Path) -> str:
    """Return the row of a cell `<model>/<seed>`."""
    model, train, sample, score = (
        read(cell / name) for name in ("train/model.json", "train/cost.json", "sample/cost.json", "evaluate/cost.json")
    )
    numbers = (model["parameters"], model["steps"], train["work_seconds"])
    return (
        f"| `{cell.parent.name}` | "
        + " | ".join(f"{number:,.0f}" for number in (*numbers, sample["samples_per_second"], score["work_seconds"]))
        + " |"
    )


def read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def main() -> None:
    """Update both files."""
    readme, families = ROOT / "README.md", ROOT / "docs" / "families" / "index.md"
    leaderboard = (ROOT / "results" / "default" / "leaderboard.md").read_text(encoding="utf-8")
    readme.write_text(with_leaderboards(readme.read_text(encoding="utf-8"), leaderboard), encoding="utf-8")
    families.write_text(
        with_costs(families.read_text(encoding="utf-8"), ROOT / "artifacts" / "mnist"), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
