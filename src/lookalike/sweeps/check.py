"""The checks before any trial starts: the data, every value of the space, and the objectives."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import Prepared
from lookalike.families.build import build, check_settings, for_domain
from lookalike.sweeps.objectives import Objective, check_available
from lookalike.sweeps.trial import SWEEP_KEYS
from lookalike.workspace.arguments import MODEL_SECTIONS, Section
from lookalike.workspace.configuration import CONF, ROOT, Config, check
from lookalike.workspace.errors import UserError
from lookalike.workspace.pipeline import read_listed
from lookalike.workspace.places import Cell


def check_all(plain: Section, variants: list[tuple[str, Section]], wanted: list[Objective]) -> Config:
    """Check a configuration and its variants without training anything.

    Args:
        plain: the configuration of one data set and one model.
        variants: the same with one value changed, each after the override that changes it.
        wanted: the objectives.

    Raises:
        UserError: a value is out of its range, the model does not have an objective, or the data are missing or not
            what `dvc.lock` says.
    """
    config = checked(plain)
    prepared = check_data(config)
    domain = prepared.domain
    for objective in wanted:
        check_available(
            objective,
            model=config.model_name,
            data=config.data.name,
            kind=domain.kind,
            has_likelihood=config.likelihood is not None,
            has_labels=bool(domain.labels),
        )
    check_model(config, domain)
    for override, variant in variants:
        changed = checked(variant)
        if override.partition(".")[0] in set(MODEL_SECTIONS) - {"optimizer"}:
            check_model(changed, domain)
    return config


def checked(plain: Section) -> Config:
    """Return the configuration of a trial.

    Raises:
        UserError: a value is out of its range, or a class to draw is given.
    """
    config = check({key: value for key, value in plain.items() if key not in SWEEP_KEYS})
    if config.label is not None:
        raise UserError(f"label={config.label}: a sweep compares whole models; only `lookalike sample` draws one class")
    return config


def check_model(config: Config, domain: Domain) -> None:
    """Build a model and check its settings; raise a UserError if they do not fit."""
    resolved = for_domain(config, domain)
    check_settings(build(resolved.model, domain, seed=config.seed), resolved)


def check_data(config: Config) -> Prepared:
    """Return the prepared data.

    Raises:
        UserError: they or the features are missing or not what `dvc.lock` says; the message has the command that makes
            them.
    """
    data = config.data.name
    for stage, output in (("prepare", "prepared"), ("features", "features/extractor")):
        check_output(f"{stage}@{data}", config.path("artifacts"), f"{data}/{output}")
    return Prepared(Cell(config).prepared)


def check_output(stage: str, artifacts: Path, output: str) -> None:
    """Raise a UserError unless a folder below `artifacts/` is what a stage wrote according to `dvc.lock`."""
    data, folder = stage.partition("@")[2], artifacts / output
    fix = f"run `dvc repro prepare@{data} features@{data}`"
    if data not in read_listed(CONF / "pipeline.yaml").data:
        fix = f"add {data} to `data` in conf/pipeline.yaml, then {fix}"
    expected = locked().get(stage, {}).get(f"artifacts/{output}")
    if expected is None:
        raise UserError(f"dvc.lock has no {stage}: a sweep reads what DVC prepared; {fix}")
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: {fix}, or `dvc checkout`")
    if (found := digest(folder)) != expected:
        raise UserError(f"{folder} is not what dvc.lock says (it is {found[:8]}, not {expected[:8]}): {fix}")


@functools.cache
def locked() -> dict[str, dict[str, str]]:
    """Return the digest of every output in `dvc.lock`, by stage and path."""
    path = ROOT / "dvc.lock"
    if not path.is_file():
        return {}
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    stages = (yaml.load(path.read_text(encoding="utf-8"), loader) or {}).get("stages", {})
    return {
        name: {out["path"]: str(out.get("md5", "")) for out in stage.get("outs", [])} for name, stage in stages.items()
    }


def digest(folder: Path) -> str:
    """Return DVC's digest of a folder: the digest of the list of its files and their MD5 sums."""
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
    """Return the SHA-256 of a file, or None if it does not exist."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def base_digest(data: list[str]) -> str:
    """Return a digest of everything that a trial depends on beside its overrides: code, configuration files, data."""
    total = hashlib.sha256()
    for path in sorted([*(ROOT / "src").rglob("*.py"), *CONF.rglob("*.yaml")]):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return hashlib.sha256((total.hexdigest() + json.dumps(sorted(data))).encode()).hexdigest()[:16]
