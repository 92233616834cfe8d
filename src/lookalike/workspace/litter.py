"""The files that desktops and editors leave in folders. They belong to nobody's data and change no digest."""

import fnmatch
from collections.abc import Iterator
from pathlib import Path, PurePath

LITTER = (".DS_Store", "._*", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints", ".~lock.*#")
"""Patterns of their names. `.dvcignore` and `.gitignore` list the same ones."""

CACHES = ("__pycache__",)
"""Folders that Python writes beside sources."""


def is_litter(name: PurePath) -> bool:
    """Return whether a path, relative to the folder that is looked at, is litter or lies in a folder that is."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in name.parts for pattern in (*LITTER, *CACHES))


def files_below(folder: Path, pattern: str = "*") -> Iterator[Path]:
    """Yield the files below a folder, sorted, without litter."""
    for path in sorted(folder.rglob(pattern)):
        if path.is_file() and not is_litter(path.relative_to(folder)):
            yield path
