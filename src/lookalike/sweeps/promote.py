"""`lookalike promote SWEEP`: write the winner's values into the file of its model, where the pipeline reads them."""

import difflib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from lookalike.domain.prepared import Prepared
from lookalike.families.build import for_domain
from lookalike.sweeps.check import file_digest
from lookalike.sweeps.places import Record, Sweep, read, title
from lookalike.workspace.arguments import MODEL_SECTIONS, Section
from lookalike.workspace.configuration import CONF, ROOT, Config, compose
from lookalike.workspace.errors import UserError
from lookalike.workspace.places import Cell

MULTIRUN = ROOT / "multirun"

USAGE = "usage: lookalike promote SWEEP [trial=FINGERPRINT]"


def main() -> None:
    """Run the command line; exit with 0, or 1 for an error."""
    try:
        promote(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.strerror}: {error.filename}")


def promote(arguments: list[str]) -> None:
    """Write a winner's values into `conf/`, print the difference, and tag its run.

    Raises:
        UserError: the sweep does not exist or has no winner, or its trials had another configuration or other data
            than there are now. Nothing is written then.
    """
    if {"-h", "--help"} & set(arguments):
        print(f"{USAGE}. There are {known_sweeps()}")
        return
    if len(arguments) not in (1, 2) or "=" in arguments[0] or arguments[0].startswith("-"):
        raise UserError(f"{USAGE}. There are {known_sweeps()}")
    sweep = find(arguments[0])
    about, fingerprint = sweep.read(), choose(sweep, arguments[1:])
    trial = sweep.trial(fingerprint)
    identity, record = read(trial.identity), read(trial.record)
    data = identity["configuration"]["data"]["name"]  # it may have hyphens
    model = identity["name"].removeprefix(f"{data}-")
    path = CONF / "model" / f"{model}.yaml"
    place = str(path.relative_to(ROOT))
    check_clean(place, about)
    pipeline = yaml.safe_load((CONF / "pipeline.yaml").read_text(encoding="utf-8"))
    cell = [f"data={data}", f"model={model}", f"budget={pipeline['budget']}", f"trainer={pipeline['trainer']}"]
    config = compose(cell)
    check_data(config, identity)
    check_elsewhere(config, identity["configuration"], path)
    now = config.model_dump()
    wanted = difference(*({key: plain[key] for key in MODEL_SECTIONS} for plain in (now, identity["configuration"])))
    if not wanted:
        print(f"{place} has the values of this trial already")
    else:
        old, new = path.read_text(encoding="utf-8"), changed(path.read_text(encoding="utf-8"), wanted)
        path.write_text(new, encoding="utf-8")
        print("".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), place, place)), end="")
    print(f"\npromoted {fingerprint[:8]} of {sweep.name}: {title(overrides_of(sweep, fingerprint), about['space'])}")
    print(consequence(compose(cell), identity, record))
    tag(about, data, fingerprint, place)


def known_sweeps() -> str:
    """Return the names of the existing sweeps."""
    return ", ".join(sorted(path.parent.name for path in MULTIRUN.glob("*/sweep.json"))) or "no sweeps yet"


def find(name: str) -> Sweep:
    """Return a sweep by its name or folder."""
    for folder in (MULTIRUN / name, Path(name).absolute()):
        if (folder / "sweep.json").is_file():
            return Sweep(folder)
    raise UserError(f"unknown sweep '{name}': there are {known_sweeps()}")


def overrides_of(sweep: Sweep, fingerprint: str) -> list[str]:
    """Return the overrides of a trial."""
    state = sweep.state(fingerprint)
    assert state is not None
    return list(state["overrides"])


def choose(sweep: Sweep, arguments: list[str]) -> str:
    """Return the fingerprint of the trial to promote: the one that the user names, or the winner.

    Of the winner's seeds the seed of the pipeline is preferred.

    Raises:
        UserError: there is no such trial, or no winner.
    """
    if arguments:
        key, _, value = arguments[0].partition("=")
        finished = [state["fingerprint"] for state in sweep.all_states() if state["state"] == "finished"]
        found = [fingerprint for fingerprint in finished if value and fingerprint.startswith(value)]
        if key != "trial" or len(found) != 1:
            there = ", ".join(fingerprint[:8] for fingerprint in finished) or "none"
            raise UserError(f"{arguments[0]}: trial= takes the first letters of one finished trial of these: {there}")
        return str(found[0])
    if not sweep.summary.is_file():
        raise UserError(f"{sweep.name} has no summary: it is running or was killed. Its command continues it")
    summary = read(sweep.summary)
    if "pareto_front" in summary:
        raise UserError(f"{sweep.name} has several objectives: name a trial, with trial=FINGERPRINT")
    verdicts = summary["verdict"]
    if not verdicts:
        raise UserError(f"{sweep.name} has no finished trial. Run it again: {summary['command']}")
    if len(verdicts) > 1:
        raise UserError(f"{sweep.name} is about {' and '.join(verdicts)}: name a trial, with trial=FINGERPRINT")
    ((_, verdict),) = verdicts.items()
    if verdict["winner"] is None:
        raise UserError(
            f"{sweep.name} has no winner: within error of the best: {len(verdict['within_error'])} configuration(s). "
            f"Run it with more seeds, or promote the best one anyway: trial={verdict['trials'][0][:8]}"
        )
    seed = int(yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["seed"])
    seeds = {(sweep.state(trial) or {}).get("seed"): trial for trial in reversed(verdict["trials"])}
    return str(seeds.get(seed, verdict["trials"][0]))


