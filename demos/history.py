"""A visitor's history, the downloads of a trace and of Python code, and the feedback file."""

from __future__ import annotations

import base64
import json
import pprint
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from colm_vl import ColmError, Trace, strategies

from .elements import is_picture, labelled, tag, text
from .view import View

KEPT = 20
"""Maximum number of questions in the history; browsers store only a few megabytes."""
READ = """() => {
  try { return [JSON.parse(localStorage.getItem("colm-vl-questions")) || []]; } catch { return [[]]; }
}"""
"""JavaScript: the stored entries. Read anew each time, since other tabs of the browser add theirs."""
ADD = f"""(entry) => {{
  let kept = [];
  try {{ kept = JSON.parse(localStorage.getItem("colm-vl-questions")) || []; }} catch {{}}
  if (entry) kept = [entry, ...kept].slice(0, {KEPT});
  while (kept.length) {{
    try {{ localStorage.setItem("colm-vl-questions", JSON.stringify(kept)); break; }}
    catch {{ kept.pop(); }}  // the browser's store is full
  }}
  return [kept];
}}"""
"""JavaScript: store an entry before those that are stored, and return them all."""
FORGET = """() => { localStorage.removeItem("colm-vl-questions"); return [[]]; }"""

FOLLOW = """() => {
  let kept = [];
  try { kept = JSON.parse(localStorage.getItem("colm-vl-questions")) || []; } catch {}
  return [kept, (/^#q=(.+)$/.exec(location.hash) || [])[1] || ""];
}"""
"""JavaScript: the stored entries, and the id of the one that the page's address names."""
UNKNOWN = "The link is of a question that this browser does not have: it was asked elsewhere, or has been forgotten."


