"""Renders a `View` as HTML.

What models write is rendered by `markup.rich`, all other text from visitors and models is escaped by `text`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from colm_vl import ClientReply, Confidence, Failure, Guidance, Refinement, Settlement, Verdict
from colm_vl.answers import abstains, same, same_reply
from colm_vl.types import MemberInfo, Stage

from . import boxes
from .changes import changed, written
from .elements import clamped, disclosed, error, is_picture, labelled, lettered, percent, status, tag, text
from .markup import rich, rich_line
from .messages import failure_in_words
from .view import Mark, QueuePosition, ReplyKey, View

_CONFIDENCE_SOURCE = {"logprobs": "measured", "stated": "stated", "unknown": ""}
"""Measured from the probabilities of its tokens, or stated by the model."""
_CLAMPED_IN_CARD = 120
"""Longer answers on a card show this many characters, and the rest after a click."""
_MARKS: dict[Mark, tuple[str, str]] = {
    "kept": ("✓", "kept its answer"),
    "corrected": ("↗", "corrected its answer"),
    "changed": ("↻", "changed its answer"),
    "unread": ("–", "gave no readable answer"),
}
_STAGES: dict[Stage, str] = {
    "select": "selecting clients",
    "draft": "the clients write their drafts",
    "guide": "the server reads the drafts",
    "verdict": "the server answers",
    "refine": "the clients refine their answers",
    "settle": "settling on an answer",
}


def answer(view: View) -> str:
    """The question, the progress, and the final answer."""
    choices = tag("p", text("  ".join(lettered(view.choices))), "cv-choices", dir="auto") if view.choices else ""
    chips = "".join(tag("span", text(setting), "cv-chip cv-setting") for setting in view.settings)
    asked = tag("div", clamped(view.question), "cv-question", dir="auto") + choices
    asked += tag("p", chips, "cv-settings") if chips else ""
    return tag("section", asked + _headline(view), "cv-answer", aria_label="Answer", data_phase=view.phase)


def pictures(uris: Iterable[str], view: View | None = None) -> str:
    """The pictures of a question, which a click enlarges, with the boxes that the models of `view` gave."""
    shown = [uri for uri in uris if is_picture(uri)]
    boxed = view is not None and len(shown) == 1
    each = []
    for number, uri in enumerate(shown, 1):
        picture = f'<img src="{uri}" alt="Picture {number} of the question">'
        picture = boxes.on_picture(picture, view) if boxed and view else picture
        each.append(tag("button", picture, "cv-zoom",
                        type="button", data_zoom="picture", aria_label=f"Enlarge picture {number}"))  # fmt: skip
    below = boxes.legend(view) if boxed and view else ""
    return tag("div", "".join(each), "cv-thumbs") + below if shown else ""


def columns(view: View) -> str:
    """A card for each client with its draft and its refined answers, and the server's guidance."""
    cards = "".join(_card(view, client) for client in view.clients)
    parts = [tag("div", cards, "cv-columns")] if cards else []
    parts += [_guidance(view, round) for round in view.rounds]
    if not view.guidance and view.gates and not view.gates[-1].asked:
        reason = tag("p", text(f"The server was not asked: {view.gates[-1].reason}."), "cv-aside")
        parts.append(reason)
    parts.append(_verdict(view))
    if view.passed_over:
        parts.append(tag("p", text(f"Not selected: {', '.join(view.passed_over)}."), "cv-aside"))
    parts += [tag("p", text(note), "cv-aside cv-note") for note in view.notes]
    return tag("section", "".join(parts), "cv-board", aria_label="How the team worked")


