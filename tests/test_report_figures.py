"""Tests of figures that compare families and show two dimensions: they draw the known values."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.domain.image import GAP
from lookalike.domain.prepared import SPLITS, Prepared
from lookalike.domain.table import Table as Columns
from lookalike.domain.variables import Ordered
from lookalike.evaluation import truth
from lookalike.evaluation.landscape import SIDE, block, landscape, true_landscape
from lookalike.metrics.catalogue import LIKELIHOOD as BITS
from lookalike.report import clouds, densities, figures, maps, pictures, style
from lookalike.report.cells import REAL, Row, Table, read_tables
from lookalike.report.page import page
from lookalike.report.panels import Draw, panel
from lookalike.workspace.configuration import compose
from lookalike.workspace.pipeline import Listed
from test_report import (
    CHROMIUM,
    DIGITS,
    FLOORS,
    HEIGHTS,
    MODELS,
    TRAINED,
    Page,
    bits,
    distance,
    table_of,
    widths,
    write,
    write_cells,
)

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Table]:
    folder = tmp_path_factory.mktemp("artifacts")
    write_cells(folder, data=["heights", "digits"], models=MODELS)
    return read_tables(folder, Listed(data=["heights", "digits"], models=TRAINED, floors=FLOORS))[0]


def drawn(draw: Draw, *, size: tuple[float, float] = clouds.CLOUD) -> Any:
    """The axes of a panel, laid out."""
    with style.styled(text="none"):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        figure.draw_without_rendering()
    return axes


def marks(axes: Any) -> dict[str, tuple[float, float, str]]:
    """Where each family's mark is, and its shape, by the name beside the panel."""
    found = {}
    for container in axes.containers:
        line = container.lines[0]
        found[container.get_label()] = (float(line.get_xdata()[0]), float(line.get_ydata()[0]), line.get_marker())
    return found


def costly(table: Table, **seconds: tuple[float, float]) -> Table:
    """The table with seconds of training and samples a second for each family; `mixture` is fitted without steps."""
    costs = {
        model: {"train": {"work_seconds": training}, "sample": {"samples_per_second": rate}}
        for model, (training, rate) in seconds.items()
    }
    records = {
        row.model: row.record | {"steps": 0 if row.model in (*FLOORS, "mixture") else 10} for row in table.families
    }
    families = [dataclasses.replace(r, costs=costs[r.model], record=records[r.model]) for r in table.families]
    return dataclasses.replace(table, families=families)


# The front


def test_the_front_is_what_nothing_is_as_good_as_and_better_somewhere() -> None:
    places = {"a": (1.0, 9.0), "b": (2.0, 5.0), "c": (2.0, 6.0), "d": (3.0, 5.0), "e": (4.0, 1.0), "f": (9.0, 1.5)}
    assert clouds.front(places) == ["a", "b", "e"]
    assert clouds.front({"a": (1.0, 1.0), "b": (1.0, 1.0), "c": (1.0, 2.0)}) == ["a", "b"]


def test_the_front_is_the_running_minimum_of_random_points() -> None:
    points = np.random.default_rng(0).random((200, 2))
    order = points[:, 0].argsort()
    lowest = np.minimum.accumulate(points[order, 1])
    expected = [str(i) for i, low in zip(order, lowest, strict=True) if points[i, 1] == low]
    assert clouds.front({str(i): (x, y) for i, (x, y) in enumerate(points.tolist())}) == expected


def test_the_front_is_filled_and_stepped_and_copies_are_no_part_of_it() -> None:
    table = table_of(
        ("copycat", distance(1, 0)), ("vae", distance(4, 0)), ("gan", distance(5, 0)), ("flow", distance(3, 0)),
        ("mixture", distance(2, 0)),
    )  # fmt: skip
    table = costly(table, copycat=(0.0, 1e5), vae=(10, 500), gan=(20, 1000), flow=(30, 100), mixture=(1, 50))
    panels = clouds.cost_panels(table)
    assert list(panels) == ["Fréchet distance and cost of training", "Fréchet distance and cost of sampling"]
    for draw, best in zip(panels.values(), (["vae", "flow"], ["gan", "vae", "flow", "mixture"]), strict=True):
        axes = drawn(draw)
        filled = {c.get_label() for c in axes.containers if c.lines[0].get_markerfacecolor() != "none"}
        assert filled == set(best)
        (steps,) = (line for line in axes.lines if line.get_drawstyle() == "steps-post")
        corners = set(zip(steps.get_xdata(), steps.get_ydata(), strict=True))
        assert {marks(axes)[name][:2] for name in best} <= corners
    assert marks(axes)["gan"][0] == pytest.approx(1.0)  # a thousand samples at a thousand a second
    training = marks(drawn(next(iter(panels.values()))))
    assert training["copycat"][0] == clouds.MIN_SECONDS
    # A fitted family did not get the compute of the others: it is shown, but does not beat them.
    assert training["mixture (fitted)"][:2] == (1, 2)


