"""The grid of observations: values and grid points, files, what is refused."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike.core.domain import Array, Domain
from lookalike.core.errors import UserError


def vector(*, low: float, step: float, levels: int) -> Domain:
    return Domain(name="heights", kind="vector", shape=(1,), levels=levels, low=(low,), step=(step,), unit="inch",
                  labels=("a", "b"), location=(levels / 2,), scale=(10.0,))  # fmt: skip


@pytest.mark.parametrize(("low", "step"), [(0.0, 0.1), (-3.0, 0.1), (0.0, 1.0), (12.0, 0.001), (0.0, 10.0)])
def test_every_grid_point_survives_the_way_to_a_value_and_back(low: float, step: float) -> None:
    domain = vector(low=low, step=step, levels=1120)
    grid = np.arange(1120)[:, None]
    assert (domain.to_grid(domain.to_values(grid)) == grid).all()


@pytest.mark.parametrize(("low", "step"), [(0.0, 0.25), (0.5, 1.0), (0.05, 0.1)])
def test_steps_and_lows_of_more_decimals_than_the_step_has_digits_survive_too(low: float, step: float) -> None:
    domain = vector(low=low, step=step, levels=20)
    grid = np.arange(20)[:, None]
    assert (domain.to_grid(domain.to_values(grid)) == grid).all()


def test_values_are_the_decimals_that_were_recorded_and_not_their_neighbours_in_binary() -> None:
    values = vector(low=0.0, step=0.1, levels=1120).to_values(np.array([[3], [673], [1119]]))
    assert values[:, 0].tolist() == [0.3, 67.3, 111.9]


def test_each_dimension_has_its_own_low_and_step() -> None:
    domain = dataclasses.replace(vector(low=0.0, step=0.1, levels=10), shape=(2,), low=(0.0, 5.0), step=(0.1, 1.0))
    assert domain.to_values(np.array([[3, 4]])).tolist() == [[0.3, 9.0]]
    assert domain.to_grid(np.array([[0.3, 9.0]])).tolist() == [[3, 4]]


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
def test_vectors_off_the_grid_are_refused_with_the_reason(values: Array, message: str) -> None:
    with pytest.raises(UserError, match=message):
        vector(low=0.0, step=0.1, levels=1120).to_grid(values)


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
    domain = vector(low=0.0, step=0.1, levels=1120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match="not on the grid"):
            domain.to_grid(np.array([[1e300]]))


def test_a_domain_survives_its_file(tmp_path: Path, make_domain: Callable[..., Domain]) -> None:
    for domain in (vector(low=0.0, step=0.1, levels=1120), make_domain(4, levels=16), make_domain(3, 5, 7, levels=8)):
        domain.save(tmp_path / "domain.json")
        assert Domain.load(tmp_path / "domain.json") == domain


def test_one_dimension_is_counted_in_bits_an_observation(make_domain: Callable[..., Domain]) -> None:
    assert vector(low=0.0, step=0.1, levels=4).likelihood_unit == "bits/observation"
    assert make_domain(1, 5, 7, levels=8).likelihood_unit == "bits/dimension"
    assert make_domain(1, 5, 7, levels=8).dimensions == 35
