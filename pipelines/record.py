"""Bring the views up to date with the files of all cells and sweeps, after an outage: `python pipelines/record.py`."""

from lookalike.core.config import ROOT, Config
from lookalike.core.stage import run
from lookalike.tracking.servers import quiet, record_all
from lookalike.tracking.sweeps import record_sweeps


def main(config: Config) -> None:
    quiet()
    for line in record_all(config.tracking.model_dump(), config.path("artifacts"), config.path("results")):
        print(line, flush=True)
    for line in record_sweeps(config.tracking.model_dump(), ROOT / "multirun"):
        print(line, flush=True)


if __name__ == "__main__":
    run(main)