def test_bits_have_a_front_too_where_families_have_a_likelihood(tables: list[Table]) -> None:
    titles = ["Fréchet distance and cost of training", "Fréchet distance and cost of sampling",
              "Bits per dimension and cost of training"]  # fmt: skip
    assert list(clouds.cost_panels(tables[1])) == titles
    assert list(clouds.cost_panels(tables[0]))[2] == "Bits per observation and cost of training"


def test_what_a_family_costs_stands_in_the_page_alone(tables: list[Table]) -> None:
    assert set(figures.sheets(tables[1])) == {"scores", "fidelity", "likelihood", "losses"}
    assert set(figures.sheets(tables[0])) == {"scores", "fidelity", "likelihood", "losses", "densities"}


# Likelihood against distance


def test_every_family_with_a_distance_is_there_and_those_without_a_likelihood_apart(tables: list[Table]) -> None:
    table = tables[1]
    ((title, draw),) = clouds.likelihood_panels(table).items()
    assert title == "Bits per dimension and Fréchet distance"
    axes = drawn(draw)
    places = marks(axes)
    assert set(places) == {"≈ flow_matching", "≤ vae", "independent", "copycat"}
    rows = {row.model: row.metrics for row in table.families}
    most = max(metrics[BITS]["value"] for metrics in rows.values() if BITS in metrics)
    for name, (x, y, _) in places.items():
        metrics = rows[name.removeprefix("≈ ").removeprefix("≤ ")]
        assert y == metrics["frechet_distance"]["value"]
        assert x == metrics[BITS]["value"] if BITS in metrics else x > most
    assert "no likelihood" in [text.get_text() for text in axes.texts]
    assert "real data" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_one_likelihood_or_no_distance_makes_no_panel() -> None:
    assert clouds.likelihood_panels(table_of(("vae", bits(1, 0.1) | distance(1, 0.1)), ("gan", distance(2, 0.1)))) == {}
    assert clouds.likelihood_panels(table_of(("vae", bits(1, 0.1)), ("flow", bits(2, 0.1)))) == {}


@pytest.mark.parametrize(
    ("values", "end"),
    [
        ([1, 2, 3, 4], 4),
        ([1, 1.1, 1.2, 26], 1.2),
        ([1, 2, 50], 50),
        ([1, 1, 1, 9], 9),
        ([1, 2, 3, 60, 70, 80], 80),
        ([4, 23, 57, 219], 219),
    ],
)
def test_an_axis_ends_before_what_is_far_off_and_shows_two_thirds(values: list[float], end: float) -> None:
    assert clouds.end_of(values) == end


def test_a_family_off_the_panel_is_named_so() -> None:
    rows = [(f"m{i}", bits(1 + i / 10, 0.01) | distance(1 + i / 10, 0.01)) for i in range(5)]
    table = table_of(*rows, ("uniform", bits(8, 0.0) | distance(900, 1)), real=distance(0.9, 0.1))
    axes = drawn(next(iter(clouds.likelihood_panels(table).values())))
    assert "uniform (off)" in marks(axes)
    assert axes.get_xlim()[1] < 2


