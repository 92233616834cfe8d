"""Write an output folder as a whole or not at all, and leave the files of others in it alone."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lookalike.workspace.configuration import ROOT
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import raise_from_now_on
from lookalike.workspace.locks import claim

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

OPTIONAL = re.compile(r"(train|validation|test)(_\w+)?\.npy|weights\.\w+")
"""Names of files that a stage writes for some settings only, so that an old one must not stay."""


def disk_problem(error: BaseException | None) -> str | None:
    """Return in words why the disk refused a write, or None if the error has another cause."""
    while error is not None and not isinstance(error, UserError):
        # Libraries raise errors of their own, without the number, or fail again when they close the file.
        for number in DISK_ERRORS:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        if re.fullmatch(r"\d+ requested and \d+ written", str(error)):  # by NumPy
            return os.strerror(errno.ENOSPC)
        error = error.__cause__ or error.__context__
    return None


def check_replaceable(folder: Path) -> None:
    """Raise a UserError if a folder must not be replaced."""
    if ROOT.is_relative_to(folder.resolve()):
        raise UserError(f"cannot write to {folder}: it holds this checkout, and would be replaced as a whole")
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise UserError(f"cannot write to {folder}: it is not a folder")


def optional_files(folder: Path) -> list[Path]:
    """Return the files of a stage's output folder that its next run may not write."""
    return [path for path in folder.rglob("*") if OPTIONAL.fullmatch(path.name)]


@contextmanager
def writing(folder: Path, *, own: Callable[[Path], Iterable[Path]] = optional_files) -> Iterator[Path]:
    """Yield a draft folder that replaces `folder` if the block succeeds, and is deleted if it fails.

    What a killed process left behind is deleted first.

    Args:
        folder: the output folder; the one of an earlier run is replaced, and a user's own files in it stay.
        own: returns the files in the old folder that an earlier run wrote and that must not stay if the draft has no
            file of their name.

    Raises:
        UserError: before the block runs: the place is not writable, or another process is writing there; afterwards:
            the disk is full.
        KeyboardInterrupt: Ctrl-C or SIGTERM stopped the process.
    """
    check_replaceable(folder)
    raise_from_now_on()
    draft, old = (folder.parent / f".{folder.name}-{part}" for part in ("draft", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        if old.exists():
            carry_over(old, folder, {*own(old)}) if folder.exists() else old.rename(folder)
        if draft.exists():
            claim(draft)()
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o755)
        release = claim(draft)
    except BlockingIOError as error:
        raise UserError(f"cannot write to {folder}: another process does, and must end first{error}") from None
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        yield draft
        left: set[Path] = set()
        if folder.exists():
            left = {old / path.relative_to(folder) for path in own(folder)}
            folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        if old.exists():
            carry_over(old, folder, left)
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        raise UserError(f"cannot write to {folder}: {problem}; what stood there before is unchanged") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        release()


def carry_over(old: Path, new: Path, left: set[Path]) -> None:
    """Move a user's files from an old output folder into the one that replaces it: all but the files in `left`."""
    for path in old.iterdir():
        kept = new / path.name
        if path.is_dir() and kept.is_dir():
            carry_over(path, kept, left)
        elif not os.path.lexists(kept) and path not in left:
            path.rename(kept)