def _headline(view: View) -> str:
    if view.settlement is not None and view.over:
        return _settled(view)
    if view.phase == "stopped":
        return tag("p", "Stopped", "cv-headline cv-quiet", role="status") + tag(
            "p", "The replies written before are shown below.", "cv-by"
        )
    if view.phase == "done":
        return tag("p", "No answer", "cv-headline cv-quiet", role="status") + tag("p", text(_why_none(view)), "cv-by")
    if view.phase == "waiting":
        return _progress(_place_in_line(view.line) if view.line else "Starting", view)
    stage = _STAGES[view.stage.stage] if view.stage else "starting"
    which = f", round {view.stage.round}" if view.stage and view.stage.round > 1 else ""
    return _progress(f"{stage[0].upper()}{stage[1:]}{which}", view)


def _place_in_line(line: QueuePosition) -> str:
    before = f"{line.ahead} before yours" if line.ahead else "yours is next"
    return f"Waiting: {before}, {line.length} in line"


def _progress(words: str, view: View) -> str:
    clock = tag("span", text(f"{view.seconds:.0f} s"), "cv-clock", aria_hidden="true")
    return tag("p", tag("span", text(words), role="status") + clock, "cv-headline cv-quiet cv-busy")


def _settled(view: View) -> str:
    settlement = view.settlement
    assert settlement is not None
    answered = labelled(settlement.choice, settlement.answer)
    copy = tag("button", "Copy", "cv-button cv-small", type="button", data_copy="cv-said")
    said = tag("div", rich_line(answered), "cv-headline" if len(answered) < 80 else "cv-headline cv-long-answer",
               role="status", dir="auto")  # fmt: skip
    said = tag("div", said + copy + tag("span", text(answered), id="cv-said", hidden="hidden"), "cv-answered")
    lines = [tag("p", _behind(view) + _rightness(view, settlement.answer), "cv-by")]
    if changes := _changes(view):
        lines.append(tag("p", text(changes), "cv-by"))
    if view.trace is not None and view.trace.degraded:
        lines.append(tag("p", text(_missing(view)), "cv-by cv-warn"))
    return said + "".join(lines)


def _behind(view: View) -> str:
    settlement = view.settlement
    assert settlement is not None
    if abstains(settlement):
        return text("No model answers the question")
    if settlement.method == "server":
        return text("The server's answer")
    if settlement.method == "asker":
        return text(f"The answer of {settlement.by[0]}, the asking client")
    return text("; ".join((_agreement(view, settlement), *_dissent(view, settlement))))


def _agreement(view: View, settlement: Settlement) -> str:
    voters, agree = sum(map(len, settlement.votes.values())), len(settlement.by)
    # A client that samples several answers has several votes.
    asked = voters if view.samples else max(voters, len(view.clients))
    if voters == 1:
        return f"Only {settlement.by[0]} answered" if asked > 1 else f"The answer of {settlement.by[0]}"
    if agree == 1:
        return f"A tie, won by {settlement.by[0]}"
    if agree == asked:
        return f"All {asked} agree"
    return f"{agree} of {asked} agree" + (f", {asked - voters} gave no answer" if asked > voters else "")


def _dissent(view: View, settlement: Settlement) -> Sequence[str]:
    winner = settlement.choice or settlement.answer
    against = [(said, names) for said, names in settlement.votes.items() if said != winner]
    if view.samples:
        return [
            f"{len(names)} say {_short(said)}" if len(names) > 1 else f"1 says {_short(said)}"
            for said, names in against
        ]
    return [f"{name} says {_short(said)}" for said, names in against for name in names]


def _changes(view: View) -> str:
    """What refinement changed: "2 of 3 changed their answer; a vote of the drafts would have said August"."""
    assert view.settlement is not None
    refined = {name for _, name in view.refinements}
    if not refined:
        return ""
    changed = [name for name, replies in view.story.items() if name in refined and _differ(replies)]
    words = f"{len(changed)} of {len(refined)} changed their answer" if changed else "No client changed its answer"
    voted = view.vote_of_drafts
    if not voted or len(view.drafts) < 2:
        return words
    same_as_vote = same(voted, view.settlement.answer)
    return words + ("; a vote of the drafts would have said " + ("the same" if same_as_vote else voted))


