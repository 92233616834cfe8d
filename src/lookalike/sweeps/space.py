"""What a sweep's command asks for: fixed overrides, and parameters with several values, in Hydra's own grammar."""

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lookalike.core.config import Section, choices, explain_missing, groups
from lookalike.core.errors import UserError

SETTINGS = ("hydra", "sweep.", "objective=")
"""How overrides begin that are about the sweep and not about a trial."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of the space: its key, its values (of an interval the two ends) and what the user wrote."""

    key: str
    values: list[Any]
    written: str
    is_interval: bool

    @property
    def is_group(self) -> bool:
        return self.key in groups()

    def override(self, value: Any) -> str:
        """A value as an override in Hydra's grammar."""
        return f"{self.key}={Override._get_value_element_as_str(value)}"


@dataclasses.dataclass(frozen=True)
class Space:
    """All that a command asks for.

    Attributes:
        fixed: overrides that are the same for every trial, and those of the sweep itself.
        parameters: what is searched.
        base: the configuration that parameters are changes of, unresolved, with Hydra's own section.
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
        """Every choice of groups (data sets, models, …) with the first value of all else."""
        first = [p.override(p.values[0]) for p in self.parameters if not p.is_group]
        chosen = [[p.override(value) for value in p.values] for p in self.parameters if p.is_group]
        for combination in itertools.product(*chosen):
            yield [*self.fixed, *combination, *first]

    def variants(self, plain: Section) -> Iterator[tuple[str, Section]]:
        """A configuration with every further value of every parameter, one at a time."""
        for parameter in self.parameters:
            for value in parameter.values[1:] if not parameter.is_group else []:
                yield parameter.override(value), changed(plain, parameter.key, value)


def changed(plain: Section, key: str, value: Any) -> Section:
    """A copy of a configuration with another value under a dotted key."""
    copied = copy.deepcopy(plain)
    node = copied
    *parents, last = key.split(".")
    for part in parents:
        node = node[part]
    node[last] = value
    return copied


def read_space(hydra: Hydra, overrides: list[str]) -> Space:
    """Read a command.

    Raises:
        UserError: a parameter that does not exist, a range without a value, or an override that is none.
    """
    for item in overrides:
        name, _, value = item.partition("=")
        if name in groups() and "(" not in value:
            for choice in value.split(","):
                if choice not in choices(name):
                    raise UserError(f"unknown {name} '{choice}': choose from {', '.join(choices(name))}")
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
                parameters[key] = Parameter(
                    key.lstrip("+"), values_of(override), item, isinstance(override.value(), IntervalSweep)
                )
            else:
                fixed[key] = item
    except HydraException as error:
        raise UserError(f"the space: {' '.join(str(error).split())}") from None
    return Space(list(fixed.values()), list(parameters.values()), base)


def values_of(override: Override) -> list[Any]:
    """The values of a parameter; of an interval its ends.

    Raises:
        UserError: there is none.
    """
    swept: Any = override.value()
    written = override.input_line
    if isinstance(swept, IntervalSweep):
        low, high = swept.start, swept.end
        if low is None or high is None or not low < high:
            raise UserError(f"{written}: the interval is empty; its first number must be below its second")
        if "log" in swept.tags and low <= 0:
            raise UserError(f"{written}: a logarithmic interval begins above 0")
        if "int" in swept.tags:
            low, high = int(low), int(high)
        return [low, high]
    if isinstance(swept, RangeSweep) and swept.step == 0:
        raise UserError(f"{written}: the range has a step of 0")
    values = [value.text if isinstance(value, QuotedString) else value for value in override.sweep_iterator()]
    if not values:
        raise UserError(f"{written}: the range is empty")
    return values


def compose(hydra: Hydra, overrides: list[str], mode: RunMode = RunMode.RUN) -> DictConfig:
    """A sweep's configuration with overrides.

    Raises:
        UserError: what Hydra found wrong with them, with what there is to choose from.
    """
    try:
        composed: DictConfig = hydra.compose_config("sweep", overrides, mode, with_log_configuration=False)
        return composed
    except MissingConfigException as error:
        raise UserError(explain_missing(error)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(hydra, overrides, error)) from None


def explain(hydra: Hydra, overrides: list[str], error: Exception) -> str:
    """A key that does not exist, with its neighbours that do; or else what Hydra says."""
    chosen = [
        item
        for item in overrides
        if (key := item.lstrip("+").partition("=")[0]) in (*groups(), "search") or key.startswith("hydra/")
    ]
    try:
        known: Any = OmegaConf.to_container(hydra.compose_config("sweep", chosen, RunMode.RUN))
    except (HydraException, OmegaConfBaseException):
        known = {}
    for item in overrides if known else []:
        key = item.lstrip("+~").partition("=")[0]
        node = known
        for i, part in enumerate(parts := key.split(".")):
            if key in groups() or "/" in key or item in chosen:
                break
            if not isinstance(node, dict) or part not in node:
                there = (", ".join(node) if isinstance(node, dict) else "") or "nothing"
                where = f"'{'.'.join(parts[:i])}' has" if i else "there are"
                return f"unknown key '{key}': {where} {there}"
            node = node[part]
    return f"configuration: {' '.join(str(error).split())} ({' '.join(str(error.__cause__ or 'see conf/').split())})"


def plain_of(composed: DictConfig) -> Section:
    """A composed configuration as dictionaries, without Hydra's own section.

    Raises:
        UserError: a value that can't be resolved.
    """
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    try:
        plain: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"configuration: {' '.join(str(error).split())}") from None
    return dict(plain)
