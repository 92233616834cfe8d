"""The bundled data sets are the published ones; what `prepare` leaves on disk."""

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS, Prepared
from lookalike.domain.variables import Array
from lookalike.families.build import build
from lookalike.readers import contract
from lookalike.readers.arrays import write
from lookalike.readers.contract import split_at_random
from lookalike.readers.idx import open_idx
from lookalike.workspace.configuration import ROOT, compose
from lookalike.workspace.errors import UserError
from reader_helpers import InMemory, gathered, in_memory, read_data

MD5 = compose(["data=mnist"]).data.reader["md5"]

LABELS_FILE = "t10k-labels-idx1-ubyte.gz"


@pytest.fixture(scope="module")
def galton(raw_data: Path, tmp_path_factory: pytest.TempPathFactory) -> InMemory:
    return in_memory(read_data("heights", raw_data), tmp_path_factory.mktemp("heights") / "prepared")


@pytest.fixture(scope="module")
def digits(raw_data: Path, tmp_path_factory: pytest.TempPathFactory) -> InMemory:
    return in_memory(read_data("mnist", raw_data), tmp_path_factory.mktemp("mnist") / "prepared")


def test_a_split_is_disjoint_and_covers_all() -> None:
    parts = split_at_random(100, [30, 20], seed=3)
    assert [len(part) for part in parts] == [30, 20, 50]
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    assert [p.tolist() for p in parts] == [p.tolist() for p in split_at_random(100, [30, 20], seed=3)]
    assert parts[0].tolist() != split_at_random(100, [30, 20], seed=4)[0].tolist()


def test_heights_are_the_published_ones(galton: InMemory) -> None:
    assert {split: len(galton.values[split]) for split in SPLITS} == {"train": 654, "validation": 93, "test": 187}
    values, labels = (np.concatenate([part[split] for split in SPLITS]) for part in (galton.values, galton.labels))
    assert galton.domain.labels == ("female", "male")
    for sex, count, mean, deviation in ((0, 453, 64.10, 2.36), (1, 481, 69.23, 2.62)):
        of_sex = values[labels == sex]
        assert len(of_sex) == count
        assert round(float(of_sex.mean()), 2) == mean
        # Published to hundredths; 2.355 rounds either way.
        assert float(of_sex.std(ddof=1)) == pytest.approx(deviation, abs=0.011)
    for split in SPLITS:
        galton.domain.to_grid(galton.values[split])


def test_the_mixture_finds_women_and_men_in_heights_without_labels(galton: InMemory) -> None:
    config = compose(["data=heights", "model=mixture"])
    model: Any = build(config.model, galton.domain, seed=config.seed)
    torch.manual_seed(config.seed)
    model.fit(torch.from_numpy(galton.domain.to_grid(galton.values["train"])))
    assert len(model.density.log_weights) == 2
    # In working units; a grid point's value is `low + step * k`, the centre of its interval.
    variable = galton.domain.ordered[0]
    to_inches = variable.step * variable.scale
    means = variable.low + variable.step * variable.location + to_inches * model.density.means[:, 0].double()
    deviations = to_inches * model.density.factors[:, 0, 0].double()
    order = means.argsort()
    found = torch.stack([means, deviations, model.density.log_weights.double().exp()], dim=1)[order]
    for (mean, deviation, weight), expected in zip(found.tolist(), ((64.10, 2.36), (69.23, 2.62)), strict=True):
        assert mean == pytest.approx(expected[0], abs=0.75)
        assert deviation == pytest.approx(expected[1], abs=0.4)
        assert weight == pytest.approx(0.5, abs=0.1)


def test_heights_are_standardized_by_the_training_data_alone(galton: InMemory) -> None:
    grid, variable = galton.domain.to_grid(galton.values["train"]), galton.domain.ordered[0]
    working = (grid - variable.location) / variable.scale
    assert working.mean() == pytest.approx(0, abs=1e-9)
    assert working.std() == pytest.approx(1, abs=1e-9)


def test_another_seed_splits_heights_otherwise(galton: InMemory, raw_data: Path) -> None:
    other, _ = gathered(read_data("heights", raw_data, seed=1))
    assert not np.array_equal(other["test"], galton.values["test"])
    together = [np.sort(np.concatenate([values[s] for s in SPLITS]), axis=0) for values in (galton.values, other)]
    assert np.array_equal(together[0], together[1])


