"""Check a section of the configuration against the signature of the function that it is passed to."""

import importlib
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pydantic

from lookalike.workspace.errors import UserError, near

Section = dict[str, Any]


class Strict(pydantic.BaseModel):
    """A model without unknown keys, silent conversions, or changes after the check."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


MODEL_SECTIONS = ("model", "optimizer", "preview", "sampling", "likelihood")
"""The sections of a file in `conf/model/`."""


def explain_validation(
    error: pydantic.ValidationError, plain: Any, *, prefix: str, known: list[str] | None = None
) -> str:
    """Return one line about the first error that pydantic found: the key, the value, and what is accepted."""
    found = error.errors()[0]
    key = prefix + ".".join(str(part) for part in found["loc"])
    if found["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        node = plain
        for part in found["loc"][:-1]:
            node = node[part]
        if known is None or len(found["loc"]) > 1:
            known = [name for name in node if name != found["loc"][-1]]
        there = "are " + ", ".join(known) if known else "is nothing to set"
        return f"unknown key '{key}': there {there}{near(str(found['loc'][-1]), known)}"
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
    """Check a section of the configuration against the keyword arguments of a function.

    Args:
        function: the function that will be called.
        arguments: the section.
        section: the name of the section, for messages.
        given: parameters that the caller passes itself.

    Returns:
        The section, in which every group of settings with a type of its own is an instance of that type.

    Raises:
        UserError: a key is unknown or missing, or the annotation excludes a value.
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
    """Return the class or function that a section's `_target_` names, which must lie in a package of this project."""
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
    """Return a section without its `_target_`."""
    return {key: value for key, value in section.items() if key != "_target_"}


def leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a section and their values."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
