"""Compare the cells that conf/pipeline.yaml lists and that exist: `lookalike compare`.

`lookalike compare data=heights paths.results=elsewhere` compares the cells of one data set, listed or not.
"""

import sys

from lookalike.report.cells import read_tables
from lookalike.report.results import own_files, save
from lookalike.report.results import show as show_results
from lookalike.tracking import views
from lookalike.workspace.configuration import CONF, Config
from lookalike.workspace.outputs import writing
from lookalike.workspace.pipeline import Listed, read_listed


def compare(config: Config) -> None:
    """Write the leaderboard, figures, model cards and report page over all cells."""
    listed = read_listed(CONF / "pipeline.yaml")
    if any(item.startswith("data=") for item in sys.argv[1:]):
        listed = listed.of(config.data.name, config.path("artifacts"))
    compare_cells(config, listed)


def compare_cells(config: Config, listed: Listed) -> None:
    """Write the leaderboard, figures, model cards and report page over listed cells."""
    results = config.path("results")
    tables, left_out = read_tables(config.path("artifacts"), listed)
    with writing(results, own=own_files) as folder:
        save(tables, folder)
    views.record_report(config, results)
    show_results(results)
    if nothing := [name for name, reason in left_out.items() if not reason]:
        print(f"left out, because they do not exist in artifacts yet: {', '.join(nothing)}")
    for name, reason in left_out.items():
        if reason:
            print(f"left out: {name}: {reason}")
