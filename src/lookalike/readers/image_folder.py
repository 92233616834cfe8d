"""A folder of pictures, or a ZIP archive of one: PNG, JPEG, WebP, and the first frame of GIF.

Pictures lie in the folder itself, or in one folder per class. Above these there may be the folders `train`,
`validation` (or `val`, `valid`) and `test`; a split without a folder is held out of the training pictures.
"""

import contextlib
import dataclasses
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageColor, ImageOps

from lookalike.domain.image import Image, pixel
from lookalike.domain.prepared import SPLITS, Split
from lookalike.readers.contract import CHUNK_BYTES, Chunk, Rows, Source, in_chunks
from lookalike.workspace.errors import UserError
from lookalike.workspace.litter import LITTER
from lookalike.workspace.ranges import Fraction, NonNegativeInt, PositiveInt

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")

IGNORED = {*map(str.lower, LITTER), "__macosx"}
"""Names of files that are no pictures, in lower case; names that begin with a dot are ignored too."""

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test",
}  # fmt: skip

MAX_FILE_BYTES = 2**28
"""Largest size of one picture's file; an archive can hold files that are a thousand times larger than itself."""

GREY_MODES = ("1", "L", "LA", "La")

ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, Pillow.DecompressionBombError)

Bytes = NDArray[np.uint8]

