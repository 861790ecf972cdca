"""What a visitor gives, read and checked. What is wrong is told in words, with the field that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from colm_vl import ColmError, Image, ImageError, Policy, Query, Team, gates
from colm_vl.strategies import known
from colm_vl.types import Share

Field = Literal["pictures", "question", "choices", "settings"]
FIELDS: Sequence[Field] = get_args(Field)

VOTE = "a vote of all"
"""In place of an asking client's name."""
GATES = ("always", "when drafts differ", "when unsure")
SHARES: Sequence[Share] = get_args(Share)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one question may bring along. Bytes and pixels are those of one picture."""

    pictures: int = 8
    bytes: int = 20_000_000
    pixels: int = 40_000_000
    characters: int = 4000


class FieldError(ColmError):
    """Something that a visitor can mend; `field` is where the words belong."""

    kind = "field"

    def __init__(self, field: Field, words: str) -> None:
        super().__init__(words)
        self.field = field


@dataclass(frozen=True, slots=True)
class Settings:
    """The choices in the accordion, as the page's fields hold them."""

    strategy: str
    asker: str
    rounds: int
    gate: str
    confidence: float
    share: str

    @classmethod
    def of(cls, policy: Policy) -> Settings:
        """The team's own, which the page opens with."""
        gate = gates.plain(policy.gate)
        chosen = {"always": GATES[0], "disagreement": GATES[1]}.get(gate, "") if isinstance(gate, str) else GATES[2]
        confidence = 0.8 if isinstance(gate, str) else gate.get("confidence", 0.8)
        return cls(policy.strategy, policy.asker or VOTE, policy.rounds, chosen, confidence, policy.share)

    def changes(self, team: Team) -> Mapping[str, Any]:
        """The fields of the policy in which a visitor departs from the team's. Raises `FieldError`."""
        if self.gate not in GATES or self.share not in SHARES:
            raise FieldError("settings", "One of the settings is not a known choice.")
        gate = {GATES[0]: "always", GATES[1]: "disagreement"}.get(self.gate, {"confidence": self.confidence})
        wanted: dict[str, Any] = {
            "strategy": self.strategy,
            "asker": None if self.asker == VOTE else self.asker,
            "rounds": self.rounds,
            "gate": gate,
            "share": self.share,
        }
        own = team.policy.model_dump()
        changed = {name: value for name, value in wanted.items() if value != own[name]}
        try:
            team.with_policy(**changed)
        except ColmError as error:
            raise FieldError("settings", words(error)) from None
        return changed


def strategies(team: Team) -> Sequence[str]:
    """Those that this team can carry out."""
    return tuple(name for name, strategy in known().items() if team.server or not strategy.needs_server)


def read_query(
    question: str, files: Sequence[str | Path], choices: str, limits: Limits, metadata: Mapping[str, Any] | None = None
) -> Query:
    """The question, its pictures decoded. Raises `FieldError`. Slow for large pictures: not for an event loop."""
    if not (question or "").strip():
        raise FieldError("question", "Write a question first.")
    if len(question) > limits.characters:
        raise FieldError("question", f"At most {limits.characters:,} characters, please: these are {len(question):,}.")
    given = read_choices(choices)
    images = read_pictures(files, limits)
    try:
        return Query(question.strip(), images, given, metadata=metadata or {})
    except ColmError as error:
        raise FieldError("choices", words(error)) from None


def read_choices(written: str) -> tuple[str, ...]:
    """One choice a line; empty lines do not count."""
    return tuple(line.strip() for line in (written or "").splitlines() if line.strip())


def read_pictures(files: Sequence[str | Path], limits: Limits) -> tuple[Image, ...]:
    """Raises `FieldError` that names the picture."""
    if len(files) > limits.pictures:
        raise FieldError("pictures", f"At most {limits.pictures} pictures, please: these are {len(files)}.")
    return tuple(_read_picture(Path(file), limits) for file in files)


def words(error: ColmError) -> str:
    """A sentence for a visitor."""
    message = str(error)
    hint = f" – {error.hint}" if error.hint else ""
    return f"{message[:1].upper()}{message[1:]}{hint}."


def _read_picture(file: Path, limits: Limits) -> Image:
    size = file.stat().st_size
    if size > limits.bytes:
        allowed = f"{limits.bytes / 1e6:.0f} MB"
        raise FieldError("pictures", f"{file.name} has {size / 1e6:.1f} MB; at most {allowed} are taken.")
    try:
        return Image.open(file, max_pixels=limits.pixels)
    except ImageError as error:
        raise FieldError("pictures", words(error)) from None
