"""Terminal output of `colm-vl ask` and `colm-vl team check`."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from colm_vl.answers import abstains, is_abstention
from colm_vl.events import Delta, Event, Note, Queued, StageStarted
from colm_vl.health import Health
from colm_vl.team import Member
from colm_vl.types import (
    STAGE_TITLES,
    ClientReply,
    Confidence,
    Decision,
    Draft,
    Failure,
    Guidance,
    Refinement,
    Selection,
    Trace,
    Usage,
    Verdict,
)

_PREVIEW_LINES = 4
_SEVERAL = "several answers at once"
"""Shown while a client writes samples, whose pieces are interleaved."""
_KEPT = "\n\t\u200c\u200d"


def clean(text: str) -> str:
    """Make a model's text safe for a terminal.

    Removes control characters, which could move the cursor or overwrite the screen, and lone surrogates, which cannot
    be encoded. Zero-width joiners stay, because some scripts and emoji need them.
    """
    return "".join(char for char in text if char in _KEPT or unicodedata.category(char) not in ("Cc", "Cf", "Cs"))


class Conversation:
    """Prints finished replies as they arrive. In a terminal, replies in progress are shown below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._writing: dict[str, str] = {}
        self._before: dict[str, ClientReply] = {}
        self._waiting: dict[str, int | None] = {}  # in the queue of a service: the number of calls before theirs
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Conversation:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._writing = dict.fromkeys(event.members, "")
                self._print(Text(f"{STAGE_TITLES[event.stage]}{_of_round(event.round)}", style="bold"))
            case Queued():
                self._waiting[event.member] = event.ahead
            case Delta():
                so_far = self._writing.get(event.member, "")
                self._writing[event.member] = _SEVERAL if event.sample else so_far + event.text
            case Selection():
                self._show_selection(event)
            case Refinement():
                self._finished(event.client, _refinement(self._before.get(event.client), event))
                if event.readable:
                    self._before[event.client] = event
            case Draft():
                self._finished(event.client, _draft(event))
                self._before[event.client] = event
            case Guidance():
                self._finished(event.server, Text(clean(event.text.strip())))
            case Verdict():
                self._finished(event.server, _answer_line(event.choice, event.answer, event.confidence))
            case Failure():
                self._finished(event.member or "", _failure(event))
            case Decision() if not event.asked:
                self._print(Text(f"The server was not asked: {event.reason}", style="dim"))
            case Note():
                self._print(Text(clean(event.text), style="yellow"))
            case _:
                pass
        self._refresh()

    def _show_selection(self, selection: Selection) -> None:
        if selection.method != "all":
            self._print(Text(f"Chosen by {selection.method}: {', '.join(selection.clients)}", style="dim"))
        if selection.dropped:
            self._print(Text(f"No such client: {clean(', '.join(selection.dropped))}", style="yellow"))

    def _finished(self, member: str, body: RenderableType) -> None:
        self._writing.pop(member, None)
        self._waiting.pop(member, None)
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=10, style="cyan", no_wrap=True)
        table.add_column(ratio=1)
        table.add_row(Text(clean(member)), body)
        self._print(Padding(table, (0, 0, 0, 2)))

    def _print(self, what: RenderableType) -> None:
        self._console.print(what)

    def _place(self, member: str) -> str:
        ahead = self._waiting.get(member)
        if ahead is None:
            return ""
        return f"in the queue of the service, {ahead} {'call' if ahead == 1 else 'calls'} ahead"

    def _refresh(self) -> None:
        if not self._live:
            return
        rows = [
            Text(f"  {member} … {self._place(member)}", style="dim")
            + Text("\n".join(clean(text).splitlines()[-_PREVIEW_LINES:]), style="dim")
            for member, text in self._writing.items()
        ]
        self._live.update(Group(*rows), refresh=True)


def summary(trace: Trace) -> RenderableType:
    """The answer, the members that gave it, and the time and tokens of each stage."""
    lines: list[RenderableType] = []
    if trace.settlement is not None:
        lines.append(Text("Answer: ", style="bold") + Text(_labelled(trace.choice, trace.answer), style="bold green"))
        lines.append(Text(_behind(trace), style="dim"))
    if trace.degraded:
        lines.append(Text(f"Degraded: {_missing(trace)}", style="yellow"))
    lines.append(Text(_account(trace), style="dim"))
    return Group(*lines)


