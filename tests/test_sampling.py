"""Tests of sample files: the same bytes for any batch size, with bounded memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike.domain.domain import Domain
from lookalike.sampling.files import KEPT, load_samples, save_samples
from lookalike.workspace.files import save_arrays


@pytest.mark.parametrize("batch", [1, 7, 256, 100_000])
@pytest.mark.parametrize(("shape", "levels", "n"), [((1, 3, 4), 256, 300), ((2,), 1120, 301), ((1, 28, 28), 4, 22_000)])
def test_samples_written_batch_by_batch_have_the_bytes_of_the_whole_array(
    shape: tuple[int, ...], levels: int, n: int, batch: int, make_domain: Callable[..., Domain], tmp_path: Path
) -> None:
    if n // batch > 1000:
        pytest.skip("a few batches are enough of an array that NumPy itself writes in parts")
    domain = make_domain(*shape, levels=levels)
    grid = np.random.default_rng(0).integers(0, levels, (n, *shape))
    grid[..., 1:] = 0  # Zeros are compressed in less time.
    values = domain.to_values(grid)
    batches = (values[start : start + batch] for start in range(0, n, batch))
    kept = save_samples(tmp_path / "samples.npz", batches, domain, samples=n)
    save_arrays(tmp_path / "whole.npz", {"samples": values})
    assert (tmp_path / "samples.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert np.array_equal(load_samples(tmp_path / "samples.npz", domain), values)
    assert np.array_equal(kept, values[:KEPT])
