"""The error for mistakes of the user; programming errors raise other exceptions."""


class UserError(ValueError):
    """A mistake in the input. The user sees only the message, which names the offending value and the fix."""
