"""Write an output folder as a whole or not at all."""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lookalike.workspace.configuration import ROOT
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import raise_from_now_on

OPTIONAL = re.compile(r"(train|validation|test)(_\w+)?\.npy|weights\.\w+")
"""Names of files that a stage writes for some settings only, so that an old one must not stay."""


def claim(draft: Path) -> int:
    """Lock a folder until the returned descriptor is closed or the process ends.

    The lock is on the folder itself, so that it goes away with the folder and leaves no lock file behind.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def check_replaceable(folder: Path, holds: Collection[str] | None) -> None:
    """Raise a UserError if a folder holds something that a stage did not write, and so must not be replaced."""
    if ROOT.is_relative_to(folder.resolve()):
        raise UserError(f"cannot write to {folder}: it holds this checkout, and would be replaced as a whole")
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise UserError(f"cannot write to {folder}: it is not a folder")
    foreign = sorted({path.name for path in folder.glob("*")} - set(holds)) if holds is not None else []
    if foreign:
        raise UserError(
            f"cannot write to {folder}: it would be replaced as a whole, and {foreign[0]} in it is not from this stage"
        )


@contextmanager
def writing(folder: Path, *, holds: Collection[str] | None = None) -> Iterator[Path]:
    """Yield a draft folder that replaces `folder` if the block succeeds, and is deleted if it fails.

    What a killed process left behind is deleted first.

    Args:
        folder: the output folder; the one of an earlier run is replaced, and a user's own files in it stay.
        holds: the only names that the folder may contain; None if it belongs to the stage alone.

    Raises:
        UserError: the place is not writable, holds something else, or another process is writing there; this is
            raised before the block runs.
        KeyboardInterrupt: Ctrl-C or SIGTERM stopped the process.
    """
    check_replaceable(folder, holds)
    raise_from_now_on()
    draft, old = (folder.parent / f".{folder.name}-{part}" for part in ("draft", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        if old.exists():
            carry_over(old, folder) if folder.exists() else old.rename(folder)
        if draft.exists():
            os.close(claim(draft))
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o755)
        claimed = claim(draft)
    except BlockingIOError:
        raise UserError(f"cannot write to {folder}: another process does, and must end first") from None
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        yield draft
        if folder.exists():
            folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        if old.exists():
            carry_over(old, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(claimed)


def carry_over(old: Path, new: Path) -> None:
    """Move the files that no stage wrote from an old output folder into the one that replaces it."""
    for path in old.iterdir():
        kept = new / path.name
        if path.is_dir() and kept.is_dir():
            carry_over(path, kept)
        elif not os.path.lexists(kept) and not OPTIONAL.fullmatch(path.name):
            path.rename(kept)
