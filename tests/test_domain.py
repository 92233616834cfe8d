"""Tests of the grid of observations: values and grid points, files, refused input."""

import dataclasses
import json
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from lookalike.domain.domain import Domain
from lookalike.domain.kinds import load_domain
from lookalike.domain.table import Table
from lookalike.domain.variables import Array, Categorical, Ordered
from lookalike.workspace.errors import UserError


def table(*columns: Ordered) -> Table:
    return Table(name="heights", shape=(len(columns),), variables=columns, labels=("a", "b"))


def column(*, low: float, step: float, levels: int) -> Table:
    return table(Ordered(levels=levels, low=low, step=step, unit="inch", location=levels / 2, scale=10.0))


@pytest.mark.parametrize(("low", "step"), [(0.0, 0.1), (-3.0, 0.1), (0.0, 1.0), (12.0, 0.001), (0.0, 10.0)])
def test_every_grid_point_survives_the_way_to_a_value_and_back(low: float, step: float) -> None:
    domain = column(low=low, step=step, levels=1120)
    grid = np.arange(1120)[:, None]
    assert (domain.to_grid(domain.to_values(grid)) == grid).all()


@pytest.mark.parametrize(("low", "step"), [(0.0, 0.25), (0.5, 1.0), (0.05, 0.1)])
def test_steps_and_lows_of_more_decimals_than_the_step_has_digits_survive_too(low: float, step: float) -> None:
    domain = column(low=low, step=step, levels=20)
    grid = np.arange(20)[:, None]
    assert (domain.to_grid(domain.to_values(grid)) == grid).all()


def test_values_are_the_decimals_that_were_recorded_and_not_their_neighbours_in_binary() -> None:
    values = column(low=0.0, step=0.1, levels=1120).to_values(np.array([[3], [673], [1119]]))
    assert values[:, 0].tolist() == [0.3, 67.3, 111.9]


def test_each_column_has_its_own_low_and_step() -> None:
    domain = table(Ordered(levels=10, step=0.1), Ordered(levels=10, low=5.0))
    assert domain.to_values(np.array([[3, 4]])).tolist() == [[0.3, 9.0]]
    assert domain.to_grid(np.array([[0.3, 9.0]])).tolist() == [[3, 4]]


@pytest.mark.parametrize(("levels", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "int16"), (2**15 + 1, "int32")])
def test_grid_points_take_the_smallest_type_that_holds_them(levels: int, dtype: str) -> None:
    domain = column(low=0.0, step=1.0, levels=levels)
    grid = domain.to_grid(np.array([[levels - 1.0]]))
    assert grid.dtype == domain.grid_dtype == np.dtype(dtype)
    assert grid.item() == levels - 1


def test_images_stay_the_bytes_that_they_are(make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(3, 5, 7, levels=256)
    values = np.arange(2 * 105, dtype=np.uint8).reshape(2, 3, 5, 7)
    assert domain.to_grid(values) is values
    assert domain.to_values(values.astype(np.int64)).dtype == np.uint8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[60.05]]), "1 values are not on the grid .* 60.05"),
        (np.array([[-0.1]]), "not on the grid"),
        (np.array([[2.0], [112.0]]), "not on the grid .* 112.0"),
        (np.array([[1.0], [np.nan], [np.inf]]), "2 values are NaN or infinite"),
        (np.array([1.0, 2.0]), r"expected an array \[N, 1\], got \(2,\)"),
        (np.array([[1.0, 2.0]]), r"got \(1, 2\)"),
        (np.array([[1.0]], dtype=np.float32), "type float64, got float32"),
        (np.array([[1]]), "type float64, got int64"),
    ],
)
def test_rows_off_the_grid_are_refused_with_the_reason(values: Array, message: str) -> None:
    with pytest.raises(UserError, match=message):
        column(low=0.0, step=0.1, levels=1120).to_grid(values)


def test_a_value_off_the_grid_is_reported_with_its_column() -> None:
    domain = dataclasses.replace(table(Ordered(levels=10), Ordered(levels=10)), columns=("width", "height"))
    with pytest.raises(UserError, match="heights, height: 1 values are not on the grid"):
        domain.to_grid(np.array([[1.0, 1.5]]))