def test_mnist_is_the_published_one(digits: InMemory) -> None:
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
    at_ends = np.isin(digits.values["train"], (0, 255)).mean()
    assert digits.domain.ordered[0].at_ends == pytest.approx(at_ends, abs=1e-12)
    assert (digits.domain.ordered[0].location, digits.domain.ordered[0].scale) == (127.5, 127.5)


def test_mnist_keeps_every_training_image_with_its_label_exactly_once(digits: InMemory, raw_data: Path) -> None:
    def rows(images: Array, labels: Array) -> list[bytes]:
        return sorted(hashlib.md5(i.tobytes() + bytes([j])).digest() for i, j in zip(images, labels, strict=True))

    images = open_idx(raw_data / "mnist" / "train-images-idx3-ubyte.gz", axes=3, md5=None)
    labels = open_idx(raw_data / "mnist" / "train-labels-idx1-ubyte.gz", axes=1, md5=None)
    parts = [np.concatenate([part["train"], part["validation"]]) for part in (digits.values, digits.labels)]
    assert rows(*parts) == rows(images, labels)


@pytest.fixture(scope="module")
def emoji() -> InMemory:
    if not (ROOT / "data" / "emoji").is_dir():
        pytest.skip("no raw data here: `lookalike data` brings them")
    source = read_data("emoji", ROOT / "data")
    values, labels = gathered(source)
    return InMemory(domain=source.domain, values=values, labels=labels, expected=source.expected)


def test_emoji_are_in_colour_on_white_and_every_split_has_its_share_of_every_class(emoji: InMemory) -> None:
    assert {split: emoji.values[split].shape for split in SPLITS} == {
        "train": (1331, 3, 32, 32), "validation": (287, 3, 32, 32), "test": (287, 3, 32, 32),
    }  # fmt: skip
    assert len(emoji.domain.labels) == 9
    sizes = [85, 159, 270, 131, 264, 385, 169, 224, 218]
    for split in ("validation", "test"):
        counts = np.bincount(emoji.labels[split]).tolist()
        assert counts == [round(0.15 * size) for size in sizes]
    corners = emoji.values["train"][:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).mean() > 0.75
    colour = np.ptp(emoji.values["train"].astype(int), axis=1)
    assert (colour.max(axis=(1, 2)) > 50).mean() > 0.9


def test_the_bundled_remote_holds_what_data_dvc_names_and_nothing_else() -> None:
    bundled = ROOT / "bundled" / "files" / "md5"
    found = {path.parent.name + path.name for path in bundled.rglob("*") if path.is_file()}
    folders = {out["md5"] for out in yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]}
    entries = [json.loads((bundled / name[:2] / name[2:]).read_text()) for name in folders]
    assert found == folders | {entry["md5"] for folder in entries for entry in folder}


@pytest.mark.parametrize("validation", [0, 60000, -1])
def test_a_validation_set_of_no_or_all_digits_is_refused(validation: int, raw_data: Path) -> None:
    with pytest.raises(UserError, match=f"validation={validation}"):
        read_data("mnist", raw_data, validation=validation)


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (0.999, 0.0001), (0.0001, 0.5)])
def test_shares_that_leave_no_heights_are_refused(validation: float, test: float, raw_data: Path) -> None:
    with pytest.raises(UserError, match=f"validation={validation}, data.reader.test={test}"):
        read_data("heights", raw_data, validation=validation, test=test)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing: .*galton_families\.csv.*lookalike data"):
        read_data("heights", tmp_path)
    with pytest.raises(UserError, match=r"missing: .*train-images-idx3-ubyte\.gz.*lookalike data"):
        read_data("mnist", tmp_path)
    with pytest.raises(UserError, match=r"emoji\.zip is missing.*lookalike data"):
        read_data("emoji", tmp_path)


def test_an_altered_table_is_named(raw_data: Path, tmp_path: Path) -> None:
    file = "galton_families.csv"
    content = bytearray((raw_data / "heights" / file).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "heights").mkdir()
    (tmp_path / "heights" / file).write_bytes(content)
    with pytest.raises(UserError, match=r"altered: .*galton_families\.csv has md5"):
        read_data("heights", tmp_path)


def test_a_truncated_archive_is_named_wherever_it_ends(raw_data: Path, tmp_path: Path) -> None:
    whole = (raw_data / "mnist" / LABELS_FILE).read_bytes()
    path = tmp_path / LABELS_FILE
    for length in (0, 1, 9, 10, 100, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"raw data .*t10k-labels-idx1-ubyte\.gz"):
            open_idx(path, axes=1, md5=MD5[LABELS_FILE])


