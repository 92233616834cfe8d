"""The error for mistakes of the user; programming errors raise other exceptions."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in the input. The user sees only the message, which names the offending value and the fix."""

    def __str__(self) -> str:
        """Return the message in one line: a value in it may hold line breaks, or sequences that steer a terminal."""
        text = super().__str__().replace("\n", " ")
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def near(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that asks for the known name nearest to a mistyped one; empty if none is near."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{found[0]}'?" if found else ""
