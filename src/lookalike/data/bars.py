"""Bars: 8x8 images of a factor model whose factors are known, with a likelihood that is a finite sum.

An image has an orientation o, its label, and eight hidden factors b_l, one a row or a column: is there a bar?
Given these, pixels are independent: dark or bright, with noise,

    P(x) = ½ Σ_o Π_l Σ_{b_l = 0, 1} P(b_l) Π_{pixels i of line l} P(x_i | b_l)

where P(x_i | b) is a normal distribution around `dark` or `bright`, cut off at the ends of the 256 levels and
discretized. (The bars of Földiák, Forming sparse representations by local anti-Hebbian learning, 1990, in the variant
of MacKay, Information theory, inference, and learning algorithms, 2003, chapter 43, with noise.) Every pixel has the
same distribution, and so has every pair of pixels on no common line: all there is to learn is which pixels go together.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.ranges import AtLeastTwo, Fraction, PositiveFloat, Seed, settings
from lookalike.data import SPLITS, Raw
from lookalike.data.densities import Floats, Grid

SIZE, LEVELS = 8, 256
ORIENTATIONS = ("horizontal", "vertical")


@settings
class Bars(TypedDict):
    """The probability of a bar, the intensities of pixels without and with one, and their standard deviation."""

    bar: Fraction
    dark: PositiveFloat
    bright: PositiveFloat
    deviation: PositiveFloat


def log_pixel(density: Bars) -> Floats:
    """log P(pixel | no bar) and log P(pixel | bar): `[2, LEVELS]`.

    Raises:
        UserError: intensities that 8 bits don't hold.
    """
    if not density["dark"] < density["bright"] < LEVELS:
        raise UserError(f"data.reader.density={density}: choose dark and bright so that 0 < dark < bright < {LEVELS}")
    means = np.array([density["dark"], density["bright"]])
    masses = Grid(levels=LEVELS, low=0.0, step=1.0).log_intervals(means, density["deviation"])
    sums: Floats = logsumexp(masses, axis=1, keepdims=True)
    return masses - sums


def log_prob(grid: NDArray[Any], density: Bars) -> Floats:
    """Exact log-probability in nats `[N]` of images `[N, 1, 8, 8]`."""
    pixels = log_pixel(density)[:, grid[:, 0]]
    priors = np.log([1 - density["bar"], density["bar"]])[:, None, None]
    # Summed over the columns the lines are rows, and the other way round.
    given = [logsumexp(priors + pixels.sum(axis=axis), axis=0).sum(axis=-1) for axis in (3, 2)]
    total: Floats = np.logaddexp(*given) - np.log(2)
    return total


def draw(density: Bars, count: int, *, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images `[count, 1, 8, 8]` and orientations `[count]`."""
    generator = np.random.default_rng(seed)
    orientation = generator.integers(0, 2, count, dtype=np.uint8)
    lines = generator.random((count, SIZE)) < density["bar"]
    rows = np.repeat(lines[:, :, None], SIZE, axis=2)
    bars = np.where(orientation[:, None, None] == 0, rows, rows.transpose(0, 2, 1))
    uniform = generator.random(bars.shape)
    below = [np.searchsorted(np.cumsum(np.exp(masses)), uniform) for masses in log_pixel(density)]
    return np.where(bars, below[1], below[0]).clip(max=LEVELS - 1).astype(np.uint8)[:, None], orientation


def read(
    folder: Path, *, density: Bars, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw images; `folder` holds nothing to read.

    Args:
        density: the factor model.
        train, validation, test: images of each split.
        seed: of the draws.
    """
    images, orientation = draw(density, train + validation + test, seed=seed)
    cuts = [train, train + validation]
    nats = -log_prob(images[train + validation :], density)
    return Raw(
        domain=Domain(
            name="bars",
            kind="image",
            shape=(1, SIZE, SIZE),
            levels=LEVELS,
            low=(0.0,),
            step=(1.0,),
            unit="intensity",
            labels=ORIENTATIONS,
            location=(127.5,),
            scale=(127.5,),
        ),
        values=dict(zip(SPLITS, np.split(images, cuts), strict=True)),
        labels=dict(zip(SPLITS, np.split(orientation, cuts), strict=True)),
        expected={
            "density": density,
            "entropy in nats": float(nats.mean()),
            "standard error of the entropy": float(nats.std(ddof=1) / np.sqrt(len(nats))),
        },
    )
