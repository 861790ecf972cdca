"""Lets only one run at a time use a folder."""

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
"""filelock takes at most this long to detect that the process which left a marker on this host has ended."""
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})


@contextmanager
def locked(folder: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the folder's lock. The operating system releases it when the process ends or is killed.

    If the file system does not support locks, a file with the process id and the host name is used instead; it is taken
    over if its process was on this host and has ended. Raises `InputError` if another run holds the lock for more than
    `patience` seconds.
    """
    lock = _acquire(folder, patience)
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a run holds the folder's lock now."""
    try:
        with locked(folder):
            return False
    except InputError:
        return True


def _acquire(folder: Path, patience: float) -> BaseFileLock:
    # Not thread-local: a folder is opened in one thread and closed in another.
    lock: BaseFileLock = FileLock(folder / _LOCK, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise InputError(
            f"another run is using {folder}", hint="wait until it ends, or choose another folder"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return _acquire_marker(folder / _MARKER, patience)
    return lock


def _acquire_marker(path: Path, patience: float) -> BaseFileLock:
    lock = SoftFileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=max(patience, _MARKER_SECONDS))
    except Timeout:
        raise InputError(
            f"another run{_holder(path)} is using {path.parent}, or was killed there",
            hint=f"wait until it ends; if it no longer exists, delete {path}",
        ) from None
    return lock


def _holder(marker: Path) -> str:
    try:
        process, host, *_ = marker.read_text("utf-8").split()
    except (OSError, ValueError):
        return ""
    return f" (process {process} on {host})"
