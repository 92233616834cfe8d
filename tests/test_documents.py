"""Tests that the documents show the scores and costs of the committed run."""

from pathlib import Path

import run_tables

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_shows_the_leaderboard_of_the_committed_run() -> None:
    readme = (ROOT / "README.md").read_text()
    page = (ROOT / "results" / "default" / "leaderboard.md").read_text()
    assert set(run_tables.leaderboards(page)) == {"heights", "mnist"}
    assert run_tables.with_leaderboards(readme, page) == readme
    other = page.replace("| vae | lower bound, n", "| vae | exact, n")
    assert run_tables.with_leaderboards(readme, other).count("| vae | exact, n") == 2


def test_what_cells_cost_is_written_in_the_order_of_the_table(tmp_path: Path) -> None:
    for family, steps in (("vae", 1234), ("gan", 5)):
        for name, content in (
            ("train/model.json", f'{{"parameters": 70000, "steps": {steps}}}'),
            ("train/cost.json", '{"work_seconds": 61.4}'),
            ("sample/cost.json", '{"samples_per_second": 1000.4}'),
            ("evaluate/cost.json", '{"work_seconds": 2.6}'),
        ):
            (tmp_path / family / "0" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / family / "0" / name).write_text(content)
    table = f"{run_tables.COSTS}\n{run_tables.COSTS_RULE}\n| `vae` | 1 |\n| `gan` | 2 |\n"
    written = run_tables.with_costs(f"before\n\n{table}\nafter\n", tmp_path)
    assert written == (
        f"before\n\n{run_tables.COSTS}\n{run_tables.COSTS_RULE}\n"
        "| `vae` | 70,000 | 1,234 | 61 | 1,000 | 3 |\n| `gan` | 70,000 | 5 | 61 | 1,000 | 3 |\n\nafter\n"
    )