def _differ(replies: Sequence[ClientReply]) -> bool:
    return len(replies) > 1 and not same_reply(replies[0], replies[-1])


def _rightness(view: View, said: str) -> str:
    right = view.is_right(said)
    if right is None:
        return ""
    words = "right" if right else f"wrong: it is {view.truth}"
    return " " + tag("span", text(words), f"cv-chip cv-{'right' if right else 'wrong'}")


def _missing(view: View) -> str:
    assert view.trace is not None
    parts = [f"{failure.member} failed" for failure in view.failures]
    if view.trace.fallback:
        parts.append(f"fell back to {view.trace.fallback}")
    return "Degraded: " + "; ".join(dict.fromkeys(parts))


def _why_none(view: View) -> str:
    if view.failures:
        return "No member could answer. The errors are shown below."
    return "No answer could be read from the replies."


def _card(view: View, client: MemberInfo) -> str:
    head = tag("h3", text(client.name)) + tag("p", text(client.specialty), "cv-specialty")
    parts = [tag("header", head), _story(view, client.name), _draft(view, client.name)]
    parts += [_refinement(view, client.name, round) for round in view.rounds]
    return tag("article", "".join(parts), "cv-card", aria_label=client.name)


def _story(view: View, name: str) -> str:
    """ "August 55 % → July 90 %", once a client has refined its answer."""
    replies = view.story.get(name, ())
    if len(replies) < 2:
        return ""
    arrow = "<wbr>" + tag("span", "→", "cv-arrow", aria_label="then") + "<wbr>"  # a narrow card breaks lines there
    return tag("p", arrow.join(tag("span", _brief(reply)) for reply in replies), "cv-story", dir="auto")


def _short(said: str) -> str:
    return said if len(said) <= 40 else f"{said[:39]}…"


def _brief(reply: ClientReply) -> str:
    said = labelled(reply.choice, reply.answer)
    drawn = rich_line(said) if _short(said) == said else text(_short(said))
    return drawn if abstains(reply) or reply.confidence.value is None else f"{drawn} {percent(reply.confidence.value)}"


def _draft(view: View, name: str) -> str:
    body = "".join(_reply(view, reply) for reply in view.drafts.get(name, []))
    body += _failed(view.failure("draft", name))
    body += "" if view.samples and body else _writing(view, ReplyKey("draft", name, 0))
    if not body:
        body = tag("p", "no reply" if view.over else "waiting", "cv-idle")
    return _part(name, "draft", body)


def _refinement(view: View, name: str, round: int) -> str:
    reply = view.refinements.get((round, name))
    body = _refined(view, reply) if reply else ""
    body += _failed(view.failure("refine", name, round)) + _writing(view, ReplyKey("refine", name, round))
    return _part(name, _of_round(round, "refined answer"), body) if body else ""


def _part(name: str, what: str, body: str) -> str:
    return tag("div", tag("h4", what, "cv-part-name") + body, "cv-part", role="group", aria_label=f"{name}: {what}")


def _refined(view: View, reply: Refinement) -> str:
    mark = view.mark(reply)
    sign, words = _MARKS[mark]
    before = view.before(reply)
    earlier = labelled(before.choice, before.answer) if before else ""
    said = words
    if mark == "unread":
        said += ", so its earlier one counts" if earlier else ""
    elif reply.changed and before:
        said += f", before: {_short(earlier) or 'unreadable'}"
    icon = tag("span", sign, aria_hidden="true")
    told = tag("p", icon + " " + text(said), f"cv-mark cv-{mark}", data_mark=mark)
    return _reply(view, reply, told, before)


