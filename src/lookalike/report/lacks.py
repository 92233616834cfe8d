"""Files and stages that a cell or a data set lacks for its place in the report."""

import functools
from pathlib import Path

from lookalike.workspace import files

REMEDY = "Delete it and run its stage again"

read_json = functools.partial(files.read_json, remedy=REMEDY)

STAGES = {
    "train": ("model.json", "loss_train.csv", "loss_validation.csv", "cost.json"),
    "sample": ("samples.npz", "cost.json"),
    "evaluate": ("metrics.json", "details.npz", "resampled.npz", "cost.json"),
}
"""Files that the row of a family is read from, by stage."""

CELL_FILES = [(stage, f"{stage}/{name}") for stage, names in STAGES.items() for name in names]
"""The stages of a cell and the files that its row is read from, below the folder of the cell."""

DATA_FILES = [
    ("prepare", "prepared/domain.json"),
    ("prepare", "prepared/summary.json"),
    ("features", "features/extractor/extractor.json"),
    ("features", "features/cost.json"),
    *(("real", f"real/{name}.npz") for name in ("samples", "details", "resampled")),
    *(("real", f"real/{name}.json") for name in ("metrics", "cost")),
]
"""The stages of a data set and the files that its table is read from, below the folder of the data set."""

IN_GIT = "metrics.json"
"""The file that git brings to every clone, so that a cell that has it alone has not begun."""


def lack_of(cell: Path) -> str | None:
    """Return what a cell lacks, an empty text if it has not begun, None if it is complete."""
    is_begun = any((cell / name).is_file() for _, name in CELL_FILES if Path(name).name != IN_GIT)
    return first_lack(cell, CELL_FILES, choice=choice_of(cell)) or mismatch_of(cell) if is_begun else ""


def mismatch_of(cell: Path) -> str | None:
    """Return which stage of a cell with all files was run for another model than the trained one; None without any."""
    own = read_json(cell / "train" / "model.json").get("fingerprint")
    for stage in STAGES:
        if read_json(cell / stage / "cost.json").get("fingerprint", own) != own:
            return (
                f"{cell / stage} belongs to another model than {cell / 'train'}: run `lookalike {stage} "
                f"{choice_of(cell)}` again"
            )
    return None


def first_lack(folder: Path, needed: list[tuple[str, str]], *, choice: str) -> str | None:
    """Return in words the first of some files that is missing and the commands that bring it; None if all are there.

    Args:
        folder: of a cell or a data set.
        needed: the stages and the names of the files that they write.
        choice: overrides that name the cell or the data set.
    """
    for stage, name in needed:
        if not (folder / name).is_file():
            return (
                f"{folder} is not complete, because {folder / name} is missing: run `lookalike {stage} {choice}` (or "
                f"`dvc pull`, if somebody has run and pushed it)"
            )
    return None


def choice_of(cell: Path) -> str:
    """Return the overrides that name a cell, `artifacts/<data>/<model>/<seed>`."""
    data, model, seed = cell.parts[-3:]
    return f"data={data} model={model}" + (f" seed={seed}" if seed != "0" else "")
