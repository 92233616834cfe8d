"""Raw files to arrays: what the published data are, what is refused, what `prepare` leaves on disk."""

import dataclasses
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike.core.config import compose
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.data import SPLITS, Array, Prepared, Raw, heights, mnist, split_at_random
from lookalike.data.prepare import digest, summarize, write
from lookalike.models.build import build

LABELS_FILE = "t10k-labels-idx1-ubyte"


@pytest.fixture(scope="module")
def galton(raw_data: Path) -> Raw:
    return heights.read(raw_data / "heights", validation=0.1, test=0.2, seed=0)


@pytest.fixture(scope="module")
def digits(raw_data: Path) -> Raw:
    return mnist.read(raw_data / "mnist", validation=10000, seed=0)


def test_a_split_is_disjoint_and_covers_all() -> None:
    parts = split_at_random(100, [30, 20], seed=3)
    assert [len(part) for part in parts] == [30, 20, 50]
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    assert [p.tolist() for p in parts] == [p.tolist() for p in split_at_random(100, [30, 20], seed=3)]
    assert parts[0].tolist() != split_at_random(100, [30, 20], seed=4)[0].tolist()


def test_heights_are_the_published_ones(galton: Raw) -> None:
    assert {split: len(galton.values[split]) for split in SPLITS} == {"train": 654, "validation": 93, "test": 187}
    values, labels = (np.concatenate([part[split] for split in SPLITS]) for part in (galton.values, galton.labels))
    for sex, count, mean, deviation in ((0, 453, 64.10, 2.36), (1, 481, 69.23, 2.62)):
        of_sex = values[labels == sex]
        assert len(of_sex) == count
        assert round(float(of_sex.mean()), 2) == mean
        # Published to hundredths; 2.355 rounds either way.
        assert float(of_sex.std(ddof=1)) == pytest.approx(deviation, abs=0.011)
    for split in SPLITS:
        galton.domain.to_grid(galton.values[split])


def test_the_mixture_finds_women_and_men_in_heights_without_being_told(galton: Raw) -> None:
    config = compose(["data=heights", "model=mixture"])
    model: Any = build(config.model, galton.domain, seed=config.seed)
    torch.manual_seed(config.seed)
    model.fit(torch.from_numpy(galton.domain.to_grid(galton.values["train"])))
    assert len(model.density.log_weights) == 2
    # In working units; a grid point's value is `low + step * k`, the centre of its interval.
    domain = galton.domain
    to_inches = domain.step[0] * domain.scale[0]
    means = domain.low[0] + domain.step[0] * domain.location[0] + to_inches * model.density.means[:, 0].double()
    deviations = to_inches * model.density.factors[:, 0, 0].double()
    order = means.argsort()
    found = torch.stack([means, deviations, model.density.log_weights.double().exp()], dim=1)[order]
    for (mean, deviation, weight), expected in zip(found.tolist(), ((64.10, 2.36), (69.23, 2.62)), strict=True):
        assert mean == pytest.approx(expected[0], abs=0.75)
        assert deviation == pytest.approx(expected[1], abs=0.4)
        assert weight == pytest.approx(0.5, abs=0.1)


def test_heights_standardise_by_the_training_data_alone(galton: Raw) -> None:
    grid = galton.domain.to_grid(galton.values["train"])
    working = (grid - np.asarray(galton.domain.location)) / np.asarray(galton.domain.scale)
    assert working.mean() == pytest.approx(0, abs=1e-9)
    assert working.std() == pytest.approx(1, abs=1e-9)


def test_another_seed_splits_heights_otherwise(galton: Raw, raw_data: Path) -> None:
    other = heights.read(raw_data / "heights", validation=0.1, test=0.2, seed=1)
    assert not np.array_equal(other.values["test"], galton.values["test"])
    together = [np.sort(np.concatenate([raw.values[s] for s in SPLITS]), axis=0) for raw in (galton, other)]
    assert np.array_equal(together[0], together[1])


