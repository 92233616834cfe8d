"""`lookalike sweep`: check everything, let Hydra launch the trials, and summarize the results."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Literal

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from lookalike.domain.prepared import Prepared
from lookalike.sweeps.check import base_digest, check_all, file_digest
from lookalike.sweeps.keys import relevant
from lookalike.sweeps.objectives import OBJECTIVES, objectives
from lookalike.sweeps.places import Record, Sweep
from lookalike.sweeps.recording import recorder
from lookalike.sweeps.space import Space, compose, plain_of, read_space
from lookalike.sweeps.trial import run_trial
from lookalike.workspace.addresses import hide, read_address
from lookalike.workspace.arguments import Section
from lookalike.workspace.configuration import CONF, ROOT, absolute, choices, groups
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import replace_json
from lookalike.workspace.fingerprint import git_state
from lookalike.workspace.grammar import quoted
from lookalike.workspace.interrupts import INTERRUPTED
from lookalike.workspace.litter import files_below
from lookalike.workspace.places import Cell

UNNAMED = ("hydra/launcher", "hydra.launcher.", "hydra.sweeper.n_trials", "hydra.sweeper.n_jobs", "tracking", "sweep.")
"""Beginnings of overrides that do not change what is searched: the same sweep continues with other values of them."""

OBEYED = (
    "hydra/", "hydra.callbacks", "hydra.job.chdir", "hydra.job.env_set", "hydra.launcher.", "hydra.searchpath",
    "hydra.sweep.dir", "hydra.sweeper.", "hydra.verbose",
)  # fmt: skip
"""Beginnings of the options of Hydra that a sweep obeys; it has its own way for what the others do."""

MAX_FAILED_LAUNCHES = 3
"""How often in a row a launcher may fail without the death of a trial. After a death it is started again, because
joblib, for example, gives up all trials when one worker is killed."""

End = Literal["FINISHED", "FAILED", "KILLED"]


def main() -> None:
    """Run the command line; exit with 0, 1 (an error, or a trial that failed) or 130 (interrupted)."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(usage())
        return
    try:
        end = run(arguments)
    except UserError as error:
        sys.exit(f"error: {hide(str(error))}")
    except OSError as error:
        sys.exit(f"error: {error.strerror}: {error.filename}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit({"FINISHED": 0, "FAILED": 1, "KILLED": INTERRUPTED}[end])


def run(arguments: list[str]) -> End:
    """Run the sweep that a command asks for; return how it ended.

    Raises:
        UserError: the command is wrong; no trial was started.
    """
    overrides = [item for item in arguments if item not in ("-m", "--multirun", "--cfg")]
    for item in overrides:
        if item.startswith("-") or ("=" not in item and not item.startswith("~")):
            raise UserError(f"'{item}': write KEY=VALUE, KEY=VALUE,VALUE,… or one of --multirun, --cfg and --help")
        key = item.lstrip("+~").partition("=")[0]
        if key.startswith("hydra") and not key.startswith(OBEYED) and item != "hydra.mode=MULTIRUN":
            raise UserError(
                f"{key}: a sweep cannot obey it. Its folder is hydra.sweep.dir, or sweep.name in multirun/; trials lie "
                f"in trials/ beside it, and identity.json of a trial has its whole configuration"
            )
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="sweep"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        space = read_space(hydra, overrides)
        plains = [plain_of(compose(hydra, combination)) for combination in space.combinations()]
        if "--cfg" in arguments:
            plains[0]["tracking"]["uri"] = read_address(plains[0]["tracking"]["uri"]).shown
            print(OmegaConf.to_yaml(OmegaConf.create(plains[0])))
            return "FINISHED"
        data = check_space(space, plains)
        if any(plain["split"] == "test" for plain in plains):
            print("split=test: the winner will have seen the test set, so its scores will be too good", file=sys.stderr)
        sweep = Sweep(folder_of(space, plains[0], overrides))
        with sweep.held():
            replace_json(sweep.about, describe(sweep, space, plains[0], arguments, data))
            sweep.mark_killed()
            with recorder(plains[0]["tracking"], sweep):
                # Trials do not record themselves; a launcher would write a password in these settings to its files.
                kept = [item for item in overrides if not item.lstrip("+~").startswith("tracking")]
                return launch(hydra, sweep, [*kept, "tracking=none", f"hydra.sweep.dir={quoted(sweep.folder)}"])


def check_space(space: Space, plains: list[Section]) -> dict[str, str]:
    """Check a whole space; return the digest of every data set in it."""
    wanted = objectives(plains[0]["objective"])
    intervals = [parameter.written for parameter in space.parameters if parameter.is_interval]
    if intervals and space.sweeper in ("grid", "basic"):
        raise UserError(f"{intervals[0]}: a grid takes values, not intervals; search it with hydra/sweeper=optuna")
    if not space.parameters and space.sweeper == "optuna":
        raise UserError(
            "nothing to search: give a space, such as +search=vae or 'optimizer.lr=tag(log, interval(1e-4, 1e-2))'"
        )
    if space.sweeper in ("grid", "basic"):
        size = space.base.hydra.sweeper.max_batch_size
        if size is not None and (type(size) is not int or size < 1):
            raise UserError(f"hydra.sweeper.max_batch_size={size}: it must be a whole number above 0, or null")
    if space.sweeper == "optuna":
        from lookalike.sweeps.study import check_settings

        check_settings(space.base.hydra.sweeper)
        if plains[0]["sweep"]["prune"] and space.base.hydra.sweeper.pruner and len(wanted) > 1:
            raise UserError(
                f"objective={plains[0]['objective']}: trials can be pruned for one objective only; add "
                f"hydra.sweeper.pruner=null"
            )
    if space.launcher == "submitit_slurm" and shutil.which("srun") is None:
        raise UserError(
            "hydra/launcher=submitit_slurm: srun was not found; start the sweep on a login node of the cluster, or use "
            "hydra/launcher=submitit_local"
        )
    data: dict[str, str] = {}
    for plain in plains:
        config = check_all(plain, list(space.variants(plain)), wanted)
        data[config.data.name] = Prepared(Cell(config).prepared).digest
    return data


def folder_of(space: Space, plain: Section, overrides: list[str]) -> Path:
    """Return where a sweep writes; the same command gives the same folder.

    Raises:
        UserError: `sweep.name` cannot name a folder, or `hydra.sweep.dir` names one that holds something else.
    """
    name = plain["sweep"]["name"]
    if asked := str(space.base.hydra.sweep.dir):
        folder = Path(os.path.normpath(absolute(asked)))
        if name is not None:
            raise UserError(f"sweep.name={name} and hydra.sweep.dir={asked}: both name the sweep's folder; give one")
        if folder.name == "trials" or (
            folder.exists() and not (folder / "sweep.json").is_file() and any(folder.iterdir())
        ):
            raise UserError(
                f"hydra.sweep.dir={asked}: choose a folder that is new, empty or of the same sweep, and not 'trials'"
            )
        return folder
    if name is None:
        what = sorted(item for item in overrides if not item.lstrip("+").startswith(UNNAMED))
        models = dict(item.lstrip("+").partition("=")[::2] for item in overrides)
        model = models.get("search") or models.get("model") or plain["model"]["_target_"].split(".")[-2]
        kept = "".join(c if c.isalnum() or c in "_-" else "-" for c in model)[:40]
        name = f"{kept}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]}"
    name = str(name)
    if not name or name == "trials" or not all(c.isalnum() or c in "._-" for c in name) or name.startswith("."):
        raise UserError(f"sweep.name={name}: it names a folder; use letters, digits, '-' and '_', and not 'trials'")
    return ROOT / "multirun" / name


def describe(sweep: Sweep, space: Space, plain: Section, arguments: list[str], data: dict[str, str]) -> Record:
    """Return the content of `sweep.json`."""
    uri = plain["tracking"]["uri"]
    sweeper: Any = OmegaConf.to_container(space.base.hydra.sweeper)
    del sweeper["params"]
    return {
        "name": sweep.name,
        "id": sweep.read()["id"] if sweep.about.is_file() else uuid.uuid4().hex,
        "command": shlex.join(["lookalike", "sweep", *(hide(item, uri) for item in arguments)]),
        "fixed": relevant(space.fixed),
        "space": {parameter.key: parameter.written.partition("=")[2] for parameter in space.parameters},
        "sweeper": {"name": space.sweeper} | sweeper,
        "objective": [objective.name for objective in objectives(plain["objective"])],
        "budget": str(space.base.hydra.runtime.choices["budget"]),
        "split": plain["split"],
        "data": data,
        "base": base_digest([f"{name} {digest}" for name, digest in data.items()]),
        "files": {str(path.relative_to(ROOT)): file_digest(path) for path in files_below(CONF / "model", "*.yaml")},
        "git": git_state(ROOT),
        "tracking": plain["tracking"] | {"uri": read_address(uri).shown},
        "session": time.strftime("%Y-%m-%dT%H:%M:%S") + f"-{os.getpid()}",
        "state": "running",
    }


def launch(hydra: Any, sweep: Sweep, overrides: list[str]) -> End:
    """Let Hydra run the trials, and summarize the results however the run ends."""
    from lookalike.sweeps.figures import draw
    from lookalike.sweeps.summary import summarize
    from lookalike.sweeps.table import show

    end: End = "FAILED"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        end = run_trials(hydra, sweep, overrides)
    except KeyboardInterrupt:
        end = "KILLED"
    finally:
        sweep.mark_killed()
        summary = summarize(sweep)
        show(summary)
        if end == "FINISHED":
            draw(sweep, sweep.session_states())
            end = "FAILED" if summary["counts"].keys() - {"finished", "pruned"} else end
        sweep.end(end.lower())
    return end


def run_trials(hydra: Any, sweep: Sweep, overrides: list[str]) -> End:
    """Let Hydra run the trials, again where a launcher fails because a worker was killed or a cluster is gone."""
    failed_launches = 0
    while failed_launches < MAX_FAILED_LAUNCHES:
        try:
            hydra.multirun("sweep", run_trial, overrides, with_log_configuration=False)
            return "FINISHED"
        except UserError:
            raise
        except Exception as error:
            killed = sweep.mark_killed()
            sweep.give_up(killed)
            failed_launches = 0 if killed else failed_launches + 1
            problem = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            if isinstance(error, (ValueError, TypeError, HydraException)) and not sweep.session_states():
                raise UserError(f"the launcher started no trial ({problem}); see hydra.launcher") from None
            again = ": trying again" if failed_launches < MAX_FAILED_LAUNCHES else ""
            print(f"the launcher failed ({problem}){again}", file=sys.stderr, flush=True)
    return "FAILED"


def usage() -> str:
    """Return the page that `--help` prints."""
    lines = [
        "Train, sample and score many configurations on validation data, each in one process.",
        "",
        "usage: lookalike sweep -m [GROUP=CHOICE,CHOICE ...] [KEY=VALUE,VALUE ...]",
        "       lookalike sweep -m hydra/sweeper=optuna +search=CHOICE [...]",
        "",
        *(f"  {group}=  {', '.join(choices(group))}" for group in groups() if group != "search"),
        f"  +search=  {', '.join(choices('search'))}",
        "  hydra/launcher=  basic, joblib, ray, submitit_local, submitit_slurm",
        f"  objective=  {', '.join(OBJECTIVES)},",
        "              or a list of several, such as objective=[bits_per_dim,sampling_seconds]",
        "",
        "The same command continues where it was interrupted. See docs/sweeps.md.",
        "",
        "  --cfg   print the configuration of the first trial and stop",
        "  --help  print this page",
    ]
    return "\n".join(lines)
