"""Hydra's grammar of overrides: texts of any characters, and Python without assert statements."""

from importlib.machinery import SourceFileLoader
from types import CodeType

from hydra.core.override_parser import overrides_parser, overrides_visitor
from hydra.core.override_parser.types import Quote, QuotedString


def quoted(value: object) -> str:
    """Return a text so that Hydra's grammar reads it as it is, whatever characters it has."""
    return str(QuotedString(str(value).replace("${", "\\${"), Quote.single).with_quotes())


class WithAsserts(SourceFileLoader):
    """Load a module with its assert statements, even where Python leaves them out."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled source."""
        code: CodeType = compile(self.get_data(self.path), self.path, "exec", optimize=0)
        return code


def keep_asserts() -> None:
    """Load Hydra's reader of overrides again with its assert statements.

    With `python -O` or PYTHONOPTIMIZE, Hydra cannot read `range(0,2)` or `{a: 1}`, because it goes on to the next token
    inside an assert statement.
    """
    WithAsserts(overrides_visitor.__name__, overrides_visitor.__file__).exec_module(overrides_visitor)
    overrides_parser.HydraOverrideVisitor = overrides_visitor.HydraOverrideVisitor
