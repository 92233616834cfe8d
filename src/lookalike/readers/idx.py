"""Images in IDX files, the format of MNIST, plain or compressed with gzip.

An IDX file is two zero bytes, the type of the numbers (8: unsigned bytes), the number of axes, the length of each axis
as a big-endian 32-bit integer, and the numbers (http://yann.lecun.com/exdb/mnist).
"""

import gzip
import math
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.domain.domain import Domain
from lookalike.domain.image import Image, pixel
from lookalike.domain.prepared import Split
from lookalike.readers.contract import RESTORE, Chunk, Rows, Source, check_file, check_md5, in_chunks, split_at_random
from lookalike.workspace.errors import UserError
from lookalike.workspace.ranges import NonNegativeInt, PositiveInt, settings

Bytes = NDArray[np.uint8]

GZIP, UNSIGNED_BYTES = b"\x1f\x8b", b"\0\0\x08"


@settings
class Pair(TypedDict):
    """Names of the file of images and of the file of their labels; null if there are no labels."""

    images: str
    labels: str | None


def unpacked(path: Path) -> BinaryIO:
    """Return the open file, or a temporary file with its content if it is compressed with gzip."""
    raw = path.open("rb")
    compressed = raw.read(len(GZIP)) == GZIP
    raw.seek(0)
    if not compressed:
        return raw
    content = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        with raw, gzip.open(raw) as stream:
            shutil.copyfileobj(stream, content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"raw data damaged: {path} does not decompress ({error}). {RESTORE}") from None
    return content


def open_idx(path: Path, *, axes: int, md5: str | None) -> Bytes:
    """Return the array in an IDX file, memory-mapped.

    Args:
        path: the file.
        axes: number of axes that the array must have.
        md5: MD5 sum of the uncompressed content, in hexadecimal; null if it is not checked.

    Raises:
        UserError: the file is missing or damaged, or holds another array.
    """
    check_file(path)
    content = unpacked(path)
    size = content.seek(0, 2)
    content.seek(0)
    header = content.read(4 + 4 * axes).ljust(4 + 4 * axes, b"\0")
    sizes = struct.unpack(f">{axes}I", header[4:])
    if header[:4] != UNSIGNED_BYTES + bytes([axes]) or len(header) + math.prod(sizes) != size or not all(sizes):
        raise UserError(f"raw data damaged: {path} is not an IDX file of unsigned bytes with {axes} axes. {RESTORE}")
    if md5 is not None:
        check_md5(path, content, md5)
    return np.memmap(content, dtype=np.uint8, mode="r", offset=len(header), shape=sizes)


def open_pair(folder: Path, pair: Pair, md5: dict[str, str]) -> tuple[Bytes, Bytes]:
    """Return the images `[N, H, W]` and the labels `[N]` or `[0]` of one pair of files."""
    images = open_idx(folder / pair["images"], axes=3, md5=md5.get(pair["images"]))
    if pair["labels"] is None:
        return images, np.zeros(0, dtype=np.uint8)
    labels = open_idx(folder / pair["labels"], axes=1, md5=md5.get(pair["labels"]))
    if len(labels) != len(images):
        raise UserError(f"{folder / pair['labels']}: {len(labels)} labels for {len(images)} images")
    return images, np.array(labels)


def class_names(labels: list[Bytes], classes: list[str] | None, *, name: str) -> tuple[str, ...]:
    """Return the names of the classes that occur in several arrays of labels; none if all are empty."""
    count = 1 + max((int(part.max()) for part in labels if len(part)), default=-1)
    if classes is not None and len(classes) < count:
        raise UserError(f"data.reader.classes={classes}: {name} has labels from 0 to {count - 1}; name all of them")
    return tuple(classes if classes is not None else map(str, range(count)))


def read(
    folder: Path,
    *,
    name: str,
    train: Pair,
    test: Pair,
    md5: dict[str, str] | None,
    classes: list[str] | None,
    validation: PositiveInt,
    seed: NonNegativeInt,
) -> Source:
    """Read grey images of 8 bits per pixel.

    Args:
        folder: the folder of the files.
        name: name of the data set.
        train, test: file names of the images and labels of the two splits.
        md5: MD5 sums of the uncompressed content of files, by file name; others are not checked.
        classes: names of the classes; null names them by their numbers.
        validation: number of training images that are held out at random for validation.
        seed: seed of that choice, and of the order of the training images.

    Raises:
        UserError: a file is missing, damaged or altered, or the files do not fit together.
    """
    images, labels = open_pair(folder, train, md5 or {})
    test_images, test_labels = open_pair(folder, test, md5 or {})
    if not 0 < validation < len(images):
        raise UserError(f"data.reader.validation={validation}: choose between 1 and {len(images) - 1}")
    if images.shape[1:] != test_images.shape[1:]:
        raise UserError(f"{name}: training images are {images.shape[1:]} pixels, test images {test_images.shape[1:]}")
    domain = Image(
        name=name,
        shape=(1, *images.shape[1:]),
        variables=(pixel(),),
        labels=class_names([labels, test_labels], classes, name=name),
    )
    held_out, kept = split_at_random(len(images), [validation], seed=seed)

    def chunks() -> Iterator[Chunk]:
        yield from rows_of(domain, "train", kept, images, labels)
        yield from rows_of(domain, "validation", held_out, images, labels)
        yield from rows_of(domain, "test", np.arange(len(test_images)), test_images, test_labels)

    counts = {"training images": len(images), "test images": len(test_images)}
    return Source(
        domain=domain, chunks=chunks, expected={"md5 of the uncompressed files": md5, **counts} if md5 else {}
    )


def rows_of(domain: Domain, split: Split, rows: Rows, images: Bytes, labels: Bytes) -> Iterator[Chunk]:
    """Return the chunks of some rows of images `[N, H, W]` and labels `[N]`."""
    return in_chunks(domain, split, rows, lambda part: np.array(images[part][:, None]), labels)