class HealthProgress:
    """Shows in a terminal which members have not answered yet."""

    def __init__(self, console: Console, members: Sequence[Member]) -> None:
        self._missing = [member.name for member in members]
        self._status = console.status(self._told())

    def __enter__(self) -> HealthProgress:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def done(self, health: Health) -> None:
        self._missing.remove(health.member.name)
        self._status.update(self._told())

    def _told(self) -> Text:
        count = len(self._missing)
        return Text(f"asking {count} member{'s' if count != 1 else ''}: {clean(', '.join(self._missing))}…")


def health_table(rows: Iterable[Health]) -> RenderableType:
    """The results of `team check`: a row for each member, or a few lines for each if the terminal is narrow."""
    return _HealthTable(tuple(rows))


@dataclass(frozen=True, slots=True)
class _HealthTable:
    """Has the widest layout that fits: one table, a narrower table with texts below it, or a few lines per member."""

    rows: Sequence[Health]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, indent = options.max_width, 2

        def fits(table: Table) -> bool:
            return Measurement.get(console, options.update(max_width=sys.maxsize), table).maximum <= width

        whole = [_health_cells(row) for row in self.rows]
        titles = [title for title in whole[0] if any(row[title].plain != _UNKNOWN for row in whole)] if whole else []
        short = [_health_cells(row, width - indent, short=True) for row in self.rows]
        if fits(table := _table(titles, whole, box.HEAVY_HEAD)):
            yield table
        elif fits(table := _table([title for title in titles if title not in _LEFT_OUT], short, None)):
            yield table
            yield Text()
            for cells in short:
                yield Text(": ").join([Text(cells["member"].plain, style="bold cyan"), _texts(cells)])
        else:
            for cells, row in zip([_health_cells(row, width - indent) for row in self.rows], self.rows, strict=True):
                yield Text(cells["member"].plain, style="bold cyan")
                figures = [f"{row.seconds:.1f} s"]
                figures += [f"{title}: {cells[title].plain}" for title in titles if title not in ("works", *_TEXTS)]
                for line in (
                    Text(", ").join([Text("works: ") + cells["works"], *map(Text, figures)]),
                    cells["model"],
                    cells["what"],
                ):
                    yield Padding(line, (0, 0, 0, indent), expand=False)
        if memory := _memory(self.rows):
            yield memory


_UNKNOWN = "–"
_TEXTS = ("member", "model", "seconds", "what")
_LEFT_OUT = ("model", "seconds", "pictures", "what")
"""Not columns of the narrower table: texts are printed below it, and `works` says which models take text only."""


def _table(titles: Sequence[str], rows: Sequence[Mapping[str, Text]], lines: box.Box | None) -> Table:
    table = Table(header_style="bold", box=lines, pad_edge=lines is not None, padding=(0, 1))
    for title in titles:
        table.add_column(title)
    for row in rows:
        table.add_row(*(row[title] for title in titles))
    return table


def _texts(row: Mapping[str, Text]) -> Text:
    return Text("; ").join([text for text in (row["model"], row["what"]) if text.plain])


def _memory(rows: Sequence[Health]) -> Text | None:
    """The memory that the weights of all local models need together."""
    memory = [row.memory for row in rows if row.memory]
    if not memory:
        return None
    weights, free = sum(one.weights for one in memory), min(one.free for one in memory)
    told = f"The weights of the local models need {bytes_text(weights)}; {bytes_text(free)} are free."
    if weights <= free:
        return Text(told, style="dim")
    return Text(f"{told} Set quantization for some, or policy.max_loaded to keep fewer in memory.", style="yellow")


def _health_cells(row: Health, width: int = sys.maxsize, *, short: bool = False) -> Mapping[str, Text]:
    """The cells by column title, in the order of the columns. Words that are longer than `width` are shortened."""

    def shown(text: str, style: str = "") -> Text:
        return Text(" ".join(_shortened(word, width) for word in clean(text).split()), style=style)

    works = "text only" if short and row.images == 0 else "yes"
    return {
        "member": shown(row.member.name),
        "model": shown(f"{row.member.label} ({row.member.backend})"),
        "works": Text(works, style="green") if row.works else Text("no", style="red"),
        "seconds": Text(f"{row.seconds:.1f}"),
        "pictures": Text({None: "yes", 0: "none"}.get(row.images, f"up to {row.images}") if row.works else "?"),
        "sees": Text({True: "yes", False: "no", None: _UNKNOWN}[row.sees]),
        "format": Text(_UNKNOWN if row.formats is None else next(iter(row.formats), "neither")),
        "first token": Text(_UNKNOWN if row.first_token is None else f"{row.first_token:.2f} s"),
        "tokens/s": Text(_UNKNOWN if row.speed is None else f"{row.speed:.0f}"),
        "weights": Text(bytes_text(row.memory.weights) if row.memory else _UNKNOWN),
        "logprobs": Text({True: "yes", False: "no", None: "?"}[row.logprobs]),
        "what": shown(row.problem + (f" ({row.hint})" if row.hint else ""), "red")
        if row.problem
        else shown(row.detail),
    }


