"""Register every trained family of a data set in MLflow's registry: `python pipelines/register.py data=mnist`.

The best family gets the alias `champion`: by the data set's distance, or by `objective=METRIC`. `mnist` alone is short
for `data=mnist`.
"""

import sys

from lookalike.core.config import Config
from lookalike.core.stage import run
from lookalike.tracking.registry import register
from lookalike.tracking.servers import quiet

OBJECTIVES = [item.removeprefix("objective=") for item in sys.argv[1:] if item.startswith("objective=")]
"""No key of the configuration: no stage of the pipeline has a use for it."""


def main(config: Config) -> None:
    quiet()
    for line in register(
        config.tracking.model_dump(),
        data=config.data.name,
        artifacts=config.path("artifacts"),
        results=config.path("results"),
        objective=OBJECTIVES[-1] if OBJECTIVES else None,
    ):
        print(line, flush=True)


if __name__ == "__main__":
    kept = [item for item in sys.argv[1:] if not item.startswith("objective=")]
    sys.argv[1:] = [item if "=" in item or item.startswith("-") else f"data={item}" for item in kept]
    run(main)