@dataclass(frozen=True, slots=True)
class Entry:
    """A question of this visit. It is stored in the visitor's browser, so it survives a reload.

    `earlier` are the ids of the questions before it in its conversation.
    """

    trace: Trace
    thumbnails: tuple[str, ...] = ()
    truth: str = ""
    changes: Mapping[str, Any] | None = None
    id: str = ""
    earlier: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The question and the answer. For a conversation, also the question with which it began."""
        said = labelled(self.trace.choice, self.trace.answer) or "no answer"
        first = next((turn.text for turn in self.trace.history if turn.role == "user"), "")
        begun = f"{_short(first, 40)} … " if first else ""
        return f"{begun}{_short(self.trace.question, 60)} → {_short(said, 30)}"

    def view(self) -> View:
        return View.from_trace(self.trace, self.thumbnails, self.truth)

    def to_dict(self) -> dict[str, Any]:
        return {
            "trace": self.trace.to_dict(),
            "thumbnails": list(self.thumbnails),
            "truth": self.truth,
            "changes": dict(self.changes or {}),
            "id": self.id,
            "earlier": list(self.earlier),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Entry | None:
        """None if `data` is not an entry that can be shown: it comes from a browser, perhaps from another version of
        the page, or its strategy is no longer installed."""
        try:
            trace = Trace.from_dict(data["trace"])
            strategies.find(trace.strategy)
            settlement = trace.settlement
            if settlement is not None and settlement.method != "server" and not settlement.by:
                return None
            return cls(
                trace,
                tuple(str(uri) for uri in data["thumbnails"]),
                str(data["truth"]),
                dict(data["changes"]),
                _id(data.get("id")),  # 0.2.0 had no ids
                tuple(_id(one) for one in data.get("earlier", ())),
            )
        except (ColmError, KeyError, TypeError, ValueError, AttributeError):
            return None


def remembered(stored: Any) -> list[Entry]:
    """The entries stored in a browser, latest first."""
    found = (Entry.from_dict(item) for item in stored) if isinstance(stored, list) else ()
    return [entry for entry in found if entry is not None][:KEPT]


def conversations(entries: Sequence[Entry]) -> list[Entry]:
    """The latest question of each conversation."""
    continued = {earlier for entry in entries for earlier in entry.earlier}
    return [entry for entry in entries if not entry.id or entry.id not in continued]


def new_id() -> str:
    """It cannot be guessed, but is no secret: a question is only found in the browser that stores it."""
    return secrets.token_urlsafe(9)


def link_button(entry: Entry) -> str:
    """A button that copies the link of the question."""
    if not entry.id:
        return ""
    title = "Opens this question in this browser only"
    return tag("button", "Copy link", "cv-button", type="button", data_link=entry.id, title=title)


def download_links(entry: Entry | None, team_source: str, *, pocket: bool) -> str:
    """HTML: a link to download the trace, and Python code that asks the question again, with a button to copy it."""
    if entry is None:
        return ""
    written = json.dumps(entry.trace.to_dict(), ensure_ascii=False, indent=2)
    # A data URI contains the file, so nothing is written to the server's disk.
    href = "data:application/json;base64," + base64.b64encode(written.encode()).decode()
    link = tag("a", "Download trace (JSON)", "cv-button", href=href, download="colm-vl-trace.json")
    copy = tag("button", "Copy as Python", "cv-button", type="button", data_copy="cv-python")
    code = tag("pre", text(as_python(entry, None if pocket else team_source)), id="cv-python", tabindex="0")
    shown = tag("details", tag("summary", "Show the Python code") + code, "cv-code")
    return tag("div", tag("div", link + copy, "cv-actions") + shown, "cv-downloads")


def as_python(entry: Entry, team_source: str | None) -> str:
    """A program that asks the same team the same question."""
    trace = entry.trace
    arguments = [repr(trace.question)]
    names = [f"picture-{number}.png" for number, _ in enumerate(trace.images, 1)]
    if trace.history:
        return _with_history(entry, names, team_source)
    if names:
        arguments.append(f"images={_formatted(names)}")
    if trace.choices:
        arguments.append(f"choices={_formatted(list(trace.choices))}")
    return _program("from colm_vl import CoLM\n", [*arguments, *_changed(entry)], names, team_source)


def _with_history(entry: Entry, names: Sequence[str], team_source: str | None) -> str:
    trace = entry.trace
    turns = "".join(f"        {_formatted(turn)},\n" for turn in trace.history)
    pictures = f"    images=tuple(Image.open(file) for file in {_formatted(names)}),\n" if names else ""
    choices = f"    choices={_formatted(trace.choices)},\n" if trace.choices else ""
    image = "Image, " if names else ""
    query = f"query = Query(\n    {trace.question!r},\n{pictures}{choices}    history=(\n{turns}    ),\n)\n"
    before = f"from colm_vl import CoLM, EarlierTurn, {image}Query\n\n{query}"
    return _program(before, ["query", *_changed(entry)], names, team_source)


def _changed(entry: Entry) -> list[str]:
    return [f"{name}={_formatted(value)}" for name, value in (entry.changes or {}).items()]


def _program(before: str, arguments: Sequence[str], names: Sequence[str], team_source: str | None) -> str:
    lines = "".join(f"        {argument},\n" for argument in arguments)
    team = repr(Path(team_source).name) if team_source else ""
    save = "# Save the pictures of the question under these names, or use names of your own.\n" if names else ""
    return (
        f"{save}{before}\n"
        f"with CoLM.from_team({team}) as colm:\n"
        f"    trace = colm.ask(\n{lines}    )\n"
        "    print(trace.answer)\n"
    )


class FeedbackFile:
    """Appends visitors' feedback to a file, one JSON object per line. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def add(self, thumb: Literal["up", "down"], right_answer: str, trace: Trace) -> None:
        """Raises `OSError` if the file cannot be written."""
        record = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "thumb": thumb,
            "right_answer": right_answer.strip()[:1000],
            "trace": trace.to_dict(),
        }
        line = json.dumps(record, ensure_ascii=False) + "\n"
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line)


def pictures_of(entries: Sequence[Entry]) -> str:
    """A style sheet that shows each question's first picture in the selection list."""
    rules = (
        f"#history label:nth-of-type({number}) {{ --cv-picture: url({entry.thumbnails[0]}); }}"
        for number, entry in enumerate(entries, 1)
        if entry.thumbnails and is_picture(entry.thumbnails[0])
    )
    return f"<style>{' '.join(rules)}</style>"


def choices_of(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    """Labels and values for a selection list."""
    return [(entry.label, number) for number, entry in enumerate(entries)]


def _id(given: Any) -> str:
    """Ids become part of links."""
    return given if isinstance(given, str) and re.fullmatch(r"[\w-]{1,40}", given, re.ASCII) else ""


def _formatted(value: Any) -> str:
    return pprint.pformat(value, width=100).replace("\n", "\n        ")


def _short(words: str, keep: int) -> str:
    words = " ".join(words.split())
    return words if len(words) <= keep else words[: keep - 1] + "…"