def test_columns_that_no_family_models_yet_are_refused(make_domain: Callable[..., Domain]) -> None:
    for variables in (
        (Ordered(levels=10), Ordered(levels=9)),
        (Ordered(levels=10), Ordered(levels=10, missing=True)),
        (Ordered(levels=10), Categorical(names=("no", "yes"))),
    ):
        domain = dataclasses.replace(make_domain(2, levels=10), variables=variables)
        with pytest.raises(UserError, match="small has categorical columns, missing values or columns of unequal"):
            domain.to_grid(np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 1, 4, 4), 8, dtype=np.uint8), "a value of 8 where the grid ends at 7"),
        (np.zeros((2, 4, 4), dtype=np.uint8), r"expected an array \[N, 1, 4, 4\], got \(2, 4, 4\)"),
        (np.zeros((2, 1, 4, 5), dtype=np.uint8), r"got \(2, 1, 4, 5\)"),
        (np.zeros((2, 1, 4, 4), dtype=np.float32), "type uint8, got float32"),
    ],
)
def test_images_off_the_grid_are_refused_with_the_reason(
    values: Array, message: str, make_domain: Callable[..., Domain]
) -> None:
    with pytest.raises(UserError, match=message):
        make_domain(1, 4, 4, levels=8).to_grid(values)


def test_a_value_too_large_for_an_integer_is_refused_without_a_warning() -> None:
    domain = column(low=0.0, step=0.1, levels=1120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match="not on the grid"):
            domain.to_grid(np.array([[1e300]]))


def test_a_missing_value_is_one_more_grid_point() -> None:
    variable = Ordered(levels=10, step=0.5, missing=True)
    grid = variable.to_grid(np.array([0.0, np.nan, 4.5]), name="x")
    assert grid.tolist() == [0, 10, 9]
    assert variable.outcomes == 11
    np.testing.assert_array_equal(variable.to_values(grid), [0.0, np.nan, 4.5])
    with pytest.raises(UserError, match="x: 1 values are NaN or infinite"):
        Ordered(levels=10).to_grid(np.array([np.nan]), name="x")


def test_a_domain_survives_its_file(make_domain: Callable[..., Domain]) -> None:
    mixed = dataclasses.replace(
        make_domain(2, levels=3), variables=(Ordered(levels=3, missing=True), Categorical(names=("no", "yes")))
    )
    named = Table(name="named", shape=(2,), variables=(Ordered(levels=3),) * 2, columns=("width", "height"))
    pixels = make_domain(3, 5, 7, levels=8, labels=("a", "b"))
    for domain in (column(low=0.0, step=0.1, levels=1120), named, pixels, mixed):
        again = load_domain(json.loads(json.dumps(domain.to_dict())))
        assert again == domain
        assert type(again) is type(domain)


@pytest.mark.parametrize("change", [{"kind": "vector"}, {"kind": None}, {"weight": 1}])
def test_a_domain_of_another_version_is_refused(change: dict[str, object], make_domain: Callable[..., Domain]) -> None:
    with pytest.raises(UserError, match="small: prepared by another version of lookalike"):
        load_domain(make_domain(2, levels=16).to_dict() | change)


def test_a_table_is_standardized_by_its_training_data_and_an_image_keeps_its_units(
    make_domain: Callable[..., Domain],
) -> None:
    generator = np.random.default_rng(0)
    grid = generator.integers(0, 16, (500, 2))
    sums = {"totals": grid.sum(axis=0), "squares": (grid**2).sum(axis=0)}
    at_ends = ((grid == 0) | (grid == 15)).sum(axis=0)
    fitted = make_domain(2, levels=16).fitted(count=500, at_ends=at_ends, **sums)
    assert [v.location for v in fitted.ordered] == pytest.approx(grid.mean(axis=0))
    assert [v.scale for v in fitted.ordered] == pytest.approx(grid.std(axis=0))
    assert [v.at_ends for v in fitted.ordered] == pytest.approx(at_ends / 500)
    image = make_domain(1, 4, 5, levels=16)
    again = image.fitted(count=10_000, totals=np.ones(1), squares=np.ones(1), at_ends=np.array([1200]))
    assert again.variables == (dataclasses.replace(image.ordered[0], at_ends=0.12),)


def test_one_dimension_is_counted_in_bits_per_observation(make_domain: Callable[..., Domain]) -> None:
    assert column(low=0.0, step=0.1, levels=4).likelihood_unit == "bits/observation"
    assert make_domain(1, 5, 7, levels=8).likelihood_unit == "bits/dimension"
    assert make_domain(1, 5, 7, levels=8).dimensions == 35
