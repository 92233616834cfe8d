"""Write an output folder as a whole or not at all."""

import errno
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lookalike.workspace.configuration import ROOT
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import raise_from_now_on
from lookalike.workspace.locks import claim

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


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
        folder: the output folder; the one of an earlier run is replaced as a whole.
        holds: the only names that the folder may contain; None if it belongs to the stage alone.

    Raises:
        UserError: before the block runs: the place is not writable, holds something else, or another process is
            writing there; afterwards: the disk is full.
        KeyboardInterrupt: Ctrl-C or SIGTERM stopped the process.
    """
    check_replaceable(folder, holds)
    raise_from_now_on()
    draft, old = (folder.parent / f".{folder.name}-{part}" for part in ("draft", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        if old.exists() and not folder.exists():
            old.rename(folder)
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
        if folder.exists():
            folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        raise UserError(f"cannot write to {folder}: {problem}; what stood there before is unchanged") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        release()
