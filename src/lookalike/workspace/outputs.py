"""Write an output folder as a whole or not at all, and leave the files of others in it alone."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lookalike.workspace.configuration import ROOT
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import raise_from_now_on
from lookalike.workspace.litter import files_below


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


def check_replaceable(folder: Path) -> None:
    """Raise a UserError if a folder must not be replaced."""
    if ROOT.is_relative_to(folder.resolve()):
        raise UserError(f"cannot write to {folder}: it holds this checkout, and would be replaced as a whole")
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise UserError(f"cannot write to {folder}: it is not a folder")


def merge(draft: Path, folder: Path, old: Iterable[Path]) -> None:
    """Move the files of a draft into a folder, and delete old files that none of them replaces."""
    new = [folder / path.relative_to(draft) for path in files_below(draft)]
    for path in new:
        path.parent.mkdir(parents=True, exist_ok=True)
        (draft / path.relative_to(folder)).replace(path)
    for path in set(old) - set(new):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path, *, own: Callable[[Path], Iterable[Path]] | None = None) -> Iterator[Path]:
    """Yield a draft folder that replaces `folder` if the block succeeds, and is deleted if it fails.

    What a killed process left behind is deleted first.

    Args:
        folder: the output folder; the one of an earlier run is replaced as a whole.
        own: for a folder that others may put files into, returns the files in it that an earlier run wrote; the draft
            replaces these alone. None if the folder belongs to the stage alone.

    Raises:
        UserError: the place is not writable, or another process is writing there; this is raised before the block
            runs.
        KeyboardInterrupt: Ctrl-C or SIGTERM stopped the process.
    """
    check_replaceable(folder)
    raise_from_now_on()
    draft, old = (folder.parent / f".{folder.name}-{part}" for part in ("draft", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        if old.exists() and not folder.exists():
            old.rename(folder)
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
        if own is not None and folder.exists():
            merge(draft, folder, list(own(folder)))
            return
        if folder.exists():
            folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(claimed)
