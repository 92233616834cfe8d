"""Score a trained model and its samples: `lookalike evaluate data=mnist model=vae`."""

import sys
from typing import Any

from lookalike.domain.prepared import Prepared
from lookalike.metrics.catalogue import LIKELIHOOD, main_distance
from lookalike.tracking import views
from lookalike.workspace.command_line import show
from lookalike.workspace.configuration import Config
from lookalike.workspace.cost import Cost
from lookalike.workspace.devices import place
from lookalike.workspace.files import save_arrays, write_json
from lookalike.workspace.outputs import writing
from lookalike.workspace.places import Cell
from lookalike.workspace.processes import spread

SIGNS = {"lower bound": "at most ", "estimate": "about "}
"""Words before a number of bits, by the kind of the likelihood; an exact number needs none."""


def evaluate(config: Config) -> None:
    """Score one cell and write its metrics and the arrays behind them."""
    Prepared(Cell(config).prepared)
    spread(score_and_write, config, context=views.carried())


def score_and_write(config: Config) -> None:
    """Score in this process, which may be one of several; the first one writes."""
    cell, cost, is_first = Cell(config), Cost(), place().rank == 0
    prepared = Prepared(cell.prepared)
    if is_first:
        views.expect(config)
    # Import torch only now, while the process that records the run imports MLflow.
    from lookalike.families.build import for_domain
    from lookalike.features.extractor import Extractor
    from lookalike.sampling.files import load_samples
    from lookalike.sampling.trained import Trained
    from lookalike.workspace.devices import device_of
    from lookalike.workspace.threads import set_threads

    set_threads(config.trainer)
    # Import SciPy only now: it reads the number of threads when it is loaded.
    from lookalike.evaluation.entries import with_versions
    from lookalike.evaluation.score import score

    config = for_domain(config, prepared.domain)
    trained = Trained(cell.train, family=config.model_name, prepared=prepared)
    model = trained.model.to(device_of(config.trainer))
    trained.check_settings(config)
    trained.check_samples(cell.sample)
    samples = load_samples(cell.sample / "samples.npz", prepared.domain)
    extractor = Extractor(cell.features / "extractor", prepared)
    if not is_first:
        score(model, samples, prepared, extractor, config)
        return
    with writing(cell.evaluate) as folder, views.opened(config, trained.record) as view:
        with cost.work():
            metrics, details, replicates = score(model, samples, prepared, extractor, config)
        write_json(folder / "metrics.json", with_versions(metrics))
        save_arrays(folder / "details.npz", details)
        save_arrays(folder / "resampled.npz", replicates)
        cost.record["fingerprint"] = trained.fingerprint
        cost.save(folder)
        view.record("evaluate", folder)
    for name, scored in metrics.items():
        if "missing" in scored:
            print(f"note: no {name}: {scored['missing']}", file=sys.stderr)
    show(f"{trained.record['name']}: {main_scores(metrics)}, all scores in {cell.evaluate / 'metrics.json'}")


def main_scores(metrics: dict[str, Any]) -> str:
    """Return the likelihood and the main distance in words."""
    words = []
    scored = {name: entry for name, entry in metrics.items() if "value" in entry}
    for name in (LIKELIHOOD, main_distance(scored) or ""):
        if (entry := scored.get(name)) is not None:
            sign = SIGNS.get(entry.get("kind"), "")
            value = f"{sign}{entry['value']:.4g} ± {entry['standard_error']:.2g}"
            split = "" if entry.get("split", "test") == "test" else f" on {entry['split']} data"
            words.append(f"{value} {entry['unit']}{split}" if name == LIKELIHOOD else f"{name} {value}")
    return ", ".join(words)