Opener = Callable[[str], IO[bytes]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """The pictures of a folder or an archive.

    Attributes:
        place: the folder or the archive.
        names: sorted names of the pictures, relative to the place, with slashes.
    """

    place: Path
    names: list[str]

    @contextlib.contextmanager
    def opened(self) -> Iterator[Opener]:
        """Return a function that opens a picture by its name."""
        if self.place.is_dir():
            yield lambda name: (self.place / name).open("rb")
        else:
            with zipfile.ZipFile(self.place) as archive:
                yield archive.open


def list_files(place: Path) -> Files:
    """Return the pictures of a folder or an archive.

    Raises:
        UserError: there is no such place, it holds no pictures, or a file in it is none.
    """
    if place.is_dir():
        walked = [Path(folder, file) for folder, _, files in os.walk(place) for file in files]
        found = [path.relative_to(place).as_posix() for path in walked]
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            found = [name for name in archive.namelist() if not name.endswith("/")]
    else:
        reason = "is not a ZIP archive" if place.is_file() else "is missing"
        raise UserError(
            f"raw data: {place} {reason}. data.reader.folder names a folder or a ZIP archive; `lookalike data` "
            f"brings the bundled data sets"
        )
    names = sorted(name for name in found if not is_ignored(name))
    if not names:
        raise UserError(f"raw data: {place} holds no pictures ({', '.join(SUFFIXES)})")
    for name in names:
        if not name.lower().endswith(SUFFIXES):
            raise UserError(f"raw data: {place / name} is not a picture that can be read ({', '.join(SUFFIXES)})")
    return Files(place=place, names=names)


def is_ignored(name: str) -> bool:
    """Return whether a file is hidden, or one of those that desktops leave in folders."""
    return any(part.startswith(".") or part.lower() in IGNORED for part in PurePosixPath(name).parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Splits and classes of pictures, by their place in the folder.

    Attributes:
        splits: the split of each picture that lies below the folder of a split; None where there are no such folders.
        labels: the class number of each picture; of length 0 without classes.
        classes: names of the classes.
    """

    splits: list[Split] | None
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def layout_of(files: Files) -> Layout:
    """Return the splits and classes that the folders above the pictures say.

    Raises:
        UserError: some pictures lie in the folder of a class and some in none, or a class has no training picture.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in files.names]
    # An archive often holds the one folder that it was made of.
    while all(folders) and len({parts[0] for parts in folders}) == 1 and folders[0][0].lower() not in SPLIT_NAMES:
        folders = [parts[1:] for parts in folders]
    tops = {parts[0].lower() if parts else "" for parts in folders}
    splits = None
    if "train" in tops and tops <= set(SPLIT_NAMES):
        splits = [SPLIT_NAMES[parts[0].lower()] for parts in folders]
        folders = [parts[1:] for parts in folders]
    classes = sorted({parts[0] for parts in folders if parts})
    if classes and not all(folders):
        alone = files.names[[bool(parts) for parts in folders].index(False)]
        raise UserError(f"raw data: {files.place / alone} lies beside folders of classes; move it into one of them")
    if len(classes) < 2:
        return Layout(splits=splits, labels=np.zeros(0, dtype=np.int64), classes=())
    labels = np.array([classes.index(parts[0]) for parts in folders])
    if splits is not None:
        trained = {classes[label] for label, split in zip(labels, splits, strict=True) if split == "train"}
        if lacking := sorted(set(classes) - trained):
            raise UserError(f"raw data: {files.place} has no training pictures of the class {lacking[0]!r}")
    return Layout(splits=splits, labels=labels, classes=tuple(classes))


def assign(layout: Layout, count: int, *, shares: dict[Split, float | None], seed: int) -> dict[Split, Rows]:
    """Return the numbers of the pictures of each split, in a random order.

    A split without a folder takes its share of every class from the training pictures.

    Raises:
        UserError: a share is given for a split that has a folder, or is missing for one that has none.
    """
    order = np.random.default_rng(seed).permutation(count)
    splits = np.array(["train"] * count if layout.splits is None else layout.splits, dtype="U10")
    labels = layout.labels if len(layout.labels) else np.zeros(count, dtype=np.int64)
    own, training = set(splits.tolist()), splits == "train"
    for split, share in shares.items():
        if (split in own) != (share is None):
            what = "the folder has its own; set it to null" if split in own else "the folder has none; set a share"
            raise UserError(f"data.reader.{split}={'null' if share is None else share}: {what}")
    if sum(share or 0.0 for share in shares.values()) >= 1:
        raise UserError(f"data.reader: the shares {shares} leave nothing to train on")
    for label in range(labels.max() + 1):
        members = order[(labels[order] == label) & training[order]]
        start = 0
        for split, share in shares.items():
            stop = start + round(len(members) * (share or 0.0))
            splits[members[start:stop]] = split
            start = stop
    return {split: order[splits[order] == split] for split in SPLITS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """Settings for turning a picture into an array.

    Attributes:
        side: height and width, to which the shortest side is resized before the centre is cut out; None keeps sizes.
        channels: 1 for grey, 3 for colour.
        background: colour that shows through transparent pixels.
    """

    side: int | None
    channels: int
    background: str

    def load(self, file: IO[bytes]) -> Bytes:
        """Return a picture as an array `[channels, H, W]`."""
        with Pillow.open(file) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode[0] in "IF":
                raise ValueError("it has more than 8 bits per channel")
            if picture.has_transparency_data:
                colours = picture.convert("RGBA")
                picture = Pillow.alpha_composite(Pillow.new("RGBA", colours.size, self.background), colours)
            picture = picture.convert("L" if self.channels == 1 else "RGB")
        if self.side is not None:
            picture = ImageOps.fit(picture, (self.side, self.side), Pillow.Resampling.BICUBIC)
        array = np.asarray(picture)
        return array[None] if self.channels == 1 else array.transpose(2, 0, 1)


def load(files: Files, open_file: Opener, name: str, style: Style) -> Bytes:
    """Return the picture of one file `[channels, H, W]`.

    Raises:
        UserError: the file is damaged, or not a picture; the message names it.
    """
    try:
        with open_file(name) as file:
            content = io.BytesIO()
            while block := file.read(CHUNK_BYTES):
                content.write(block)
                if content.tell() > MAX_FILE_BYTES:
                    raise ValueError(f"it has more than {MAX_FILE_BYTES >> 20} MiB")
        return style.load(content)
    except (OSError, SyntaxError, ValueError, RuntimeError, *ARCHIVE_ERRORS) as error:
        raise UserError(f"raw data: {files.place / name} cannot be read as a picture ({error})") from None


def channels_of(files: Files) -> int:
    """Return 1 if all pictures are grey, else 3; only the heads of the files are read."""
    with files.opened() as open_file:
        for name in files.names:
            # `load` reports a file that is not a picture.
            suppressed = contextlib.suppress(OSError, SyntaxError, ValueError, RuntimeError, *ARCHIVE_ERRORS)
            with suppressed, open_file(name) as file, Pillow.open(file) as picture:
                if picture.mode not in GREY_MODES:
                    return 3
    return 1


def check_colour(background: str) -> None:
    """Raise a UserError unless the background is a colour."""
    try:
        ImageColor.getrgb(background)
    except ValueError:
        raise UserError(f'data.reader.background={background}: give the name of a colour, or "#rrggbb"') from None


def read(
    folder: Path,
    *,
    name: str,
    side: PositiveInt | None,
    channels: Literal[1, 3] | None,
    background: str | None,
    validation: Fraction | None,
    test: Fraction | None,
    expected: PositiveInt | None,
    seed: NonNegativeInt,
) -> Source:
    """Read pictures of 8 bits per channel.

    Args:
        folder: the folder or the ZIP archive.
        name: name of the data set.
        side: height and width of the images: the shortest side of a picture is resized to it and the centre cut out;
            null keeps pictures as they are, and they must all have the same size.
        channels: 1 for grey, 3 for colour; null for grey if all pictures are grey, else colour.
        background: colour under transparent pixels, by its name or as "#rrggbb"; null for white.
        validation, test: shares of every class that are held out; null for a split that has a folder.
        expected: number of pictures that there must be; null if it is not checked.
        seed: seed of the split, and of the order of the pictures.

    Raises:
        UserError: there are no pictures, a file is not a picture, or an argument does not fit the folder.
    """
    background = background or "white"
    check_colour(background)
    files = list_files(folder)
    if expected not in (None, len(files.names)):
        raise UserError(f"data.reader.expected={expected}: {folder} holds {len(files.names)} pictures")
    layout = layout_of(files)
    rows = assign(layout, len(files.names), shares={"validation": validation, "test": test}, seed=seed)
    style = Style(side=side, channels=channels or channels_of(files), background=background)
    with files.opened() as open_file:
        shape = load(files, open_file, files.names[0], style).shape
    domain = Image(name=name, shape=shape, variables=(pixel(),), labels=layout.classes)

    def chunks() -> Iterator[Chunk]:
        with files.opened() as open_file:

            def images(part: Rows) -> Bytes:
                stacked = np.empty((len(part), *shape), dtype=np.uint8)
                for place, row in zip(stacked, part, strict=True):
                    image = load(files, open_file, files.names[row], style)
                    if image.shape != shape:
                        raise UserError(different_sizes(files, row, image, shape))
                    place[...] = image
                return stacked

            for split in SPLITS:
                yield from in_chunks(domain, split, rows[split], images, layout.labels)

    return Source(domain=domain, chunks=chunks, expected={} if expected is None else {"pictures": expected})


def different_sizes(files: Files, row: int, image: Bytes, shape: tuple[int, ...]) -> str:
    """Return the message for a picture whose size is not that of the first one."""
    (_, height, width), (_, first_height, first_width) = image.shape, shape
    return (
        f"data.reader.side=null: {files.place / files.names[row]} has {width}x{height} pixels and "
        f"{files.names[0]} {first_width}x{first_height}; set a side, to which all are resized"
    )