def test_a_family_has_one_mark_in_all_panels_of_a_data_set(tables: list[Table]) -> None:
    table = tables[1]
    table = dataclasses.replace(table, families=table.families[::-1])
    shapes: dict[str, set[str]] = {}
    for panels in (clouds.fidelity_panels(tables[1]), clouds.likelihood_panels(table), clouds.cost_panels(table)):
        for draw in panels.values():
            for name, (_, _, shape) in marks(drawn(draw)).items():
                shapes.setdefault(name.removeprefix("≈ ").removeprefix("≤ "), set()).add(shape)
    assert {name: len(found) for name, found in shapes.items()} == dict.fromkeys([*MODELS, "real data"], 1)
    assert len(set.union(*shapes.values())) == len(shapes)


def test_names_beside_panels_and_their_labels_overlap_with_nothing(tables: list[Table]) -> None:
    many = [dataclasses.replace(tables[1].families[i % 4], model=f"a_long_name_{i}") for i in range(12)]
    table = dataclasses.replace(tables[1], families=many)
    for draw in (clouds.fidelity_panels(table) | clouds.likelihood_panels(table) | clouds.cost_panels(table)).values():
        axes = drawn(draw)
        names = [text.get_window_extent() for text in axes.get_legend().get_texts()]
        words = [text.get_window_extent() for text in axes.texts]
        assert not any(name.overlaps(axes.get_window_extent()) for name in names)
        assert not any(one.overlaps(other) for i, one in enumerate(names) for other in [*names[:i], *words])
        assert all(name.x1 <= axes.figure.bbox.x1 and name.y0 >= 0 for name in names)
        ticks = [tick.get_window_extent() for tick in axes.get_xticklabels() if tick.get_text() and inside(tick, axes)]
        assert not any(one.overlaps(other) for i, one in enumerate(ticks) for other in ticks[:i])


def inside(tick: Any, axes: Any) -> bool:
    return bool(axes.get_xlim()[0] <= tick.get_position()[0] <= axes.get_xlim()[1])


# The landscape of a probability


def plane(levels: int) -> Domain:
    columns = (
        Ordered(levels=levels, low=-4.0, step=0.5, unit="unit"),
        Ordered(levels=levels, low=10.0, step=2.0, unit="unit"),
    )
    return Columns(name="plane", shape=(2,), variables=columns)


