"""Compose the configuration with Hydra and check its keys, types and ranges before any work starts."""

import os
import re
import shlex
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import lookalike
from lookalike.workspace.arguments import MODEL_SECTIONS, Section, Strict, explain_validation
from lookalike.workspace.errors import UserError, near
from lookalike.workspace.grammar import keep_asserts
from lookalike.workspace.litter import is_litter
from lookalike.workspace.ranges import (
    AtLeastTwo,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    Share,
)

ROOT = Path(lookalike.__file__).resolve().parents[2]
"""The checkout that this package lies in."""

CONF = ROOT / "conf"

if not __debug__:
    keep_asserts()


def absolute(path: str) -> Path:
    """Return a path of the configuration as an absolute one: `~` is the home folder, the rest is below the checkout."""
    return ROOT / os.path.expanduser(path)


Label = Annotated[str, pydantic.BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""The name or the number of a class; a name may look like a number."""


class Optimizer(Strict):
    """AdamW, with orthogonal steps for some weights, a linear warm-up and a cosine decay to zero."""

    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup: Share
    clip: PositiveFloat
    ema_horizon: Share
    """Horizon of the exponential moving average of the weights, as a share of the steps; 0 keeps the last weights."""
    beta1: Share
    """Share of the gradients' moving average that a step of AdamW keeps; orthogonal steps keep 0.95."""
    muon: NonNegativeFloat
    """Length of the orthogonal steps of hidden weights, as a multiple of AdamW's; 0 for AdamW alone."""


class Data(Strict):
    """One data set: its reader, and how much computation training on it may take."""

    name: str
    reader: Section
    flops: PositiveFloat
    steps: PositiveInt
    batch_size: PositiveInt
    features: Section | None
    """The extractor: a function of `lookalike.features` and its arguments; None compares the values themselves."""


class LikelihoodPoints(Strict):
    """Number of points that a likelihood is measured on: on the test split as many as `flops` allows, within limits."""

    most: AtLeastTwo
    least: AtLeastTwo
    flops: PositiveFloat
    others: AtLeastTwo
    """Points of the validation split and of the training split, whose likelihoods are compared with each other."""


class Budget(Strict):
    """A profile: the amount of training, sampling and scoring."""

    scale: PositiveFloat
    features: PositiveFloat
    samples: AtLeastTwo
    training_images: AtLeastTwo
    """Largest number of training observations that are searched for copies; of a larger set, a fixed random choice."""
    likelihood: LikelihoodPoints


class Trainer(Strict):
    """Where stages compute, and how training runs."""

    accelerator: Literal["cpu", "gpu", "auto"]
    devices: PositiveInt
    """Processes per machine, each with a GPU of its own if the accelerator is a GPU."""
    nodes: PositiveInt
    """Number of machines."""
    compile: bool
    """Whether training runs code that is generated for the model and this machine."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    threads: PositiveInt | None
    checks: PositiveInt
    validation_points: PositiveInt
    previews: NonNegativeInt
    batch_size: PositiveInt


class Tracking(Strict):
    """The views that record a run."""

    mlflow: bool
    wandb: bool
    uri: str
    experiment: str


class Paths(Strict):
    """Folders, relative to the repository or absolute; `~` is the home folder."""

    data: str
    artifacts: str
    cell: str | None
    """Folder that `train`, `sample` and `evaluate` of one cell write to; None for its place below `artifacts`."""
    results: str
    samples: str
    scratch: str


class Config(Strict):
    """The whole configuration of a stage."""

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
    """The split that samples and likelihoods are scored against."""
    label: Label | None

    @property
    def model_name(self) -> str:
        """Name of the family, which is the name of its module."""
        return str(self.model["_target_"]).split(".")[-2]

    def path(self, kind: Literal["data", "artifacts", "results", "samples", "scratch"]) -> Path:
        """Return a folder of `paths` as an absolute path."""
        return absolute(getattr(self.paths, kind))

    @property
    def cell(self) -> Path:
        """Absolute path of the folder of one cell (data set × model × seed)."""
        if self.paths.cell:
            return absolute(self.paths.cell)
        return self.path("artifacts") / self.data.name / self.model_name / str(self.seed)


FAMILY = re.compile(r"lookalike\.families\.\w+\.\w+")
"""Full names of the classes of families."""


def choices(group: str) -> list[str]:
    """Return the names of the choices of a configuration group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not is_litter(Path(path.name)))


def groups() -> list[str]:
    """Return the names of a stage's configuration groups; search spaces belong to sweeps alone."""
    found = {path.parent.name for path in CONF.glob("*/*.yaml") if not is_litter(path.relative_to(CONF))}
    return sorted(found - {"search"})


def compose(overrides: list[str]) -> Config:
    """Compose `conf/config.yaml` with overrides in Hydra's grammar and check it.

    Raises:
        UserError: an unknown key, group or choice, or a value of the wrong type or range, with what there is to
            choose from.
    """
    return check(compose_unchecked(overrides))


