"""What a registered model contains: its files, the code that reads them, and the libraries that the code imports."""

import ast
import shutil
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from lookalike.report.cells import Row
from lookalike.tracking.serving import serving_code, serving_digest
from lookalike.workspace.files import write_json
from lookalike.workspace.fingerprint import SOURCE, closure

SCRIPT = Path(__file__).with_name("served_model.py")
"""What MLflow runs when the model is loaded."""


def section_of(row: Row) -> dict[str, Any]:
    """Return the section `model` that a cell was trained with."""
    return dict(row.record["configuration"]["model"])


def write_model(row: Row, cell: Path, settings: dict[str, Any], folder: Path) -> None:
    """Write the files of a cell that `serving.Served` opens."""
    folder.mkdir()
    for name in ("model.json", "weights.safetensors"):
        shutil.copyfile(cell / "train" / name, folder / name)
    write_json(folder / "settings.json", settings | {"code": serving_digest(section_of(row))})


def write_code(row: Row, folder: Path) -> None:
    """Copy the part of this package that serves any family, since a process may load models of several."""
    families = sorted((SOURCE / "lookalike" / "families").glob("*.py"))
    for path in closure([*serving_code(section_of(row)), *families]):
        place = folder / path.relative_to(SOURCE)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def requirements(row: Row) -> list[str]:
    """Return MLflow and the libraries that serving a family imports, as pip requirements of the installed versions.

    A local version (`+cpu`) is removed, so that every package index can provide it.
    """
    modules = {name for path in closure(serving_code(section_of(row))) for name in imported(path)}
    installed = packages_distributions()
    names = {installed[name][0] for name in modules - set(sys.stdlib_module_names) - {"lookalike"}} | {"mlflow"}
    return sorted(f"{name}=={version(name).partition('+')[0]}" for name in names)


def imported(path: Path) -> set[str]:
    """Return the top-level modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
