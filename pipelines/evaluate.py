"""Score a trained model and its samples: `python pipelines/evaluate.py data=mnist model=vae`."""

from typing import Any

from lookalike import views
from lookalike.core.config import Config
from lookalike.core.files import save_arrays, write_json
from lookalike.core.stage import Cell, Cost, run, show, writing
from lookalike.data import Prepared
from lookalike.versions import versions

SIGNS = {"lower bound": "at most ", "estimate": "about "}
"""What a kind of likelihood makes of a number of bits; an exact one needs no word."""


def main(config: Config) -> None:
    cell, cost = Cell(config), Cost()
    prepared = Prepared(cell.prepared)
    views.expect(config)
    # While MLflow is imported beside, torch is here.
    from lookalike import evaluation
    from lookalike.extractor import Extractor
    from lookalike.models.build import set_threads
    from lookalike.sampling import load_samples
    from lookalike.trained import Trained

    set_threads(config.trainer.threads, processes=config.trainer.devices)
    trained = Trained(cell.train, family=config.model_name, prepared=prepared)
    trained.check_settings(config)
    trained.check_samples(cell.sample)
    samples = load_samples(cell.sample / "samples.npz", prepared.domain)
    extractor = Extractor(cell.features / "extractor", prepared)
    with writing(cell.evaluate) as folder, views.opened(config, trained.record) as view:
        with cost.work():
            metrics, details = evaluation.score(trained.model, samples, prepared, extractor, config)
        write_json(folder / "metrics.json", metrics | {"versions": versions()})
        save_arrays(folder / "details.npz", details)
        cost.record["fingerprint"] = trained.fingerprint
        cost.save(folder)
        view.record("evaluate", folder)
    show(f"{trained.record['name']}: {first_of(metrics)}, all in {cell.evaluate / 'metrics.json'}")


def first_of(metrics: dict[str, Any]) -> str:
    """The scores that are looked at first, in words."""
    told = []
    for name in ("bits_per_dim", "frechet_distance", "wasserstein_1"):
        if (entry := metrics.get(name)) is not None:
            sign = SIGNS.get(entry.get("kind"), "")
            value = f"{sign}{entry['value']:.4g} ± {entry['standard_error']:.2g}"
            of = "" if entry.get("split", "test") == "test" else f" of {entry['split']} data"
            told.append(f"{value} {entry['unit']}{of}" if name == "bits_per_dim" else f"{name} {value}")
    return ", ".join(told)


if __name__ == "__main__":
    run(main)
