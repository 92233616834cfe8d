"""Readers by format: what they make of files that the tests write, what they refuse, how much memory they take."""

import contextlib
import gzip
import io
import itertools
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from lookalike.domain.prepared import SPLITS, Prepared
from lookalike.readers import idx, image_folder, table_file
from lookalike.readers.arrays import write
from lookalike.readers.contract import Source
from lookalike.workspace.arguments import check_arguments
from lookalike.workspace.configuration import ROOT
from lookalike.workspace.errors import UserError
from reader_helpers import gathered
from reader_helpers import idx as idx_content

pytest_plugins = ["pipeline_fixtures"]


# IDX


@pytest.fixture
def small_idx(tmp_path: Path) -> Path:
    """A folder of four IDX files: 40 training and 10 test images of 3x5 pixels, numbered by their first pixel."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 10)):
        images = generator.integers(0, 256, (count, 3, 5), dtype=np.uint8)
        images[:, 0, 0] = np.arange(count)
        (tmp_path / f"{split}-images").write_bytes(idx_content(images))
        (tmp_path / f"{split}-labels.gz").write_bytes(
            gzip.compress(idx_content((images[:, 0, 0] % 3).astype(np.uint8)))
        )
    return tmp_path


def read_idx(folder: Path, **changes: Any) -> Source:
    pairs = {split: idx.Pair(images=f"{split}-images", labels=f"{split}-labels.gz") for split in ("train", "test")}
    settings = {"name": "small", "md5": None, "classes": None, "validation": 10, "seed": 0} | pairs | changes
    return idx.read(folder, **settings)


def test_idx_files_are_read_plain_and_compressed(small_idx: Path) -> None:
    source = read_idx(small_idx)
    assert source.domain.shape == (1, 3, 5)
    assert source.domain.labels == ("0", "1", "2")
    values, labels = gathered(source)
    assert {split: len(part) for split, part in values.items()} == {"train": 30, "validation": 10, "test": 10}
    together = np.concatenate([values["train"], values["validation"]])[:, 0, 0, 0]
    assert sorted(together.tolist()) == list(range(40))
    assert values["test"][:, 0, 0, 0].tolist() == list(range(10))
    for split in SPLITS:
        assert np.array_equal(labels[split], values[split][:, 0, 0, 0] % 3)


def test_idx_files_may_have_no_labels_and_classes_may_have_names(small_idx: Path) -> None:
    without = {split: idx.Pair(images=f"{split}-images", labels=None) for split in ("train", "test")}
    source = read_idx(small_idx, **without)
    assert source.domain.labels == ()
    assert all(len(part) == 0 for part in gathered(source)[1].values())
    assert read_idx(small_idx, classes=["a", "b", "c"]).domain.labels == ("a", "b", "c")
    with pytest.raises(UserError, match=r"data\.reader\.classes=\['a'\]: small has labels from 0 to 2"):
        read_idx(small_idx, classes=["a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x0d\x03" + bytes(12), "not an IDX file of unsigned bytes with 3 axes"),
        (idx_content(np.zeros((2, 3), dtype=np.uint8)), "with 3 axes"),
        (idx_content(np.zeros((40, 3, 5), dtype=np.uint8))[:-1], "not an IDX file"),
        (idx_content(np.zeros((40, 3, 5), dtype=np.uint8)) + b"\0", "not an IDX file"),
        (idx_content(np.zeros((0, 3, 5), dtype=np.uint8)), "not an IDX file"),
        (idx_content(np.zeros((39, 3, 5), dtype=np.uint8)), "40 labels for 39 images"),
        (
            idx_content(np.zeros((40, 4, 5), dtype=np.uint8)),
            r"training images are \(4, 5\) pixels, test images \(3, 5\)",
        ),
    ],
)
def test_idx_files_that_are_damaged_or_do_not_fit_are_refused(small_idx: Path, content: bytes, message: str) -> None:
    (small_idx / "train-images").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_idx(small_idx)


# Tables


def read_table(path: Path, **changes: Any) -> Source:
    settings: dict[str, Any] = {
        "name": "small", "file": path.name, "md5": None, "columns": None, "label": None, "validation": 0.2,
        "test": 0.3, "expected": None, "seed": 0,
    }  # fmt: skip
    return table_file.read(path.parent, **settings | changes)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """60 rows of a count, a temperature to a tenth, a price to a hundredth, and a class that looks like a number."""
    generator = np.random.default_rng(0)
    rows = [f"{i},{generator.uniform(-5, 20):.1f},{generator.uniform(1, 3):.2f},{10 - i % 3}" for i in range(60)]
    path = tmp_path / "small.csv"
    path.write_text("\n".join(["count,celsius,price,group", *rows]) + "\n\n")
    return path


def test_the_grid_of_a_column_is_derived_from_the_file(table: Path) -> None:
    source = read_table(table, label="group")
    assert source.domain.labels == ("8", "9", "10")
    assert source.domain.columns == ("count", "celsius", "price")  # type: ignore[attr-defined]
    values, labels = gathered(source)
    assert {split: len(part) for split, part in values.items()} == {"train": 30, "validation": 12, "test": 18}
    together = np.concatenate(list(values.values()))
    assert sorted(together[:, 0].tolist()) == list(range(60))
    assert [v.step for v in source.domain.ordered] == [1.0, 0.1, 0.01]
    assert [v.low for v in source.domain.ordered] == together.min(axis=0).tolist()
    widest = round((together[:, 1].max() - together[:, 1].min()) / 0.1) + 1
    assert source.domain.levels == widest
    for split in SPLITS:
        assert np.array_equal(labels[split], 2 - values[split][:, 0] % 3)
    assert source.expected == {}


def test_the_grid_of_a_column_can_be_set(table: Path) -> None:
    columns = {"celsius": table_file.Column(low=-10.0, levels=500, unit="°C"), "count": table_file.Column(step=0.5)}
    source = read_table(table, columns=columns)
    celsius, count = source.domain.ordered
    assert (celsius.low, celsius.step, celsius.levels, celsius.unit) == (-10.0, 0.1, 500, "°C")
    assert (count.low, count.step, count.levels) == (0.0, 0.5, 500)
    assert source.domain.labels == ()
    with pytest.raises(UserError, match=r"small, count: .* not on the grid of 500 points from 0\.0 in steps of 2\.0"):
        gathered_grid(read_table(table, columns=columns | {"count": table_file.Column(step=2.0)}))


def gathered_grid(source: Source) -> list[NDArray[Any]]:
    return [source.domain.to_grid(values) for values in gathered(source)[0].values()]


def test_a_row_keeps_its_numbers_together_with_quotes_and_a_byte_order_mark(table: Path) -> None:
    plain, _ = gathered(read_table(table, label="group"))
    text = table.read_text(encoding="utf-8").replace("\n1,", '\n"1",')
    table.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    again, _ = gathered(read_table(table, label="group"))
    for split in SPLITS:
        assert np.array_equal(plain[split], again[split])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n7,", "\n,", r"small\.csv, line 9: count is '', which is not a number\. Missing values"),
        ("\n7,", "\nseven,", "line 9: count is 'seven'"),
        ("\n7,", "\nnan,", "line 9: count is 'nan'"),
        ("\n7,", "\ninf,", "line 9: count is 'inf'"),
        ("\n7,", "\n7,7,", "line 9: 5 cells where the header names 4 columns"),
        ("\n7,", '\n"7"7,', "line 9: not a CSV file in UTF-8"),
        ("\n7,", "\n0.00001,", r"columns\.count: 5900001 grid points .* of which there may be 32768"),
        ("count,", "price,", "2 columns are named 'price'"),
        ("count,celsius,price,group", "", "0 columns are named 'group'"),
        ("\n7,", "\n0x7,", "line 9: count is '0x7'"),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_line(table: Path, old: str, new: str, message: str) -> None:
    text = table.read_text(encoding="utf-8")
    assert old in text
    table.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_table(table, label="group")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"size": {}}}, "0 columns are named 'size'; there are .*'celsius'"),
        ({"label": "size"}, "0 columns are named 'size'"),
        ({"columns": {}}, "there is no column to read"),
        ({"expected": {"rows": 61}}, r"data\.reader\.expected\.rows is 61, the file has 60"),
        ({"expected": {"classes": {"8": 60}}}, r"expected\.classes is .* the file has .*'8': 20"),
        ({"md5": "0" * 32}, "altered: .* expected is 0000"),
        ({"validation": 0.01}, "of 60 rows, each split needs two"),
    ],
)
def test_arguments_that_do_not_fit_the_table_are_refused(table: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_table(table, **{"label": "group"} | changes)


def test_a_table_without_rows_is_refused(table: Path) -> None:
    for content in ("count,celsius,price,group\n", ""):
        table.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=r"of 0 rows, each split needs two|0 columns are named 'group'"):
            read_table(table, label="group")


def test_numbers_may_be_written_with_exponents(tmp_path: Path) -> None:
    cells = ["1.5e1", "1E-2", "25", " -.5", "3."] * 4
    (tmp_path / "a.csv").write_text("\n".join(["x", *cells]))
    source = read_table(tmp_path / "a.csv")
    (x,) = source.domain.ordered
    assert (x.low, x.step, x.levels) == (-0.5, 0.01, 2551)
    assert sorted(set(np.concatenate(list(gathered(source)[0].values())).flat)) == [-0.5, 0.01, 3, 15, 25]


def test_a_latin_1_file_is_refused(table: Path) -> None:
    table.write_bytes(table.read_bytes().replace(b"celsius", "°C".encode("latin-1")))
    with pytest.raises(UserError, match=r"small\.csv, line .*not a CSV file in UTF-8"):
        read_table(table)


# Folders of pictures


def read_pictures(folder: Path, **changes: Any) -> Source:
    settings: dict[str, Any] = {
        "side": None, "channels": None, "background": None, "validation": 0.25, "test": 0.25,
        "expected": None, "seed": 0,
    }  # fmt: skip
    arguments = check_arguments(image_folder.read, settings | changes, section="data.reader", given=("folder", "name"))
    return image_folder.read(folder, name="small", **arguments)


def paint(path: Path, array: NDArray[np.uint8], mode: str | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array, mode).save(path, **options)


def numbered(folder: Path, count: int, *, first: int = 0) -> None:
    """Write PNGs of 4x5 pixels in colour, whose first pixel is their number."""
    for i in range(first, first + count):
        array = np.full((4, 5, 3), 100, dtype=np.uint8)
        array[0, 0] = i
        paint(folder / f"{i:03}.png", array)


def numbers(source: Source) -> dict[str, list[int]]:
    return {split: values[:, 0, 0, 0].tolist() for split, values in gathered(source)[0].items()}


def test_a_flat_folder_is_split_at_random_by_its_seed(tmp_path: Path) -> None:
    numbered(tmp_path, 20)
    source = read_pictures(tmp_path)
    assert source.domain.shape == (3, 4, 5)
    assert source.domain.labels == ()
    found = numbers(source)
    assert {split: len(part) for split, part in found.items()} == {"train": 10, "validation": 5, "test": 5}
    assert sorted(itertools.chain(*found.values())) == list(range(20))
    assert found["train"] != sorted(found["train"])
    assert numbers(read_pictures(tmp_path)) == found
    assert numbers(read_pictures(tmp_path, seed=1)) != found


def test_folders_of_classes_are_held_out_class_by_class(tmp_path: Path) -> None:
    numbered(tmp_path / "few", 4)
    numbered(tmp_path / "many" / "deeper", 40, first=100)
    source = read_pictures(tmp_path)
    assert source.domain.labels == ("few", "many")
    values, labels = gathered(source)
    for split, counts in zip(SPLITS, ([2, 20], [1, 10], [1, 10]), strict=True):
        assert np.bincount(labels[split]).tolist() == counts
        assert np.array_equal(labels[split], values[split][:, 0, 0, 0] >= 100)
    assert labels["train"].tolist() != sorted(labels["train"].tolist())


@pytest.mark.parametrize("name", ["validation", "val", "valid", "Val"])
def test_a_folder_may_have_its_own_splits(tmp_path: Path, name: str) -> None:
    for start, split in ((0, "train"), (100, name), (200, "test")):
        numbered(tmp_path / split / "a", 3, first=start)
        numbered(tmp_path / split / "b", 3, first=start + 10)
    source = read_pictures(tmp_path, validation=None, test=None)
    assert source.domain.labels == ("a", "b")
    found = numbers(source)
    assert {split: sorted(part) for split, part in found.items()} == {
        "train": [0, 1, 2, 10, 11, 12], "validation": [100, 101, 102, 110, 111, 112],
        "test": [200, 201, 202, 210, 211, 212],
    }  # fmt: skip


def test_a_split_without_a_folder_is_held_out_of_the_training_pictures(tmp_path: Path) -> None:
    numbered(tmp_path / "train", 20)
    numbered(tmp_path / "test", 6, first=100)
    found = numbers(read_pictures(tmp_path, test=None))
    assert sorted(found["test"]) == list(range(100, 106))
    assert sorted(found["train"] + found["validation"]) == list(range(20))
    assert len(found["validation"]) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"data\.reader\.test=0\.25: the folder has its own; set it to null"),
        ({"validation": None, "test": None}, r"data\.reader\.validation=null: the folder has none; set a share"),
        ({"test": None, "channels": 2}, r"data\.reader\.channels=2: input should be 1 or 3"),
        ({"test": None, "background": "neither"}, r"data\.reader\.background=neither: give the name of a colour"),
        ({"test": None, "expected": 7}, r"data\.reader\.expected=7: .* holds 8 pictures"),
    ],
)
def test_arguments_that_do_not_fit_the_folder_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    numbered(tmp_path / "train", 6)
    numbered(tmp_path / "test", 2)
    with pytest.raises(UserError, match=message):
        read_pictures(tmp_path, **changes)


def test_shares_that_leave_no_picture_are_refused(tmp_path: Path) -> None:
    numbered(tmp_path, 6)
    with pytest.raises(UserError, match="leave nothing to train on"):
        read_pictures(tmp_path, validation=0.5, test=0.5)


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_archive_is_read_like_its_folder(tmp_path: Path, wrapped: bool) -> None:
    for name in ("a", "b"):
        numbered(tmp_path / "folder" / name, 8)
    files = sorted((tmp_path / "folder").rglob("*.png"), reverse=True)
    with zipfile.ZipFile(tmp_path / "small.zip", "w") as archive:
        for path in files:
            name = path.relative_to(tmp_path / "folder").as_posix()
            archive.write(path, f"folder/{name}" if wrapped else name)
            if wrapped:
                archive.writestr(f"__MACOSX/folder/{name}", b"litter")
    (folder, folder_labels), (zipped, zipped_labels) = (
        gathered(read_pictures(tmp_path / name)) for name in ("folder", "small.zip")
    )
    for split in SPLITS:
        assert np.array_equal(folder[split], zipped[split])
        assert np.array_equal(folder_labels[split], zipped_labels[split])


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """A picture in colour that is smooth, so that lossy formats keep it within a few levels."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    return np.round(255 * np.stack([rows, columns, 1 - rows], axis=-1)).astype(np.uint8)


