"""What a user can get wrong, as opposed to what only we can."""


class UserError(ValueError):
    """A mistake in the input: the message names the offending value and the fix, and is all that the user sees."""