def check_clean(place: str, about: Record) -> None:
    """Raise a UserError if the configuration has changed since the last commit or since the sweep."""
    command = ["git", "status", "--porcelain", "--untracked-files=no", "--", "conf"]
    status = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False).stdout.splitlines()
    if status:
        raise UserError(f"{status[0][3:]} has changes that are not committed: commit or undo them first")
    if about["files"].get(place) != file_digest(ROOT / place):
        raise UserError(
            f"{place} was edited since the sweep, so its trials are changes of another file. Run the sweep's command "
            f"again; unchanged trials are remembered: {about['command']}"
        )


def check_data(config: Config, identity: Record) -> None:
    """Raise a UserError if a trial was trained on other data than the prepared ones."""
    now = Prepared(Cell(config).prepared).digest
    if now != identity["data_digest"]:
        raise UserError(
            f"a winner of other data: it was trained on {config.data.name} {identity['data_digest'][:8]}, the prepared "
            f"data are {now[:8]}. Run the sweep again"
        )


def check_elsewhere(config: Config, trial: Section, path: Path) -> None:
    """Raise a UserError if a trial has values that belong to the file of the data set and not to its model's."""
    now = config.model_dump()["data"]
    for key, value in trial["data"].items():
        if now[key] != value:
            raise UserError(
                f"the trial has data.{key}={value}, the pipeline has {now[key]}: this value is not specific to "
                f"{path.stem} but applies to every family. Edit conf/data/{config.data.name}.yaml and run the sweep "
                f"again"
            )


def difference(now: Section, wanted: Section) -> Section:
    """Return the part of a section whose values differ from those that there are."""
    found: Section = {}
    for key, value in wanted.items():
        old = now.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := difference(old, value):
                found[key] = inner
        elif key not in now or old != value:
            found[key] = value
    return found


class Representer(RoundTripRepresenter):
    """Write null as these files do."""


Representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))


def changed(text: str, wanted: Section) -> str:
    """Return a YAML file with some other values; everything else stays as it is, including comments."""
    editor = YAML()
    editor.Representer = Representer
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)
    content = editor.load(text)
    put(content, wanted)
    out = io.StringIO()
    editor.dump(content, out)
    return out.getvalue()


def put(node: Any, wanted: Section) -> None:
    """Set values in a mapping; lists are written in one line."""
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(node.get(key), dict):
            put(node[key], value)
            continue
        node[key] = value
        if isinstance(value, list):
            node[key] = CommentedSeq(value)
            node[key].fa.set_flow_style()
        elif isinstance(value, dict):
            node[key] = CommentedMap(value)


def consequence(config: Config, identity: Record, record: Record) -> str:
    """Return what `dvc repro` will do with the promoted values, as far as the fingerprint tells."""
    from lookalike.training.learning import identity as trained_identity

    prepared = Prepared(Cell(config).prepared)
    now = trained_identity(for_domain(config, prepared.domain), prepared)["fingerprint"]
    repro = f"`dvc repro evaluate@{identity['name']}-{config.seed}`"
    if now == record["training_fingerprint"]:
        return f"{repro} trains the very same model ({now}), and scores it on the test set"
    current, trial = config.model_dump(), identity["configuration"]
    other = [shown for key, shown in (("seed", "seed"), ("trainer", "trainer")) if current[key] != trial[key]]
    other += ["budget.scale"] if current["budget"]["scale"] != trial["budget"]["scale"] else []
    why = f"another {' and another '.join(other)}" if other else "other code"
    return f"{repro} trains these values with {why} than the trial, so its weights will differ"


def tag(about: Record, data: str, fingerprint: str, place: str) -> None:
    """Tag the runs of the trial and of its sweep in MLflow, if the sweep was recorded there."""
    if not about["tracking"]["mlflow"]:
        return
    from lookalike.sweeps.mlflow_sweep import tag_promoted
    from lookalike.tracking.servers import asked_for, quiet

    quiet()
    tracker, *_ = asked_for(about["tracking"])
    try:
        tag_promoted(tracker.connect(), about, data, fingerprint, place)
    except Exception as error:
        print(f"tracking: {tracker.complaint(error)}; no run was tagged", file=sys.stderr)
