"""Keys of callers: who may use the service, with which weight and quota.

A key is a random token of 256 bits. The file has only its SHA-256, from which it cannot be recovered; a slow hash is
for passwords that can be guessed. The file is read again whenever it has changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock
from pydantic import Field

from colm_vl._tables import Table, validate
from colm_vl._toml import read_toml
from colm_vl.errors import ConfigError
from colm_vl.service.queue import Caller, Quota

logger = logging.getLogger(__name__)

ANONYMOUS: Final = Caller("anonymous")
"""Whoever asks on loopback, if there are no keys."""

_PREFIX = "colm-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HINT = "colm-vl keys add NAME makes one"


class QuotaTable(Table):
    """See `Quota`."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    at_once: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)


class KeyEntry(QuotaTable):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    weight: float = Field(default=1.0, gt=0, le=1000)

    def caller(self, name: str) -> Caller:
        return Caller(name, self.weight, Quota(self.requests_per_minute, self.at_once, self.tokens_per_day))


class _KeysTable(Table):
    keys: dict[str, KeyEntry] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Version:
    """Changes whenever the file does."""

    modified: int
    size: int
    inode: int


class KeyRing:
    """The keys of a file. Raises `ConfigError` if the file is invalid."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version = _version(file)
        self._callers = _callers(file)

    def find(self, key: str) -> Caller | None:
        """Whose key it is. If the file has become invalid, the keys that it had before count."""
        self._refresh()
        return self._callers.get(_digest(key))

    @property
    def callers(self) -> Collection[Caller]:
        self._refresh()
        return self._callers.values()

    def _refresh(self) -> None:
        version = _version(self._file)
        if version != self._version:
            self._version = version
            try:
                self._callers = _callers(self._file)
            except ConfigError as error:
                logger.error("the keys from before remain valid: %s", error)


def read(file: Path) -> Mapping[str, KeyEntry]:
    """The entries by name, without the keys themselves, which are not known."""
    if not file.exists():
        return {}
    return validate(_KeysTable, read_toml(file, "keys file"), file.name).keys


def add(file: Path, name: str, weight: float, quota: QuotaTable) -> str:
    """Make a key and return it. Raises `ConfigError` if the name is taken or invalid."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!a} is not a name for a key", hint="letters, digits, - and _, at most 64")
    key = _PREFIX + secrets.token_urlsafe(32)
    with _locked(file):
        entries = dict(read(file))
        if name in entries:
            raise ConfigError(f"{file.name} has a key {name!r}", hint=f"colm-vl keys revoke {name} removes it")
        own = {"sha256": _digest(key), "weight": weight, **quota.model_dump(exclude_none=True)}
        _write(file, {**entries, name: validate(KeyEntry, own, f"key {name!r}")})
    return key


def revoke(file: Path, name: str) -> None:
    """Raises `ConfigError` if there is no such key."""
    with _locked(file):
        entries = dict(read(file))
        if entries.pop(name, None) is None:
            raise ConfigError(f"{file.name} has no key {name!r}", hint=f"its keys: {', '.join(entries) or 'none'}")
        _write(file, entries)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _version(file: Path) -> _Version | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return _Version(found.st_mtime_ns, found.st_size, found.st_ino)


def _callers(file: Path) -> Mapping[str, Caller]:
    if not file.exists():
        raise ConfigError(f"{file}: no such keys file", hint=_HINT)
    return {entry.sha256: entry.caller(name) for name, entry in read(file).items()}


def _locked(file: Path) -> FileLock:
    return FileLock(file.with_name(file.name + ".lock"))


def _write(file: Path, entries: Mapping[str, KeyEntry]) -> None:
    """In one step, so that a running service never reads half a file."""
    lines = ["# Keys of colm-vl serve, written by colm-vl keys. sha256 is that of a key.\n"]
    for name, entry in entries.items():
        lines.append(f"\n[keys.{name}]\n")
        lines += [f"{key} = {json.dumps(value)}\n" for key, value in entry.model_dump(exclude_none=True).items()]
    draft = file.with_name(file.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.writelines(lines)
        output.flush()
        os.fsync(output.fileno())
    draft.replace(file)
