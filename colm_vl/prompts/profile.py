"""Prompt profiles: the texts that models are told, one TOML file per profile. The package's own are in `profiles/`.

A profile contains texts, and `messages` combines them. A profile is not a template, so it cannot change the order of a
prompt, which lets prompts share prefixes, or remove the boundaries around the text of another model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationInfo, field_validator

from colm_vl._tables import Table, validate
from colm_vl._toml import read_toml

DEFAULT = "default"
_SHIPPED = Path(__file__).parent / "profiles"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_PLACEHOLDERS = {
    "question": ("question",),
    "conversation": ("boundary",),
    "settled": ("boundary",),
    "draft_system": ("specialty",),
    "drafts_intro": ("boundary",),
    "guide_answers": ("boundary",),
    "guide_agreed": ("boundary",),
    "guidance_intro": ("boundary",),
    "peers_intro": ("boundary",),
    "select_task": ("count",),
}
_NEEDED = frozenset({"question", "boundary"})
_TABLES = (
    "draft", "solo", "reply", "example", "choice_example", "reason", "drafts", "guide", "guide_example", "guidance",
    "peers", "refine", "verdict", "select", "json", "check",
)  # fmt: skip
_NAMES = (
    "system",
    "open",
    "choice",
    "intro",
    "task",
    "question",
    "reply",
    "reason",
    "reasoned",
    "drafts",
    "answers",
    "agreed",
    "picture",
    "text",
)
_KEYS = {f"{table}_{key}": f"{table}.{key}" for table in _TABLES for key in _NAMES}


class Texts(Table):
    """The texts of a profile. In the file, `draft_system` is the key `system` of the table `[draft]`.

    An example is an earlier turn of the conversation. `reason_task` and `json_reason` ask for
    reasoning before the answer; `guide_answers` and `guide_agreed` introduce the different answers of the drafts, or
    the one that all give. `guide_example_drafts` are separated by empty lines, and `guide_example_answers` are their
    answers, one a line.
    """

    model_config = ConfigDict(alias_generator=lambda name: _KEYS.get(name, name))

    question: str
    choices: str
    no_pictures: str
    draft_system: str
    solo_system: str
    reply_open: str
    reply_choice: str
    drafts_intro: str
    guide_system: str
    guide_task: str
    guidance_intro: str
    peers_intro: str
    refine_task: str
    verdict_system: str
    select_system: str
    select_task: str
    example_question: str = ""
    example_reply: str = ""
    example_reasoned: str = ""
    choice_example_question: str = ""
    choice_example_reply: str = ""
    choice_example_reasoned: str = ""
    reason_task: str = ""
    guide_answers: str = ""
    guide_agreed: str = ""
    guide_example_question: str = ""
    guide_example_drafts: str = ""
    guide_example_answers: str = ""
    guide_example_reply: str = ""
    json_open: str = ""
    json_choice: str = ""
    json_task: str = ""
    json_reason: str = ""
    check_picture: str = ""
    check_text: str = ""
    conversation: str = "The conversation so far, between two lines with the mark {boundary}. The question follows it."
    settled: str = "The answer to the question, between two lines with the mark {boundary}:"
    schema_task: str = "Write this answer as one JSON value that follows the JSON schema below, and nothing else."

    @field_validator("*")
    @classmethod
    def _check_placeholders(cls, text: str, info: ValidationInfo) -> str:
        known = _PLACEHOLDERS.get(info.field_name or "", ())
        used = _PLACEHOLDER.findall(text)
        if unknown := next((name for name in used if name not in known), None):
            here = ", ".join(f"{{{name}}}" for name in known) or "none"
            raise ValueError(f"unknown placeholder {{{unknown}}}, known here: {here}")
        if missing := next((name for name in known if name in _NEEDED and name not in used), None):
            raise ValueError(f"the placeholder {{{missing}}} is missing")
        return text


@dataclass(frozen=True, slots=True)
class Profile:
    """`name` is that of a shipped profile, or the path of a file as written in the team file. `fingerprint` is the
    SHA-256 of the texts, which is stored with weights that were trained on them."""

    name: str
    texts: Texts
    fingerprint: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        told = sorted(self.sentences.items())
        object.__setattr__(self, "fingerprint", hashlib.sha256(repr(told).encode()).hexdigest())

    @property
    def sentences(self) -> Mapping[str, str]:
        """The texts that the file contains, by key, such as `GUIDE_TASK`."""
        return {name.upper(): text for name, text in self.texts.model_dump(exclude_defaults=True).items()}

    @property
    def instructions(self) -> tuple[str, ...]:
        """The texts that tell the model what to do and how."""
        texts = self.texts
        asked = (texts.question, texts.choices, texts.check_picture, texts.check_text, *self.examples)
        return tuple(text for text in self.sentences.values() if text not in asked)

    @property
    def examples(self) -> tuple[str, ...]:
        """The texts of the worked examples."""
        return tuple(text for key, text in self.sentences.items() if "EXAMPLE" in key)

    @property
    def check_picture(self) -> str:
        """What `team check` asks about a picture of a circle; if not in the file, the text of the default profile."""
        return self.texts.check_picture or load(DEFAULT).texts.check_picture

    @property
    def check_text(self) -> str:
        """What `team check` asks a model that takes no pictures; if not in the file, as above."""
        return self.texts.check_text or load(DEFAULT).texts.check_text


def shipped() -> tuple[str, ...]:
    """The names of the package's own profiles, sorted."""
    return tuple(sorted(file.stem for file in _SHIPPED.glob("*.toml")))


def load(name: str, folder: Path | None = None) -> Profile:
    """Load a shipped profile by name, or a file by its path relative to `folder`.

    Raises `ConfigError` for an invalid file, with its name and the key, and `ValueError` for an unknown name.
    """
    if name in shipped():
        return _load_shipped(name)
    if not name.endswith(".toml"):
        raise ValueError(f"no prompt profile is called {name!r}, expected {', '.join(shipped())}, or a path to a .toml")
    file = (folder or Path()) / name
    return _read(file, file.name if Path(name).is_absolute() else name)


def read(setting: object, info: ValidationInfo) -> Profile:
    """Load the profile that a team file names. The validation context is the folder that paths are relative to."""
    if isinstance(setting, Profile):
        return setting
    if not isinstance(setting, str):
        raise ValueError("expected a name or a path")
    return load(setting, info.context)


def plain(profile: Profile) -> str:
    """The profile's name in a team file."""
    return profile.name


def fill(text: str, **values: object) -> str:
    """Replace the placeholders of a text. Placeholders in the values are not replaced."""
    return _PLACEHOLDER.sub(lambda found: str(values[found[1]]), text)


@cache
def _load_shipped(name: str) -> Profile:
    return _read(_SHIPPED / f"{name}.toml", name)


def _read(file: Path, name: str) -> Profile:
    return Profile(name, validate(Texts, dict(_flat(read_toml(file, "prompt profile"))), str(file)))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by `table.key`."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
