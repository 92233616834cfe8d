"""What is checked before any trial starts: the data, every value of the space, and the objectives."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from lookalike.core.config import CONF, ROOT, Config, Section, check
from lookalike.core.errors import UserError
from lookalike.core.stage import Cell
from lookalike.data import Prepared
from lookalike.models.build import build, check_settings
from lookalike.sweeps.objectives import Objective, check_available
from lookalike.sweeps.trial import OWN


def check_all(plain: Section, variants: list[tuple[str, Section]], wanted: list[Objective]) -> Config:
    """Check a configuration and its variants, without training anything.

    Args:
        plain: of one data set and one model.
        variants: the same with one value changed, under the override that changes it.
        wanted: the objectives.

    Raises:
        UserError: a value out of its range, an objective that the model has none of, or data that are missing or
            not what `dvc.lock` says.
    """
    config = checked(plain)
    prepared = check_data(config)
    for objective in wanted:
        check_available(
            objective,
            model=config.model_name,
            data=config.data.name,
            kind=prepared.domain.kind,
            has_likelihood=config.likelihood is not None,
            has_labels=bool(prepared.domain.labels),
        )
    check_settings(build(config.model, prepared.domain, seed=config.seed), config)
    for override, variant in variants:
        changed = checked(variant)
        if override.partition(".")[0] in ("model", "preview", "sampling", "likelihood"):
            check_settings(build(changed.model, prepared.domain, seed=changed.seed), changed)
    return config


def checked(plain: Section) -> Config:
    """A configuration as its trial will have it.

    Raises:
        UserError: a value out of its range, or a class to paint.
    """
    config = check(without_own(plain))
    if config.label is not None:
        raise UserError(f"label={config.label}: a sweep compares whole models; sample.py alone paints one class")
    return config


def without_own(plain: Section) -> Section:
    """A configuration as stages have it."""
    return {key: value for key, value in plain.items() if key not in OWN}


def check_data(config: Config) -> Prepared:
    """The prepared data, where they and the features are what `dvc.lock` says.

    Raises:
        UserError: they are missing or others, with the command that makes them.
    """
    data, cell = config.data.name, Cell(config)
    for stage, folder in (("prepare", cell.prepared), ("features", cell.features / "extractor")):
        check_output(f"{stage}@{data}", folder, data=data)
    return Prepared(cell.prepared)


def check_output(stage: str, folder: Path, *, data: str) -> None:
    """Raise a UserError unless a folder is what `dvc.lock` says that a stage wrote."""
    cure = f"`dvc repro prepare@{data} features@{data}`"
    if data not in yaml.safe_load((CONF / "pipeline.yaml").read_text())["data"]:
        cure = f"add {data} to `data` in conf/pipeline.yaml, then run {cure}"
    else:
        cure = f"run {cure}"
    expected = locked().get(stage, {}).get(f"artifacts/{'/'.join(folder.parts[-2 if 'prepare' in stage else -3 :])}")
    if expected is None:
        raise UserError(f"no {stage} in dvc.lock: a sweep reads what DVC prepared; {cure}")
    if not folder.is_dir():
        raise UserError(f"nothing in {folder}: {cure}, or `dvc checkout`")
    if (found := digest(folder)) != expected:
        raise UserError(f"{folder} is not what dvc.lock says (it is {found[:8]}, not {expected[:8]}): {cure}")


@functools.cache
def locked() -> dict[str, dict[str, str]]:
    """The digest of every output of every stage, by stage and path, as `dvc.lock` has them."""
    path = ROOT / "dvc.lock"
    if not path.is_file():
        return {}
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    stages = (yaml.load(path.read_text(), loader) or {}).get("stages", {})
    return {
        name: {out["path"]: str(out.get("md5", "")) for out in stage.get("outs", [])} for name, stage in stages.items()
    }


def digest(folder: Path) -> str:
    """The digest that DVC gives to a folder: that of its list of files and their MD5."""
    rows = [
        {"md5": md5(path), "relpath": path.relative_to(folder).as_posix()}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    rows.sort(key=lambda row: row["relpath"])
    return hashlib.md5(json.dumps(rows, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file, or None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def base_digest(data: list[str]) -> str:
    """A digest of all that a trial could depend on beside its overrides: code, configuration files, data."""
    total = hashlib.sha256()
    files = [*(ROOT / "src").rglob("*.py"), *CONF.rglob("*.yaml"), *(ROOT / "pipelines").glob("*.py")]
    for path in sorted(files):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return hashlib.sha256((total.hexdigest() + json.dumps(sorted(data))).encode()).hexdigest()[:16]
