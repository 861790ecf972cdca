"""Measures how well small models follow the prompts: how many replies are readable, and how many repeat the prompt.

    python -m eval.small_models tests/serving/questions.jsonl --team team.toml
    python -m eval.small_models pocket --limit 100

asks every question with strategy `colm` and prints one row of a Markdown table. Replies that repeat the prompt are
detected here, from the prompts that were sent, and not by the reply parsers that are being measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typing_extensions import override

from colm_vl import answers, terminal
from colm_vl.backends.base import Backend, Generation, Message, Piece, Request
from colm_vl.batch import Questions
from colm_vl.engine import AsyncCoLM
from colm_vl.errors import InputError
from colm_vl.policies import read_settings
from colm_vl.prompts import LABELLED_LINES
from colm_vl.team import Team
from colm_vl.types import ClientReply, Guidance, Query, Trace

from .ablations.wrappers import BackendWrapper, SharedBackend

POCKET = "pocket"
HEADER = (
    "| model | prompts | format | drafts: readable | copied (taken for an answer) | empty "
    "| guidance: readable | copied (taken for guidance) | empty | refined: readable | right drafts | right answers |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)
_RUN = 5  # this many consecutive words of the prompt in a reply are not a coincidence
_FENCED = re.compile(r"^\[begin (\w+)\]$.*?^\[end \1\]$", re.DOTALL | re.MULTILINE)
_LABEL = re.compile(r"^\W*(evidence|disagreements?|checks?|for|against|caption|answer|confidence)\b\W*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shares:
    """Counts of replies. Each of the `asked` replies is `readable`, `copied` or neither. `taken` counts the copied ones
    that the protocol took for an answer or for guidance."""

    asked: int
    readable: int
    copied: int
    taken: int

    @property
    def empty(self) -> int:
        return self.asked - self.readable - self.copied


@dataclass(frozen=True, slots=True)
class Measured:
    """`right_drafts` and `right_answers` are accuracies from 0 to 1."""

    drafts: Shares
    guidance: Shares
    refinements: Shares
    right_drafts: float
    right_answers: float
    traces: Sequence[Trace] = field(repr=False)

    def row(self, model: str, prompts: str, reply_format: str) -> str:
        cells = [
            model,
            prompts,
            reply_format,
            *_cells(self.drafts),
            *_cells(self.guidance),
            _percent(self.refinements.readable, self.refinements.asked),
            f"{self.right_drafts:.0%}",
            f"{self.right_answers:.0%}",
        ]
        return f"| {' | '.join(cells)} |"


class Listener(BackendWrapper):
    """Records the requests to a member and its replies."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.heard: list[tuple[Request, str]] = []

    @override
    async def generate(self, request: Request) -> Generation:
        generation = await super().generate(request)
        self.heard.append((request, generation.text))
        return generation

    @override
    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        async for piece in self._inner.stream(request):
            if isinstance(piece, Generation):
                self.heard.append((request, piece.text))
            yield piece


async def measure(team: Team, queries: Sequence[Query], *, concurrency: int = 4) -> Measured:
    """Ask all questions with `colm`. `gold` in a query's metadata is a list of accepted answers, or of letters."""
    listeners = {member.name: Listener(SharedBackend(member)) for member in team.members}
    async with AsyncCoLM(team, backends=cast("Mapping[str, Backend]", listeners)) as colm:
        traces = [
            trace
            async for trace in colm.batch(
                [replace(query) for query in queries], strategy="colm", concurrency=concurrency
            )
        ]
    told = {query.id: _told(query, listeners.values()) for query in queries}
    written = _by_question(queries, listeners[team.server.name].heard) if team.server else {}
    drafts = [draft for trace in traces for draft in trace.drafts]
    return Measured(
        drafts=_shares(
            [kind for trace in traces for kind in _client_kinds(trace, trace.drafts, told, len(team.clients))]
        ),
        guidance=_shares(
            [_guidance_kind(written.get(trace.id, ""), trace.guidance, told[trace.id]) for trace in traces]
        ),
        refinements=_shares([kind for trace in traces for kind in _client_kinds(trace, trace.refinements, told)]),
        right_drafts=_mean([_right(trace, draft) for trace in traces for draft in trace.drafts], len(drafts)),
        right_answers=_mean([_right(trace, trace) for trace in traces], len(traces)),
        traces=traces,
    )


def read_questions(source: str, limit: int | None = None) -> list[Query]:
    """Read questions from a batch file with a column `gold`, or generate those of the pocket world."""
    if source == POCKET:
        return list(islice(_pocket(), limit))
    queries = [row.query(()) for row in Questions(source, limit=limit)]
    for query in queries:
        if not isinstance(query.metadata.get("gold"), list):
            raise InputError(f"question {query.id} has no gold answers", hint='add "gold": ["Paris"], or a letter')
    return queries


def _pocket() -> Iterator[Query]:
    from .benchmarks.pocket import Pocket

    benchmark = Pocket()
    for item in benchmark.load(benchmark.source(None, "test")):
        yield replace(benchmark.query(item), metadata={"gold": list(item.gold)})


# --- prompts ---


