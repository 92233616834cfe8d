"""Composes the configuration with Hydra and checks all of it before any work: keys, types and ranges."""

import importlib
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import lookalike
from lookalike.core.errors import UserError
from lookalike.core.ranges import AtLeastTwo, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Seed, Share

ROOT = Path(lookalike.__file__).resolve().parents[2]
"""The checkout that this package lies in."""

CONF = ROOT / "conf"

Section = dict[str, Any]

Label = Annotated[str, pydantic.BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A class's name or number; a name may look like a number."""


class Strict(pydantic.BaseModel):
    """No unknown key, no silent conversion, no change after it was checked."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Optimizer(Strict):
    """AdamW, or Muon for some weights, with a linear warm-up and a cosine decay to zero."""

    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup: Share
    clip: PositiveFloat
    average: Share
    """Horizon of the exponential moving average of the weights, as a share of the steps; 0 keeps the last weights."""
    momentum: Share
    """How much of the gradients' moving average a step keeps (Adam's first beta); 0 for players against each other. Of
    what AdamW trains: Muon's own momentum stays 0.95."""
    muon: NonNegativeFloat
    """How much longer Muon's steps of hidden kernels are than AdamW's would be; 0 for AdamW alone."""


class Data(Strict):
    """One data set: who reads it, and what training on it may cost."""

    name: str
    reader: Section
    flops: PositiveFloat
    steps: PositiveInt
    batch_size: PositiveInt
    features: Section | None
    """What images are compared in: a function of `lookalike.extractors` and its arguments."""


class LikelihoodPoints(Strict):
    """How many points a likelihood is measured on: of the test split as many as `flops` affords, between two ends."""

    most: AtLeastTwo
    least: AtLeastTwo
    flops: PositiveFloat
    others: AtLeastTwo
    """Points of the validation and of the training split, which are there to be compared with each other."""


class Budget(Strict):
    """A profile: one knob for training, and how much is sampled and scored."""

    scale: PositiveFloat
    features: PositiveFloat
    samples: AtLeastTwo
    training_images: AtLeastTwo
    """Among which copies are looked for, at most: of more a fixed random choice."""
    likelihood: LikelihoodPoints


class Trainer(Strict):
    """Where and how training runs."""

    accelerator: Literal["cpu", "gpu", "auto"]
    devices: PositiveInt
    """Processes, with a GPU each where there are GPUs: batches are divided between them."""
    compile: bool
    """Whether training runs code that is generated for the model and this machine."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    threads: PositiveInt | None
    checks: PositiveInt
    validation_points: PositiveInt
    previews: NonNegativeInt
    batch_size: PositiveInt


class Tracking(Strict):
    """Which views record a run."""

    mlflow: bool
    wandb: bool
    uri: str
    experiment: str


class Paths(Strict):
    """Folders, relative to the repository or absolute."""

    data: str
    artifacts: str
    cell: str | None
    """Where `train`, `sample` and `evaluate` of one model write; null for its place below `artifacts`."""
    results: str
    samples: str
    scratch: str


class Config(Strict):
    """All that a stage can be told."""

    data: Data
    model: Section
    optimizer: Optimizer | None
    preview: Section
    sampling: Section
    likelihood: Section | None
    budget: Budget
    trainer: Trainer
    tracking: Tracking
    paths: Paths
    seed: Seed
    split: Literal["test", "validation"]
    """What samples and likelihoods are scored against."""
    label: Label | None

    @property
    def model_name(self) -> str:
        """The family's name, which is its module's."""
        return str(self.model["_target_"]).split(".")[-2]

    def path(self, kind: Literal["data", "artifacts", "results", "samples", "scratch"]) -> Path:
        """A folder of `paths`, absolute."""
        return ROOT / str(getattr(self.paths, kind))

    @property
    def cell(self) -> Path:
        """The folder of one data set's one model, absolute."""
        return ROOT / (self.paths.cell or self.path("artifacts") / self.data.name / self.model_name)


FAMILY = re.compile(r"lookalike\.models\.\w+\.\w+")
"""Where the class of a family stands."""

MODEL_SECTIONS = ("model", "optimizer", "preview", "sampling", "likelihood")
"""What a file in `conf/model/` sets."""


