"""Tests of the fingerprint of a result, and that DVC's dependencies match imports and settings."""

import ast
import functools
import importlib
import json
import shutil
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.workspace.arguments import Strict
from lookalike.workspace.configuration import ROOT, Config, choices, compose
from lookalike.workspace.fingerprint import SOURCE, VIEWS, closure, source_of

pytest_plugins = ["pipeline_fixtures"]

STAGES = ("prepare", "features", "train", "sample", "evaluate", "real", "compare")
CELL_STAGES = ("train", "sample", "evaluate")
PACKAGE = SOURCE / "lookalike"
FAMILIES = sorted(path.stem for path in (PACKAGE / "families").glob("*.py"))
MODELS = choices("model")

CONFIGURED = {
    "prepare": PACKAGE / "readers",
    "features": PACKAGE / "features",
    "evaluate": PACKAGE / "readers" / "densities",
    "real": PACKAGE / "readers" / "densities",
}
"""Rooms of which a stage imports the module that a `_target_` in the configuration names."""


def names(paths: set[Path]) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in paths}


def has_code(path: Path) -> bool:
    """Whether a file holds more than its docstring."""
    return len(ast.parse(path.read_text(encoding="utf-8")).body) > 1


@functools.cache
def imported_by(stage: str, model: str | None) -> set[str]:
    """Files with code that a stage may import, of families only `model`'s own file."""
    starts = [PACKAGE / "stages" / f"{stage}.py"]
    if stage in CONFIGURED:
        starts += sorted(CONFIGURED[stage].rglob("*.py"))
    if model is not None:
        starts.append(PACKAGE / "families" / f"{model}.py")
    return names({path for path in closure(starts) if has_code(path)})


def around(path: str) -> set[str]:
    """A path and the folders that it lies in."""
    return {path, *map(str, Path(path).parents)}


# What belongs to a stage


@pytest.mark.parametrize("stage", STAGES)
def test_a_pipeline_script_holds_nothing_but_a_call_of_its_stage(stage: str) -> None:
    """DVC need not declare the scripts, because they cannot change a result."""
    text = (ROOT / "pipelines" / f"{stage}.py").read_text()
    assert ast.unparse(ast.Module(ast.parse(text).body[1:], [])) == textwrap.dedent(f"""\
        import own_checkout
        from lookalike.stages.{stage} import {stage}
        from lookalike.workspace.command_line import run
        if __name__ == '__main__':
            run({stage})""")