def test_every_format_gives_the_same_picture(tmp_path: Path) -> None:
    truth = gradient(24, 30)
    for name, options in (
        ("a.png", {}), ("b.JPG", {"quality": 100, "subsampling": 0}), ("c.webp", {"lossless": True}),
        ("d.jpeg", {"quality": 95, "subsampling": 0}),
    ):  # fmt: skip
        paint(tmp_path / name, truth, **options)
    second = Pillow.fromarray(255 - truth)
    Pillow.fromarray(truth).save(tmp_path / "e.gif", save_all=True, append_images=[second])
    files = image_folder.list_files(tmp_path)
    style = image_folder.Style(side=None, channels=3, background="white")
    assert [Path(name).suffix.lower() for name in files.names] == [".png", ".jpg", ".webp", ".jpeg", ".gif"]
    with files.opened() as open_file:
        for name in files.names:
            image = image_folder.load(files, open_file, name, style).transpose(1, 2, 0)
            worst = np.abs(image.astype(int) - truth).max()
            assert worst <= {".png": 0, ".webp": 0, ".gif": 40}.get(Path(name).suffix, 8)


def loaded(path: Path, **settings: Any) -> NDArray[np.uint8]:
    files = image_folder.Files(place=path.parent, names=[path.name])
    style = image_folder.Style(**{"side": None, "channels": 3, "background": "white"} | settings)
    with files.opened() as open_file:
        return image_folder.load(files, open_file, path.name, style)


