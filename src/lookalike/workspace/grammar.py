"""Hydra's grammar of overrides: texts of any characters, and Python without assert statements."""

import inspect

from hydra.core.override_parser import overrides_parser, overrides_visitor
from hydra.core.override_parser.types import Quote, QuotedString


def quoted(value: object) -> str:
    """Return a text so that Hydra's grammar reads it as it is, whatever characters it has."""
    return str(QuotedString(str(value).replace("${", "\\${"), Quote.single).with_quotes())


def keep_asserts() -> None:
    """Compile Hydra's reader of overrides with its assert statements, even where Python leaves them out.

    With `python -O` or PYTHONOPTIMIZE, Hydra cannot read `range(0,2)` or `{a: 1}`, because it goes on to the next token
    inside an assert statement.
    """
    code = compile(inspect.getsource(overrides_visitor), overrides_visitor.__file__, "exec", optimize=0)
    exec(code, vars(overrides_visitor))
    overrides_parser.HydraOverrideVisitor = overrides_visitor.HydraOverrideVisitor


if not __debug__:
    keep_asserts()
