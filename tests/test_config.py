"""Tests of configurations: every one composes and builds, and every mistake is refused by name before any work."""

import inspect
import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from lookalike.domain.domain import Domain
from lookalike.domain.image import Image, pixel
from lookalike.domain.table import Table
from lookalike.domain.variables import Ordered
from lookalike.families.build import build, check_settings, for_domain
from lookalike.workspace import configuration as config_module
from lookalike.workspace.arguments import Strict, arguments_of, check_arguments, target
from lookalike.workspace.configuration import CONF, Config, choices, compose, groups
from lookalike.workspace.errors import UserError

pytest_plugins = ["pipeline_fixtures"]

MODELS, DATA, BUDGETS = choices("model"), choices("data"), choices("budget")


def small(data: str) -> Domain:
    """Return a domain like a data set's, except for its size."""
    if data in ("mnist", "bars", "emoji"):
        shape = (3 if data == "emoji" else 1, 8, 8)
        return Image(name=data, shape=shape, variables=(pixel(levels=16, at_ends=0.5),), labels=("a", "b"))
    column = Ordered(levels=16, location=7.5, scale=7.5)
    return Table(name=data, shape=(1,), variables=(column,), labels=("a", "b"))


# What is in conf/


@pytest.mark.parametrize(("data", "model"), itertools.product(DATA, MODELS))
def test_every_model_on_every_data_set_composes_and_builds_at_every_budget(data: str, model: str) -> None:
    for budget in BUDGETS:
        config = compose([f"data={data}", f"model={model}", f"budget={budget}"])
        assert (config.data.name, config.model_name) == (data, model)
    built = build(config.model, small(data), seed=0)
    check_settings(built, for_domain(config, built.domain))


@pytest.mark.parametrize(
    ("group", "choice"), [(group, choice) for group in ("trainer", "tracking") for choice in choices(group)]
)
def test_every_trainer_and_every_tracking_composes(group: str, choice: str) -> None:
    assert compose([f"{group}={choice}"])


def test_conf_has_no_group_that_the_tests_do_not_know() -> None:
    assert set(groups()) <= {"budget", "data", "model", "optimizer", "search", "tracking", "trainer"}


def test_the_pipeline_lists_choices_that_exist() -> None:
    pipeline = yaml.safe_load((CONF / "pipeline.yaml").read_text())
    assert set(pipeline["data"]) <= set(DATA)
    assert set(pipeline["models"]) | set(pipeline["floors"]) == set(MODELS)
    assert not set(pipeline["models"]) & set(pipeline["floors"])
    assert pipeline["budget"] in BUDGETS
    assert pipeline["trainer"] in choices("trainer")


@pytest.mark.parametrize("model", MODELS)
def test_a_model_s_file_is_named_as_its_module_and_as_no_other(model: str) -> None:
    section = yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text())["model"]
    assert section["_target_"].startswith(f"lookalike.families.{model}.")
    family = target(section, package="lookalike.families")
    assert family.__module__ == f"lookalike.families.{model}"


@pytest.mark.parametrize("data", DATA)
def test_a_data_set_has_the_name_of_its_file_and_a_reader_that_exists(data: str) -> None:
    section = yaml.safe_load((CONF / "data" / f"{data}.yaml").read_text())
    assert section["name"] == data
    assert target(section["reader"], package="lookalike.readers").__name__ == "read"


def keys_of(content: Any) -> set[str]:
    """All keys of nested dictionaries and lists."""
    if isinstance(content, list):
        return set().union(*map(keys_of, content))
    if not isinstance(content, dict):
        return set()
    return set(content).union(*map(keys_of, content.values()))


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_key_has_a_name_that_dvc_leaves_out_of_its_cache_of_runs(path: Path) -> None:
    """DVC names a run by its dependencies without their sizes, and drops these keys from parameters too.

    A change of such a key would bring back the results of an earlier run.
    """
    assert not keys_of(yaml.safe_load(path.read_text(encoding="utf-8"))) & {"size", "nfiles"}


def test_dvc_changes_one_value_of_a_file_and_nothing_else(tmp_path: Path) -> None:
    """`dvc exp run -S` writes the whole file again, lists and empty values in its own layout."""
    groups = ("config.yaml", "pipeline.yaml", "budget/*", "data/*", "model/*", "optimizer/*", "trainer/*")
    listed = subprocess.run(["git", "ls-files", *groups], cwd=CONF, capture_output=True, text=True, check=False).stdout
    for name in listed.split():
        path, text = tmp_path / "file.yaml", (CONF / name).read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        apply_overrides(path, ["+added=1"])
        assert path.read_text(encoding="utf-8") == f"{text}added: 1\n", f"conf/{name}"


