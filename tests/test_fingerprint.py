"""What a result's identity is made of, and that DVC is told the same: code by imports, settings by what is read."""

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.core.config import ROOT, Config, Strict, choices, compose
from lookalike.fingerprint import SOURCE, VIEWS, closure, source_of

pytest_plugins = ["pipeline_fixtures"]

STAGES = sorted(path.stem for path in (ROOT / "pipelines").glob("*.py"))
CELL_STAGES = ("train", "sample", "evaluate")


def names(paths: set[Path]) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in paths}


# What belongs to a stage


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_s_code_is_its_script_and_what_that_imports_but_no_view(stage: str) -> None:
    found = names(closure([ROOT / "pipelines" / f"{stage}.py"]))
    assert f"pipelines/{stage}.py" in found
    if stage in ("train", "sample", "evaluate"):
        assert {"src/lookalike/__init__.py", "src/lookalike/core/stage.py", "src/lookalike/models/__init__.py"} <= found
        assert not {name for name in found if name.startswith(("src/lookalike/tracking", "src/lookalike/report"))}
        assert "src/lookalike/views.py" not in found


@pytest.mark.parametrize("model", choices("model"))
def test_a_model_s_code_is_its_own_file_and_the_parts_it_uses(model: str) -> None:
    found = names(closure([SOURCE / "lookalike" / "models" / f"{model}.py"]))
    families = {f"src/lookalike/models/{name}.py" for name in choices("model")}
    assert found & families == {f"src/lookalike/models/{model}.py"}
    assert "src/lookalike/core/domain.py" in found


def test_training_is_independent_of_pictures_metrics_and_reports() -> None:
    found = names(closure([ROOT / "pipelines" / "train.py", SOURCE / "lookalike" / "models" / "vae.py"]))
    assert "src/lookalike/training.py" in found
    assert not {n for n in found if "picture" in n or "/metrics/" in n or "/report" in n or n.endswith("sampling.py")}


def test_every_view_is_a_module_that_exists() -> None:
    assert all(source_of(view) for view in VIEWS if view != "lookalike.tracking")


# What DVC is told


def code_deps(stage: Any) -> set[str]:
    return {
        d.def_path for d in stage.deps if not hasattr(d, "params") and d.def_path.startswith(("src/", "pipelines/"))
    }


def stage_name(addressing: str) -> str:
    return addressing.partition("@")[0]


def test_every_module_that_a_stage_imports_is_a_declared_dependency(
    smoke: Path, imported: dict[str, set[str]], dvc_stages: Callable[[Path], dict[str, Any]],
    repeated: Path, imported_by_repeats: dict[str, set[str]],
) -> None:  # fmt: skip
    stages = dvc_stages(smoke)
    assert set(imported) == set(stages)
    assert set(imported_by_repeats) == {"repeat@heights-copycat-1", "repeat@heights-vae-1"}
    stages |= dvc_stages(repeated)
    missing: dict[str, set[str]] = defaultdict(set)
    for name, modules in (imported | imported_by_repeats).items():
        declared = code_deps(stages[name])
        for module in modules:
            if module.split(".")[0] != "lookalike" or ".".join(module.split(".")[:2]) in VIEWS:
                continue
            source = source_of(module)
            assert source is not None
            path = source.relative_to(ROOT)
            if not {str(path), *map(str, path.parents)} & declared:
                missing[stage_name(name)].add(str(path))
    assert not missing


def test_every_declared_file_of_code_is_imported_by_a_cell_of_its_stage(
    smoke: Path, imported: dict[str, set[str]], dvc_stages: Callable[[Path], dict[str, Any]],
    repeated: Path, imported_by_repeats: dict[str, set[str]],
) -> None:  # fmt: skip
    used: dict[str, set[str]] = defaultdict(set)
    declared: dict[str, set[str]] = defaultdict(set)
    seen = imported | imported_by_repeats
    for name, stage in (dvc_stages(repeated) | dvc_stages(smoke)).items():
        if name not in seen:
            continue  # copied
        sources = [source_of(module) for module in seen[name] if module.split(".")[0] == "lookalike"]
        # A repeat runs the three stages' scripts rather than importing them.
        scripts = (stage_name(name), *CELL_STAGES) if stage_name(name) == "repeat" else (stage_name(name),)
        paths = {path.relative_to(ROOT) for path in sources if path} | {Path(f"pipelines/{n}.py") for n in scripts}
        used[stage_name(name)] |= {str(part) for path in paths for part in (path, *path.parents)}
        declared[stage_name(name)] |= code_deps(stage)
    # Readers of other data sets than the smoke run's share code, too.
    readers = names(closure([SOURCE / "lookalike" / "data" / f"{data}.py" for data in choices("data")]))
    for name in declared:
        used[name] |= (
            readers if declared[name] & {f"src/lookalike/data/{data}.py" for data in choices("data")} else set()
        )
    # Repeats here are of heights alone.
    used["repeat"] |= set().union(*(used[stage] for stage in CELL_STAGES))
    used["compare"].add("src/lookalike/models")  # cards quote what families say of themselves
    assert not {name: more for name in declared if (more := declared[name] - used[name])}


