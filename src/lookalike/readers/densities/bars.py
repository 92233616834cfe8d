"""Bars: 8x8 images from a known factor model, whose likelihood is a finite sum.

An image has an orientation o, which is its label, and eight hidden factors b_l, one per row or column, which say
whether there is a bar. Given these, the pixels are independent:

    P(x) = ½ Σ_o Π_l Σ_{b_l = 0, 1} P(b_l) Π_{pixels i of line l} P(x_i | b_l)

where P(x_i | b) is a normal distribution around `dark` or `bright`, truncated to the 256 levels and discretized. Every
pixel has the same distribution, and so has every pair of pixels that share no line, so a model has to learn which
pixels belong together. The bars are those of Földiák, Forming sparse representations by local anti-Hebbian learning,
1990, in the variant of MacKay, Information theory, inference, and learning algorithms, 2003, chapter 43, with noise.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from typing_extensions import TypedDict

from lookalike.domain.image import Image, pixel
from lookalike.domain.prepared import SPLITS
from lookalike.readers.contract import Source, from_arrays
from lookalike.readers.densities.grids import Floats, Grid
from lookalike.workspace.errors import UserError
from lookalike.workspace.ranges import AtLeastTwo, Fraction, PositiveFloat, Seed, settings

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
    """Return log P(pixel | no bar) and log P(pixel | bar), `[2, LEVELS]`.

    Raises:
        UserError: an intensity does not fit into 8 bits.
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
    # Pixels summed over columns give horizontal lines, summed over rows vertical ones.
    given = [logsumexp(priors + pixels.sum(axis=axis), axis=0).sum(axis=-1) for axis in (3, 2)]
    total: Floats = np.logaddexp(*given) - np.log(2)
    return total


def draw(density: Bars, count: int, *, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw images `[count, 1, 8, 8]` and orientations `[count]`."""
    generator = np.random.default_rng(seed)
    orientation = generator.integers(0, 2, count, dtype=np.uint8)
    lines = generator.random((count, SIZE)) < density["bar"]
    rows = np.repeat(lines[:, :, None], SIZE, axis=2)
    bars = np.where(orientation[:, None, None] == 0, rows, rows.transpose(0, 2, 1))
    uniform = generator.random(bars.shape)
    below = [np.searchsorted(np.cumsum(np.exp(masses)), uniform) for masses in log_pixel(density)]
    return np.where(bars, below[1], below[0]).clip(max=LEVELS - 1).astype(np.uint8)[:, None], orientation


def read(
    folder: Path, *, name: str, density: Bars, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Source:
    """Draw images; nothing is read from `folder`.

    Args:
        name: name of the data set.
        density: parameters of the factor model.
        train, validation, test: number of images per split.
        seed: seed of the draws.
    """
    images, orientation = draw(density, train + validation + test, seed=seed)
    cuts = [train, train + validation]
    nats = -log_prob(images[train + validation :], density)
    return from_arrays(
        Image(name=name, shape=(1, SIZE, SIZE), variables=(pixel(levels=LEVELS),), labels=ORIENTATIONS),
        dict(zip(SPLITS, np.split(images, cuts), strict=True)),
        dict(zip(SPLITS, np.split(orientation, cuts), strict=True)),
        expected={
            "density": density,
            "entropy in nats": float(nats.mean()),
            "standard error of the entropy": float(nats.std(ddof=1) / np.sqrt(len(nats))),
        },
    )