# A value that stands in conf/ has no second default in code


def defaults(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_no_default_arguments(model: str) -> None:
    config = compose([f"model={model}"])
    family = target(config.model, package="lookalike.families")
    own = [getattr(family, name) for name in ("__init__", "sample", "log_likelihood") if name in vars(family)]
    for function in own:
        # `labels` comes from the caller, not from conf/.
        assert defaults(function) <= {"labels"}
    positional = [p for p in inspect.signature(family).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert not positional


@pytest.mark.parametrize("data", DATA)
def test_a_reader_and_the_extractor_have_no_default_arguments(data: str) -> None:
    from lookalike.features.classifier import Classifier

    assert not defaults(target(compose([f"data={data}"]).data.reader, package="lookalike.readers"))
    assert not defaults(Classifier.__init__)


def sections() -> Iterator[type[Strict]]:
    for _, kind in inspect.getmembers(config_module, inspect.isclass):
        if issubclass(kind, Strict):
            yield kind


@pytest.mark.parametrize("section", sections(), ids=lambda kind: kind.__name__)
def test_a_section_of_the_configuration_has_no_default_values(section: type[pydantic.BaseModel]) -> None:
    assert not {name for name, field in section.model_fields.items() if not field.is_required()}


# What is refused: overrides, the key or choice and the value that the message names, and what to choose from

REFUSED: dict[str, tuple[str, ...]] = {
    # an unknown choice
    "data=cifar": ("data 'cifar'", "heights", "mnist"),
    "model=vea": ("model 'vea'", *MODELS),
    "budget=huge": ("budget 'huge'", *BUDGETS),
    "trainer=tpu": ("trainer 'tpu'", "cpu", "gpu"),
    "tracking=neptune": ("tracking 'neptune'", "mlflow", "wandb", "none"),
    "model=vae model=gam": ("model 'gam'", *MODELS),
    # an unknown group or key
    "dataset=mnist": ("'dataset'", "data", "model", "budget"),
    "optimiser=adam": ("'optimiser'", "optimizer"),
    "lr=0.1": ("'lr'", "optimizer"),
    "+lr=0.1": ("'lr'", "optimizer"),
    "++lr=0.1": ("'lr'", "optimizer"),
    "optimizer.learning_rate=1": ("'optimizer.learning_rate'", "lr", "weight_decay"),
    "+optimizer.learning_rate=1": ("'optimizer.learning_rate'", "lr", "weight_decay"),
    "model.component=3": ("'model.component'", "components"),
    "model.sizes.image.width=3": ("'model.sizes.image.width'", "depth", "widths"),
    "data.reader.validaton=3": ("'data.reader.validaton'", "validation"),
    "budget.likelihood.mots=1": ("'budget.likelihood.mots'", "most", "least"),
    "trainer.device=2": ("'trainer.device'", "devices"),
    "seed.first=1": ("'seed.first'",),
    "paths.output=x": ("'paths.output'", "artifacts"),
    "likelihood.samples=2": ("'likelihood.samples'", "importance_samples"),
    # nothing where something is needed
    "~seed": ("'seed'",),
    "data.name=mnist": ("data.name=mnist", "data=mnist"),
    "~likelihood": ("'likelihood'", "@package _global_", "preview"),
    "~data.flops": ("'data.flops'",),
    "~optimizer.lr": ("'optimizer.lr'",),
    "hydra.run.dir=x": ("hydra.run.dir", "no Hydra job"),
    "seed=???": ("seed",),
    "model=null": ("model", *MODELS),
    "model._target_=vae": ("model._target_=vae", "lookalike.families.FILE.CLASS"),
    "~model._target_": ("model._target_=None", "lookalike.families.FILE.CLASS"),
    "data=null": ("data", *DATA),
    # a wrong type
    "seed=abc": ("seed=abc", "integer"),
    "seed=1.5": ("seed=1.5", "integer"),
    "seed=true": ("seed=True", "integer"),
    "budget.samples=1e3": ("budget.samples=1000.0", "integer"),
    "optimizer.lr=fast": ("optimizer.lr=fast", "number"),
    "optimizer.lr=true": ("optimizer.lr=True", "number"),
    "optimizer=adam": ("optimizer", "adam", "adamw"),
    "sampling=3": ("sampling=3",),
    "data.batch_size=[1]": ("data.batch_size=[1]", "integer"),
    "data.features=3": ("data.features=3",),
    "tracking.mlflow=maybe": ("tracking.mlflow=maybe", "boolean"),
    "paths.data=null": ("paths.data", "string"),
    # out of range
    "seed=-1": ("seed=-1", "0"),
    "budget.samples=0": ("budget.samples=0", "greater than or equal to 2"),
    "budget.samples=-5": ("budget.samples=-5", "greater than or equal to 2"),
    "budget.scale=-1": ("budget.scale=-1", "greater than 0"),
    "budget.scale=0": ("budget.scale=0", "greater than 0"),
    "budget.scale=nan": ("budget.scale=nan",),
    "budget.scale=inf": ("budget.scale=inf",),
    "data.flops=inf": ("data.flops=inf",),
    "optimizer.lr=inf": ("optimizer.lr=inf",),
    "optimizer.lr=0": ("optimizer.lr=0", "greater than 0"),
    "optimizer.weight_decay=-0.1": ("optimizer.weight_decay=-0.1",),
    "optimizer.ema_horizon=1": ("optimizer.ema_horizon=1", "less than 1"),
    "optimizer.warmup=1.5": ("optimizer.warmup=1.5", "less than 1"),
    "data.batch_size=0": ("data.batch_size=0", "greater than 0"),
    "trainer.threads=0": ("trainer.threads=0", "greater than 0"),
    "trainer.previews=-1": ("trainer.previews=-1",),
    "trainer.devices=0": ("trainer.devices=0", "greater than 0"),
    "trainer.devices=all": ("trainer.devices=all", "integer"),
    "trainer.compile=1": ("trainer.compile=1", "boolean"),
    "seed=4294967296": ("seed=4294967296",),
    "label=true": ("label=True", "string"),
    "label=1.5": ("label=1.5", "string"),
    "trainer.accelerator=tpu": ("trainer.accelerator=tpu", "cpu", "gpu"),
    "trainer.precision=64": ("trainer.precision=64", "32-true"),
    # no override at all
    "model": ("model",),
    "=3": ("=3", "KEY=VALUE"),
    "help": ("'help'", "KEY=VALUE", "--help"),
    "seed=${nothing}": ("seed", "nothing"),
    "--multirun": ("--multirun",),
    "+model=gam": ("'gam'", *MODELS),
}  # fmt: skip


@pytest.mark.parametrize("overrides", REFUSED)
def test_a_wrong_override_is_refused_by_its_key_and_value_with_what_to_choose_from(overrides: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(overrides.split())
    message = str(refused.value)
    assert all(word in message for word in REFUSED[overrides]), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=vae", "model.components=0"], ("model.components=0",)),
        (["model=vae", "model.components=many"], ("model.components=many", "integer")),
        (["model=vae", "model.latent.table=-1"], ("model.latent=-1",)),
        (["model=vae", "model.sizes.table.hidden=[64,0]"], ("model.sizes.table.hidden", "=0")),
        (["model=vae", "+model.depth=1"], ("'model.depth'", "components")),
        (["model=vae", "+model.sizes.table.depth=1"], ("'model.sizes.table.depth'", "hidden")),
        (["model=vae", "~model.components"], ("'model.components'",)),
        (["model=vae", "likelihood.importance_samples=0"], ("likelihood.importance_samples=0",)),
        (["model=vae", "+likelihood.probes=1"], ("'likelihood.probes'", "importance_samples")),
        (["model=vae", "likelihood=null"], ("likelihood", "lower bound")),
        (["model=copycat", "likelihood={}"], ("likelihood", "no likelihood")),
        (["model=copycat", "model.memory=0"], ("model.memory=0",)),
        (["model=independent", "model.uniform=0"], ("model.uniform=0",)),
        (["model=independent", "model.bandwidths.table=[]"], ("model.bandwidths",)),
        (["model=independent", "model.bandwidths.table=[-1.0]"], ("model.bandwidths", "-1")),
        (["model=flow_matching", "sampling.steps=-1"], ("sampling.steps=-1",)),
        (["model=flow_matching", "preview.solver=leapfrog"], ("preview.solver=leapfrog", "euler", "midpoint")),
        (["model=flow_matching", "likelihood.tolerance=-1"], ("likelihood.tolerance=-1",)),
        (["model=flow_matching", "sampling.steps=null"], ("midpoint", "steps")),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, list) else "",
)
def test_a_wrong_setting_of_a_model_is_refused_before_training(overrides: list[str], words: tuple[str, ...]) -> None:
    config = compose(["data=heights", *overrides])

    def prepare() -> None:
        check_settings(build(config.model, small("heights"), seed=0), for_domain(config, small("heights")))

    with pytest.raises(UserError) as refused:
        prepare()
    message = str(refused.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("model", "setting", "words"),
    [
        ("vae", "model.sizes.image.widths=[12,32]", ("model.sizes.image.widths", "=12", "multiple of 8")),
        ("gan", "model.sizes.image.widths=[16,20]", ("model.sizes.image.widths", "=20", "multiple of 8")),
        ("flow_matching", "model.sizes.image.widths=[4,64]", ("model.sizes.image.widths", "=4", "multiple of 8")),
        ("one_step", "model.sizes.image.widths=[]", ("model.sizes.image.widths", "1 item")),
        ("flow", "model.sizes.image.channels=20", ("model.sizes.image.channels=20", "multiple of 8")),
        ("vae", "model._target_=lookalike.families.vae.joined", ("lookalike.families.vae.joined", "no family")),
        (
            "vae",
            "model._target_=lookalike.families.vae.HALF_LOG_TAU",
            ("vae.HALF_LOG_TAU", "no class"),
        ),
    ],
)
def test_a_network_that_cannot_be_is_refused_before_training(model: str, setting: str, words: tuple[str, ...]) -> None:
    config = compose(["data=mnist", f"model={model}", setting])
    with pytest.raises(UserError) as refused:
        build(config.model, small("mnist"), seed=0)
    message = str(refused.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_the_neighbours_of_an_unknown_setting_are_those_that_exist() -> None:
    config = compose(["data=heights", "model=vae", "+sampling.steps=3", "+sampling.solver=euler"])
    with pytest.raises(UserError, match=r"sampling\.") as refused:
        check_settings(build(config.model, small("heights"), seed=0), for_domain(config, small("heights")))
    assert "beside" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "torch.nn.Linear",
        "lookalike.families",
        "lookalike.familiesx.vae.VAE",
        "lookalike.workspace.command_line.run",
        "lookalike.families.nowhere.VAE",
        "lookalike.families.vae.Nothing",
        "VAE",
        "",
    ],
)
def test_only_what_stands_in_the_package_may_be_a_target(name: str) -> None:
    with pytest.raises(UserError, match="_target_="):
        build({"_target_": name}, small("heights"), seed=0)


