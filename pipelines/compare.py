"""Compare the cells that conf/pipeline.yaml lists, as far as they are there: `python pipelines/compare.py`.

`python pipelines/compare.py data=heights paths.results=elsewhere` compares those of one data set.
"""

import sys

from lookalike import views
from lookalike.core.config import CONF, Config
from lookalike.core.stage import run, writing
from lookalike.report.cells import read_listed, read_tables
from lookalike.report.results import NAMES, save, show


def main(config: Config) -> None:
    results = config.path("results")
    listed = read_listed(CONF / "pipeline.yaml")
    if any(item.startswith("data=") for item in sys.argv[1:]):
        listed = listed.of(config.data.name)
    tables, skipped = read_tables(config.path("artifacts"), listed)
    with writing(results, holds=NAMES) as folder:
        save(tables, folder)
    views.record_report(config, results)
    show(results)
    if skipped:
        print(f"left out, nothing of it in artifacts yet: {', '.join(skipped)}")


if __name__ == "__main__":
    run(main)