@pytest.mark.parametrize("levels", [100, 256, 300])
def test_a_map_holds_all_of_the_probability_and_each_point_in_its_square(levels: int) -> None:
    table = np.random.default_rng(0).dirichlet(np.ones(levels**2))
    shares = landscape(plane(levels), np.log(table))["density_map"]
    side = block(levels)
    assert shares.shape == (-(-levels // side),) * 2
    assert max(shares.shape) <= SIDE
    assert shares.sum() == pytest.approx(1)
    square = table.reshape(levels, levels)[2 * side : 3 * side, side : 2 * side]
    assert shares[2, 1] == pytest.approx(square.sum(), rel=1e-6)


def test_the_curve_of_one_dimension_is_the_probability_of_every_value() -> None:
    nats = np.log(np.random.default_rng(0).dirichlet(np.ones(HEIGHTS.levels)))
    found = landscape(HEIGHTS, nats)
    np.testing.assert_array_equal(found["density_values"], HEIGHTS.to_values(np.arange(1120)[:, None])[:, 0])
    np.testing.assert_array_equal(found["density_probabilities"], np.exp(nats))


def test_the_truth_is_drawn_where_it_is_known_and_has_few_dimensions() -> None:
    ring = compose(["data=ring"]).data.reader
    domain = dataclasses.replace(plane(256), name="ring")
    known = truth.known(ring)
    assert known is not None
    shares = true_landscape(domain, ring)["density_map"]
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    assert shares[20, 30] == pytest.approx(np.exp(known(np.array([(x, y) for x in (40, 41) for y in (60, 61)]))).sum())
    assert true_landscape(HEIGHTS, compose(["data=heights"]).data.reader) == {}
    assert true_landscape(DIGITS, compose(["data=bars"]).data.reader) == {}


# Maps of two dimensions


def normal_map(levels: int, centre: tuple[float, float], deviation: float) -> Floats:
    squared = sum((axis - c) ** 2 for axis, c in zip(np.mgrid[:levels, :levels], centre, strict=True))
    density: Floats = np.exp(-0.5 * np.asarray(squared) / deviation**2)
    total: Floats = density / density.sum()
    return total


@pytest.fixture
def planar(tmp_path: Path) -> Table:
    """Return data at the lower right, one family with a map there, and one with samples above them on the left."""
    domain, generator = plane(64), np.random.default_rng(0)
    points = {split: generator.normal((48, 16), 3, size=(500, 2)).round().astype(int) for split in SPLITS}
    for split, grid in points.items():
        np.save(tmp_path / f"{split}.npy", grid.astype(domain.grid_dtype))
    write(tmp_path / "domain.json", domain.to_dict())
    splits = {split: {"count": len(grid)} for split, grid in points.items()}
    write(tmp_path / "summary.json", {"digest": "d" * 64, "splits": splits})
    mapped = Row(model="flow", metrics={}, samples=np.zeros((1, 2)), costs={},
               arrays={"density_map": normal_map(64, (48, 16), 3).astype(np.float32)})  # fmt: skip
    elsewhere = domain.to_values(generator.normal((46, 18), 1, size=(4000, 2)).round().astype(int))
    drawer = Row(model="gan", metrics={}, samples=elsewhere, costs={})
    real = Row(model=REAL, metrics={}, samples=domain.to_values(points["test"]), costs={})
    return Table(prepared=Prepared(tmp_path), extractor={}, costs={}, real=real, families=[mapped, drawer])


def vertices(axes: Any) -> list[Floats]:
    """Of each contour, lowest level first."""
    (contours,) = (c for c in axes.collections if hasattr(c, "levels"))
    return [path.vertices for path in contours.get_paths()]


def test_contours_lie_around_half_and_nine_tenths_of_the_model_in_the_units_of_the_data(planar: Table) -> None:
    panels = maps.plane_panels(planar)["contours"].draws
    assert list(panels) == ["flow", "gan"]
    outer, inner = vertices(drawn(panels["flow"], size=maps.MAP))
    centre = np.array([-4 + 0.5 * 48, 10 + 2.0 * 16])
    for path, share in ((outer, 0.9), (inner, 0.5)):
        radii = np.linalg.norm((path - centre) / np.array([0.5, 2.0]), axis=1)
        assert radii == pytest.approx(3 * np.sqrt(-2 * np.log(1 - share)), abs=0.35)


def test_a_family_without_a_map_is_drawn_by_its_samples_in_another_colour(planar: Table) -> None:
    axes = drawn(maps.plane_panels(planar)["contours"].draws["gan"], size=maps.MAP)
    centres = [path.mean(axis=0) for path in vertices(axes)]
    for centre in centres:
        assert centre == pytest.approx([-4 + 0.5 * 46, 10 + 2.0 * 18], abs=1.0)
    assert all(
        style.SAMPLES in svg for svg in [panel(maps.plane_panels(planar)["contours"].draws["gan"], size=maps.MAP)]
    )
    assert style.SAMPLES not in panel(maps.plane_panels(planar)["contours"].draws["flow"], size=maps.MAP)


def test_data_and_what_was_learned_share_a_scale_and_a_frame(planar: Table) -> None:
    panels = maps.plane_panels(planar)["maps"].draws
    assert list(panels) == ["data", "flow", "gan"]
    axes = [drawn(draw, size=maps.MAP) for draw in panels.values()]
    assert len({(*a.get_xlim(), *a.get_ylim()) for a in axes}) == 1
    assert len({a.images[0].get_clim() for a in axes}) == 1
    image, (left, right, low, high) = axes[1].images[0].get_array(), axes[1].images[0].get_extent()
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert left + (column + 0.5) * (right - left) / 64 == pytest.approx(-4 + 0.5 * 48)
    assert low + (row + 0.5) * (high - low) / 64 == pytest.approx(10 + 2.0 * 16)
    known = dataclasses.replace(planar.real, arrays={"density_map": normal_map(64, (48, 16), 3)})
    assert next(iter(maps.plane_panels(dataclasses.replace(planar, real=known))["maps"].draws)) == "truth"


def test_a_flat_map_has_no_contour_and_a_plateau_has_one(planar: Table) -> None:
    assert maps.region_levels(np.full((8, 8), 1 / 64)) == []
    plateau = np.zeros((8, 8))
    plateau[2:5, 2:5] = 1 / 9
    (level,) = maps.region_levels(plateau)
    assert 0.99 / 9 < level < 1 / 9
    flat = dataclasses.replace(planar.families[0], arrays={"density_map": np.full((64, 64), 1 / 64**2)})
    axes = drawn(
        maps.plane_panels(dataclasses.replace(planar, families=[flat]))["contours"].draws["flow"], size=maps.MAP
    )
    assert [text.get_text() for text in axes.texts] == ["the same everywhere"]


def test_a_blur_moves_nothing_and_loses_nothing_inside() -> None:
    point = np.zeros((21, 15))
    point[10, 7] = 1.0
    smooth = maps.blurred(np.pad(point, ((0, 0), (3, 3))))
    assert smooth.sum() == pytest.approx(1)
    assert smooth[10, 10] == smooth.max()
    np.testing.assert_allclose(smooth, smooth[::-1, ::-1], atol=1e-15)


def test_other_data_have_no_maps(tables: list[Table]) -> None:
    for table in tables:
        assert maps.plane_panels(table) == {}


# The truth beside a curve, and pictures of where samples and data part


def test_the_true_density_is_a_line_of_its_own_where_it_is_known(tables: list[Table]) -> None:
    table = tables[0]
    values = HEIGHTS.to_values(np.arange(1120)[:, None])[:, 0]
    true = np.exp(-0.5 * ((values - 60) / 2) ** 2)
    arrays = {"density_values": values, "density_probabilities": true / true.sum()}
    known = dataclasses.replace(table, real=dataclasses.replace(table.real, arrays=arrays))
    axes = drawn(densities.density_panels(known)["vae"])
    (line,) = (line for line in axes.lines if line.get_label() == "truth")
    assert line.get_ydata().max() < axes.get_ylim()[1]
    assert line.get_xdata()[line.get_ydata().argmax()] == 60
    assert (line.get_ydata() * 0.1).sum() == pytest.approx(1)
    assert "truth" not in {line.get_label() for line in drawn(densities.density_panels(table)["vae"]).lines}


def test_pictures_of_gaps_are_of_the_rows_that_were_kept(tables: list[Table]) -> None:
    table = tables[1]
    rows = np.arange(39, 19, -1)
    row = dataclasses.replace(table.families[0], arrays={"missed_rows": rows, "made_up_rows": rows})
    cell = DIGITS.shape[1] + GAP
    for kind, images in (("missed", table.prepared.values("test")), ("made_up", row.samples)):
        shown = np.asarray(pictures.image_pictures(row, table)[kind])
        for i in range(pictures.PAIRS):
            top, left = GAP + i // pictures.COLUMNS * cell, GAP + i % pictures.COLUMNS * cell
            assert (shown[top : top + 8, left : left + 8] == images[rows[i]][0]).all()
    assert set(pictures.image_pictures(table.families[0], table)) == {"samples", "nearest"}


@pytest.fixture
def planar_page(planar: Table, tables: list[Table]) -> str:
    """A page of all that a family has, in two dimensions."""
    families = [
        dataclasses.replace(row, samples=planar.families[1].samples, arrays=row.arrays | planar.families[i % 2].arrays)
        for i, row in enumerate(tables[0].families)
    ]
    real = dataclasses.replace(tables[0].real, samples=planar.real.samples)
    return page([dataclasses.replace(tables[0], prepared=planar.prepared, families=families, real=real)])


def test_a_page_of_two_dimensions_describes_every_map_and_repeats_no_id(planar_page: str) -> None:
    parsed = Page(planar_page)
    labels = [attributes.get("aria-label") or "" for tag, attributes in parsed.tags if tag == "figure"]
    for model in MODELS:
        assert (
            sum(label.startswith(f"Contours of {model} over the data of plane; Wasserstein-1") for label in labels) == 1
        )
        assert sum(label.startswith(f"Map of the probabilities of {model} on plane") for label in labels) == 1
    assert all(labels)
    assert sum(tag == "svg" for tag, _ in parsed.tags) == len(labels)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(planar_page) < 1_000_000


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_a_page_of_two_dimensions_does_not_scroll_sideways_on_a_phone(planar_page: str, tmp_path: Path) -> None:
    assert widths(planar_page, tmp_path, width=360) == ["360", "360"]
