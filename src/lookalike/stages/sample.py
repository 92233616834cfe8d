"""Draw samples from a trained model: `lookalike sample data=mnist model=vae`.

With `label=7` a conditional model draws only that class, into `samples/`, and the samples of the cell stay as they are.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.prepared import MIN_POINTS, Prepared
from lookalike.tracking import views
from lookalike.workspace.command_line import show
from lookalike.workspace.configuration import Config
from lookalike.workspace.cost import Cost
from lookalike.workspace.devices import place
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import write_json
from lookalike.workspace.outputs import writing
from lookalike.workspace.places import Cell
from lookalike.workspace.processes import spread


def sample(config: Config) -> None:
    """Draw `budget.samples` samples from the model of one cell and write them."""
    Prepared(Cell(config).prepared)
    if config.label is None and config.budget.samples < MIN_POINTS:
        raise UserError(f"budget.samples={config.budget.samples}: scoring needs at least {MIN_POINTS}")
    spread(draw_and_write, config, context=views.carried())


def draw_and_write(config: Config) -> None:
    """Draw samples in this process, one of several perhaps; rank 0 writes."""
    cell, cost, count = Cell(config), Cost(), config.budget.samples
    prepared = Prepared(cell.prepared)
    domain, is_first = prepared.domain, place().rank == 0
    if config.label is None and is_first:
        views.expect(config)
    # Import torch only now, while the recorder's process imports MLflow.
    from lookalike.families.build import for_domain
    from lookalike.sampling.drawing import class_number, draw_batches, draw_classes
    from lookalike.sampling.files import save_samples
    from lookalike.sampling.trained import Trained
    from lookalike.workspace.devices import device_of
    from lookalike.workspace.threads import set_threads

    set_threads(config.trainer)
    config = for_domain(config, prepared.domain)
    trained = Trained(cell.train, family=config.model_name, prepared=prepared)
    name, model = trained.record["name"], trained.model.to(device_of(config.trainer))
    trained.check_settings(config)
    if config.label is None:
        labels: NDArray[np.int64] | None = draw_classes(model, count, seed=config.seed)
    else:
        labels = np.full(count, class_number(model, domain, config.label))
    batches = draw_batches(
        model,
        domain,
        samples=count,
        batch_size=config.trainer.batch_size,
        seed=config.seed,
        settings=config.sampling,
        labels=labels,
    )

    def write_into(folder: Path, title: str) -> None:
        shown = save_samples(folder / "samples.npz", cost.each(batches), domain, samples=count, labels=labels)
        domain.save_picture(shown, folder / "samples.png", title=title)

    if not is_first:
        for _ in batches:
            pass
    elif labels is not None and config.label is not None:
        label = domain.labels[labels[0]]
        target = config.path("samples") / f"{name}-{label}"
        with writing(target) as folder:
            write_into(folder, f"{name}: samples of {label}")
        show(str(target / "samples.png"))
    else:
        with writing(cell.sample) as folder, views.opened(config, trained.record) as view:
            write_into(folder, f"{name}: samples")
            cost.record["fingerprint"] = trained.fingerprint
            write_json(folder / "settings.json", config.sampling)
            cost.save(folder, samples_per_second=count / cost.record["work_seconds"])
            view.record("sample", folder)
        seconds = cost.record["work_seconds"]
        show(f"{name}: {count:,} samples in {seconds:.1f} s, picture in {cell.sample / 'samples.png'}")
