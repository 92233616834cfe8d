"""Draw samples from a trained model: `python pipelines/sample.py data=mnist model=vae`.

With `label=7` a conditional model paints that class alone, into `samples/`, and its cell stays as it is.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike import views
from lookalike.core.config import Config
from lookalike.core.files import write_json
from lookalike.core.stage import Cell, Cost, run, show, writing
from lookalike.data import Prepared


def main(config: Config) -> None:
    cell, cost, count = Cell(config), Cost(), config.budget.samples
    prepared = Prepared(cell.prepared)
    domain = prepared.domain
    if config.label is None:
        views.expect(config)
    # While MLflow is imported beside, torch is here.
    from lookalike.models.build import set_threads
    from lookalike.pictures import save_picture
    from lookalike.sampling import class_number, draw_batches, draw_classes, save_samples
    from lookalike.trained import Trained

    set_threads(config.trainer.threads, processes=config.trainer.devices)
    trained = Trained(cell.train, family=config.model_name, prepared=prepared)
    name, model = trained.record["name"], trained.model
    trained.check_settings(config)

    def draw_into(folder: Path, labels: NDArray[np.int64] | None, title: str) -> None:
        batches = draw_batches(
            model,
            domain,
            samples=count,
            batch_size=config.trainer.batch_size,
            seed=config.seed,
            settings=config.sampling,
            labels=labels,
            processes=config.trainer.devices,
        )
        shown = save_samples(folder / "samples.npz", cost.each(batches), domain, samples=count, labels=labels)
        save_picture(shown, domain, folder / "samples.png", title=title)

    if config.label is not None:
        number = class_number(model, domain, config.label)
        place = config.path("samples") / f"{name}-{domain.labels[number]}"
        with writing(place) as folder:
            draw_into(folder, np.full(count, number), f"{name}: samples of {domain.labels[number]}")
        show(str(place / "samples.png"))
        return
    with writing(cell.sample) as folder, views.opened(config, trained.record) as view:
        draw_into(folder, draw_classes(model, count, seed=config.seed), f"{name}: samples")
        cost.record["fingerprint"] = trained.fingerprint
        write_json(folder / "settings.json", config.sampling)
        cost.save(folder, samples_per_second=count / cost.record["work_seconds"])
        view.record("sample", folder)
    show(f"{name}: {count:,} samples in {cost.record['work_seconds']:.1f} s, seen in {cell.sample / 'samples.png'}")


if __name__ == "__main__":
    run(main)