def test_lightning_is_loaded_by_stages_that_train_and_by_no_other(imported: dict[str, set[str]]) -> None:
    loaded = {name for name, modules in imported.items() if "pytorch_lightning" in modules}
    assert loaded == {"features@mnist", "train@heights-vae", "train@mnist-vae"}


def test_a_repeat_is_told_all_that_the_three_stages_are(
    new_checkout: Callable[..., Path], dvc_stages: Callable[[Path], dict[str, Any]]
) -> None:
    checkout = new_checkout("data: [mnist]\nmodels: [vae]\nseeds: [1]\nbudget: smoke\ntrainer: cpu\n")
    stages = dvc_stages(checkout)
    repeat, parts = stages["repeat@mnist-vae-1"], [stages[f"{name}@mnist-vae"] for name in CELL_STAGES]
    assert code_deps(repeat) == {"pipelines/repeat.py"}.union(*map(code_deps, parts))
    # The seed is in the command.
    keys, declared = set().union(*map(declared_keys, parts)) - {"seed"}, declared_keys(repeat)
    assert declared <= keys
    assert all(any(covers(one, key) for one in declared) for key in keys)
    read = {dep.def_path for part in parts for dep in part.deps if not hasattr(dep, "params")}
    assert read <= {dep.def_path for dep in repeat.deps}


class Reading:
    """A configuration that notes the keys that are read from it."""

    def __init__(self, section: Strict, prefix: str, read: set[str]) -> None:
        self._section, self._prefix, self._read = section, prefix, read

    def __getattr__(self, key: str) -> Any:
        value = getattr(self._section, key)
        # What only checks settings can refuse them, but it can't change a result.
        if key in type(self._section).model_fields and sys._getframe(1).f_code.co_name != "check_settings":
            if isinstance(value, Strict):
                return Reading(value, f"{self._prefix}{key}.", self._read)
            self._read.add(f"{self._prefix}{key}")
        elif key == "model_dump":
            self._read |= {f"{self._prefix}{name}" for name in type(self._section).model_fields}
        return value


def read_by(script: str, config: Config) -> set[str]:
    """Keys that a stage reads while it runs: but for views, for places, which DVC knows as deps and outs, and for the
    class to paint, which is no part of a cell."""
    import runpy

    read: set[str] = set()
    runpy.run_path(str(ROOT / "pipelines" / f"{script}.py"))["main"](Reading(config, "", read))
    return {key for key in read if key.split(".")[0] not in ("paths", "tracking", "label")}


def declared_keys(stage: Any) -> set[str]:
    """Params of a stage under the names that they have in the composed configuration."""
    keys = set()
    for dep in stage.deps:
        if not hasattr(dep, "params"):
            continue
        group = Path(dep.def_path).parent.name
        prefix = "" if group in ("conf", "model") else f"{group}."
        keys |= {prefix + key for key in dep.params} or {group}
    return keys


def covers(declared: str, key: str) -> bool:
    return key == declared or key.startswith(f"{declared}.")


def test_the_settings_that_a_stage_reads_are_its_declared_params_and_no_others(
    checkout: Path, heights_cell: Path, few_digits: Path, tmp_path: Path, places: Callable[[Path], list[str]],
    dvc_stages: Callable[[Path], dict[str, Any]],
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
    declared: dict[str, set[str]] = defaultdict(set)
    for name, stage in dvc_stages(checkout).items():
        declared[stage_name(name)] |= declared_keys(stage)
    for stage, keys in read.items():
        # The data set's name is that of the file, which is in the command.
        missing = {key for key in keys - {"data.name"} if not any(covers(one, key) for one in declared[stage])}
        assert not missing, f"{stage} reads what dvc.yaml doesn't declare"
        idle = {one for one in declared[stage] - {"data.name"} if not any(covers(one, key) for key in keys)}
        assert not idle, f"dvc.yaml declares what {stage} doesn't read"


# What the fingerprint answers to

IDENTITIES = """
import json, sys
from pathlib import Path
from lookalike import learning
from lookalike.core.config import ROOT, compose
from lookalike.data import Prepared

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
for file in ("models/vae.py", "networks/mlp.py", "training.py", "core/domain.py", "models/independent.py", "views.py",
             "pictures.py", "evaluation.py", "metrics/frechet.py"):
    found[file] = with_edit(f"src/lookalike/{file}")
found["pipelines/train.py"] = with_edit("pipelines/train.py")
found["pipelines/sample.py"] = with_edit("pipelines/sample.py")
prepared.digest = "0" + prepared.digest
found["other data"] = name()
print(json.dumps(found))
"""

CHANGES = (
    "model.components=3", "optimizer.lr=0.001", "data.batch_size=64", "budget.scale=2", "seed=1", "trainer.checks=7",
    "model=independent", "models/vae.py", "networks/mlp.py", "training.py", "core/domain.py", "pipelines/train.py",
    "other data",
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
    assert {"tracking=none", "models/independent.py", "views.py", "pictures.py", "budget.samples=7"} <= others
    assert {fingerprints[other] for other in others} == {fingerprints[""]}
