"""Make and freeze the extractor that images are scored in: `python pipelines/features.py data=mnist`."""

from lookalike.core.config import Config
from lookalike.core.stage import Cell, Cost, run, writing
from lookalike.data import Prepared
from lookalike.extractor import save_identity


def main(config: Config) -> None:
    cell, cost = Cell(config), Cost()
    prepared = Prepared(cell.prepared)
    with writing(cell.features) as folder:
        (folder / "extractor").mkdir()
        with cost.work():
            if prepared.domain.kind == "vector" and config.data.features is None:
                save_identity(folder / "extractor", prepared)
            else:
                from lookalike.feature_stage import make_and_save

                make_and_save(config, prepared, folder / "extractor")
        cost.save(folder)


if __name__ == "__main__":
    run(main)
