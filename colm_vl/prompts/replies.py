"""How models are asked to write their replies, and how the replies are read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from colm_vl import answers
from colm_vl.prompts.copying import OwnWords, own_words
from colm_vl.prompts.json_fields import ANSWER_FIELDS, read_fields
from colm_vl.prompts.profile import DEFAULT, Profile, load
from colm_vl.types import Flaw, Query

_LABELS = (
    "caption",
    "reasoning",
    "answer",
    "confidence",
    "evidence",
    "disagreement",
    "disagreements",
    "check",
    "checks",
    "final answer",
)
_LABEL = r"(?:the\s+)?(?:(?:correct|best|right)\s+)?(" + "|".join(sorted(_LABELS, key=len, reverse=True)) + ")"
_LABEL_LINE = re.compile(rf"^[\s>#*_\-•\d.)]*{_LABEL}[*_`]*\s*[:：=][*_`]*\s*(.*)$", re.IGNORECASE)
_LABEL_HEADING = re.compile(rf"^\s*(?:#+\s+(?:\*\*)?|\*\*|__){_LABEL}(?:\*\*|__)?\s*$", re.IGNORECASE)
"""A label without a colon is one only if it is a heading or bold."""
_THINKING = re.compile(r"\A(?:(?!<think>).)*?</think>|<think>.*?(?:</think>|\Z)", re.DOTALL)
"""Many chat templates end with the opening tag, so that the reply has only the closing one."""
_ANSWER_IS = re.compile(r"\banswer\s+(?:is|would be)\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!](?=\s|$)|\n")
_MAX_SENTENCE = 1_000


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """The parts of a client's reply. Missing parts are empty strings or None.

    `stated_confidence` is from 0 to 1. `answer_span` is the position of the answer in the text, from start to end.
    """

    answer: str
    choice: str | None
    caption: str
    stated_confidence: float | None
    answer_span: tuple[int, int] | None = None
    flaws: tuple[Flaw, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedGuidance:
    """`own` is the guidance without what the server copied or repeated; empty if it has no content."""

    evidence: str
    disagreement: str
    check: str
    own: str
    flaws: tuple[Flaw, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedSelection:
    """`names` are existing clients, in the order of the reply; `dropped` are other names in it."""

    names: tuple[str, ...]
    dropped: tuple[str, ...]


class Example(NamedTuple):
    question: str
    reply: str


class GuidanceExample(NamedTuple):
    question: str
    drafts: Sequence[str]
    answers: Sequence[str]
    """The different answers of the drafts."""
    reply: str


class ReplyFormat(Protocol):
    """How a model is asked to write its reply, and how the reply is read."""

    @property
    def profile(self) -> Profile:
        """The texts that the model is told."""
        ...

    @property
    def reason(self) -> bool:
        """Whether the model is asked to reason before it answers."""
        ...

    def ask_answer(self, query: Query) -> str:
        """The end of a prompt that asks for an answer."""
        ...

    def example(self, query: Query) -> Example | None:
        """A question of the same kind with a good reply, which the model is shown first."""
        ...

    def ask_guidance(self) -> str:
        """The end of a prompt that asks for guidance."""
        ...

    def guidance_example(self) -> GuidanceExample | None:
        """Drafts with good guidance, which the model is shown first."""
        ...

    def answer_schema(self, query: Query) -> Mapping[str, Any] | None:
        """The JSON schema of the reply, for models that support schemas."""
        ...

    def guidance_schema(self) -> Mapping[str, Any] | None: ...

    def read_answer(self, text: str, choices: Sequence[str] = ()) -> ParsedReply:
        """Read a draft, a refinement or a verdict. Parts that cannot be read are empty."""
        ...

    def read_guidance(self, text: str) -> ParsedGuidance: ...


@dataclass(frozen=True, slots=True)
class LabelledLines:
    """Lines such as "Answer: 5". Small models often omit, mark up or repeat the labels; their replies are read
    as well."""

    profile: Profile
    reason: bool = False

    def ask_answer(self, query: Query) -> str:
        texts = self.profile.texts
        return reasoned(self, texts.reply_choice if query.choices else texts.reply_open, texts.reason_task)

    def example(self, query: Query) -> Example | None:
        return example_of(self, query)

    def ask_guidance(self) -> str:
        return self.profile.texts.guide_task

    def guidance_example(self) -> GuidanceExample | None:
        texts = self.profile.texts
        if not (texts.guide_example_question and texts.guide_example_reply):
            return None
        drafts = texts.guide_example_drafts.split("\n\n")
        answers = texts.guide_example_answers.splitlines()
        return GuidanceExample(texts.guide_example_question, drafts, answers, texts.guide_example_reply)

    def answer_schema(self, query: Query) -> Mapping[str, Any] | None:
        return None

    def guidance_schema(self) -> Mapping[str, Any] | None:
        return None

    def read_answer(self, text: str, choices: Sequence[str] = ()) -> ParsedReply:
        """The last answer counts. If a reply is one line without a label, this line is the answer."""
        spoken = own_words(without_thinking(text), self.profile, choices)
        lines = _labelled(spoken.text)
        said = lines.get("final answer") or lines.get("answer") or _unlabelled_answer(spoken, lines)
        choice = answers.find_choice(said, choices) if choices else None
        answer = choices[ord(choice) - ord("A")] if choice else ("" if choices else answers.strip_markup(said))
        return ParsedReply(
            answer,
            choice,
            lines.get("caption", ""),
            _read_confidence(lines.get("confidence", "")),
            _find_answer(text, said) if answer else None,
            spoken.flaws,
        )

    def read_guidance(self, text: str) -> ParsedGuidance:
        spoken = own_words(without_thinking(text), self.profile, quotes=False)
        lines = _labelled(spoken.text)
        is_loop = not lines and "repeated" in spoken.flaws
        return ParsedGuidance(
            evidence=lines.get("evidence", ""),
            disagreement=lines.get("disagreement", lines.get("disagreements", "")),
            check=lines.get("check", lines.get("checks", "")),
            own=spoken.text.strip() if has_content(spoken.text) and not is_loop else "",
            flaws=spoken.flaws,
        )


def reasoned(reply_format: ReplyFormat, ask: str, task: str) -> str:
    """The request for an answer, and for reasoning before it if `reply_format.reason` is set."""
    return f"{ask}\n{task}" if reply_format.reason and task else ask


def example_of(reply_format: ReplyFormat, query: Query) -> Example | None:
    """The profile's example for questions with or without choices. Its reply is in lines."""
    texts = reply_format.profile.texts
    if query.choices:
        question, short, long = (
            texts.choice_example_question, texts.choice_example_reply, texts.choice_example_reasoned,
        )  # fmt: skip
    else:
        question, short, long = texts.example_question, texts.example_reply, texts.example_reasoned
    reply = long if reply_format.reason else short
    return Example(question, reply) if question and reply else None