def _reply(view: View, reply: ClientReply | Verdict, mark: str = "", before: ClientReply | None = None) -> str:
    """`before` is the client's reply before this one. What differs from it is marked."""
    if not reply.answer:
        prose = tag("div", rich(reply.text.strip()), "cv-prose", dir="auto")
        return tag("p", "no readable answer", "cv-said cv-warn") + prose + mark
    said = rich_line(labelled(reply.choice, reply.answer), _CLAMPED_IN_CARD) + _rightness(view, reply.answer)
    parts = [tag("div", said, "cv-said", dir="auto"), _confidence(reply.confidence), mark]
    if abstains(reply):
        parts = [tag("div", said, "cv-said cv-warn", dir="auto"), mark]
    if reply.caption:
        parts.append(tag("div", changed(before.caption if before else "", reply.caption), "cv-caption", dir="auto"))
    return "".join([*parts, written(reply.text, before.text if before else "")])


def _confidence(confidence: Confidence) -> str:
    if confidence.value is None:
        return tag("p", "confidence unknown", "cv-confidence cv-idle")
    share = round(confidence.value * 100)
    fill = f'<span class="cv-fill" style="width:{share:d}%"></span>'
    source = _CONFIDENCE_SOURCE[confidence.source]
    bar = tag(
        "span", fill, "cv-bar", role="meter", aria_label=f"Confidence, {source}",
        aria_valuenow=share, aria_valuemin="0", aria_valuemax="100",
    )  # fmt: skip
    return tag("p", bar + tag("span", text(f"{percent(confidence.value)} {source}")), "cv-confidence")


def _writing(view: View, place: ReplyKey) -> str:
    if place not in view.writing:
        return ""
    so_far = "several answers at once" if view.samples else view.writing[place]
    if not so_far.strip():
        ahead = view.ahead.get(place)
        return tag(
            "p", "thinking" if ahead is None else f"in the queue of the service, {ahead} ahead", "cv-idle cv-busy"
        )
    return tag("p", text(so_far), "cv-writing cv-busy", dir="auto")


def _failed(failure: Failure | None) -> str:
    if failure is None:
        return ""
    return tag("div", tag("p", text(failure_in_words(failure))), "cv-failure")


def _guidance(view: View, round: int) -> str:
    server = view.server
    if server is None or view.server_answers:
        return ""
    said = view.guidance.get(round)
    body = _guidance_parts(said) if said else _writing(view, ReplyKey("guide", server.name, round))
    body += _failed(view.failure("guide", server.name, round))
    if not body:
        return ""
    role = tag("span", text(_of_round(round, "guidance for the clients")), "cv-role")
    head = tag("h3", text(server.name) + role)
    return tag(
        "article", tag("header", head) + body, "cv-guidance", aria_label=_of_round(round, "Guidance of the server")
    )


def _guidance_parts(guidance: Guidance) -> str:
    parts = {"Evidence": guidance.evidence, "Disagreement": guidance.disagreement, "Check": guidance.check}
    rows = [tag("dt", name) + tag("dd", rich(said), dir="auto") for name, said in parts.items() if said]
    if not rows:
        return tag("div", rich(guidance.text.strip()), "cv-prose", dir="auto")
    return tag("dl", "".join(rows)) + written(guidance.text)


def _verdict(view: View) -> str:
    server = view.server
    if server is None or not view.server_answers:
        return ""
    body = _reply(view, view.verdict) if view.verdict else ""
    body += "".join(_writing(view, place) for place in view.writing if place.member == server.name)
    body += "".join(_failed(failure) for failure in view.failures if failure.member == server.name)
    if not body:
        return ""
    head = tag("h3", text(server.name) + tag("span", "its own answer", "cv-role"))
    return tag("article", tag("header", head) + body, "cv-guidance", aria_label="The server's answer")


def _of_round(round: int, what: str) -> str:
    return f"{what}, round {round}" if round > 1 else what


__all__: Sequence[str] = [
    "answer",
    "clamped",
    "columns",
    "disclosed",
    "error",
    "labelled",
    "pictures",
    "status",
    "tag",
    "text",
]
