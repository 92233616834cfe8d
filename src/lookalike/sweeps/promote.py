"""`python pipelines/promote.py SWEEP`: the winner's values go into its model's file, where the pipeline reads them."""

import difflib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from lookalike.core.config import CONF, MODEL_SECTIONS, ROOT, Config, Section, compose
from lookalike.core.errors import UserError
from lookalike.core.stage import Cell
from lookalike.data import Prepared
from lookalike.sweeps.check import file_digest
from lookalike.sweeps.places import Record, Sweep, read, title

MULTIRUN = ROOT / "multirun"


def main() -> None:
    """Run the command line; leave with 0 or 1."""
    try:
        promote(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.strerror}: {error.filename}")


def promote(arguments: list[str]) -> None:
    """Write a winner's values into `conf/`, show what changed, and tag its run.

    Raises:
        UserError: there is no such sweep, no winner in it, or the configuration or the data are not those that the
            trials were made of. Nothing is written then.
    """
    if len(arguments) not in (1, 2) or "=" in arguments[0] or arguments[0].startswith("-"):
        raise UserError(f"usage: python pipelines/promote.py SWEEP [trial=FINGERPRINT]. There are {known()}")
    sweep = find(arguments[0])
    about, chosen = sweep.read(), choose(sweep, arguments[1:])
    identity, record = (read(path) for path in (sweep.trial(chosen).identity, sweep.trial(chosen).record))
    data, model = identity["name"].split("-", 1)
    path = CONF / "model" / f"{model}.yaml"
    check_clean(path, about)
    pipeline = yaml.safe_load((CONF / "pipeline.yaml").read_text())
    cell = [f"data={data}", f"model={model}", f"budget={pipeline['budget']}", f"trainer={pipeline['trainer']}"]
    config = compose(cell)
    check_data(config, identity)
    check_elsewhere(config, identity["configuration"], path)
    old = path.read_text()
    new = changed(old, {key: identity["configuration"][key] for key in MODEL_SECTIONS})
    if new == old:
        print(f"{path.relative_to(ROOT)} has the values of this trial already")
    else:
        place = str(path.relative_to(ROOT))
        path.write_text(new)
        print("".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), place, place)), end="")
    shown = title(read_state(sweep, chosen)["overrides"], about["space"])
    print(f"\npromoted {chosen[:8]} of {sweep.name}: {shown}")
    for line in follows(compose(cell), identity, record, f"{data}-{model}"):
        print(line)
    tag(about, sweep, chosen, path)


def known() -> str:
    """The sweeps that are there, by name."""
    return ", ".join(sorted(path.parent.name for path in MULTIRUN.glob("*/sweep.json"))) or "no sweeps yet"


def find(name: str) -> Sweep:
    """A sweep by its name or folder."""
    for folder in (MULTIRUN / name, Path(name).absolute()):
        if (folder / "sweep.json").is_file():
            return Sweep(folder)
    raise UserError(f"unknown sweep '{name}': there are {known()}")


def read_state(sweep: Sweep, fingerprint: str) -> Record:
    state = sweep.state(fingerprint)
    assert state is not None
    return state


def choose(sweep: Sweep, arguments: list[str]) -> str:
    """The fingerprint of the trial to promote: that of the user's choice, or the winner's.

    Of the winner's seeds it is the pipeline's own, where that was among them.

    Raises:
        UserError: there is no such trial, or no winner.
    """
    if arguments:
        key, _, value = arguments[0].partition("=")
        states = [state for state in sweep.all_states() if state["state"] == "finished"]
        found = [state["fingerprint"] for state in states if value and state["fingerprint"].startswith(value)]
        if key != "trial" or len(found) != 1:
            there = ", ".join(state["fingerprint"][:8] for state in states) or "none"
            raise UserError(f"{arguments[0]}: trial= takes the first letters of one finished trial of these: {there}")
        return str(found[0])
    if not sweep.summary.is_file():
        raise UserError(f"{sweep.name} has no summary: it is at work, or was killed. Its command goes on and ends it")
    summary = read(sweep.summary)
    verdicts = summary.get("verdict", {})
    if len(verdicts) != 1:
        several = "has several objectives" if "pareto_front" in summary else f"is about {' and '.join(verdicts)}"
        if "pareto_front" not in summary and not verdicts:
            raise UserError(f"{sweep.name} has no finished trial. Run it again: {summary['command']}")
        raise UserError(f"{sweep.name} {several}: say which trial, with trial=FINGERPRINT")
    ((_, verdict),) = verdicts.items()
    if verdict["winner"] is None:
        raise UserError(
            f"{sweep.name} has no winner: {len(verdict['within_error'])} configurations are within error of the best. "
            f"Run it with more seeds, or take the best all the same: trial={verdict['trials'][0][:8]}"
        )
    seed = int(yaml.safe_load((CONF / "config.yaml").read_text())["seed"])
    own = [trial for trial in verdict["trials"] if read_state(sweep, trial)["seed"] == seed]
    return str((own or verdict["trials"])[0])


