"""Score real data outside the test set, the row that nobody beats: `python pipelines/real.py data=mnist`."""

from lookalike.core.config import Config
from lookalike.core.files import save_arrays, write_json
from lookalike.core.stage import Cell, Cost, run, show, writing
from lookalike.data import Prepared
from lookalike.distances import score_real
from lookalike.extractor import Extractor
from lookalike.landscape import true_landscape
from lookalike.pictures import save_picture
from lookalike.versions import versions


def main(config: Config) -> None:
    cell, cost = Cell(config), Cost()
    prepared = Prepared(cell.prepared)
    prepared.check_drawn_from(config.data.reader)
    extractor = Extractor(cell.features / "extractor", prepared)
    with writing(cell.real) as folder:
        with cost.work():
            values, metrics, details = score_real(prepared, extractor, count=config.budget.samples)
        write_json(folder / "metrics.json", metrics | {"versions": versions()})
        save_arrays(folder / "samples.npz", {"samples": values})
        save_arrays(folder / "details.npz", details | true_landscape(prepared.domain, config.data.reader))
        save_picture(values, prepared.domain, folder / "samples.png", title=f"{prepared.domain.name}: real data")
        cost.save(folder)
    show(f"{prepared.domain.name}: {len(values):,} real observations scored, in {cell.real / 'metrics.json'}")


if __name__ == "__main__":
    run(main)
