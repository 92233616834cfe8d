"""Make and freeze the extractor that images are scored in: `python pipelines/features.py data=mnist`."""

from lookalike.core.config import Config
from lookalike.core.stage import Cell, Cost, run, show, writing
from lookalike.data import Prepared
from lookalike.extractor import VALUES, save_identity


def main(config: Config) -> None:
    cell, cost = Cell(config), Cost()
    prepared = Prepared(cell.prepared)
    with writing(cell.features) as folder:
        (folder / "extractor").mkdir()
        with cost.work():
            if prepared.domain.kind == "vector" and config.data.features is None:
                record = save_identity(folder / "extractor", prepared)
            else:
                from lookalike.feature_stage import make_and_save

                record = make_and_save(config, prepared, folder / "extractor")
        cost.save(folder)
    what = "values as they are" if record["name"] == VALUES else f"features of {record['name']}"
    seconds, place = cost.record["work_seconds"], cell.features / "extractor"
    show(f"{prepared.domain.name}: to be compared by {what}, made in {seconds:.1f} s, kept in {place}")


if __name__ == "__main__":
    run(main)
