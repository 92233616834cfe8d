"""Draw samples from a trained model: `python pipelines/sample.py data=mnist model=vae`."""

from lookalike import views
from lookalike.config import Config
from lookalike.data import Prepared
from lookalike.files import write_json
from lookalike.models.build import check_settings
from lookalike.pictures import save_picture
from lookalike.sampling import draw_batches, save_samples
from lookalike.stage import Cell, Cost, run, writing
from lookalike.trained import Trained


def main(config: Config) -> None:
    cell, cost, count = Cell(config), Cost(), config.budget.samples
    prepared = Prepared(cell.prepared)
    domain = prepared.domain
    trained = Trained(cell.train, prepared=prepared)
    check_settings(trained.model, config)
    with writing(cell.sample) as folder, views.opened(config, trained.record) as view:
        batches = draw_batches(
            trained.model,
            domain,
            samples=count,
            batch_size=config.trainer.batch_size,
            seed=config.seed,
            settings=config.sampling,
        )
        shown = save_samples(folder / "samples.npz", cost.each(batches), domain, samples=count)
        save_picture(shown, domain, folder / "samples.png", title=f"{trained.record['name']}: samples")
        cost.record["fingerprint"] = trained.fingerprint
        write_json(folder / "settings.json", config.sampling)
        cost.save(folder, samples_per_second=count / cost.record["work_seconds"])
        view.record("sample", folder)


if __name__ == "__main__":
    run(main)