def test_an_altered_byte_of_an_archive_is_named_or_harmless(raw_data: Path, tmp_path: Path) -> None:
    """Bytes of the gzip header that say nothing of the content may change; all others must be noticed."""
    whole = (raw_data / "mnist" / LABELS_FILE).read_bytes()
    truth = np.frombuffer(gzip.decompress(whole), dtype=np.uint8, offset=8)
    path = tmp_path / LABELS_FILE
    noticed = 0
    positions = [*range(12), *range(12, len(whole) - 8, 97), *range(len(whole) - 8, len(whole))]
    for position in positions:
        for mask in (0x01, 0x04, 0xFF):
            altered = bytearray(whole)
            altered[position] ^= mask
            path.write_bytes(altered)
            try:
                assert np.array_equal(open_idx(path, axes=1, md5=MD5[LABELS_FILE]), truth)
                assert 3 <= position < 10
            except UserError as error:
                assert str(path) in str(error)  # noqa: PT017
                noticed += 1
    assert noticed >= 3 * (len(positions) - 7)


def test_other_content_in_a_sound_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / LABELS_FILE
    path.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError, match=r"damaged: .*t10k-labels-idx1-ubyte\.gz is not an IDX file"):
        open_idx(path, axes=1, md5=None)
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02ab"))
    assert open_idx(path, axes=1, md5=None).tolist() == [97, 98]
    with pytest.raises(UserError, match=r"altered: .*t10k-labels-idx1-ubyte\.gz has md5"):
        open_idx(path, axes=1, md5=MD5[LABELS_FILE])


# What `prepare` writes.


@pytest.fixture
def raw(make_domain: Callable[..., Domain]) -> InMemory:
    generator = np.random.default_rng(0)
    domain = dataclasses.replace(make_domain(1, 4, 5, levels=8), labels=("a", "b", "c"))
    counts = dict(zip(SPLITS, (30, 10, 12), strict=True))
    return InMemory(
        domain=domain,
        values={split: generator.integers(0, 8, (n, 1, 4, 5), dtype=np.uint8) for split, n in counts.items()},
        labels={split: generator.integers(0, 3, n, dtype=np.uint8) for split, n in counts.items()},
        expected={"said": "so"},
    )


def test_prepared_data_come_back_as_they_were_memory_mapped(raw: InMemory, tmp_path: Path) -> None:
    summary = write(raw.source(), tmp_path)
    prepared = Prepared(tmp_path)
    at_ends = np.isin(raw.values["train"], (0, 7)).mean()
    pixel = dataclasses.replace(raw.domain.ordered[0], at_ends=float(at_ends))
    assert prepared.domain == dataclasses.replace(raw.domain, variables=(pixel,))
    assert prepared.summary == summary
    assert prepared.digest == summary["digest"]
    for split in SPLITS:
        assert isinstance(prepared.values(split), np.memmap)
        assert np.array_equal(prepared.values(split), raw.values[split])
        assert np.array_equal(prepared.labels(split), raw.labels[split])
    for split, values in raw.values.items():
        found = summary["splits"][split]
        assert found["count"] == len(values)
        assert (found["minimum"], found["maximum"]) == (values.min(), values.max())
        assert found["mean"] == pytest.approx(values.mean(), abs=1e-4)
        assert found["standard_deviation"] == pytest.approx(values.std(), abs=1e-4)
        assert list(found["classes"].values()) == np.bincount(raw.labels[split], minlength=3).tolist()
    assert sum(summary["splits"]["test"]["classes"].values()) == 12


def test_tables_are_stored_as_grid_points_and_come_back_as_values(galton: InMemory, tmp_path: Path) -> None:
    write(galton.source(), tmp_path)
    prepared = Prepared(tmp_path)
    assert isinstance(prepared.grid("test"), np.memmap)
    assert prepared.grid("test").dtype == np.int16
    assert np.array_equal(prepared.values("test"), galton.values["test"])
    assert prepared.domain == galton.domain


def test_chunks_of_any_size_make_the_same_arrays(
    raw: InMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("whole", 2**20), ("pieces", 70)):
        monkeypatch.setattr(contract, "CHUNK_BYTES", size)
        (tmp_path / name).mkdir()
        assert len(list(raw.source().chunks())) == (3 if name == "whole" else 10 + 4 + 4)
        write(raw.source(), tmp_path / name)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "pieces" / path.name).read_bytes()


