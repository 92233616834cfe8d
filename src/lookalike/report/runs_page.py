"""A page of many runs of one data set: their first samples side by side, their scores, and what differs."""

import dataclasses
from collections import Counter
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from lookalike.domain.domain import Domain
from lookalike.report import style
from lookalike.report.rendering import render
from lookalike.report.shown import shown
from lookalike.report.thumbnails import picture, within

Array = NDArray[Any]

Pair = tuple[Array, Array]
"""Samples `[N, dimensions]` of two runs."""

MAX_BYTES = 8_000_000
"""Size of a page, which a browser opens at once and a mail carries."""

ROOM = 6_000_000
"""What is left for pictures in it."""

MAX_CELLS = 20_000
"""Largest table of parameters."""

MAX_PAIRS = 200
"""Pairs of runs of one family whose samples are compared place by place."""

FALLBACK = (384, 320)
"""Width and height in pixels that a stored picture is reduced to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run.

    Attributes:
        id: its id in the tracking store.
        name: its name there.
        address: where to open it; empty if the store has no pages.
        family: the name of the family.
        seed: the seed of its training.
        noise: what the noise of its samples follows from: the seed of the noise, the size of batches, the device.
        scores: entries with `value`, `error` and `kind`, by metric.
        split: the split that it was scored on; empty if it has no scores.
        parameters: settings by dotted key.
        samples: its first samples, values `[N, *shape]`; None if only a picture of some is stored.
        picture: this picture.
    """

    id: str
    name: str
    address: str
    family: str
    seed: str
    noise: tuple[str, str, str]
    scores: dict[str, dict[str, Any]]
    split: str
    parameters: dict[str, str]
    samples: Array | None = None
    picture: Image.Image | None = None


def runs_page(runs: list[Run], domain: Domain | None, *, data: Array | None, **texts: Any) -> str:
    """Return the page.

    Args:
        runs: in the order of the page.
        domain: of the data set; None if it is not known, so that no run has samples.
        data: real observations beside the samples; None if they are not here.
        texts: what the template says about the choice of the runs.
    """
    pictures = draw(runs, domain, data)
    differing = differences(runs)
    large = len(runs) * len(differing) > MAX_CELLS
    seeds = Counter(run.noise for run in runs if run.samples is not None)
    return render(
        "runs.html",
        light=style.page_variables(dark=False),
        dark=style.page_variables(dark=True),
        runs=runs,
        pictures=pictures,
        counts=sorted({len(run.samples) for run in runs if run.samples is not None}),
        noises=[(dict(zip(("seed", "batch", "device"), noise, strict=True)), n) for noise, n in seeds.most_common()],
        splits=sorted({run.split for run in runs if run.split}),
        relations=relations(runs, domain) if domain else [],
        hints={run.id: hints(run, runs) for run in runs},
        differing=[] if large else differing,
        too_many=len(differing) if large else 0,
        legend=shown(domain).legend if domain else "",
        **texts,
    )


def draw(runs: list[Run], domain: Domain | None, data: Array | None) -> dict[str, Markup]:
    """Return the picture of each run by its id, and that of data under ""; the last ones are left out for the size."""
    drawn = {run.id: run.samples for run in runs if run.samples is not None}
    stored = {run.id: partial(reduced, run.picture) for run in runs if run.samples is None and run.picture is not None}
    found = within(ROOM, stored)
    room = ROOM - sum(map(len, found.values()))
    return found | (shown(domain).thumbnails(domain, drawn, data, room=room) if domain is not None and drawn else {})


def reduced(image: Image.Image) -> Markup:
    """Return a stored picture, as large as the others."""
    small = image.convert("RGB")
    small.thumbnail(FALLBACK)
    return picture(small.quantize(64, dither=Image.Dither.NONE), label="samples, as the run's picture shows them")


def differences(runs: list[Run]) -> list[str]:
    """Return the parameters that are not equal in all runs, in the order of their names."""
    keys = {key for run in runs for key in run.parameters}
    return sorted(key for key in keys if len({run.parameters.get(key) for run in runs}) > 1)


def hints(run: Run, runs: list[Run]) -> dict[str, str]:
    """Return the parameters of a run that are not equal in all runs of its family; its title names the seed."""
    family = [other for other in runs if other.family == run.family]
    return {key: run.parameters.get(key, "not set") for key in differences(family) if key != "seed"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relation:
    """How much closer samples at the same place are than samples at different places.

    Attributes:
        name: whose runs are compared: those of a family, or of two families.
        pairs: the number of pairs of runs.
        ratio: mean distance of samples at the same place over that of samples at different places.
        error: its standard error over the places, as if the distances at different places were known exactly.
    """

    name: str
    pairs: int
    ratio: float
    error: float

    @property
    def is_related(self) -> bool:
        """Whether samples at the same place are clearly closer: by a tenth, and by three standard errors."""
        return self.ratio < min(0.9, 1 - 3 * self.error)


def relations(runs: list[Run], domain: Domain) -> list[Relation]:
    """Return what the same noise means.

    Per family with several runs that share their noise; per pair of families whose best runs relate; and for the best
    runs of all other pairs of families together.
    """
    known = [(run, working_units(run.samples, domain)) for run in runs if run.samples is not None]
    families = sorted({run.family for run, _ in known})
    found = [relation(family, followers([one for one in known if one[0].family == family])) for family in families]
    best = {run.family: (run, units) for run, units in reversed(known)}
    others: list[Pair] = []
    for first, second in combinations(families, 2):
        pairs = followers([best[first], best[second]])
        line = relation(f"{first} and {second}", pairs)
        if line is not None and line.is_related:
            found.append(line)
        else:
            others += pairs
    return [line for line in (*found, relation("other pairs of families", others)) if line is not None]


def followers(known: list[tuple[Run, Array]]) -> list[Pair]:
    """Return the samples of runs that follow each other among those with the same noise."""
    noises = dict.fromkeys(run.noise for run, _ in known)
    return [pair for noise in noises for pair in pairwise([units for run, units in known if run.noise == noise])]


def relation(name: str, pairs: list[Pair]) -> Relation | None:
    """Return how the samples of pairs of runs relate; None without pairs, or if all their samples are equal."""
    ratios = []
    for first, second in pairs[:MAX_PAIRS]:
        count = min(len(first), len(second))
        first, second = first[:count], second[:count]
        others = [np.roll(second, shift, axis=0) for shift in range(1, min(9, count))]
        apart = np.mean([np.linalg.norm(first - other, axis=1) for other in others]) if others else 0.0
        if apart > 0:
            ratios.append(np.linalg.norm(first - second, axis=1) / apart)
    if not ratios:
        return None
    places = [float(ratio.mean()) for ratio in ratios]
    errors = [float(ratio.std(ddof=1) / np.sqrt(len(ratio))) for ratio in ratios]
    # Pairs share runs, so their mean is taken to be no more certain than one pair is.
    return Relation(name=name, pairs=len(ratios), ratio=float(np.mean(places)), error=float(np.mean(errors)))


def working_units(values: Array, domain: Domain) -> Array:
    """Return samples `[N, dimensions]` in the working units of the networks, so that every column counts the same."""
    location, scale = (np.array([getattr(v, name) for v in domain.ordered]) for name in ("location", "scale"))
    grid = domain.to_grid(values).astype(np.float64)
    units: Array = (grid - (location if len(location) > 1 else location[0])) / (scale if len(scale) > 1 else scale[0])
    return units.reshape(len(grid), -1)