LABELLED_LINES = LabelledLines(load(DEFAULT))
"""With the default profile."""


def read_selection(text: str, known: Sequence[str]) -> ParsedSelection:
    """Read a list of names. Bullets and remarks are ignored, and names of unknown clients are dropped."""
    by_folded = {name.casefold(): name for name in known}
    names: dict[str, None] = {}
    dropped: dict[str, None] = {}
    for line in re.split(r"[\n,;]", without_thinking(text)):
        said = re.sub(r"^[\s>*#\-•\d.)]+", "", line)[:_MAX_SENTENCE].strip(" \t*_`\"'.")
        said = re.split(r"\s*[:(–—]\s*|\s+-\s+", said, maxsplit=1)[0].strip(" *_`\"'")
        if not said:
            continue
        name = by_folded.get(said.casefold())
        if name:
            names[name] = None
        else:
            dropped[said[:80]] = None
    return ParsedSelection(tuple(names), tuple(dropped))


def written_answer(text: str) -> str:
    """The answer of a reply with all of its lines, from the last label before it to the next one. Without a label, the
    whole reply. `read_answer` reads the first line only, because answers that are compared are short."""
    spoken = without_thinking(text)
    if (fields := read_fields(spoken)) is not None:
        return fields.get("answer", "")
    found: list[str] | None = None
    inside = False
    for line in spoken.splitlines():
        match = _LABEL_HEADING.match(line) or _LABEL_LINE.match(line)
        label = match.group(1).lower() if match else ""
        if match and label in ("answer", "final answer"):
            found, inside = list(match.groups()[1:]), True
        elif label in ANSWER_FIELDS:  # labels of guidance may be part of an answer
            inside = False
        elif inside and found is not None:
            found.append(line)
    return "\n".join(spoken.splitlines() if found is None else found).strip()


