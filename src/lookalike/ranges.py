"""Types that say which values a setting may take; `lookalike.config` checks them before any work starts."""

from typing import Annotated

from annotated_types import Ge, Gt, Lt, MinLen

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Gt(0), Lt(1)]
"""Between 0 and 1, ends excluded."""
Share = Annotated[float, Ge(0), Lt(1)]
"""From 0 to below 1."""
Widths = Annotated[list[PositiveInt], MinLen(1)]
