"""The data sets, families and seeds that `dvc repro` runs, from `conf/pipeline.yaml`."""

import dataclasses
import os
from pathlib import Path

import yaml

from lookalike.workspace.configuration import ROOT, choices
from lookalike.workspace.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """The lists of `conf/pipeline.yaml`.

    Attributes:
        data: data sets.
        models: families that are trained with every seed.
        floors: families that do not depend on a seed, run once with seed 0.
        seeds: training seeds.
        budget: the profile of `conf/budget/`.
        trainer: the profile of `conf/trainer/`.
    """

    data: list[str]
    models: list[str]
    floors: list[str] = dataclasses.field(default_factory=list)
    seeds: list[int] = dataclasses.field(default_factory=lambda: [0])
    budget: str = "default"
    trainer: str = "cpu"

    @property
    def all_models(self) -> list[str]:
        """Floors first, then the families that are trained."""
        return [*self.floors, *self.models]

    def seeds_of(self, model: str) -> list[int]:
        """Return the seeds that a family is run with."""
        return [0] if model in self.floors else self.seeds

    def of(self, data: str, artifacts: Path) -> "Listed":
        """Return the lists with one data set alone; for one that is not listed, with the cells that it has."""
        cells = [path.parents[1] for path in (artifacts / data).glob("*/*/train/model.json")]
        seeds = sorted({int(cell.name) for cell in cells if cell.name.isdecimal()})
        if data in self.data or not seeds:
            return dataclasses.replace(self, data=[data])
        found = {cell.parent.name for cell in cells}
        models = [*(name for name in self.models if name in found), *sorted(found - set(self.all_models))]
        floors = [name for name in self.floors if name in found]
        return Listed(data=[data], models=models, floors=floors, seeds=seeds)

    def check(self) -> None:
        """Raise a UserError if a data set or a family has no file in `conf/`."""
        for key, group in (("data", "data"), ("floors", "model"), ("models", "model")):
            for name in getattr(self, key):
                if name not in choices(group):
                    raise UserError(
                        f"conf/pipeline.yaml: '{key}' lists {name}, and there is no conf/{group}/{name}.yaml; choose "
                        f"from {', '.join(choices(group))}"
                    )


def read_listed(path: Path) -> Listed:
    """Read `conf/pipeline.yaml`.

    Raises:
        UserError: a list is missing or holds something else than names, or seeds that are not whole numbers.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: it must have the keys data, models, floors and seeds")
    for key in ("data", "models", "floors"):
        names, needed = content.get(key, []), key != "floors"
        if not isinstance(names, list) or (needed and not names) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path}: '{key}' must list names, it is {content.get(key)!r}")
    seeds = content.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UserError(f"{path}: 'seeds' must list whole numbers from 0 on, such as [0, 1, 2], it is {seeds!r}")
    return Listed(
        data=content["data"],
        models=content["models"],
        floors=content.get("floors", []),
        seeds=list(dict.fromkeys(seeds)),
        **{key: str(content[key]) for key in ("budget", "trainer") if key in content},
    )


def check_links() -> None:
    """Raise a UserError if a folder that DVC would write to is a symbolic link."""
    for top in (ROOT / "artifacts", ROOT / "results"):
        for folder in (top, *(Path(place, name) for place, names, _ in os.walk(top) for name in names)):
            if folder.is_symlink():
                raise UserError(
                    f"{folder.relative_to(ROOT)} is a symbolic link, and neither git nor DVC looks behind links. "
                    f"Replace it by the folder itself; if that needs a bigger disk, move the whole checkout there"
                )