def check_clean(path: Path, about: Record) -> None:
    """Raise a UserError if configuration was changed: since the commit, or since the sweep."""
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", "conf"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    if status:
        raise UserError(f"{status[0][3:]} has changes that are not committed: commit or undo them first")
    place = str(path.relative_to(ROOT))
    if about["files"].get(place) != file_digest(path):
        raise UserError(
            f"{place} was edited since the sweep, and its trials were changes of another file. Run the sweep's command "
            f"again, what did not change is remembered: {about['command']}"
        )


def check_data(config: Config, identity: Record) -> None:
    """Raise a UserError if a trial saw other data than are prepared now."""
    now = Prepared(Cell(config).prepared).digest
    if now != identity["data_digest"]:
        raise UserError(
            f"a winner of other data: it was trained on {config.data.name} {identity['data_digest'][:8]}, prepared is "
            f"{now[:8]}. Run the sweep again"
        )


def check_elsewhere(config: Config, trial: Section, path: Path) -> None:
    """Raise a UserError if a trial has values that do not stand in its model's file but in that of the data."""
    now = config.model_dump()["data"]
    for key, value in trial["data"].items():
        if now[key] != value:
            raise UserError(
                f"the trial has data.{key}={value}, the pipeline {now[key]}: that is not {path.stem}'s alone but goes "
                f"for every family. Change conf/data/{config.data.name}.yaml yourself, and run the sweep again"
            )


class Representer(RoundTripRepresenter):
    """Writes null as these files do."""


Representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))


def changed(text: str, wanted: Section) -> str:
    """A YAML file with other values: what need not change stays as it is, comments and all."""
    editor = YAML()
    editor.Representer = Representer
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)
    content = editor.load(text)
    if not put(content, wanted):
        return text
    out = io.StringIO()
    editor.dump(content, out)
    return out.getvalue()


def put(node: Any, wanted: Section) -> bool:
    """Set what differs in a mapping; whether anything did."""
    differs = False
    for key, value in wanted.items():
        old = node.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            differs |= put(old, value)
        elif old != value or key not in node:
            node[key] = in_style(value)
            differs = True
    return differs


def in_style(value: Any) -> Any:
    """A value as these files have it: lists in one line."""
    if isinstance(value, list):
        found = CommentedSeq(value)
        found.fa.set_flow_style()
        return found
    return value


def follows(config: Config, identity: Record, record: Record, name: str) -> list[str]:
    """What `dvc repro` will make of it, as far as the fingerprint tells."""
    from lookalike.learning import identity as trained

    now = trained(config, Prepared(Cell(config).prepared))["fingerprint"]
    repro = f"`dvc repro evaluate@{name}`"
    if now == record["training_fingerprint"]:
        return [f"{repro} trains the very same model ({now}), and scores it on the test set"]
    current, trial = config.model_dump(), identity["configuration"]
    parts = {"seed": "seed", "budget": "budget.scale", "trainer": "trainer"}
    other = [shown for key, shown in parts.items() if differs(current[key], trial[key])]
    why = f"another {' and another '.join(other)}" if other else "other code"
    return [f"{repro} trains these values, but by {why} than the trial had: its weights will be others"]


def differs(current: Any, trial: Any) -> bool:
    """Whether training would see another setting."""
    if isinstance(current, dict) and "scale" in current:
        return bool(current["scale"] != trial["scale"])
    return bool(current != trial)


def tag(about: Record, sweep: Sweep, fingerprint: str, path: Path) -> None:
    """Say so in MLflow, if it is there."""
    if not about["tracking"]["mlflow"]:
        return
    from lookalike.tracking.mlflow_server import place_of
    from lookalike.tracking.mlflow_sweep import tag_promoted
    from lookalike.tracking.servers import complaint, quiet

    quiet()
    try:
        tag_promoted(about, fingerprint, str(path.relative_to(ROOT)))
    except Exception as error:
        print(
            f"tracking: {complaint(place_of(about['tracking']['uri']), error)}; the run isn't tagged", file=sys.stderr
        )
