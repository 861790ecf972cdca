"""One run at a time in a folder."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from colm_vl.errors import InputError

_LOCK = "run.lock"
_MARKER = "run.pid"
_MARKER_SECONDS = 3.0
"""filelock takes this long, at most, to see that whoever left a marker on this host is dead."""
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. The system gives it free when the process ends, however it ends.

    Where the file system has no locks, a file with the process's number and its host stands for one; one that a dead
    process of this host left is taken over. Raises `InputError` if another run has it.
    """
    lock = _acquire(folder)
    try:
        yield
    finally:
        lock.release()


def _acquire(folder: Path) -> BaseFileLock:
    # One thread opens a folder, another closes it.
    lock: BaseFileLock = FileLock(folder / _LOCK, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another run is working in {folder}", hint="wait until it ends, or choose another folder"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return _acquire_marker(folder / _MARKER)
    return lock


def _acquire_marker(path: Path) -> BaseFileLock:
    lock = SoftFileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=_MARKER_SECONDS)
    except Timeout:
        raise InputError(
            f"another run{_holder(path)} is working in {path.parent}, or was killed there",
            hint=f"wait until it ends; if there is none, delete {path}",
        ) from None
    return lock


def _holder(marker: Path) -> str:
    try:
        process, host, *_ = marker.read_text("utf-8").split()
    except (OSError, ValueError):
        return ""
    return f" (process {process} on {host})"
