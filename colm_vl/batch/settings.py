"""What a batch runs with, as it is kept in its folder, and how two such records differ."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NamedTuple

from colm_vl import prompts
from colm_vl.team import Member, Team

_PACKAGES = ("colm-vl", "openai", "pillow", "torch", "transformers")
# These change how long a run takes and what it does at once, and no answer; strategies each have answers of their own.
_INDIFFERENT = frozenset({"strategy", "timeouts", "max_loaded"})


@dataclass(frozen=True, slots=True)
class Settings:
    """`record` is plain JSON. Under `settings` stands what the answers depend on; the rest is for the reader."""

    record: Mapping[str, Any]

    @classmethod
    def of(cls, team: Team, strategies: Sequence[str], questions: str) -> Settings:
        """`questions` is the name of where they come from."""
        settings = {
            "questions": questions,
            "prompts": prompts.fingerprint(),
            "clients": {client.name: _member(client) for client in team.clients},
            "server": _member(team.server) if team.server else None,
            "policy": team.policy.model_dump(mode="json", exclude=set(_INDIFFERENT)),
        }
        return cls(
            {
                "fingerprint": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
                "team": team.source,
                "strategies": list(strategies),
                "versions": {"python": platform.python_version(), **dict(_versions())},
                "settings": settings,
            }
        )


class Difference(NamedTuple):
    """Each as `what: before → now`. A new server leaves drafts valid, so it is told apart."""

    server: tuple[str, ...]
    others: tuple[str, ...]


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> Difference:
    """What differs between the `settings` of two records."""
    old, new = dict(_flat(before["settings"])), dict(_flat(now["settings"]))
    changed = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    told = [name for name in changed if not _told_by_others(name, changed)]

    def shown(name: str) -> str:
        return f"{name}: {_short(old.get(name))} → {_short(new.get(name))}"

    return Difference(
        tuple(shown(name) for name in told if _is_server(name)),
        tuple(shown(name) for name in told if not _is_server(name)),
    )


def _is_server(name: str) -> bool:
    return name == "server" or name.startswith("server.")


def _told_by_others(name: str, changed: Sequence[str]) -> bool:
    """A member's fingerprint follows from its settings; it speaks only where they say nothing."""
    member, _, field = name.rpartition(".")
    return field == "fingerprint" and any(other.startswith(f"{member}.") and other != name for other in changed)


def _member(member: Member) -> dict[str, Any]:
    """Values that hold other values, such as an endpoint's extra fields, may hold secrets: their fingerprint tells
    enough."""
    options = member.options.deciding()
    return {
        "model": member.label,
        "specialty": member.specialty,
        "backend": member.backend,
        **{name: value if _is_plain(value) else f"… {_digest(value)[:12]}" for name, value in options.items()},
        "fingerprint": member.fingerprint,
    }


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, value


def _short(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
