"""Types that say which values a setting may take; `lookalike.core.config` checks them before any work starts."""

from typing import Annotated, TypeVar

from annotated_types import Ge, Gt, Len, Lt, MinLen, MultipleOf

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
AtLeastTwo = Annotated[int, Ge(2)]
"""What a standard error takes."""
AtLeastThree = Annotated[int, Ge(3)]
Seed = Annotated[int, Ge(0), Lt(2**32)]
"""With the step in the lower half, it makes a 64-bit seed."""
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Gt(0), Lt(1)]
"""Between 0 and 1, ends excluded."""
Share = Annotated[float, Ge(0), Lt(1)]
"""From 0 to below 1."""
Widths = Annotated[list[PositiveInt], MinLen(1)]
Channels = Annotated[int, Gt(0), MultipleOf(8)]
"""Of a convolution whose outputs are normalized in eight groups."""
ImageWidths = Annotated[list[Channels], Len(2, 2)]
"""Channels at a half and at a quarter of an image's resolution."""

T = TypeVar("T", bound=type)


def settings(cls: T) -> T:
    """Marks a TypedDict as a group of settings: an unknown key in it is an error, as at the top."""
    setattr(cls, "__pydantic_config__", {"extra": "forbid", "strict": True})  # noqa: B010
    return cls
