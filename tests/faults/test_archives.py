"""Archives that are made to harm: files that grow when they are read, paths that lead out, pictures too large."""

import io
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lookalike.readers.contract import Source
from lookalike.readers.image_folder import MAX_FILE_BYTES, read
from lookalike.workspace.errors import UserError


def picture(value: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8), value).save(content, "png")
    return content.getvalue()


def huge_header() -> bytes:
    """Return the beginning of a PNG of 60,000 times 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.fixture
def source(tmp_path: Path) -> Callable[[dict[str, bytes]], Source]:
    """`source(files)`: the reader of an archive with thirty pictures and some more files."""

    def make(files: dict[str, bytes]) -> Source:
        with zipfile.ZipFile(tmp_path / "mine.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in ({f"{i}.png": picture(i) for i in range(30)} | files).items():
                archive.writestr(name, content)
        settings: dict[str, Any] = {"channels": None, "background": None, "expected": None, "seed": 0}
        return read(tmp_path / "mine.zip", name="mine", side=8, validation=0.2, test=0.2, **settings)

    return make


def test_a_file_that_grows_when_it_is_read_is_refused_in_bounded_memory(source: Callable[..., Source]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"bomb\.png cannot be read as a picture \(it has more than 256 MiB\)"):
        list(source({"bomb.png": bytes(2 * MAX_FILE_BYTES)}).chunks())
    # The content, which this test makes itself, and one read of the largest size.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5 * MAX_FILE_BYTES / 1024


def test_a_picture_of_billions_of_pixels_is_refused(source: Callable[..., Source]) -> None:
    with pytest.raises(UserError, match=r"wide\.png cannot be read as a picture"):
        list(source({"wide.png": huge_header()}).chunks())


def test_paths_that_lead_out_of_an_archive_write_nothing(source: Callable[..., Source], tmp_path: Path) -> None:
    # Names with ".." are ignored like other hidden files.
    list(source({"../out.png": picture(1), "a/../../out.png": picture(2)}).chunks())
    with pytest.raises(UserError, match="lies beside folders of classes"):
        source({"/etc/lookalike/out.png": picture(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.zip"]
    assert not (tmp_path.parent / "out.png").exists()
    assert not Path("/etc/lookalike").exists()
