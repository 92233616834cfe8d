"""Train one family on one data set: `lookalike train data=mnist model=vae`."""

import contextlib
import subprocess
import sys

from lookalike.domain.prepared import Prepared
from lookalike.tracking import views
from lookalike.workspace.command_line import show
from lookalike.workspace.configuration import ROOT, Config
from lookalike.workspace.cost import Cost
from lookalike.workspace.devices import place
from lookalike.workspace.files import write_json
from lookalike.workspace.outputs import writing
from lookalike.workspace.places import Cell
from lookalike.workspace.processes import spread


def train(config: Config) -> None:
    """Fit or train one family and write its weights, loss curves and previews."""
    prepared = Prepared(Cell(config).prepared)
    prepared.check_drawn_from(config.data.reader)
    # A family without an optimizer is fitted, which takes one process.
    spread(train_and_write, config, alone=config.optimizer is None, context=views.carried())
    if not views.INSTEAD:  # a sweep
        note_unknown_to_git(config)


def train_and_write(config: Config) -> None:
    """Train in this process, one of several perhaps; rank 0 writes."""
    cell, cost = Cell(config), Cost()
    prepared = Prepared(cell.prepared)
    if place().rank == 0:
        views.expect(config)
    # Import torch only now, while the recorder's process imports MLflow.
    from lookalike.families.build import build, check_settings, for_domain
    from lookalike.training import learning
    from lookalike.workspace.threads import set_threads

    set_threads(config.trainer)
    config = for_domain(config, prepared.domain)
    model = build(config.model, prepared.domain, seed=config.seed)
    check_settings(model, config)
    record = learning.identity(config, prepared)
    scratch = config.path("scratch") / record["fingerprint"]
    if place().rank:
        learning.learn(model, prepared, config, scratch=scratch, view=views.View())
        return
    with writing(cell.train) as folder, views.opened(config, record) as view:
        learned = learning.learn(model, prepared, config, scratch=scratch, view=view, work=cost.work)
        record = learning.save(model, learned, record, folder)
        write_json(folder / "model.json", record)
        cost.save(folder, images_per_second=learned.images / cost.record["work_seconds"])
        view.record("train", folder)
    learning.forget(scratch)
    how = f"{learned.steps:,} steps" if learned.steps else "fitted"
    show(f"{record['name']}: {how} in {cost.record['work_seconds']:.1f} s, written to {cell.train}")


def note_unknown_to_git(config: Config) -> None:
    """Print a line about new files of a family or data set that git does not know.

    `dvc exp run --queue` copies what git knows. Without these files it ends with DVC's "No such file" and exit code 0,
    before it runs anything of this project.
    """
    family, data = config.model_name, config.data.name
    files = [f"conf/data/{data}.yaml", f"conf/model/{family}.yaml", f"src/lookalike/families/{family}.py"]
    with contextlib.suppress(OSError):
        command = ["git", "ls-files", "--others", "--exclude-standard", "--", *files]
        if new := subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False).stdout.split():
            print(
                f"{', '.join(new)}: unknown to git; before `dvc exp run`: git add -N {' '.join(new)}", file=sys.stderr
            )
