"""Train, sample and score a cell with another seed: `python pipelines/repeat.py data=mnist model=vae seed=1`.

It runs the scripts of the three stages, which write to `<cell>/seeds/<seed>/`. What the cell itself has done with this
very seed is copied from there, and not done again.
"""

import runpy
import shutil
from pathlib import Path

from lookalike.core.config import Config
from lookalike.core.files import read_json
from lookalike.core.stage import Cell, run, writing
from lookalike.data import Prepared

STAGES = {"train": "model.json", "sample": "cost.json", "evaluate": "cost.json"}
"""The stages of a cell, and the file that says whose model's each is."""


def main(config: Config) -> None:
    from lookalike import learning
    from lookalike.extractor import Extractor

    own, place = config.cell, config.cell / "seeds" / str(config.seed)
    cell = Cell(config)
    prepared = Prepared(cell.prepared)
    Extractor(cell.features / "extractor", prepared)  # what is missing is said before anything is trained
    fingerprint = learning.identity(config, prepared)["fingerprint"]
    elsewhere = config.model_copy(update={"paths": config.paths.model_copy(update={"cell": str(place)})})
    for stage, record in STAGES.items():
        if is_done(own / stage / record, fingerprint):
            print(f"{stage}: seed {config.seed} is that of {own}, copied", flush=True)
            with writing(place / stage) as folder:
                shutil.copytree(own / stage, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
        else:
            runpy.run_path(str(Path(__file__).with_name(f"{stage}.py")))["main"](elsewhere)


def is_done(record: Path, fingerprint: str) -> bool:
    """Whether a stage's record is there and names the trained model."""
    return record.is_file() and read_json(record, remedy="Run its stage again").get("fingerprint") == fingerprint


if __name__ == "__main__":
    run(main)
