"""The space of a sweep: fixed overrides, and parameters with several values, in Hydra's grammar."""

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lookalike.workspace.arguments import Section
from lookalike.workspace.configuration import choices, explain_grammar, explain_missing, explain_unknown, groups
from lookalike.workspace.errors import UserError, near

SETTINGS = ("hydra", "sweep.", "objective=")
"""Beginnings of overrides that are about the sweep and not about a trial."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of the space.

    Attributes:
        key: its key in the configuration.
        values: its values; of an interval its two ends.
        overrides: one override per value.
        written: the override with all values, as the user wrote it.
        is_interval: whether every value between the two ends is allowed.
    """

    key: str
    values: list[Any]
    overrides: list[str]
    written: str
    is_interval: bool

    @property
    def is_group(self) -> bool:
        return self.key in groups()


@dataclasses.dataclass(frozen=True)
class Space:
    """What a command asks for.

    Attributes:
        fixed: overrides that are the same for every trial, and those of the sweep itself.
        parameters: what is searched.
        base: the configuration that trials are changes of, unresolved, with Hydra's own section.
    """

    fixed: list[str]
    parameters: list[Parameter]
    base: DictConfig

    @property
    def sweeper(self) -> str:
        """The name of the sweeper, such as grid or optuna."""
        return str(self.base.hydra.runtime.choices["hydra/sweeper"])

    @property
    def launcher(self) -> str:
        """The name of the launcher, such as basic or joblib."""
        return str(self.base.hydra.runtime.choices["hydra/launcher"])

    def combinations(self) -> Iterator[list[str]]:
        """Yield the overrides of every choice of groups (data sets, models, …), with the first value of the rest."""
        first = [p.overrides[0] for p in self.parameters if not p.is_group]
        for combination in itertools.product(*(p.overrides for p in self.parameters if p.is_group)):
            yield [*self.fixed, *combination, *first]

    def variants(self, plain: Section) -> Iterator[tuple[str, Section]]:
        """Yield a configuration with every further value of every parameter, one at a time, after its override."""
        for parameter in self.parameters:
            if not parameter.is_group:
                for value, override in list(zip(parameter.values, parameter.overrides, strict=True))[1:]:
                    yield override, replaced(plain, parameter.key, value)


def replaced(plain: Section, key: str, value: Any) -> Section:
    """Return a copy of a configuration with another value under a dotted key."""
    copied = copy.deepcopy(plain)
    node = copied
    *parents, last = key.split(".")
    for part in parents:
        node = node[part]
    node[last] = value
    return copied


def read_space(hydra: Hydra, overrides: list[str]) -> Space:
    """Read the overrides of a command.

    Raises:
        UserError: a parameter does not exist, a range has no value, or an override is malformed.
    """
    for item in overrides:
        name, _, value = item.partition("=")
        if name in groups() and "(" not in value:
            for choice in value.split(","):
                if choice not in choices(name):
                    raise UserError(
                        f"unknown {name} '{choice}': choose from {', '.join(choices(name))}"
                        f"{near(choice, choices(name))}"
                    )
    base = compose(hydra, overrides, RunMode.MULTIRUN)
    params: Any = OmegaConf.to_container(base.hydra.sweeper.params) if base.hydra.sweeper.params else {}
    searched = [f"{key}={value}" for key, value in params.items()]
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    parameters: dict[str, Parameter] = {}
    fixed: dict[str, str] = {}
    try:
        for item, override in ((i, o) for i in [*searched, *overrides] for o in parser.parse_overrides([i])):
            key = str(override.get_key_element())
            parameters.pop(key, None)
            fixed.pop(key, None)
            if override.is_sweep_override():
                parameters[key] = parameter_of(override)
            else:
                fixed[key] = item
    except HydraException as error:
        raise UserError(f"the space: {' '.join(str(error).split())}") from None
    return Space(list(fixed.values()), list(parameters.values()), base)


def parameter_of(override: Override) -> Parameter:
    """Return the parameter that an override with several values defines.

    Raises:
        UserError: it has no value.
    """
    swept: Any = override.value()
    key, written = str(override.get_key_element()).lstrip("+"), str(override.input_line)
    if isinstance(swept, IntervalSweep):
        low, high = swept.start, swept.end
        if low is None or high is None or not low < high:
            raise UserError(f"{written}: the interval is empty; its first number must be below its second")
        if "log" in swept.tags and low <= 0:
            raise UserError(f"{written}: a logarithmic interval must begin above 0")
        ends = [int(low), int(high)] if "int" in swept.tags else [low, high]
        return Parameter(key, ends, [f"{key}={end}" for end in ends], written, is_interval=True)
    if isinstance(swept, RangeSweep) and swept.step == 0:
        raise UserError(f"{written}: the range has a step of 0")
    values = [value.text if isinstance(value, QuotedString) else value for value in override.sweep_iterator()]
    if not values:
        raise UserError(f"{written}: the range is empty")
    overrides = [f"{key}={text}" for text in override.sweep_string_iterator()]
    return Parameter(key, values, overrides, written, is_interval=False)


def compose(hydra: Hydra, overrides: list[str], mode: RunMode = RunMode.RUN) -> DictConfig:
    """Return the configuration of a sweep with overrides.

    Raises:
        UserError: Hydra refused the overrides; the message says what there is to choose from.
    """
    try:
        composed: DictConfig = hydra.compose_config("sweep", overrides, mode, with_log_configuration=False)
        return composed
    except MissingConfigException as error:
        raise UserError(explain_missing(error)) from None
    except OverrideParseException as error:
        raise UserError(explain_grammar(error.override)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(hydra, overrides, error)) from None


def explain(hydra: Hydra, overrides: list[str], error: Exception) -> str:
    """Return a message about a key that does not exist, with its neighbours, or else Hydra's own message."""
    selecting = [
        item
        for item in overrides
        if (key := item.lstrip("+").partition("=")[0]) in (*groups(), "search") or key.startswith("hydra/")
    ]
    try:
        known: Any = OmegaConf.to_container(hydra.compose_config("sweep", selecting, RunMode.RUN))
    except (HydraException, OmegaConfBaseException):
        known = {}
    if known and (said := explain_unknown([item for item in overrides if item not in selecting], known)):
        return said
    return f"configuration: {' '.join(str(error).split())} ({' '.join(str(error.__cause__ or 'see conf/').split())})"


def plain_of(composed: DictConfig) -> Section:
    """Return a composed configuration as dictionaries, without Hydra's own section.

    Raises:
        UserError: a value cannot be resolved.
    """
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    try:
        plain: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"configuration: {' '.join(str(error).split())}") from None
    return dict(plain)
