"""From a configuration section to a model: the one place where the kind of data is resolved."""

from typing import Any

import pydantic
import torch

from lookalike.domain.domain import Domain
from lookalike.domain.kinds import KINDS
from lookalike.families.contract import Family
from lookalike.workspace.arguments import Section, Strict, arguments_of, check_arguments, explain_validation, target
from lookalike.workspace.configuration import Config
from lookalike.workspace.errors import UserError


def for_kind(value: Any, kind: str, *, section: str) -> Any:
    """Replace every mapping from kinds of data to values by the value for one kind.

    Args:
        value: a part of the configuration, such as `{"steps": {"image": 25, "table": 100}}`.
        kind: the kind of data.
        section: name of the part, for messages.

    Raises:
        UserError: a mapping has no value for the kind.
    """
    if not isinstance(value, dict):
        return value
    if value and set(value) <= set(KINDS):
        if kind not in value:
            raise UserError(f"{section}: there is no value for data of kind {kind}, only for {', '.join(value)}")
        return for_kind(value[kind], kind, section=f"{section}.{kind}")
    return {key: for_kind(inner, kind, section=f"{section}.{key}") for key, inner in value.items()}


def family_of(section: Section) -> type[Family]:
    """Return the class that a `model:` section names.

    Raises:
        UserError: there is no such class, or it is no family.
    """
    family = target(section, package="lookalike.families")
    if not isinstance(family, type) or not issubclass(family, Family):
        raise UserError(f"model._target_={section['_target_']}: that is no family, which is a class of its own file")
    return family


def build(section: Section, domain: Domain, *, seed: int) -> Family:
    """Return the model that a `model:` section describes, for a domain; its first weights follow from `seed`.

    Turns off subnormal numbers in this process: the far tails of a trained decoder are full of them, they change
    nothing, and they cost a CPU up to half of its time.

    Raises:
        UserError: an unknown target or key, a value out of range, or a kind of data that the family cannot model.
    """
    family = family_of(section)
    check_kind(section, domain)
    arguments = for_kind(arguments_of(section), domain.kind, section="model")
    check_arguments(family.__init__, arguments, section="model", given=("domain",))
    if family.needs:
        check_sizes(family, domain.kind, arguments["sizes"])
    if len({variable.outcomes for variable in domain.variables}) > 1:
        raise UserError(f"{domain.name} has columns of unequal grids, which no family models yet")
    torch.set_flush_denormal(True)  # threads inherit this from the thread that starts them
    torch.manual_seed(seed)
    return family(domain=domain, **arguments)


def check_kind(section: Section, domain: Domain) -> None:
    """Raise a UserError unless the family of a `model:` section can model data of a domain's kind."""
    kinds = family_of(section).kinds
    if domain.kind not in kinds:
        able = ", ".join(sorted(kinds))
        raise UserError(f"model={name_of(section)}: it models data of kind {able}, and {domain.name} is {domain.kind}")


def name_of(section: Section) -> str:
    """Return the name of a family, which is that of its file."""
    return str(section["_target_"]).split(".")[-2]


def check_sizes(family: type[Family], kind: str, sizes: Section) -> None:
    """Raise a UserError unless `sizes` has exactly the keys that a family's networks read, with values in range."""
    wanted: dict[str, Any] = {}
    for role in family.needs:
        wanted |= {key: (hint, ...) for key, hint in role.size_keys(kind).items()}
    schema = pydantic.create_model("sizes", __config__=Strict.model_config, **wanted)
    try:
        schema.model_validate(sizes)
    except pydantic.ValidationError as error:
        message = explain_validation(error, sizes, prefix=f"model.sizes.{kind}.", known=list(wanted))
        raise UserError(message) from None


def for_domain(config: Config, domain: Domain) -> Config:
    """Return a configuration whose sections about the model hold the values for the kind of a domain.

    Raises:
        UserError: the family cannot model data of this kind, or a section has no value for it.
    """
    check_kind(config.model, domain)
    names = ("model", "preview", "sampling", "likelihood")
    return config.model_copy(
        update={name: for_kind(getattr(config, name), domain.kind, section=name) for name in names}
    )


def check_settings(model: Family, config: Config) -> None:
    """Check the sections that are passed to `sample` and `log_likelihood` later, before any work.

    Args:
        model: the family.
        config: a configuration for the kind of the model's domain (see `for_domain`).

    Raises:
        UserError: an unknown key, a value out of range, or settings that contradict each other.
    """
    check_arguments(model.sample, config.preview, section="preview", given=("n", "labels"))
    check_arguments(model.sample, config.sampling, section="sampling", given=("n", "labels"))
    likelihood = config.likelihood
    if (likelihood is None) != (model.likelihood_kind is None):
        raise UserError(
            f"likelihood={likelihood}: {type(model).__name__} has {model.likelihood_kind or 'no'} likelihood; "
            f"give its settings, or null where there is none"
        )
    if likelihood is not None:
        check_arguments(model.log_likelihood, likelihood, section="likelihood", given=("x",))
    for name, section in (("preview", config.preview), ("sampling", config.sampling), ("likelihood", likelihood)):
        try:
            model.check_section(section or {})
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