def test_every_script_is_a_stage() -> None:
    assert {path.stem for path in (ROOT / "pipelines").glob("*.py")} == {*STAGES, "own_checkout"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_s_code_is_what_it_imports_but_no_view(stage: str) -> None:
    found = names(closure([PACKAGE / "stages" / f"{stage}.py"]))
    assert {"src/lookalike/__init__.py", "src/lookalike/workspace/outputs.py"} <= found
    assert not {name for name in found if name.startswith("src/lookalike/tracking")}
    assert stage == "compare" or not {name for name in found if name.startswith("src/lookalike/report")}


@pytest.mark.parametrize("model", MODELS)
def test_a_model_s_code_is_its_own_file_and_the_parts_it_uses(model: str) -> None:
    found = names(closure([PACKAGE / "families" / f"{model}.py"]))
    families = {f"src/lookalike/families/{name}.py" for name in MODELS}
    assert found & families == {f"src/lookalike/families/{model}.py"}


def test_training_is_independent_of_metrics_sampling_and_reports() -> None:
    found = imported_by("train", "vae")
    assert "src/lookalike/training/loop.py" in found
    rooms = ("metrics", "sampling", "evaluation", "features", "report")
    assert not {name for name in found if name.startswith(tuple(f"src/lookalike/{room}/" for room in rooms))}


# What dvc.yaml lists


def code_deps(stage: Any) -> set[str]:
    """Files and folders of code that a stage declares."""
    return {dep.def_path for dep in stage.deps if not is_params(dep) and dep.def_path.startswith("src/")}


def is_params(dep: Any) -> bool:
    return type(dep).__name__ == "ParamsDependency"


def stage_name(addressing: str) -> str:
    """`train` of `train@heights-vae-0` and of `train_floor@heights-copycat-0`."""
    return addressing.partition("@")[0].removesuffix("_floor")


def model_of(addressing: str) -> str | None:
    """The family of a cell's stage, None for a stage of no cell."""
    parts = addressing.partition("@")[2].split("-")
    return parts[1] if len(parts) == 3 else None


@pytest.fixture(scope="module")
def declared(checkout: Path, dvc_stages: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """All stages of the committed pipeline, by their names in DVC."""
    return dvc_stages(checkout)


def test_every_file_that_a_stage_may_import_is_declared(declared: dict[str, Any]) -> None:
    missing: dict[str, set[str]] = defaultdict(set)
    for name, stage in declared.items():
        dependencies = code_deps(stage)
        files = imported_by(stage_name(name), model_of(name))
        missing[stage_name(name)] |= {file for file in files if not around(file) & dependencies}
    assert {stage_name(name) for name in declared} == set(STAGES)
    assert not {stage: files for stage, files in missing.items() if files}


def test_every_declared_file_and_room_is_imported_by_a_cell_of_its_stage(declared: dict[str, Any]) -> None:
    used: dict[str, set[str]] = defaultdict(set)
    for stage in STAGES:
        for model in MODELS if stage in CELL_STAGES else [None]:
            used[stage] |= {part for file in imported_by(stage, model) for part in around(file)}
    used["compare"].add("src/lookalike/families")  # model cards quote what the families' files say
    idle = {name: code_deps(stage) - used[stage_name(name)] for name, stage in declared.items()}
    assert not {name: paths for name, paths in idle.items() if paths}


def test_every_module_that_a_stage_imported_when_it_ran_is_declared(
    smoke: Path, imported: dict[str, set[str]], dvc_stages: Callable[[Path], dict[str, Any]]
) -> None:
    stages = dvc_stages(smoke)
    assert set(imported) == set(stages)
    missing: dict[str, set[str]] = defaultdict(set)
    for name, modules in imported.items():
        dependencies = code_deps(stages[name])
        for module in modules:
            if module.split(".")[0] != "lookalike" or module.startswith(VIEWS):
                continue
            source = source_of(module)
            assert source is not None
            path = str(source.relative_to(ROOT))
            if has_code(source) and not around(path) & dependencies:
                missing[stage_name(name)].add(path)
    assert not missing


def test_a_cell_depends_on_the_code_and_the_settings_of_its_own_family_alone(declared: dict[str, Any]) -> None:
    for name, stage in declared.items():
        if (model := model_of(name)) is None:
            continue
        own = {f"src/lookalike/families/{file}.py" for file in ("build", "contract", model)}
        assert {dep for dep in code_deps(stage) if "/families" in dep} == own
        settings = {dep.def_path for dep in stage.deps if is_params(dep)}
        assert {path for path in settings if "/model/" in path} == {f"conf/model/{model}.yaml"}


def test_lightning_is_loaded_by_stages_that_train_and_by_no_other(imported: dict[str, set[str]]) -> None:
    loaded = {name for name, modules in imported.items() if "pytorch_lightning" in modules}
    assert loaded == {"features@mnist", "train@heights-vae-0", "train@mnist-vae-0"}


class Reading:
    """A configuration that notes the keys that are read from it."""

    def __init__(self, section: Strict, prefix: str, read: set[str]) -> None:
        self._section, self._prefix, self._read = section, prefix, read

    def __getattr__(self, key: str) -> Any:
        value = getattr(self._section, key)
        if key == "model_copy":
            return lambda **changes: Reading(value(**changes), self._prefix, self._read)
        frame = sys._getframe(1)
        callers = {frame.f_code.co_name, frame.f_back.f_code.co_name if frame.f_back else ""}
        # These two check or choose settings, which cannot change the result of a stage that does not read them.
        if key in type(self._section).model_fields and not callers & {"check_settings", "for_domain"}:
            if isinstance(value, Strict):
                return Reading(value, f"{self._prefix}{key}.", self._read)
            self._read.add(f"{self._prefix}{key}")
        elif key == "model_dump":
            self._read |= {f"{self._prefix}{name}" for name in type(self._section).model_fields}
        return value


def read_by(name: str, config: Config) -> set[str]:
    """Keys that a stage reads while it runs.

    Without views, places (which DVC knows as deps and outs), the seed (which is in the command), and the label, which
    is not part of a cell.
    """
    read: set[str] = set()
    getattr(importlib.import_module(f"lookalike.stages.{name}"), name)(Reading(config, "", read))
    return {key for key in read if key.split(".")[0] not in ("paths", "tracking", "label", "seed")}


def declared_keys(stage: Any) -> set[str]:
    """Params of a stage under the names that they have in the composed configuration."""
    keys = set()
    for dep in stage.deps:
        if not is_params(dep):
            continue
        group = Path(dep.def_path).parent.name
        prefix = "" if group in ("conf", "model") else f"{group}."
        keys |= {prefix + key for key in dep.params} or {group}
    return keys


def covers(declared: str, key: str) -> bool:
    return key == declared or key.startswith(f"{declared}.")


def test_the_settings_that_a_stage_reads_are_its_declared_params_and_no_others(
    heights_cell: Path, few_digits: Path, tmp_path: Path, places: Callable[[Path], list[str]],
    declared: dict[str, Any],
) -> None:  # fmt: skip
    shutil.copytree(heights_cell, tmp_path, dirs_exist_ok=True)
    shutil.copytree(few_digits, tmp_path, dirs_exist_ok=True)
    common = ["budget=smoke", "trainer=cpu", "tracking=none", *places(tmp_path)]
    read: dict[str, set[str]] = defaultdict(set)
    read["prepare"] = read_by("prepare", compose(["data=heights", *common]))
    for data, models in {"heights": ("independent", "copycat", "vae"), "mnist": ("vae",)}.items():
        read["features"] |= read_by("features", compose([f"data={data}", *common]))
        read["real"] |= read_by("real", compose([f"data={data}", *common]))
        for model in models:
            for stage in CELL_STAGES:
                read[stage] |= read_by(stage, compose([f"data={data}", f"model={model}", *common]))
    params: dict[str, set[str]] = defaultdict(set)
    for name, stage in declared.items():
        params[stage_name(name)] |= declared_keys(stage)
    for stage, keys in read.items():
        # The data set's name is that of the file, which is in the command.
        missing = {key for key in keys - {"data.name"} if not any(covers(one, key) for one in params[stage])}
        assert not missing, f"{stage} reads what dvc.yaml doesn't declare"
        idle = {one for one in params[stage] - {"data.name"} if not any(covers(one, key) for key in keys)}
        assert not idle, f"dvc.yaml declares what {stage} doesn't read"


# What the fingerprint answers to

IDENTITIES = """
import json, sys
from pathlib import Path
from lookalike.training import learning
from lookalike.workspace.configuration import ROOT, compose
from lookalike.domain.prepared import Prepared

prepared = Prepared(Path(sys.argv[1]))

def name(*overrides):
    return learning.identity(compose(["data=heights", "model=vae", *overrides]), prepared)["fingerprint"]

def with_edit(file):
    path = ROOT / file
    before = path.read_text()
    path.write_text(before + "# An edit.\\n")
    found = name()
    path.write_text(before)
    return found

found = {"": name()}
for override in ("model.components=3", "optimizer.lr=0.001", "data.batch_size=64", "budget.scale=2", "seed=1",
                 "trainer.checks=7", "tracking=none", "tracking.experiment=other", "paths.artifacts=elsewhere",
                 "budget.samples=7", "likelihood.importance_samples=3", "model=independent"):
    found[override] = name(override)
for file in ("families/vae.py", "networks/mlp.py", "training/loop.py", "domain/domain.py", "stages/train.py",
             "families/independent.py", "tracking/views.py", "stages/sample.py", "sampling/files.py",
             "evaluation/score.py", "metrics/frechet.py"):
    found[file] = with_edit(f"src/lookalike/{file}")
prepared.digest = "0" + prepared.digest
found["other data"] = name()
print(json.dumps(found))
"""

CHANGES = (
    "model.components=3", "optimizer.lr=0.001", "data.batch_size=64", "budget.scale=2", "seed=1", "trainer.checks=7",
    "model=independent", "families/vae.py", "networks/mlp.py", "training/loop.py", "domain/domain.py",
    "stages/train.py", "other data",
)  # fmt: skip


@pytest.fixture(scope="module")
def fingerprints(new_checkout: Callable[..., Path], run: Callable[..., Any], heights_cell: Path) -> dict[str, str]:
    """The fingerprint of one cell, after this and that was changed."""
    prepared = heights_cell / "artifacts" / "heights" / "prepared"
    done = run(new_checkout(), "python", "-c", IDENTITIES, str(prepared))
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_the_fingerprint_changes_with_what_changes_the_weights(fingerprints: dict[str, str]) -> None:
    assert len({fingerprints[change] for change in ("", *CHANGES)}) == 1 + len(CHANGES)


def test_the_fingerprint_stays_where_the_weights_stay(fingerprints: dict[str, str]) -> None:
    others = set(fingerprints) - set(CHANGES)
    assert {"tracking=none", "families/independent.py", "tracking/views.py", "budget.samples=7"} <= others
    assert {fingerprints[other] for other in others} == {fingerprints[""]}