def compose_unchecked(overrides: list[str]) -> Section:
    """Return the resolved configuration as plain dictionaries, before types and ranges are checked."""
    for item in overrides:
        if item in ("-m", "--multirun"):
            raise UserError(f"{item}: a stage has one configuration; `lookalike sweep -m …` runs many")
        key, assigned, value = item.partition("=")
        if not key or not (assigned or key.startswith("~")):
            raise UserError(f"'{item}': write KEY=VALUE; --help lists what there is to choose from")
        if key.lstrip("+~").startswith("hydra"):
            raise UserError(f"{key}: a stage runs in this process and has no Hydra job to configure")
        if key == "data.name":
            raise UserError(f"{item}: a data set has the name of its file in conf/data/; choose it with data={value}")
        if key in groups() and value not in choices(key):
            raise UserError(
                f"unknown {key} '{value}': choose one of {', '.join(choices(key))}{near(value, choices(key))}"
            )
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = hydra_compose("config", overrides)
            plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except MissingConfigException as error:
            raise UserError(explain_missing(error)) from None
        except ConfigCompositionException as error:
            raise UserError(explain_override(overrides, error)) from None
        except OverrideParseException as error:
            raise UserError(explain_grammar(error.override)) from None
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UserError(f"configuration: {' '.join(str(error).split())}") from None
    found = typing.cast(Section, plain)
    chosen = [item.removeprefix("data=") for item in overrides if item.startswith("data=")]
    if chosen and (name := found["data"].get("name", chosen[-1])) != chosen[-1]:
        path = f"conf/data/{chosen[-1]}.yaml"
        raise UserError(f"{path}: its name is '{name}'; write `name: {chosen[-1]}`, the name of the file")
    return found


def check(plain: Section) -> Config:
    """Return a composed configuration after its keys, types and ranges are checked."""
    try:
        config = Config.model_validate(plain)
    except pydantic.ValidationError as error:
        raise UserError(explain_validation(error, plain, prefix="")) from None
    if config.data.name not in choices("data"):
        raise UserError(f"data.name={config.data.name}: it must be the name of its file in conf/data/")
    family = config.model.get("_target_")
    if not FAMILY.fullmatch(str(family)):
        raise UserError(f"model._target_={family}: a family's class is named lookalike.families.FILE.CLASS")
    return config


def explain_missing(error: MissingConfigException) -> str:
    """Return the message for a choice that its group does not offer."""
    missing = error.missing_cfg_file or "?"
    group, _, name = missing.rpartition("/")
    if not group:
        return f"configuration: {error}"
    known = sorted(error.options or choices(group))  # Hydra's plugins bring some of them
    return f"unknown {group} '{name}': choose one of {', '.join(known)}{near(name, known)}"


def explain_grammar(override: str) -> str:
    """Return the message for an override whose value Hydra cannot read, with quotes that make it plain text."""
    key, _, value = override.partition("=")
    quoted = value.replace('"', '\\"')
    cure = shlex.quote(f'{key}="{quoted}"')
    return f"{key}: Hydra cannot read the value {value}; if it is text, put it in quotes: {cure}"


def explain_override(overrides: list[str], error: Exception) -> str:
    """Return the message for an override of a key that does not exist, with the keys that exist beside it."""
    known = compose_unchecked([item for item in overrides if item.partition("=")[0] in groups()]) if overrides else {}
    said = explain_unknown(overrides, known)
    return said or f"configuration: {str(error).splitlines()[0]} ({error.__cause__ or 'see conf/'})"


def explain_unknown(overrides: list[str], known: Section) -> str | None:
    """Return the message for the first override of a key that does not exist; None if there is no such override."""
    for item in overrides:
        key, _, _ = item.lstrip("+~").partition("=")
        node: Any = known
        for i, part in enumerate(parts := key.split(".")):
            if key in groups() or "/" in key:
                break
            if not isinstance(node, dict) or part not in node:
                below = ".".join(parts[:i])
                if below and (node is None or node == {}):
                    return f"unknown key '{key}': {explain_empty(below, known['model'], node)}"
                names = [str(name) for name in node] if isinstance(node, dict) else []
                there = ", ".join(names) or "a value and no keys"
                where = f"'{below}' has" if below else "there are"
                return f"unknown key '{key}': {where} {there}{near(part, names)}"
            node = node[part]
    return None


def explain_empty(below: str, model: Section, node: Any) -> str:
    """Return why a part of the configuration has no keys: some families have no optimizer, or nothing to set."""
    if below not in MODEL_SECTIONS:
        return f"'{below}' is {'null' if node is None else 'empty'} here, and has no keys"
    name = str(model["_target_"]).split(".")[-2]
    if below == "optimizer":
        return f"model={name} is fitted without an optimizer"
    return f"model={name} has no {below}" if node is None else f"model={name} has no settings of {below}"
