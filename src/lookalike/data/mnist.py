"""MNIST: 70,000 handwritten digits of 28x28 8-bit pixels (LeCun, Cortes, Burges; http://yann.lecun.com/exdb/mnist)."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.ranges import NonNegativeInt, PositiveInt
from lookalike.data import Raw, check_file, check_md5, split_at_random

MD5_OF_UNCOMPRESSED = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def read_idx(path: Path, expected_md5: str) -> NDArray[np.uint8]:
    """The array in a gzipped IDX file: two zero bytes, a type, a rank, big-endian sizes, then the values."""
    check_file(path)
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"raw data damaged: {path} does not decompress ({error}). Delete it and run `dvc checkout data.dvc`"
        ) from None
    check_md5(path, content, expected_md5)
    rank = content[3]
    sizes = np.frombuffer(content, dtype=">u4", count=rank, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape([int(size) for size in sizes])


def read(folder: Path, *, validation: PositiveInt, seed: NonNegativeInt) -> Raw:
    """Read the four files; MNIST's own test set stays the test set.

    Args:
        folder: the folder that holds the four gzipped IDX files.
        validation: images held out of the 60,000 training images, at random.
        seed: of that choice.
    """
    arrays: dict[str, Any] = {name: read_idx(folder / f"{name}.gz", md5) for name, md5 in MD5_OF_UNCOMPRESSED.items()}
    images = arrays["train-images-idx3-ubyte"][:, None]
    labels = arrays["train-labels-idx1-ubyte"]
    if not 0 < validation < len(images):
        raise UserError(f"data.reader.validation={validation}: choose between 1 and {len(images) - 1}")
    held_out, kept = split_at_random(len(images), [validation], seed=seed)
    return Raw(
        domain=Domain(
            name="mnist",
            kind="image",
            shape=(1, 28, 28),
            levels=256,
            low=(0.0,),
            step=(1.0,),
            unit="intensity",
            labels=tuple("0123456789"),
            location=(127.5,),
            scale=(127.5,),
        ),
        values={
            "train": images[kept],
            "validation": images[held_out],
            "test": arrays["t10k-images-idx3-ubyte"][:, None],
        },
        labels={"train": labels[kept], "validation": labels[held_out], "test": arrays["t10k-labels-idx1-ubyte"]},
        expected={"md5 of the uncompressed files": MD5_OF_UNCOMPRESSED, "training images": 60000, "test images": 10000},
    )
