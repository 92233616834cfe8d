"""Train and freeze the extractor that images are scored in: `python pipelines/features.py data=mnist`."""

from lookalike.config import Config
from lookalike.data import Prepared
from lookalike.stage import Cell, Cost, run, writing


def main(config: Config) -> None:
    cell, cost = Cell(config), Cost()
    prepared = Prepared(cell.prepared)
    with writing(cell.features) as folder:
        (folder / "extractor").mkdir()
        with cost.work():
            if config.data.features is None:
                from lookalike.extractor import save_identity as save
            else:
                from lookalike.features import train_and_save as save
            save(config, prepared, folder / "extractor")
        cost.save(folder)


if __name__ == "__main__":
    run(main)