def test_mnist_is_the_published_one(digits: Raw) -> None:
    counts = {split: np.bincount(digits.labels[split]).tolist() for split in SPLITS}
    assert counts["test"] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    both = (np.array(counts["train"]) + counts["validation"]).tolist()
    assert both == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert {split: digits.values[split].shape for split in SPLITS} == {
        "train": (50000, 1, 28, 28), "validation": (10000, 1, 28, 28), "test": (10000, 1, 28, 28),
    }  # fmt: skip
    training = np.concatenate([digits.values["train"], digits.values["validation"]])
    assert training.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert training.std() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_mnist_keeps_every_training_image_with_its_label_exactly_once(digits: Raw, raw_data: Path) -> None:
    def rows(images: Array, labels: Array) -> list[bytes]:
        return sorted(hashlib.md5(i.tobytes() + bytes([j])).digest() for i, j in zip(images, labels, strict=True))

    files = [
        mnist.read_idx(raw_data / "mnist" / f"{name}.gz", mnist.MD5_OF_UNCOMPRESSED[name])
        for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    ]
    parts = [np.concatenate([part["train"], part["validation"]]) for part in (digits.values, digits.labels)]
    assert rows(*parts) == rows(*files)


@pytest.mark.parametrize("validation", [0, 60000, -1])
def test_a_validation_set_of_no_or_all_digits_is_refused(validation: int, raw_data: Path) -> None:
    with pytest.raises(UserError, match=f"validation={validation}"):
        mnist.read(raw_data / "mnist", validation=validation, seed=0)


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.2), (0.1, 0.0), (0.5, 0.5), (-0.1, 0.2)])
def test_shares_that_leave_no_heights_are_refused(validation: float, test: float, raw_data: Path) -> None:
    with pytest.raises(UserError, match=f"validation={validation}, data.reader.test={test}"):
        heights.read(raw_data / "heights", validation=validation, test=test, seed=0)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing: .*galton_families\.csv.*dvc pull"):
        heights.read(tmp_path, validation=0.1, test=0.2, seed=0)
    with pytest.raises(UserError, match=r"missing: .*train-images-idx3-ubyte\.gz.*dvc pull"):
        mnist.read(tmp_path, validation=10, seed=0)


def test_an_altered_table_is_named(raw_data: Path, tmp_path: Path) -> None:
    content = bytearray((raw_data / "heights" / heights.FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / heights.FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"altered: .*galton_families\.csv has md5"):
        heights.read(tmp_path, validation=0.1, test=0.2, seed=0)


def test_a_truncated_archive_is_named_wherever_it_ends(raw_data: Path, tmp_path: Path) -> None:
    whole = (raw_data / "mnist" / f"{LABELS_FILE}.gz").read_bytes()
    path = tmp_path / f"{LABELS_FILE}.gz"
    for length in (0, 1, 9, 10, 100, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"raw data .*t10k-labels-idx1-ubyte\.gz"):
            mnist.read_idx(path, mnist.MD5_OF_UNCOMPRESSED[LABELS_FILE])


def test_an_altered_byte_of_an_archive_is_named_or_harmless(raw_data: Path, tmp_path: Path) -> None:
    """Bytes of the gzip header that say nothing of the content may change; all others must be noticed."""
    whole = (raw_data / "mnist" / f"{LABELS_FILE}.gz").read_bytes()
    truth = np.frombuffer(gzip.decompress(whole), dtype=np.uint8, offset=8)
    path = tmp_path / f"{LABELS_FILE}.gz"
    noticed = 0
    positions = [*range(12), *range(12, len(whole) - 8, 97), *range(len(whole) - 8, len(whole))]
    for position in positions:
        for mask in (0x01, 0x04, 0xFF):
            altered = bytearray(whole)
            altered[position] ^= mask
            path.write_bytes(altered)
            try:
                assert np.array_equal(mnist.read_idx(path, mnist.MD5_OF_UNCOMPRESSED[LABELS_FILE]), truth)
                assert 3 <= position < 10
            except UserError as error:
                assert str(path) in str(error)  # noqa: PT017
                noticed += 1
    assert noticed >= 3 * (len(positions) - 7)


def test_other_content_in_a_sound_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"{LABELS_FILE}.gz"
    path.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError, match=r"altered: .*t10k-labels-idx1-ubyte\.gz has md5"):
        mnist.read_idx(path, mnist.MD5_OF_UNCOMPRESSED[LABELS_FILE])


# What `prepare` writes.


@pytest.fixture
def raw(make_domain: Callable[..., Domain]) -> Raw:
    generator = np.random.default_rng(0)
    domain = dataclasses.replace(make_domain(1, 4, 5, levels=8), labels=("a", "b", "c"))
    counts = dict(zip(SPLITS, (30, 10, 12), strict=True))
    return Raw(
        domain=domain,
        values={split: generator.integers(0, 8, (n, 1, 4, 5), dtype=np.uint8) for split, n in counts.items()},
        labels={split: generator.integers(0, 3, n, dtype=np.uint8) for split, n in counts.items()},
        expected={"said": "so"},
    )


