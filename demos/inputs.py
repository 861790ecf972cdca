"""Reads and validates the visitor's input. Errors name the field to which they belong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from colm_vl import ColmError, EarlierTurn, Image, ImageError, Query, Team, gates
from colm_vl.strategies import find, known
from colm_vl.types import Share

Field = Literal["pictures", "question", "choices", "settings", "file"]
FIELDS: Sequence[Field] = ("pictures", "question", "choices", "settings")
"""Those of a single question."""

VOTE = "a vote of all"
"""The option for a vote in the list of asking clients."""
GATES = ("always", "when drafts differ", "when unsure")
OWN_GATE = "as the team's gate decides"
"""The option that keeps the team's gate, if it is none of `GATES`."""
SHARES: Sequence[Share] = get_args(Share)

_TURNS = TypeAdapter(tuple[EarlierTurn, ...])


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one question. `bytes` and `pixels` apply to each picture, `total_pixels` to all of them. `turns` and
    `conversation`, in characters, apply to the earlier turns of its conversation."""

    pictures: int = 8
    bytes: int = 20_000_000
    pixels: int = 40_000_000
    total_pixels: int = 80_000_000
    characters: int = 4000
    turns: int = 40
    conversation: int = 40_000


class FieldError(ColmError):
    """An error that the visitor can fix. `field` is where its message is displayed."""

    kind = "field"

    def __init__(self, field: Field, words: str) -> None:
        super().__init__(words)
        self.field = field


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of the page's settings."""

    strategy: str
    asker: str
    rounds: int
    gate: str
    confidence: float
    share: str

    @classmethod
    def of(cls, team: Team) -> Settings:
        """The team's policy, as the initial values."""
        policy, gate = team.policy, gates.plain(team.policy.gate)
        settles = policy.settle or ("asker" if policy.asker else "vote")
        confidence = 0.8
        if isinstance(gate, str):
            chosen = {"always": GATES[0], "disagreement": GATES[1]}.get(gate, OWN_GATE)
        elif gate.keys() == {"confidence"}:
            chosen, confidence = GATES[2], gate["confidence"]
        else:
            chosen = OWN_GATE
        asker = team.asker.name if settles == "asker" else VOTE
        return cls(policy.strategy, asker, policy.rounds, chosen, confidence, policy.share)

    def changes(self, team: Team) -> Mapping[str, Any]:
        """The policy fields that differ from the team's. Raises `FieldError`."""
        if self.gate not in (*GATES, OWN_GATE) or self.share not in SHARES:
            raise FieldError("settings", "One of the settings has an unknown value.")
        wanted: dict[str, Any] = {"strategy": self.strategy, "rounds": self.rounds, "share": self.share}
        if self.gate != OWN_GATE:
            named = {GATES[0]: "always", GATES[1]: "disagreement"}
            wanted["gate"] = named.get(self.gate, {"confidence": self.confidence})
        if self.asker != Settings.of(team).asker:
            wanted |= {"settle": "vote"} if self.asker == VOTE else {"asker": self.asker, "settle": "asker"}
        own = team.policy.model_dump()
        changed = {name: value for name, value in wanted.items() if value != own[name]}
        try:
            team.with_policy(**changed)
        except ColmError as error:
            raise FieldError("settings", words(error)) from None
        return changed


def gate_options(team: Team) -> Sequence[str]:
    return GATES if Settings.of(team).gate in GATES else (OWN_GATE, *GATES)


def in_force(team: Team) -> tuple[str, ...]:
    """The settings of a question, in words."""
    own, strategy = Settings.of(team), find(team.policy.strategy)
    told = [own.strategy]
    if strategy.needs_server:
        told += [f"{own.rounds} rounds"] if own.rounds > 1 else []
        told += [f"server asked {own.gate}"] if own.gate != GATES[0] else []
        told += [f"server sees {own.share}"] if own.share != "images" else []
    if own.asker != VOTE and strategy.refines and not strategy.server_answers:  # others do not read `settle`
        told.append(f"{own.asker}'s answer counts")
    return tuple(told)