def test_transparent_pixels_show_the_background(tmp_path: Path) -> None:
    red = np.zeros((2, 4, 4), dtype=np.uint8)
    red[..., 0] = 200
    red[0, :, 3] = (0, 255, 128, 0)
    paint(tmp_path / "a.png", red)
    image = loaded(tmp_path / "a.png")
    assert image[:, 0, 0].tolist() == [255, 255, 255]
    assert image[:, 0, 1].tolist() == [200, 0, 0]
    assert image[:, 0, 2] == pytest.approx([227, 127, 127], abs=1)
    assert loaded(tmp_path / "a.png", background="#0000ff")[:, 1, 0].tolist() == [0, 0, 255]
    grey = np.full((2, 2, 2), 100, dtype=np.uint8)
    grey[0, 0, 1] = 0
    grey[1, :, 1] = 255
    paint(tmp_path / "b.png", grey, "LA")
    assert loaded(tmp_path / "b.png", channels=1)[0, :, 0].tolist() == [255, 100]
    palette = Pillow.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "c.png", transparency=0)
    assert loaded(tmp_path / "c.png")[:, 0].T.tolist() == [[255, 255, 255], [40, 50, 60]]


def test_the_orientation_that_a_camera_recorded_is_respected(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    upright = gradient(30, 24)
    paint(tmp_path / "a.jpg", np.rot90(upright), exif=exif, quality=100, subsampling=0)
    image = loaded(tmp_path / "a.jpg").transpose(1, 2, 0)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() <= 8


def test_pictures_are_resized_by_their_shortest_side_and_cut_out_at_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = 200
    paint(tmp_path / "a.png", wide)
    image = loaded(tmp_path / "a.png", side=10)
    assert image.shape == (3, 10, 10)
    assert (image[..., 1:-1] >= 200).all()
    paint(tmp_path / "b.png", np.ascontiguousarray(wide.transpose(1, 0, 2)))
    assert (loaded(tmp_path / "b.png", side=10)[:, 1:-1] >= 200).all()
    paint(tmp_path / "c.png", gradient(27, 27))
    small = loaded(tmp_path / "c.png", side=9).transpose(1, 2, 0)
    assert np.abs(small.astype(int) - gradient(27, 27)[1::3, 1::3]).max() <= 6


def test_channels_are_those_of_the_files_or_the_ones_that_are_asked_for(tmp_path: Path) -> None:
    for i in range(8):
        paint(tmp_path / f"{i}.png", np.full((3, 4), 50, dtype=np.uint8))
    assert read_pictures(tmp_path).domain.shape == (1, 3, 4)
    assert read_pictures(tmp_path, channels=3).domain.shape == (3, 3, 4)
    paint(tmp_path / "8.png", np.full((3, 4, 3), (10, 200, 30), dtype=np.uint8))
    assert read_pictures(tmp_path).domain.shape == (3, 3, 4)
    grey, _ = gathered(read_pictures(tmp_path, channels=1))
    luma = round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)
    assert {int(value) for part in grey.values() for value in part.flat} == {50, luma}