def choices(group: str) -> list[str]:
    """What a configuration group offers, by name."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def groups() -> list[str]:
    """The configuration groups of a stage, by name: spaces are for sweeps."""
    found = {path.name for path in CONF.iterdir() if path.is_dir() and any(path.glob("*.yaml"))}
    return sorted(found - {"search"})


def compose(overrides: list[str]) -> Config:
    """Compose `conf/config.yaml` with overrides in Hydra's grammar and check it.

    Raises:
        UserError: an unknown key, group or choice, or a value of the wrong type or range, with what there is to
            choose from.
    """
    return check(compose_unchecked(overrides))


def compose_unchecked(overrides: list[str]) -> Section:
    """The resolved configuration as plain dictionaries, before types and ranges are checked."""
    for item in overrides:
        if item in ("-m", "--multirun"):
            raise UserError(f"{item}: a stage has one configuration; `python pipelines/sweep.py -m …` runs many")
        key, assigned, value = item.partition("=")
        if not key or not (assigned or key.startswith("~")):
            raise UserError(f"'{item}': write KEY=VALUE; --help lists what there is to choose from")
        if key.lstrip("+~").startswith("hydra"):
            raise UserError(f"{key}: a stage runs in this process and has no Hydra job to configure")
        if key == "data.name":
            raise UserError(f"{item}: a data set has the name of its file in conf/data/; choose it with data={value}")
        if key in groups() and value not in choices(key):
            raise UserError(f"unknown {key} '{value}': choose one of {', '.join(choices(key))}")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = hydra_compose("config", overrides)
            plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except MissingConfigException as error:
            raise UserError(explain_missing(error)) from None
        except ConfigCompositionException as error:
            raise UserError(explain_override(overrides, error)) from None
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UserError(f"configuration: {' '.join(str(error).split())}") from None
    return typing.cast(Section, plain)


def check(plain: Section) -> Config:
    """Check keys, types and ranges of a composed configuration."""
    try:
        config = Config.model_validate(plain)
    except pydantic.ValidationError as error:
        raise UserError(explain_validation(error, plain, prefix="")) from None
    if config.data.name not in choices("data"):
        raise UserError(f"data.name={config.data.name}: it must be the name of its file in conf/data/")
    family = config.model.get("_target_")
    if not FAMILY.fullmatch(str(family)):
        raise UserError(f"model._target_={family}: a family's class is named lookalike.models.FILE.CLASS")
    return config


def explain_missing(error: MissingConfigException) -> str:
    """A group's choice that does not exist."""
    missing = error.missing_cfg_file or "?"
    group, _, name = missing.rpartition("/")
    if not group:
        return f"configuration: {error}"
    known = sorted(error.options or choices(group))  # plugins of Hydra bring some
    return f"unknown {group} '{name}': choose one of {', '.join(known)}"


def explain_override(overrides: list[str], error: Exception) -> str:
    """An override of a key that does not exist: name it, and list its neighbours that do."""
    known = compose_unchecked([item for item in overrides if item.partition("=")[0] in groups()]) if overrides else {}
    for item in overrides:
        key, _, _ = item.lstrip("+~").partition("=")
        node: Any = known
        for i, part in enumerate(parts := key.split(".")):
            if key in groups():
                break
            if not isinstance(node, dict) or part not in node:
                below = ".".join(parts[:i])
                if below and node is None:
                    return f"unknown key '{key}': '{below}' is null here, and has no keys"
                there = ", ".join(node) if isinstance(node, dict) else "nothing"
                where = f"'{below}' has" if below else f"there are the groups {', '.join(groups())} and the keys"
                return f"unknown key '{key}': {where} {there}"
            node = node[part]
    return f"configuration: {str(error).splitlines()[0]} ({error.__cause__ or 'see conf/'})"


def explain_validation(
    error: pydantic.ValidationError, plain: Any, *, prefix: str, known: list[str] | None = None
) -> str:
    """The first thing that pydantic found, with its key, its value and what would be right."""
    found = error.errors()[0]
    key = prefix + ".".join(str(part) for part in found["loc"])
    if found["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        node = plain
        for part in found["loc"][:-1]:
            node = node[part]
        if known is None or len(found["loc"]) > 1:
            known = [name for name in node if name != found["loc"][-1]]
        return f"unknown key '{key}': there {'are ' + ', '.join(known) if known else 'is nothing to set'}"
    if found["type"] == "missing" and key in MODEL_SECTIONS:
        return (
            f"missing key '{key}': a file in conf/model/ begins with `# @package _global_` and has the sections "
            f"{', '.join(MODEL_SECTIONS)}"
        )
    if found["type"] == "missing":
        return f"missing key '{key}': it needs a value"
    return f"{key}={found['input']}: {found['msg'][0].lower()}{found['msg'][1:]}"


def check_arguments(
    function: Callable[..., Any], arguments: Section, *, section: str, given: tuple[str, ...]
) -> Section:
    """Check a section of the configuration against the keyword arguments of the function it is for.

    Args:
        function: what will be called.
        arguments: the section.
        section: its name, for messages.
        given: parameters that the caller fills in.

    Returns:
        The section, with those of its own sections that have a type of theirs as that.

    Raises:
        UserError: a key that the function doesn't take or needs, or a value that its annotation excludes.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    wanted = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in given and name != "self"
    }
    schema = pydantic.create_model(section, __config__=Strict.model_config, **typing.cast(Any, wanted))
    try:
        checked = schema.model_validate(arguments)
    except pydantic.ValidationError as error:
        raise UserError(explain_validation(error, arguments, prefix=f"{section}.", known=list(wanted))) from None
    return {name: getattr(checked, name) for name in arguments}


def target(section: Section, *, package: str) -> Any:
    """The class or function that a section's `_target_` names, in the given package of this project."""
    name = str(section.get("_target_", ""))
    module, _, attribute = name.rpartition(".")
    if not module.startswith(f"{package}."):
        raise UserError(f"_target_={name}: only what stands in {package} may be configured")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise UserError(f"_target_={name}: there is no such class or function") from None
    if not inspect.isclass(found) and not inspect.isfunction(found):
        raise UserError(f"_target_={name}: that is no class and no function")
    if found.__module__ != module:
        raise UserError(f"_target_={name}: {module} only imports it")
    return found


def arguments_of(section: Section) -> Section:
    """A section without its `_target_`."""
    return {key: value for key, value in section.items() if key != "_target_"}