def test_the_same_arrays_make_the_same_bytes(raw: InMemory, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(raw.source(), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 8
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_the_digest_changes_with_one_value_one_label_and_the_split(raw: InMemory, tmp_path: Path) -> None:
    def digest(data: InMemory) -> str:
        return str(write(data.source(), tmp_path)["digest"])

    seen = {digest(raw)}
    for part in ("values", "labels"):
        for split in SPLITS:
            arrays = {s: array.copy() for s, array in getattr(raw, part).items()}
            arrays[split].flat[-1] = (arrays[split].flat[-1] + 1) % 3
            changes: dict[str, Any] = {part: arrays}
            seen.add(digest(dataclasses.replace(raw, **changes)))
    moved = [part | {"validation": part["test"], "test": part["validation"]} for part in (raw.values, raw.labels)]
    seen.add(digest(dataclasses.replace(raw, values=moved[0], labels=moved[1])))
    assert len(seen) == 8
    assert digest(raw) in seen


def test_raw_values_off_the_grid_are_refused(raw: InMemory, tmp_path: Path) -> None:
    values = raw.values | {"test": np.full((1, 1, 4, 5), 9, dtype=np.uint8)}
    with pytest.raises(UserError, match="a value of 9 where the grid ends at 7"):
        write(dataclasses.replace(raw, values=values).source(), tmp_path)
    with pytest.raises(UserError, match="no prepared data"):
        Prepared(tmp_path)


@pytest.mark.parametrize("wrong", [7, -1, 0.5])
def test_labels_that_number_no_class_are_refused(raw: InMemory, tmp_path: Path, wrong: float) -> None:
    labels = dict(raw.labels)
    labels["train"] = np.full(len(raw.labels["train"]), wrong)
    with pytest.raises(UserError, match="train has labels"):
        write(dataclasses.replace(raw, labels=labels).source(), tmp_path)


def test_unlabelled_data_have_no_class_numbers(raw: InMemory, tmp_path: Path) -> None:
    domain = dataclasses.replace(raw.domain, labels=())
    none = {split: np.zeros(0, dtype=np.uint8) for split in raw.labels}
    without = dataclasses.replace(raw, domain=domain, labels=none)
    assert write(without.source(), tmp_path)["splits"]["train"]["classes"] == {}
    assert len(Prepared(tmp_path).labels("train")) == 0
    with pytest.raises(UserError, match="where 0 are expected"):
        write(dataclasses.replace(raw, domain=domain).source(), tmp_path)


@pytest.mark.parametrize("count", [0, 1])
def test_a_split_without_two_observations_is_refused(count: int, raw: InMemory, tmp_path: Path) -> None:
    few = [part | {"validation": part["validation"][:count]} for part in (raw.values, raw.labels)]
    with pytest.raises(UserError, match=f"small: the validation split has {count} observations"):
        write(dataclasses.replace(raw, values=few[0], labels=few[1]).source(), tmp_path)


def test_more_than_256_classes_have_numbers_of_16_bits(raw: InMemory, tmp_path: Path) -> None:
    domain = dataclasses.replace(raw.domain, labels=tuple(map(str, range(300))))
    labels = {split: np.full(len(part), 299) for split, part in raw.labels.items()}
    write(dataclasses.replace(raw, domain=domain, labels=labels).source(), tmp_path)
    assert Prepared(tmp_path).labels("test").dtype == np.int16
    assert set(Prepared(tmp_path).labels("test")) == {299}


def test_a_folder_without_prepared_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no prepared data in .*lookalike prepare data="):
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
def test_damaged_prepared_data_are_named(raw: InMemory, tmp_path: Path, name: str, damage: str) -> None:
    write(raw.source(), tmp_path)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "truncated" else 0])
    with pytest.raises(UserError, match=r"(prepared data|damaged: ).*lookalike prepare"):
        read_all(tmp_path)


def test_git_ignores_the_bundled_data_sets_by_name() -> None:
    # `dvc checkout` deletes a user's own folder that git ignores by a pattern.
    ignored = [
        line for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines() if line.startswith("/data/")
    ]
    outs = yaml.safe_load((ROOT / "data.dvc").read_text(encoding="utf-8"))["outs"]
    assert ignored == [f"/{out['path']}/" for out in outs]