def _told(query: Query, listeners: Collection[Listener]) -> frozenset[tuple[str, ...]]:
    """All runs of words in the prompts of this question, without the question itself and what models wrote about it."""
    runs: set[tuple[str, ...]] = set()
    for listener in listeners:
        for request, _ in listener.heard:
            if _is_about(request.messages, query):
                for line in _instructions(request.messages, query):
                    runs.update(_runs(line))
    return frozenset(runs)


def _instructions(messages: Sequence[Message], query: Query) -> Iterator[str]:
    is_asked = False
    for message in messages:
        is_asked = is_asked or query.question in message.text
        if message.role != "assistant" or not is_asked:  # before the question, replies are examples
            for line in _FENCED.sub("", message.text).splitlines():
                if query.question not in line and not any(line.endswith(choice) for choice in query.choices):
                    yield line


def _is_about(messages: Sequence[Message], query: Query) -> bool:
    return any(query.question in message.text for message in messages)


def _by_question(queries: Sequence[Query], heard: Sequence[tuple[Request, str]]) -> Mapping[str, str]:
    return {query.id: text for query in queries for request, text in heard if _is_about(request.messages, query)}


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return (tuple(words[start : start + _RUN]) for start in range(len(words) - _RUN + 1))


def _is_copy(text: str, told: frozenset[tuple[str, ...]]) -> bool:
    return any(run in told for run in _runs(text))


# --- replies ---


def _client_kinds(
    trace: Trace, replies: Sequence[ClientReply], told: Mapping[str, frozenset[tuple[str, ...]]], asked: int = 0
) -> list[str]:
    kinds = [_client_kind(reply, trace.choices, told[trace.id]) for reply in replies]
    return kinds + ["empty"] * (asked - len(kinds))  # calls that failed


def _client_kind(reply: ClientReply, choices: Sequence[str], told: frozenset[tuple[str, ...]]) -> str:
    parts = _parts(reply.text)
    own = [part for part in parts if not _is_copy(part, told)]
    if reply.readable:
        if len(own) == len(parts) or _says(own, reply, choices):
            return "readable"
        return "taken"
    return "copied" if len(own) < len(parts) else "empty"


def _says(own: Sequence[str], reply: ClientReply, choices: Sequence[str]) -> bool:
    """Whether the parts that are not copied contain the answer."""
    if reply.text.lstrip().startswith("{"):
        return any(answers.same(part, reply.choice or reply.answer) or part == reply.answer for part in own)
    read = LABELLED_LINES.read_answer("\n".join(own), choices)
    return bool(read.answer) and answers.same(read.answer, reply.answer)


def _guidance_kind(written: str, guidance: Sequence[Guidance], told: frozenset[tuple[str, ...]]) -> str:
    parts = _parts(guidance[0].text if guidance else written)
    own = [part for part in parts if not _is_copy(part, told)]
    if guidance and any(re.search(r"\w", _LABEL.sub("", part)) for part in own):
        return "readable"
    if len(own) < len(parts):
        return "taken" if guidance else "copied"
    return "empty"


def _parts(text: str) -> list[str]:
    """The lines of a reply, or the fields of a JSON reply."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return list(_texts(value))
    return [line for line in text.splitlines() if line.strip()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    else:
        yield str(value)


def _right(trace: Trace, reply: ClientReply | Trace) -> bool:
    gold = trace.metadata["gold"]
    return reply.choice in gold if trace.choices else any(answers.same(reply.answer, accepted) for accepted in gold)


def _shares(kinds: Sequence[str]) -> Shares:
    taken = kinds.count("taken")
    return Shares(len(kinds), kinds.count("readable"), kinds.count("copied") + taken, taken)


def _mean(right: Sequence[bool], of: int) -> float:
    return sum(right) / of if of else 0.0


def _cells(shares: Shares) -> list[str]:
    asked = shares.asked
    copied = f"{_percent(shares.copied, asked)} ({_percent(shares.taken, asked)})"
    return [_percent(shares.readable, asked), copied, _percent(shares.empty, asked)]


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    questions: Annotated[str, typer.Argument(help=f"A file of questions with gold answers, or {POCKET!r}.")],
    team: Annotated[Path | None, typer.Option(help="A team file; by default the pocket team.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Process only the first N questions.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a policy key (see `colm-vl ask --help`). Repeatable."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-j", min=1, help="Number of questions processed at a time.")
    ] = 4,
    out: Annotated[Path | None, typer.Option(help="Write the traces to this JSON Lines file.")] = None,
) -> None:
    """Count the replies that are readable, repeat the prompt, or are empty. Prints one row of a Markdown table."""
    chosen = Team.load(team) if team else Team.pocket()
    chosen = chosen.with_policy(**read_settings(settings or ()))
    measured = asyncio.run(measure(chosen, read_questions(questions, limit), concurrency=concurrency))
    if out is not None:
        lines = (json.dumps(trace.to_dict(), ensure_ascii=False) for trace in measured.traces)
        out.write_text("\n".join([*lines, ""]), encoding="utf-8")
    model = ", ".join(dict.fromkeys(member.label for member in chosen.members))
    profiles = ", ".join(dict.fromkeys(chosen.prompts_of(member).name for member in chosen.members))
    formats = ", ".join(dict.fromkeys(chosen.reply_format_of(member) for member in chosen.members))
    row = measured.row(model, profiles, formats)
    sys.stdout.write(f"{HEADER}\n{row}\n")


if __name__ == "__main__":
    terminal.run(app)
