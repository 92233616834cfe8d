"""The kinds of data: a table from name to domain class, and domains on disk."""

from typing import Any

from lookalike.domain.domain import Domain
from lookalike.domain.image import Image
from lookalike.domain.table import Table
from lookalike.domain.variables import variable_from_dict
from lookalike.workspace.errors import UserError

KINDS: dict[str, type[Domain]] = {"image": Image, "table": Table}


def load_domain(fields: dict[str, Any]) -> Domain:
    """Return the domain that `Domain.to_dict` described.

    Raises:
        UserError: the description is of another version of this project.
    """
    arguments: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    kind = KINDS.get(str(arguments.pop("kind", None)))
    if kind is None or not arguments.get("variables"):
        raise UserError(f"{fields.get('name')}: prepared by another version of lookalike; prepare it again")
    try:
        arguments["variables"] = tuple(variable_from_dict(variable) for variable in arguments["variables"])
        return kind(**arguments)
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{fields.get('name')}: prepared by another version of lookalike ({error})") from None
