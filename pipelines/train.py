"""Train one family on one data set: `python pipelines/train.py data=mnist model=vae`."""

from lookalike import views
from lookalike.core.config import Config
from lookalike.core.files import write_json
from lookalike.core.stage import Cell, Cost, run, show, writing
from lookalike.data import Prepared


def main(config: Config) -> None:
    cell, cost = Cell(config), Cost()
    prepared = Prepared(cell.prepared)
    prepared.check_drawn_from(config.data.reader)
    views.expect(config)
    # While MLflow is imported beside, torch is here.
    from lookalike import learning
    from lookalike.models.build import build, check_settings, set_threads

    set_threads(config.trainer.threads, processes=config.trainer.devices)
    model = build(config.model, prepared.domain, seed=config.seed)
    check_settings(model, config)
    record = learning.identity(config, prepared)
    scratch = config.path("scratch") / record["fingerprint"]
    with writing(cell.train) as folder, views.opened(config, record) as view:
        with cost.work():
            learned = learning.learn(model, prepared, config, scratch=scratch, view=view)
        record = learning.save(model, learned, record, folder)
        write_json(folder / "model.json", record)
        cost.save(folder, images_per_second=learned.images / cost.record["work_seconds"])
        view.record("train", folder)
    learning.forget(scratch)
    how = f"{learned.steps:,} steps" if learned.steps else "fitted"
    show(f"{record['name']}: {how} in {cost.record['work_seconds']:.1f} s, kept in {cell.train}")


if __name__ == "__main__":
    run(main)