def test_pictures_of_different_sizes_need_a_side(tmp_path: Path) -> None:
    numbered(tmp_path, 8)
    paint(tmp_path / "other.png", np.zeros((4, 6, 3), dtype=np.uint8))
    with pytest.raises(UserError, match=r"side=null: .*other\.png has 6x4 pixels and 000\.png 5x4; set a side"):
        gathered(read_pictures(tmp_path))
    assert gathered(read_pictures(tmp_path, side=4))[0]["train"].shape[1:] == (3, 4, 4)


def test_what_desktops_leave_behind_is_ignored(tmp_path: Path) -> None:
    numbered(tmp_path / "a", 8)
    numbered(tmp_path / "b", 8)
    for name in (".DS_Store", "a/.DS_Store", "Thumbs.db", "b/desktop.ini", "a/._000.png", "__MACOSX/a/000.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"litter")
    source = read_pictures(tmp_path, expected=16)
    assert source.domain.labels == ("a", "b")


def spoilt(kind: str, path: Path) -> bytes:
    content = path.read_bytes()
    if kind == "wide":
        stream = io.BytesIO()
        Pillow.fromarray(np.full((4, 5), 40_000, dtype=np.uint16)).save(stream, "PNG")
        return stream.getvalue()
    return {"cut": content[: len(content) // 2], "empty": b"", "text": b"<html>404</html>"}[kind]


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "wide"])
@pytest.mark.parametrize("place", ["folder", "archive"])
@pytest.mark.parametrize("name", ["000.png", "005.png"])
def test_a_damaged_picture_is_named(tmp_path: Path, kind: str, place: str, name: str) -> None:
    numbered(tmp_path / "x", 12)
    (tmp_path / "x" / name).write_bytes(spoilt(kind, tmp_path / "x" / name))
    folder = tmp_path / "x"
    if place == "archive":
        folder = tmp_path / "x.zip"
        with zipfile.ZipFile(folder, "w") as archive:
            for path in (tmp_path / "x").iterdir():
                archive.write(path, path.name)
    with pytest.raises(UserError, match=rf"{folder.name}/{name} cannot be read as a picture"):
        gathered(read_pictures(folder))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no pictures"),
        (["a/1.png", "a/2.txt"], r"a/2\.txt is not a picture that can be read \(\.png, "),
        (["a/1.png", "b/1.png", "1.png"], r"/1\.png lies beside folders of classes; move it"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "has no training pictures of the class 'c'"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        paint(tmp_path / name, np.zeros((2, 2), dtype=np.uint8), format="PNG")
    with pytest.raises(UserError, match=message):
        read_pictures(tmp_path)


def test_a_place_that_is_missing_or_no_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is missing\. data\.reader\.folder names a folder or a ZIP archive"):
        read_pictures(tmp_path / "nowhere")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"a\.zip is not a ZIP archive"):
        read_pictures(tmp_path / "a.zip")


# Memory

LIMITED = """
import os, resource, sys
from pathlib import Path
from reader_helpers import *
from lookalike.readers import contract, idx, image_folder, table_file
from lookalike.readers.arrays import write

contract.CHUNK_BYTES = int(sys.argv[3])
read = {module.__name__.split(".")[-1]: module.read for module in (idx, image_folder, table_file)}[sys.argv[2]]
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
limit = used + int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    write(read(Path(sys.argv[1]), name="large", **json.loads(sys.argv[5])), Path(sys.argv[6]))
except MemoryError:
    sys.exit("too much memory")
"""
"""Prepare data in a process whose own memory is limited; files that are mapped into it do not count."""

MEGABYTE = 2**20


def large_idx(folder: Path) -> dict[str, Any]:
    """120 MB of images, compressed, and as much again plain."""
    images = np.zeros((120, 1000, 1000), dtype=np.uint8)
    (folder / "train").write_bytes(gzip.compress(idx_content(images), compresslevel=1))
    (folder / "test").write_bytes(idx_content(images))
    pairs = {split: {"images": split, "labels": None} for split in ("train", "test")}
    return {"md5": None, "classes": None, "validation": 20, "seed": 0} | pairs


def large_folder(folder: Path) -> dict[str, Any]:
    """160 MB of pictures."""
    one = io.BytesIO()
    Pillow.new("RGB", (730, 730), (200, 10, 30)).save(one, "PNG")
    for i in range(100):
        (folder / f"{i}.png").write_bytes(one.getvalue())
    return {
        "side": None, "channels": None, "background": None, "validation": 0.1, "test": 0.1, "expected": None, "seed": 0,
    }  # fmt: skip


def large_table(folder: Path) -> dict[str, Any]:
    """24 MB of numbers."""
    row = ",".join(map(str, range(100))) + "\n"
    (folder / "large.csv").write_text(row.replace(",", ",c").replace("0,", "c0,", 1) + row * 30_000)
    return {
        "file": "large.csv", "md5": None, "columns": None, "label": None, "validation": 0.1, "test": 0.1,
        "expected": None, "seed": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "make", "limit"),
    [("idx", large_idx, 60), ("image_folder", large_folder, 60), ("table_file", large_table, 60)],
)
def test_the_memory_that_preparing_takes_is_bounded_by_the_chunk(
    reader: str, make: Callable[[Path], dict[str, Any]], limit: int, tmp_path: Path
) -> None:
    (tmp_path / "raw").mkdir()
    arguments = json.dumps(make(tmp_path / "raw"))

    def prepare(chunk: int) -> str:
        (out := tmp_path / str(chunk)).mkdir()
        command = [sys.executable, "-c", LIMITED, str(tmp_path / "raw"), reader, str(chunk), str(limit * MEGABYTE),
                   arguments, str(out)]  # fmt: skip
        environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
        return done.stderr.strip()

    assert prepare(MEGABYTE) == ""
    assert "too much memory" in prepare(1024 * MEGABYTE)


