"""Score real data outside the test set, which a model tries to reach: `lookalike real data=mnist`."""

from lookalike.domain.prepared import Prepared
from lookalike.evaluation.entries import with_versions
from lookalike.evaluation.landscape import true_landscape
from lookalike.evaluation.novelty import score_real
from lookalike.features.extractor import Extractor
from lookalike.workspace.command_line import show
from lookalike.workspace.configuration import Config
from lookalike.workspace.cost import Cost
from lookalike.workspace.files import save_arrays, write_json
from lookalike.workspace.outputs import writing
from lookalike.workspace.places import Cell


def real(config: Config) -> None:
    """Score held-out real data of one data set as if a model had drawn them."""
    cell, cost = Cell(config), Cost()
    prepared = Prepared(cell.prepared)
    prepared.check_drawn_from(config.data.reader)
    extractor = Extractor(cell.features / "extractor", prepared)
    with writing(cell.real) as folder:
        with cost.work():
            values, metrics, details, replicates = score_real(prepared, extractor, count=config.budget.samples)
        write_json(folder / "metrics.json", with_versions(metrics))
        save_arrays(folder / "samples.npz", {"samples": values})
        save_arrays(folder / "details.npz", details | true_landscape(prepared.domain, config.data.reader))
        save_arrays(folder / "resampled.npz", replicates)
        prepared.domain.save_picture(values, folder / "samples.png", title=f"{prepared.domain.name}: real data")
        cost.save(folder)
    show(f"{prepared.domain.name}: {len(values):,} real observations scored, in {cell.real / 'metrics.json'}")
