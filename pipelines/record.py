"""Bring the views up to date with the files of every cell, after a pull or an outage: `python pipelines/record.py`."""

from lookalike.core.config import Config
from lookalike.core.stage import run
from lookalike.tracking.servers import quiet, record_all


def main(config: Config) -> None:
    quiet()
    for line in record_all(config.tracking.model_dump(), config.path("artifacts"), config.path("results")):
        print(line, flush=True)


if __name__ == "__main__":
    run(main)