# A data set of a known format is one YAML


FEATURES = """
features:
  _target_: lookalike.features.self_supervised.make
  batch_size: 8
  features: 16
"""


@pytest.fixture(scope="module")
def own_data(checkout: Path) -> Iterator[Path]:
    """A checkout with two data sets of a user's own: a folder of pictures and a table, each with one YAML."""
    yaml = (ROOT / "conf" / "data" / "emoji.yaml").read_text()
    settings = {
        "name: emoji": "name: mine", "folder: emoji/emoji.zip": "folder: mine", "side: 32": "side: 16",
        "channels: 3": "channels: null", "expected: 1905": "expected: null", "validation: 0.15": "validation: 0.25",
        "test: 0.15": "test: 0.25", "features:\n": FEATURES,
    }  # fmt: skip
    for old, new in settings.items():
        assert old in yaml
        yaml = yaml.replace(old, new)
    (checkout / "conf" / "data" / "mine.yaml").write_text(yaml)
    generator = np.random.default_rng(0)
    for name, colour in (("bright", 200), ("dark", 50)):
        for i in range(40):
            noise = generator.integers(0, 40, (20, 27, 3))
            paint(checkout / "data" / "mine" / name / f"{i}.png", (colour + noise).astype(np.uint8))
    columns = zip(generator.normal(20, 5, 200), range(200), generator.random(200), strict=True)
    rows = [f"{celsius:.1f},{day},{cloud:.2f}" for celsius, day, cloud in columns]
    (checkout / "data" / "weather").mkdir()
    (checkout / "data" / "weather" / "weather.csv").write_text("\n".join(["celsius,day,cloud", *rows]))
    (checkout / "conf" / "data" / "weather.yaml").write_text(
        """
name: weather
reader:
  _target_: lookalike.readers.table_file.read
  folder: weather
  file: weather.csv
  md5: null
  columns: null
  label: null
  validation: 0.1
  test: 0.2
  expected: null
  seed: 0
flops: 1.0e9
steps: 100
batch_size: 32
features: null
"""
    )
    yield checkout
    with contextlib.suppress(FileNotFoundError):
        for name in ("mine", "weather"):
            (checkout / "conf" / "data" / f"{name}.yaml").unlink()