def without_thinking(text: str) -> str:
    """A reply without its `<think>` part; empty if it was cut off in this part."""
    return _THINKING.sub("", text)


def has_content(text: str) -> bool:
    """Whether the text contains anything besides labels."""
    lines = [line for line in text.splitlines() if not _LABEL_HEADING.match(line)]
    return any(re.search(r"\w", match[2] if (match := _LABEL_LINE.match(line)) else line) for line in lines)


def _labelled(text: str) -> dict[str, str]:
    """Texts by label in lower case, including further lines; the last text if a label is repeated."""
    found: dict[str, str] = {}
    label = ""
    for line in text.splitlines():
        if heading := _LABEL_HEADING.match(line):
            label = heading.group(1).lower()
        elif match := _LABEL_LINE.match(line):
            label = match.group(1).lower()
            if match.group(2).strip():
                found[label] = match.group(2).strip()
        elif label and line.strip() and label not in ("answer", "final answer", "confidence"):
            found[label] = f"{found.get(label, '')} {line.strip()}".strip()
        elif label in ("answer", "final answer") and line.strip() and label not in found:
            found[label] = line.strip()
    return found


def _unlabelled_answer(spoken: OwnWords, lines: Mapping[str, str]) -> str:
    """The answer of a model that ignores the labels but says "the answer is …", or just writes one short line. A line
    that it repeated over and over is none."""
    if lines.keys() - {"caption", "reasoning"}:
        return ""
    text = spoken.text
    for found in reversed(list(_ANSWER_IS.finditer(text))):
        # In steps and with a bounded length, because a single pattern takes minutes for a reply of spaces.
        rest = text[found.end() : found.end() + _MAX_SENTENCE].lstrip().removeprefix(":").lstrip()
        end = _SENTENCE_END.search(rest, 1)
        if sentence := rest[: end.start() if end else None].strip():
            return sentence
    if lines or "repeated" in spoken.flaws:
        return ""
    written = [line.strip() for line in text.splitlines() if line.strip()]
    return written[0] if len(written) == 1 and len(written[0]) <= 200 else ""


def _find_answer(text: str, said: str) -> tuple[int, int] | None:
    """The position of `said` after the last label before it, so that a number in a caption is not found instead."""
    labels = list(re.finditer(r"answer\b", text, re.IGNORECASE))
    for start in (*(label.end() for label in reversed(labels)), 0):
        position = text.find(said, start)
        if position >= 0:
            return position, position + len(said)
    return None


def _read_confidence(text: str) -> float | None:
    match = re.search(r"(\d+(?:\.\d+)?)\s*(%)?(?:(?:/|out\s+of)\s*(\d+))?", text)
    if not match:
        return None
    said, percent, most = match.groups()
    number, whole = float(said), 100.0
    if most and not percent:
        whole = float(most)
    elif "." in said and number <= 1 and not percent:
        whole = 1.0
    return number / whole if 0 <= number <= whole and 0 < whole < math.inf else None