@pytest.mark.parametrize("name", ["vae.nn", "vae.torch", "vae.Tensor", "vae.MLP", "build.save_file"])
def test_what_a_module_of_the_package_only_imports_is_no_target(name: str) -> None:
    with pytest.raises(UserError, match="_target_="):
        target({"_target_": f"lookalike.families.{name}"}, package="lookalike.families")


def test_arguments_are_checked_without_a_call() -> None:
    calls = []

    def record(*, size: int) -> None:
        calls.append(size)

    with pytest.raises(UserError, match=r"section\.size=big"):
        check_arguments(record, {"size": "big"}, section="section", given=())
    check_arguments(record, {"size": 3}, section="section", given=())
    assert not calls
    assert arguments_of({"_target_": "x", "size": 3}) == {"size": 3}


# The command line


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_help_says_what_the_stage_does_and_lists_every_choice(stage: str, call_stage: Callable[..., Any]) -> None:
    done = call_stage(stage, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"lookalike {stage}" in done.stdout
    for group in groups():
        assert f"{group}=  {', '.join(choices(group))}" in done.stdout


def test_cfg_prints_what_would_be_used_and_does_nothing(call_stage: Callable[..., Any], tmp_path: Path) -> None:
    done = call_stage("train", "--cfg", "data=heights", "seed=3", f"paths.artifacts={tmp_path / 'artifacts'}")
    assert (done.returncode, done.stderr) == (0, "")
    printed = yaml.safe_load(done.stdout)
    assert (printed["data"]["name"], printed["seed"]) == ("heights", 3)
    assert printed.keys() == Config.model_fields.keys()
    assert not list(tmp_path.iterdir())


def test_cfg_refuses_what_the_stage_would_refuse(call_stage: Callable[..., Any]) -> None:
    done = call_stage("train", "--cfg", "modle=vae")
    assert done.returncode == 1
    assert "unknown key 'modle'" in done.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [("optimizer.lr=0", ("optimizer.lr=0", "greater than 0")), ("modle=vae", ("'modle'", "model"))],
)
def test_the_command_line_refuses_with_one_line_and_status_1(
    override: str, words: tuple[str, ...], run_stage: Callable[..., Any], tmp_path: Path
) -> None:
    done = run_stage("train", override, f"paths.artifacts={tmp_path / 'artifacts'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words)
    assert not list(tmp_path.iterdir())
