"""Types that say which values a setting accepts; the configuration is checked against them before any work starts."""

from typing import Annotated, TypeVar

from annotated_types import Ge, Gt, Lt, MinLen, MultipleOf

PositiveInt = Annotated[int, Gt(0)]

NonNegativeInt = Annotated[int, Ge(0)]

AtLeastTwo = Annotated[int, Ge(2)]
"""A count that is large enough for a standard error."""

AtLeastThree = Annotated[int, Ge(3)]

Seed = Annotated[int, Ge(0), Lt(2**32)]
"""A seed of NumPy and torch."""

PositiveFloat = Annotated[float, Gt(0)]

NonNegativeFloat = Annotated[float, Ge(0)]

Fraction = Annotated[float, Gt(0), Lt(1)]
"""A number between 0 and 1, both excluded."""

Share = Annotated[float, Ge(0), Lt(1)]
"""A number from 0, included, to 1, excluded."""

Widths = Annotated[list[PositiveInt], MinLen(1)]

Channels = Annotated[int, Gt(0), MultipleOf(8)]
"""Channels of a convolution whose outputs are normalized in eight groups."""

ImageWidths = Annotated[list[Channels], MinLen(1)]
"""Channels at a half, at a quarter, … of an image's resolution."""

T = TypeVar("T", bound=type)


def settings(cls: T) -> T:
    """Mark a TypedDict as a group of settings, in which an unknown key is an error."""
    setattr(cls, "__pydantic_config__", {"extra": "forbid", "strict": True})  # noqa: B010
    return cls
