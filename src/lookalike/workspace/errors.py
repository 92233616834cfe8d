"""The error for mistakes of the user; programming errors raise other exceptions."""


class UserError(ValueError):
    """A mistake in the input. The user sees only the message, which names the offending value and the fix."""

    def __str__(self) -> str:
        """Return the message in one line: a value in it may hold line breaks, or sequences that steer a terminal."""
        text = super().__str__().replace("\n", " ")
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
