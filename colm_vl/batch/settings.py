"""The record of a batch's settings that is kept in its folder, and the comparison of two records."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NamedTuple

from colm_vl.team import OLD_SHARE, Member, Policy, Team

SCHEMA_VERSION = 1
"""The version of the format of `run.json`. Files without a version have version 1."""

_PACKAGES = ("colm-vl", "openai", "pillow", "torch", "transformers")
# Answers do not depend on timeouts and memory limits, and each strategy has its own traces. Prompts count by their
# sentences, not by the name of their profile.
_INDIFFERENT = frozenset({"strategy", "timeouts", "max_loaded", "prompts"})


@dataclass(frozen=True, slots=True)
class Settings:
    """`record` is plain JSON. Answers depend on its `settings` and on `versions.prompts`; the rest is informational."""

    record: Mapping[str, Any]

    @classmethod
    def of(cls, team: Team, strategies: Sequence[str], questions: str) -> Settings:
        """`questions` is the name of their source."""
        settings = {
            "questions": questions,
            "clients": {client.name: _member(client) for client in team.clients},
            "server": _member(team.server) if team.server else None,
            "policy": team.policy.model_dump(mode="json", exclude=set(_INDIFFERENT)),
        }
        return cls(
            {
                "schema_version": SCHEMA_VERSION,
                "fingerprint": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
                "team": team.source,
                "strategies": list(strategies),
                "prompts": {info.name: f"{info.prompts} {info.prompts_fingerprint}" for info in team.infos},
                "versions": {
                    "python": platform.python_version(),
                    **dict(_versions()),
                    "prompts": _prompts(team),
                },
                "settings": settings,
            }
        )


class Difference(NamedTuple):
    """Changes, each as `what: before → now`. `answers` are changes of the server or the prompts, after which unaffected
    calls remain valid."""

    answers: tuple[str, ...]
    others: tuple[str, ...]


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> Difference:
    """The differences between two records on which answers depend."""
    old, new = dict(_flat(_comparable(before))), dict(_flat(_comparable(now)))
    changed = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    told = [name for name in changed if not _is_implied(name, changed)]

    def shown(name: str) -> str:
        return f"{name}: {_short(old.get(name))} → {_short(new.get(name))}"

    return Difference(
        tuple("the prompts" if name == "prompts" else shown(name) for name in told if _leaves_calls(name)),
        tuple(shown(name) for name in told if not _leaves_calls(name)),
    )


def _comparable(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record's settings with the prompts and the order of the clients. The order matters: the first client asks by
    default, and the server reads the drafts in this order."""
    settings = dict(record["settings"])
    defaults = Policy().model_dump(mode="json", exclude=set(_INDIFFERENT))  # for fields added after the record was made
    policy = dict(settings.get("policy", {}))
    if policy.get("share") == OLD_SHARE:
        policy["share"] = defaults["share"]
    return {
        **settings,
        "order of clients": ", ".join(settings.get("clients", ())),
        "policy": {**defaults, **policy},
        "prompts": settings.get("prompts") or record.get("versions", {}).get("prompts"),
    }


def _leaves_calls(name: str) -> bool:
    return name in ("server", "prompts") or name.startswith("server.")


def _is_implied(name: str, changed: Sequence[str]) -> bool:
    """A changed fingerprint follows from changed settings of the member, and a changed order of clients from changed
    names. They are shown only if there is no such change."""
    if name == "order of clients":
        return any(other.startswith("clients.") for other in changed)
    member, _, field = name.rpartition(".")
    return field == "fingerprint" and any(other.startswith(f"{member}.") and other != name for other in changed)


def _prompts(team: Team) -> str:
    """The fingerprint of the team's profile, or of all of them where members have their own."""
    found = {member.name: team.prompts_of(member).fingerprint for member in team.members}
    return next(iter(found.values())) if len(set(found.values())) == 1 else _digest(found)


def _member(member: Member) -> dict[str, Any]:
    """Only the digests of nested values, such as an endpoint's extra fields, are written, because they may contain
    secrets."""
    options = member.options.deciding()
    return {
        "model": member.label,
        "specialty": member.specialty,
        "backend": member.backend,
        **({"reply_format": member.reply_format} if member.reply_format else {}),
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
