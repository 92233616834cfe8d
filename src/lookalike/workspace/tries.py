"""A place for what is tried by hand: a stage with other settings than the pipeline's never writes over a cell.

A stage writes to `tries/<data>/<model>/<what differs>` if a setting that its output depends on is not that of the
pipeline. Earlier stages that do not depend on the setting are those of the cell, and the try has links to them. So a
try is a folder like a cell, with the same three stages in it.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

from lookalike.workspace.arguments import leaves
from lookalike.workspace.configuration import CONF, ROOT, Config, compose
from lookalike.workspace.errors import UserError
from lookalike.workspace.pipeline import Listed, read_listed

TRIES = ROOT / "tries"

SETTINGS: dict[str, tuple[str, ...]] = {
    "train": ("budget.scale", "data.batch_size", "data.flops", "data.reader", "data.steps", "model", "optimizer",
              "preview", "trainer"),
    "sample": ("budget.samples", "sampling"),
    "evaluate": ("budget.likelihood", "likelihood", "split"),
}  # fmt: skip
"""The settings that a stage adds to those of the stages before it."""

PRODUCTS = {"train": "trained model", "sample": "samples"}

PROFILES = ("budget", "optimizer", "trainer")
"""Groups whose choice names all differences that it makes."""

LONGEST = 100
"""Length of a readable name of a folder; longer ones end in a digest."""

GONE = object()
"""Value of a setting that was deleted."""


def with_profiles(stage: str, overrides: list[str]) -> list[str]:
    """Return overrides with the budget and the trainer of `conf/pipeline.yaml`, where none is chosen."""
    if stage not in (*SETTINGS, "features", "real"):
        return overrides
    listed, chosen = read_listed(CONF / "pipeline.yaml"), {item.partition("=")[0] for item in overrides}
    profiles = {"budget": listed.budget, "trainer": listed.trainer}
    return [*overrides, *(f"{group}={name}" for group, name in profiles.items() if group not in chosen)]


def placed(stage: str, config: Config, overrides: list[str]) -> Config:
    """Return the configuration of a stage with the place of a try as `paths.cell`, if the stage is one.

    DVC's own stages are the cells. A place that the user chose (`paths.cell`, `paths.artifacts`) is left alone.

    Raises:
        UserError: an earlier stage of the try has not run.
    """
    is_elsewhere = any(item.startswith(("paths.artifacts=", "paths.cell=")) for item in overrides)
    if stage not in SETTINGS or is_elsewhere or "DVC_STAGE" in os.environ:
        return config
    listed = read_listed(CONF / "pipeline.yaml")
    expected = pipeline_overrides(config, overrides, listed)
    if {item for item in overrides if not item.startswith("tracking")} <= {*expected}:
        return config
    last = stage if config.label is None else "train"  # samples of one class have a place of their own
    words = differences(expected, config, overrides, first_seed=listed.seeds_of(config.model_name)[0])
    stages = list(SETTINGS)[: list(SETTINGS).index(last) + 1]
    folders = {name: folder_of(config, words[name]) for name in stages}
    if not words[last]:
        return config
    for needed in stages if last != stage else stages[:-1]:
        source = folders[needed] / needed
        if not source.is_dir():
            implied = (f"budget={listed.budget}", f"trainer={listed.trainer}")
            given = [item for item in overrides if item not in implied and not item.startswith("label=")]
            command = ["lookalike", needed, *given]
            raise UserError(f"no {PRODUCTS[needed]} in {source}: run `{shlex.join(command)}` first")
        if folders[needed] != folders[last]:
            link(folders[last] / needed, source)
    is_first = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    if last == stage and is_first:
        where = folders[last].relative_to(ROOT) / stage
        print(f"not the pipeline's settings ({', '.join(words[last])}): this try goes to {where}", flush=True)
    return config.model_copy(update={"paths": config.paths.model_copy(update={"cell": str(folders[last])})})


def pipeline_overrides(config: Config, overrides: list[str], listed: Listed) -> list[str]:
    """Return the overrides that DVC would give to a stage of this data set and family."""
    chosen = [item for item in overrides if item.startswith(("data=", "model="))]
    seed, (data, model) = config.seed, (config.data.name, config.model_name)
    if data in listed.data and model in listed.all_models and seed not in listed.seeds_of(model):
        seed = listed.seeds_of(model)[0]
    return [*chosen, f"seed={seed}", f"budget={listed.budget}", f"trainer={listed.trainer}"]


def differences(expected: list[str], config: Config, overrides: list[str], *, first_seed: int) -> dict[str, list[str]]:
    """Return, for every stage, what its output depends on and is not the pipeline's, as overrides.

    The choice of a profile, such as `budget=smoke`, stands for all values that it changes.

    Args:
        expected: overrides that give the pipeline's configuration.
        config: the configuration of the stage.
        overrides: what it was composed with.
        first_seed: the seed that needs no mention in what differs otherwise.
    """
    chosen = {key: item for item in overrides if (key := item.partition("=")[0]) in ("data", "model", *PROFILES)}
    named = [*chosen.values(), f"seed={config.seed}"]
    base = compose(expected)
    profiles = base if {*named} == {*expected} else compose(named)
    first, second, third = (dict(leaves(found.model_dump())) for found in (base, profiles, config))
    words: dict[str, list[str]] = {}
    counted: tuple[str, ...] = ("seed",)
    for stage, more in SETTINGS.items():
        counted += more
        keys = sorted(key for key in {**first, **second, **third} if is_among(key, counted))
        changed = [key for key in keys if first.get(key, GONE) != second.get(key, GONE)]
        found = [chosen[group] for group in PROFILES if any(is_among(key, (group,)) for key in changed)]
        found += [
            f"{key}={in_words(third[key])}" if key in third else f"~{key}"
            for key in keys
            if third.get(key, GONE) != second.get(key, GONE)
        ]
        if "seed" in changed or (found and config.seed != first_seed):
            found.append(f"seed={config.seed}")
        words[stage] = found
    return words


def is_among(key: str, sections: tuple[str, ...]) -> bool:
    """Return whether a dotted key is one of some sections or lies in one."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def in_words(value: Any) -> str:
    """Return a value as it stands in the name of a folder."""
    if isinstance(value, list):
        return "+".join(map(in_words, value))
    return value if isinstance(value, str) and re.fullmatch(r"[\w.-]+", value) else json.dumps(value)


def folder_of(config: Config, words: list[str]) -> Path:
    """Return the folder of the cell, or of the try that differs from it."""
    if not words:
        return config.cell
    text = ",".join(words)
    name = re.sub(r"[^\w.=,+~-]+", "_", text, flags=re.ASCII)
    if name != text or len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return TRIES / config.data.name / config.model_name / name


def link(path: Path, target: Path) -> None:
    """Make a relative link to the folder of an earlier stage; a link that is there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(target, path.parent)
    if not path.is_symlink() or os.readlink(path) != relative:
        with contextlib.suppress(FileExistsError):  # another process of this stage made it
            path.unlink(missing_ok=True)
            path.symlink_to(relative)


def as_recorded(record: dict[str, Any], cell: Path) -> dict[str, Any]:
    """Return the record of a model as views know it: a try has what differs in its name.

    A try of the cell's model has an identity of its own, so that its scores do not replace those of the cell.
    """
    if not cell.is_relative_to(TRIES):
        return record
    own = record["fingerprint"]
    if (cell / "train").is_symlink():
        own = hashlib.sha256(f"{own} {cell.name}".encode()).hexdigest()[:16]
    return record | {"name": f"{record['name']} {cell.name}", "fingerprint": own}