def strategies(team: Team) -> Sequence[str]:
    """The strategies that the team can run."""
    return tuple(name for name, strategy in known().items() if team.server or not strategy.needs_server)


def strategy_choices(names: Iterable[str]) -> list[tuple[str, str]]:
    """Labels in words, and the names of the strategies, also of those such as `solo:charts`."""
    return [(f"{_in_words(name)} ({name})", name) for name in names]


def _in_words(strategy: str) -> str:
    _, _, client = strategy.partition(":")
    summary = find(strategy).summary
    return f"{client} alone" if client else f"{summary[:1].upper()}{summary[1:]}"


def read_query(question: str, files: Sequence[str | Path], choices: Sequence[str], limits: Limits) -> Query:
    """The question with decoded pictures. Raises `FieldError`. Slow for large pictures: call it in a thread."""
    if not (question or "").strip():
        raise FieldError("question", "Write a question first.")
    if len(question) > limits.characters:
        raise FieldError("question", f"At most {limits.characters:,} characters are allowed, not {len(question):,}.")
    images = read_pictures(files, limits)
    try:
        return Query(question.strip(), images, tuple(choices))
    except ColmError as error:
        raise FieldError("choices", words(error)) from None


def read_choices(written: str) -> tuple[str, ...]:
    """One choice per line; empty lines are ignored."""
    return tuple(line.strip() for line in (written or "").splitlines() if line.strip())


def read_history(given: Any, pictures: int, limits: Limits) -> tuple[EarlierTurn, ...]:
    """Earlier turns in the form that a trace has them. Raises `FieldError`."""
    try:
        turns = _TURNS.validate_python(given or ())
    except ValidationError:
        example = '[{"role": "user", "text": "…", "images": 1}, {"role": "assistant", "text": "…"}]'
        raise FieldError("settings", f"history has another form than {example}.") from None
    counts = [turn.images for turn in turns]
    if min(counts, default=0) < 0 or sum(counts) > pictures:
        raise FieldError("settings", f"history has turns with {sum(counts)} pictures, but {pictures} are given.")
    check_length(turns, limits)
    return turns


def check_length(turns: Sequence[EarlierTurn], limits: Limits) -> None:
    """Raises `FieldError` if there are too many earlier turns, or too long ones."""
    size = sum(len(turn.text) for turn in turns)
    if len(turns) > limits.turns or size > limits.conversation:
        most = f"{limits.turns // 2} questions and {limits.conversation:,} characters"
        raise FieldError("settings", f"This conversation has reached the limit of {most}. Begin a new one.")


def read_pictures(files: Sequence[str | Path], limits: Limits) -> tuple[Image, ...]:
    """Raises `FieldError` naming an invalid picture."""
    if len(files) > limits.pictures:
        raise FieldError("pictures", f"At most {limits.pictures} pictures are allowed, not {len(files)}.")
    images: list[Image] = []
    for file in files:
        images.append(_read_picture(Path(file), limits))
        total = sum(image.pixels for image in images)
        if total > limits.total_pixels:
            allowed = f"{limits.total_pixels / 1e6:.0f} million"
            raise FieldError("pictures", f"The pictures have more than {allowed} pixels together. Leave some out.")
    return tuple(images)


def words(error: ColmError) -> str:
    """The error's message and hint as a sentence."""
    message = str(error)
    hint = f" – {error.hint}" if error.hint else ""
    return f"{message[:1].upper()}{message[1:]}{hint}."


def _read_picture(file: Path, limits: Limits) -> Image:
    if not file.is_file():
        raise FieldError("pictures", "The pictures of this question are no longer here. Upload them again.")
    size = file.stat().st_size
    if size > limits.bytes:
        allowed = f"{limits.bytes / 1e6:.0f} MB"
        raise FieldError("pictures", f"{file.name} has {size / 1e6:.1f} MB; at most {allowed} are allowed.")
    try:
        return Image.open(file, max_pixels=limits.pixels)
    except ImageError as error:
        raise FieldError("pictures", f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