def bytes_text(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _shortened(word: str, width: int) -> str:
    """The word if it fits into `width` cells, or else its beginning and its end, for instance of a URL."""
    if cell_len(word) <= width:
        return word
    head = (width - 1) // 2
    tail = set_cell_size(word[::-1], width - 1 - head)[::-1]
    return f"{set_cell_size(word, head).rstrip()}…{tail.lstrip()}"  # set_cell_size cuts a wide character to a space


def _draft(draft: Draft) -> RenderableType:
    lines: list[RenderableType] = [_answer_line(draft.choice, draft.answer, draft.confidence)]
    if draft.caption:
        lines.append(Text(clean(draft.caption), style="dim"))
    if not draft.readable:
        lines.append(Text(clean(draft.text.strip()), style="dim"))
    return Group(*lines)


def _refinement(before: ClientReply | None, now: Refinement) -> RenderableType:
    earlier = _labelled(before.choice, before.answer) if before is not None else ""
    line = _answer_line(now.choice, now.answer, now.confidence)
    if not now.readable:
        return line + Text(f", {earlier} is kept" if earlier else "", style="dim")
    if now.changed and before is not None:
        return Text(f"{earlier or 'unreadable'} → ", style="dim") + line + Text("  changed", style="yellow")
    return line + Text("  kept", style="dim")


def _answer_line(choice: str | None, answer: str, confidence: Confidence) -> Text:
    if not answer:
        return Text("no readable answer", style="yellow")
    if choice is None and is_abstention(answer):
        return Text(clean(answer), style="yellow")
    line = Text(_labelled(choice, answer), style="bold")
    if confidence.value is not None:
        line += Text(f"  {confidence.value:.0%} ({confidence.source})", style="dim")
    return line


def _failure(failure: Failure) -> Text:
    return Text(clean(failure.message), style="red") + Text(
        f" ({clean(failure.hint)})" if failure.hint else "", style="dim"
    )


def _labelled(choice: str | None, answer: str) -> str:
    return f"({choice}) {clean(answer)}" if choice else clean(answer)


def _of_round(round: int) -> str:
    return f", round {round}" if round > 1 else ""


def _behind(trace: Trace) -> str:
    assert trace.settlement is not None
    by = ", ".join(trace.settlement.by)
    if abstains(trace.settlement):
        return f"no member answers the question: {by}"
    against = [name for voters in trace.settlement.votes.values() for name in voters if name not in trace.settlement.by]
    how = {"asker": "answer of the asking client", "vote": "vote", "server": "answer of the server"}[
        trace.settlement.method
    ]
    return f"{how}: {by}" + (f"; against: {', '.join(against)}" if against else "")


def _missing(trace: Trace) -> str:
    parts = [f"{failure.member or 'the question'} failed at {failure.stage}" for failure in trace.failures]
    return "; ".join([*parts, *([f"fell back to {trace.fallback}"] if trace.fallback else [])])


def _account(trace: Trace) -> str:
    stages: dict[str, list[int]] = {}
    for number, call in enumerate(trace.calls):
        stages.setdefault(call.stage + _of_round(call.round), []).append(number)
    parts = []
    for title, numbers in stages.items():
        calls = [trace.calls[number] for number in numbers]
        seconds = max(call.started + call.seconds for call in calls) - min(call.started for call in calls)
        parts.append(f"{title} {seconds:.1f} s, {_tokens(sum((call.usage for call in calls), Usage()))}")
    parts.append(f"total {trace.seconds:.1f} s, {len(trace.calls)} calls, {trace.sent.bytes:,} bytes sent")
    return " · ".join(parts)


def _tokens(usage: Usage) -> str:
    cached = f" ({usage.cached_tokens} cached)" if usage.cached_tokens else ""
    return f"{usage.prompt_tokens}{cached}+{usage.completion_tokens} tokens"


__all__: Sequence[str] = ["Conversation", "HealthProgress", "bytes_text", "clean", "health_table", "summary"]