def test_prepared_data_come_back_as_they_were_memory_mapped(raw: Raw, tmp_path: Path) -> None:
    summary = write(raw, tmp_path)
    prepared = Prepared(tmp_path)
    assert prepared.domain == raw.domain
    assert prepared.summary == summary == summarize(raw)
    assert prepared.digest == digest(raw)
    for split in SPLITS:
        assert isinstance(prepared.values(split), np.memmap)
        assert np.array_equal(prepared.values(split), raw.values[split])
        assert np.array_equal(prepared.labels(split), raw.labels[split])
    assert summary["splits"]["train"]["count"] == 30
    assert sum(summary["splits"]["test"]["classes"].values()) == 12


def test_the_grid_of_vectors_is_that_of_their_values(galton: Raw, tmp_path: Path) -> None:
    write(galton, tmp_path)
    prepared = Prepared(tmp_path)
    assert prepared.grid("test").dtype == np.int64
    np.testing.assert_allclose(prepared.grid("test") * 0.1, galton.values["test"], atol=1e-9)


def test_the_same_arrays_make_the_same_bytes(raw: Raw, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(raw, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 8
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_the_digest_changes_with_one_value_one_label_and_the_split(raw: Raw) -> None:
    seen = {digest(raw)}
    for part in ("values", "labels"):
        for split in SPLITS:
            arrays = {s: array.copy() for s, array in getattr(raw, part).items()}
            arrays[split].flat[-1] ^= 1
            changes: dict[str, Any] = {part: arrays}
            seen.add(digest(dataclasses.replace(raw, **changes)))
    moved = raw.values | {"validation": raw.values["test"], "test": raw.values["validation"]}
    seen.add(digest(dataclasses.replace(raw, values=moved)))
    seen.add(digest(dataclasses.replace(raw, labels={s: a.astype(np.int64) for s, a in raw.labels.items()})))
    assert len(seen) == 9
    assert digest(raw) in seen


def test_raw_values_off_the_grid_are_refused(raw: Raw, tmp_path: Path) -> None:
    values = raw.values | {"test": np.full((1, 1, 4, 5), 9, dtype=np.uint8)}
    with pytest.raises(UserError, match="a value of 9 where the grid ends at 7"):
        write(dataclasses.replace(raw, values=values), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [7, -1, 0.5])
def test_labels_that_number_no_class_are_refused(raw: Raw, tmp_path: Path, wrong: float) -> None:
    labels = dict(raw.labels)
    labels["train"] = np.full(len(raw.labels["train"]), wrong)
    with pytest.raises(UserError, match="train has labels"):
        write(dataclasses.replace(raw, labels=labels), tmp_path)


def test_unlabelled_data_have_no_class_numbers(raw: Raw, tmp_path: Path) -> None:
    domain = dataclasses.replace(raw.domain, labels=())
    none = {split: np.zeros(0, dtype=np.uint8) for split in raw.labels}
    assert write(dataclasses.replace(raw, domain=domain, labels=none), tmp_path)["splits"]["train"]["classes"] == {}
    with pytest.raises(UserError, match="where 0 are expected"):
        write(dataclasses.replace(raw, domain=domain), tmp_path)


def test_a_folder_without_prepared_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no prepared data in .*prepare\.py data="):
        Prepared(tmp_path)


def read_all(folder: Path) -> None:
    prepared = Prepared(folder)
    for split in SPLITS:
        prepared.values(split)
        prepared.labels(split)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("domain.json", "missing"),
        ("domain.json", "truncated"),
        ("domain.json", "empty"),
        ("summary.json", "missing"),
        ("summary.json", "truncated"),
        ("summary.json", "empty"),
        *((name, damage) for name in ("train.npy", "test_labels.npy") for damage in ("missing", "truncated", "empty")),
    ],
)
def test_damaged_prepared_data_are_named(raw: Raw, tmp_path: Path, name: str, damage: str) -> None:
    write(raw, tmp_path)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "truncated" else 0])
    with pytest.raises(UserError, match=r"(prepared data|damaged: ).*prepare\.py"):
        read_all(tmp_path)
