"""How observations are shown, by kind of data. The report asks here, and nowhere else, for what depends on the kind."""

import dataclasses
from collections.abc import Callable

from markupsafe import Markup
from PIL import Image

from lookalike.domain.domain import Domain
from lookalike.report.cells import Table
from lookalike.report.densities import density_panels
from lookalike.report.maps import plane_panels
from lookalike.report.panels import PANEL, Panels
from lookalike.report.pictures import image_pictures
from lookalike.report.thumbnails import image_thumbnails, table_thumbnails


def describe_places(domain: Domain) -> str:
    """Return what an observation of any kind is."""
    return f"observations of {domain.dimensions:,} values, each on a grid of {domain.levels:,} points"


def describe_image(domain: Domain) -> str:
    """Return the size of images and the levels of their pixels."""
    channels, height, width = domain.shape
    colour = {1: "", 3: " in colour"}.get(channels, f" in {channels} channels")
    return f"images of {height} × {width} pixels{colour}, each with {domain.levels} levels"


def describe_table(domain: Domain) -> str:
    """Return the number of columns, their units and their grid."""
    units = " and ".join(dict.fromkeys(variable.unit for variable in domain.ordered if variable.unit))
    columns = "one number" if domain.dimensions == 1 else f"{domain.dimensions} numbers"
    return f"rows of {columns}{f' ({units})' if units else ''}, each on a grid of {domain.levels:,} points"


def table_panels(table: Table) -> dict[str, Panels]:
    """Return the panels of one column or of two columns."""
    return {"densities": Panels(draws=density_panels(table), size=PANEL), **plane_panels(table)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """How one kind of data is shown.

    Attributes:
        describe: what an observation is, in words.
        task: the task of Hugging Face's hub that a model of such data belongs to.
        pictures: pictures of the observations of a row, by name.
        panels: figures of the probabilities of every family, by name.
        thumbnails: a small picture of the first samples of each of many runs, by run, and of data under the name "".
        legend: how to read these pictures.
    """

    describe: Callable[[Domain], str] = describe_places
    task: dict[str, str] = dataclasses.field(default_factory=lambda: {"type": "other", "name": "density estimation"})
    pictures: Callable[..., dict[str, Image.Image]] = lambda row, table, *, zoom=1: {}
    panels: Callable[[Table], dict[str, Panels]] = lambda table: {}
    thumbnails: Callable[..., dict[str, Markup]] = lambda domain, drawn, data, *, room: {}
    legend: str = ""


SHOWN = {
    "image": Shown(
        describe=describe_image,
        task={"type": "unconditional-image-generation"},
        pictures=image_pictures,
        thumbnails=image_thumbnails,
        legend="All images have the same scale.",
    ),
    "table": Shown(
        describe=describe_table,
        panels=table_panels,
        thumbnails=table_thumbnails,
        legend="Orange: the samples. Grey: the data, if they are on this machine. All panels have the same axes.",
    ),
}


def shown(domain: Domain) -> Shown:
    """Return how the observations of a domain are shown; a kind without an entry is shown by its numbers alone."""
    return SHOWN.get(domain.kind, Shown())


def about(table: Table) -> str:
    """Return what the data are, how they are split and how many samples every family drew."""
    domain, splits = table.prepared.domain, table.prepared.summary["splits"]
    sizes = {split: int(found["count"]) for split, found in splits.items()}
    counts = [f"{count:,}" for count in sorted({len(row.samples) for row in table.families})]
    return (
        f"{sum(sizes.values()):,} {shown(domain).describe(domain)}: {sizes['train']:,} for training, "
        f"{sizes['validation']:,} for validation, {sizes['test']:,} for testing. Every family drew "
        f"{' to '.join(dict.fromkeys((counts[0], counts[-1])))} samples."
    )