def test_a_folder_of_pictures_takes_one_yaml(own_data: Path, run: Callable[..., Any]) -> None:
    for stage in ("prepare", "features", "train"):
        done = run(own_data, "python", "-m", "lookalike", stage, "data=mine", "model=independent", "budget=smoke",
                   "tracking=none")  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    prepared = Prepared(own_data / "artifacts" / "mine" / "prepared")
    assert prepared.domain.shape == (3, 16, 16)
    assert prepared.domain.labels == ("bright", "dark")
    assert {split: prepared.grid(split).shape for split in SPLITS} == {
        "train": (40, 3, 16, 16), "validation": (20, 3, 16, 16), "test": (20, 3, 16, 16),
    }  # fmt: skip
    bright = prepared.grid("train").mean(axis=(1, 2, 3)) > 130
    assert np.array_equal(bright, prepared.labels("train") == 0)
    assert (own_data / "tries" / "mine" / "independent" / "budget=smoke" / "train" / "model.json").is_file()


def test_too_few_pictures_for_a_batch_are_refused_before_anything_is_trained(
    own_data: Path, run: Callable[..., Any]
) -> None:
    settings = ("data=mine", "budget=smoke", "tracking=none")
    assert run(own_data, "python", "-m", "lookalike", "prepare", *settings).returncode == 0
    done = run(own_data, "python", "-m", "lookalike", "features", "data.features=null", *settings)
    assert done.returncode == 1
    message = "mine: data.features.batch_size=128: an extractor trains on batches of 128 images, the training set"
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_a_table_takes_one_yaml(own_data: Path, run: Callable[..., Any]) -> None:
    done = run(own_data, "python", "-m", "lookalike", "prepare", "data=weather", "tracking=none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "weather: there is no checksum or count to check it" in done.stdout
    prepared = Prepared(own_data / "artifacts" / "weather" / "prepared")
    assert prepared.domain.shape == (3,)
    assert [v.step for v in prepared.domain.ordered] == [0.1, 1.0, 0.01]
    assert len(prepared.values("train")) == 140
    assert (own_data / "artifacts" / "weather" / "summary" / "summary.png").stat().st_size > 1000


def test_a_data_set_of_one_s_own_has_a_dvc_file_beside_the_bundled_ones(
    own_data: Path, run: Callable[..., Any]
) -> None:
    done = run(own_data, "dvc", "add", "data/mine")
    assert done.returncode == 0, done.stdout + done.stderr
    status = run(own_data, "git", "status", "--short", "data").stdout
    assert "data/mine.dvc" in status or status.strip() == "?? data/"
    assert run(own_data, "dvc", "status", "data.dvc", "data/mine.dvc").stdout.strip().endswith("up to date.")


def test_what_is_written_is_what_the_source_yields(tmp_path: Path) -> None:
    numbered(tmp_path / "a", 12)
    numbered(tmp_path / "b", 12, first=50)
    (tmp_path / "out").mkdir()
    source = read_pictures(tmp_path / "a")
    write(source, tmp_path / "out")
    values, _ = gathered(source)
    for split in SPLITS:
        assert np.array_equal(Prepared(tmp_path / "out").values(split), values[split])
