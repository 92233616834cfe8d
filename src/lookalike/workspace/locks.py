"""Locks between processes, also on file systems without `flock`, such as some network drives."""

import errno
import fcntl
import functools
import os
from collections.abc import Callable
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of `flock` where the file system has no such locks."""


def claim(draft: Path) -> Callable[[], None]:
    """Lock a folder until the returned function is called or the process ends.

    The lock is on the folder itself, so that it goes away with the folder and leaves no lock file behind. Without
    `flock`, a file beside the folder is the lock; a later process of this machine deletes it if its owner was killed.

    Raises:
        BlockingIOError: another process holds the lock; the message names the process, if the system knows it.
    """
    try:
        return functools.partial(os.close, flock(draft))
    except BlockingIOError:
        raise BlockingIOError(holder_of(draft)) from None
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
    lock = SoftFileLock(draft.with_name(f"{draft.name}-lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        pid = Path(lock.lock_file).read_text().partition("\n")[0]
        raise BlockingIOError(f" (pid {pid}, see {lock.lock_file})") from None
    return lock.release


def file_lock(path: Path, *, timeout: float = -1) -> BaseFileLock:
    """Return filelock's lock on a file, of the kind that its file system allows; create the file's folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(flock(path.parent))
    except OSError as error:
        if error.errno in NO_FLOCK:
            return SoftFileLock(path, timeout=timeout)
    return FileLock(path, timeout=timeout)


def flock(folder: Path) -> int:
    """Lock a folder until the returned descriptor is closed; raise BlockingIOError if another process has locked it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def holder_of(folder: Path) -> str:
    """Return ` (pid N)`, for the process that has locked a folder; an empty string where the system does not say."""
    try:
        locks, inode = Path("/proc/locks").read_text().splitlines(), folder.stat().st_ino
    except OSError:
        return ""
    found = [line.split() for line in locks if f":{inode} " in line and " FLOCK " in line and "->" not in line]
    return f" (pid {found[0][4]})" if found else ""
