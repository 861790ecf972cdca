"""What happens on the tab for single questions."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

import gradio as gr

from colm_vl.answers import correct_choice

from . import costs, draw
from .api import visit_of
from .ask_layout import AskLayout
from .comparison import Comparison
from .conversation import Conversation, Shown, draw_earlier, invitation
from .examples import Example
from .history import (
    UNKNOWN,
    Entry,
    FeedbackFile,
    choices_of,
    conversations,
    download_links,
    link_button,
    new_id,
    pictures_of,
    remembered,
)
from .inputs import FIELDS, Field, FieldError, Settings, check_length, read_choices
from .known import Known, digests, draw_kept
from .messages import in_words
from .service import Asked, Busy, Service
from .start import start, welcome
from .view import View

logger = logging.getLogger(__name__)

Updates = dict[Any, Any]


class AskHandlers(AskLayout):
    """The event handlers. Their values are those of the components with which `AskTab` connects them."""

    def __init__(self, service: Service, feedback: FeedbackFile | None, examples: Sequence[Example]) -> None:
        super().__init__(service, examples)
        self.feedback = feedback

    async def _on_ask(
        self, pictures: Any, question: str, choices: str, strategy: str, asker: str, rounds: float, gate: str,
        confidence: float, share: str, truth: str, known: Known | None, request: gr.Request,
    ) -> AsyncGenerator[Updates, None]:  # fmt: skip
        settings = Settings(strategy, asker, int(rounds), gate, confidence, share)
        if self.service.is_busy(visit_of(request)):
            yield {self.errors["settings"]: draw.error(in_words(Busy()))}
            return
        try:
            files = _files(pictures)
            query = await self.service.read(question, files, read_choices(choices))
            if known and not known.is_of(query):  # asked before `_on_question` or `_on_pictures` cleared the fields
                choices, truth = known.without(choices or "", truth or "")
                query, known = replace(query, choices=read_choices(choices)), None
            truth = (truth or "").strip()
            told = replace(known, truth=truth) if known else Known.of_query(query, truth)
            changes = settings.changes(self.service.colm.team)
            place = correct_choice(truth, query.choices)
            right = truth if place is None else query.choices[place]
            asked = Asked(replace(query, images=()), changes, right, tuple(files))
            del query
        except FieldError as error:
            yield self._told(error.field, str(error))
            return
        begun = {
            self.choices: choices,
            self.truth: truth,
            self.known: told,
            self.kept: draw_kept(choices, truth),
            self.shown: None,
            self.conversation: None,
            self.earlier: "",
            self.remark: told.remark,
            self.shown_pictures: "",
            self.followup_part: gr.update(visible=False),
        }
        try:
            async for updates in self._answered(asked, (), begun, request):
                yield updates
        except Busy as error:  # the question that was asked at the same time goes on
            yield {self.errors["settings"]: draw.error(in_words(error))}
        except Exception as error:
            failed = {self.answer: welcome(), self.remark: ""}
            yield self._told("settings", in_words(error)) | failed | self._buttons(working=False)

    async def _on_follow(
        self, question: str, shown: Shown | None, conversation: Conversation | None, strategy: str, asker: str,
        rounds: float, gate: str, confidence: float, share: str, request: gr.Request,
    ) -> AsyncGenerator[Updates, None]:  # fmt: skip
        settings = Settings(strategy, asker, int(rounds), gate, confidence, share)
        if self.service.is_busy(visit_of(request)) or shown is None or conversation is None:
            said = in_words(Busy()) if shown and conversation else "Ask a question first."
            yield {self.followup_error: draw.error(said)}
            return
        try:
            query = await self.service.read(question, conversation.files)
            check_length(conversation.turns, self.service.limits)
            query = replace(query, images=(), history=conversation.turns)
            asked = Asked(query, settings.changes(self.service.colm.team), files=conversation.files)
        except FieldError as error:
            yield {self.followup_error: draw.error(str(error))}
            return
        begun = {self.earlier: draw_earlier(conversation), self.followup: ""}
        try:
            async for updates in self._answered(asked, conversation.earlier, begun, request):
                yield updates
            if self.fresh not in updates:  # stopped
                yield {self.followup: question}
        except Busy as error:
            yield {self.followup: question, self.followup_error: draw.error(in_words(error))}
        except Exception as error:
            failed = {self.followup: question, self.followup_error: draw.error(in_words(error))}
            yield self._buttons(working=False) | self._opened(shown) | failed

    async def _answered(
        self, asked: Asked, earlier: tuple[str, ...], begun: Updates, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Ask, and show the replies as they come. `earlier` are the ids of the questions before it."""
        clear = {
            self.columns: "",
            self.account: "",
            self.table: "",
            self.thanks: "",
            self.more: gr.update(visible=False),
            self.rating: gr.update(visible=False),
            self.next: gr.update(visible=False),
        }
        if self.service.is_busy(visit_of(request)):  # since its pictures were read
            raise Busy
        yield self._told() | clear | begun | self._buttons(working=True)
        async with aclosing(self.service.ask(visit_of(request), asked)) as views:
            drawn: Updates = {}
            async for view in views:
                now = {
                    self.answer: draw.answer(view),
                    self.columns: draw.columns(view),
                    self.shown_pictures: draw.pictures(view.pictures, view),
                }
                fresh = {part: html for part, html in now.items() if drawn.get(part) != html}
                # Always yield: Gradio notices only then that a visitor has left.
                yield fresh or {self.answer: gr.skip()}
                drawn = now
        yield self._buttons(working=False) | self._finished(view, asked, earlier)

    def _finished(self, view: View, asked: Asked, earlier: tuple[str, ...]) -> Updates:
        if view.trace is None:
            return {}
        entry = Entry(view.trace, view.thumbnails, asked.truth, asked.changes, new_id(), earlier)
        return self._keep(Shown(entry, asked)) | {self.fresh: entry.to_dict()}

    def _keep(self, shown: Shown) -> Updates:
        team = self.service.colm.team
        # The pocket team understands single questions only.
        conversation = None if team.is_pocket else Conversation.after(shown)
        return {
            self.shown: shown,
            self.conversation: conversation,
            self.earlier: draw_earlier(shown.entry),
            self.link: link_button(shown.entry),
            self.followup_part: gr.update(visible=conversation is not None),
            self.followup: gr.update(placeholder=invitation(len(shown.entry.trace.images))),
            self.followup_error: "",
            self.next: gr.update(visible=True),
            self.account: costs.account(shown.entry.trace),
            self.downloads: download_links(shown.entry, team.source, pocket=team.is_pocket),
            self.compare: gr.update(interactive=shown.asked is not None),
            self.table: ""
            if shown.asked
            else draw.tag("p", "To compare, ask the question again: its pictures are no longer available.", "cv-aside"),
            self.more: gr.update(visible=True),
            self.rating: gr.update(visible=self.feedback is not None),
            self.correction: "",
            self.thanks: "",
        }

    async def _on_compare(
        self, shown: Shown | None, names: list[str], blind: bool, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        if shown is None or shown.asked is None or not names:
            words = "Choose at least one strategy." if shown and shown.asked else "Ask a question first."
            yield {self.table: draw.error(words)}
            return
        # In the order of the list, from one model to many, not in the order of ticking.
        chosen = [name for name in self._comparable() if name in names]
        comparison = Comparison(shown.asked, shown.entry.truth, chosen, blind)
        yield self._buttons(working=True)
        try:
            async with aclosing(comparison.run(self.service, visit_of(request))) as tables:
                async for table in tables:
                    yield {self.table: table}
            yield self._buttons(working=False)
        except Busy as error:
            yield {self.table: draw.error(in_words(error))}
        except Exception as error:
            yield {self.table: draw.error(in_words(error))} | self._buttons(working=False)

    async def _on_stop(self, request: gr.Request) -> None:
        self.service.stop(visit_of(request))

    async def _on_leave(self, request: gr.Request) -> None:
        self.service.stop(visit_of(request))
        # Gradio itself keeps the state of a visitor for an hour.
        request.request.app.state_holder.delete_state(visit_of(request))

    async def _on_pictures(
        self, pictures: Any, choices: str, truth: str, known: Known | None, conversation: Conversation | None,
        request: gr.Request,
    ) -> Updates:  # fmt: skip
        """Check pictures as soon as they are added, not only when the question is asked. Other pictures end the
        conversation."""
        try:
            query = await self.service.read("?", _files(pictures))
        except FieldError as error:
            return {self.errors["pictures"]: draw.error(str(error))}
        given = digests(query)
        cleared = self._cleared(known, choices, truth) if known and known.pictures != given else {}
        if conversation and conversation.pictures != given and not self.service.is_busy(visit_of(request)):
            cleared |= {
                self.conversation: None,
                self.followup_part: gr.update(visible=False),
                self.followup_error: draw.tag("p", "For other pictures, ask a new question.", "cv-aside"),
            }
        return {self.errors["pictures"]: ""} | cleared

    def _on_question(self, question: str, choices: str, truth: str, known: Known | None) -> Updates:
        if known and known.question != (question or "").strip():
            return self._cleared(known, choices, truth)
        return {self.known: gr.skip()}

    def _cleared(self, known: Known, choices: str, truth: str) -> Updates:
        """Clear the choices and the right answer of an example whose question was changed."""
        choices, truth = known.without(choices or "", truth or "")
        return {self.choices: choices, self.truth: truth, self.known: None, self.kept: draw_kept(choices, truth)}

    def _on_open(self, number: int | None, stored: Any, request: gr.Request) -> Updates:
        entries = conversations(remembered(stored))
        if number is None or not 0 <= number < len(entries) or self.service.is_busy(visit_of(request)):
            return {self.history: gr.update(value=None)}
        return self._reopened(entries[number])

    def _on_link(self, stored: Any, linked: str, request: gr.Request) -> Updates:
        """Open the question that the page's address names. Only those in the visitor's own browser are found."""
        if not linked:
            return {self.known: gr.skip()}
        if self.service.is_busy(visit_of(request)):
            return {self.remark: draw.error(in_words(Busy()))}
        entry = next((entry for entry in remembered(stored) if entry.id == linked), None)
        if entry is None:
            return {self.remark: draw.error(UNKNOWN)}
        return self._reopened(entry)

    def _reopened(self, entry: Entry) -> Updates:
        shown = Shown(entry)
        pictures = {self.shown_pictures: draw.pictures(entry.thumbnails, entry.view())}
        return self._opened(shown) | self._filled(entry, None) | {self.remark: ""} | pictures

    def _opened(self, shown: Shown) -> Updates:
        view = shown.entry.view()
        return self._keep(shown) | {self.answer: draw.answer(view), self.columns: draw.columns(view)}

    def _on_again(self, shown: Shown | None) -> Updates:
        if shown is None:
            return {self.known: gr.skip()}
        conversation = None if self.service.colm.team.is_pocket else Conversation.before(shown)
        if conversation is not None:
            return {
                self.conversation: conversation,
                self.followup: shown.entry.trace.question,
                self.followup_part: gr.update(visible=True),
            }
        return self._filled(shown.entry, list(shown.asked.files) if shown.asked else None)

    def _on_new(self) -> Updates:
        hidden = (self.more, self.rating, self.next, self.followup_part)
        empty = (self.account, self.table, self.earlier, self.question, self.choices, self.truth, self.kept,
                 self.followup, self.followup_error)  # fmt: skip
        begin = start()
        return (
            dict.fromkeys(hidden, gr.update(visible=False)) | dict.fromkeys(empty, "") | self._told()
            | dict.fromkeys((self.shown, self.conversation, self.known, self.pictures), None)
            | {self.remark: begin.remark, self.shown_pictures: begin.pictures, self.answer: begin.answer,
               self.columns: begin.columns}
        )  # fmt: skip

    def _filled(self, entry: Entry, files: list[str] | None) -> Updates:
        """The fields as they were when this question was asked."""
        known = Known.of_trace(entry.trace, entry.truth, with_pictures=bool(files))
        return {
            self.pictures: files or None,
            self.question: known.question,
            self.choices: known.choices,
            self.truth: known.truth,
            self.known: known,
            self.kept: draw_kept(known.choices, known.truth),
        }

    def _on_thumb(self, thumb: Literal["up", "down"]) -> Any:
        def add(shown: Shown | None, right_answer: str) -> str:
            if shown is None or self.feedback is None:
                return ""
            try:
                self.feedback.add(thumb, right_answer or "", shown.entry.trace)
            except OSError:
                logger.exception("feedback could not be written")
                return draw.error("Your feedback could not be saved. The reason is in the server's log.")
            return draw.status("Thank you. Your feedback was saved.")

        return add

    def _fill_in(self, number: int) -> Any:
        example, known = self.examples[number], Known.of_example(self.examples[number])

        def fill() -> Updates:
            return {
                self.pictures: list(example.pictures) or None,
                self.question: example.question,
                self.choices: known.choices,
                self.truth: known.truth,
                self.known: known,
                self.kept: draw_kept(known.choices, known.truth),
            }

        return fill

    def _told(self, field: Field | None = None, said: str = "") -> Updates:
        """Show a message beside that field, and clear those beside the others."""
        told = {self.errors[name]: draw.error(said) if name == field else "" for name in FIELDS}
        return told | {self.followup_error: ""}

    @property
    def _startable(self) -> list[Any]:
        """What cannot be used while a question is being answered."""
        return [self.go, self.compare, self.send, self.new, self.again, *self.example_buttons]

    def _buttons(self, *, working: bool) -> Updates:
        idle = gr.update(interactive=not working)
        return dict.fromkeys(self._startable, idle) | {self.halt: gr.update(interactive=working)}


def listed(stored: Any) -> tuple[Any, Any, str]:
    """The stored entries, the list of their conversations, and its pictures."""
    entries = conversations(remembered(stored))
    return stored, gr.update(choices=choices_of(entries), value=None), pictures_of(entries)


def _files(pictures: Any) -> list[str]:
    """The paths in the value of a gallery."""
    return [item[0] for item in pictures or []]


__all__: Sequence[str] = ["AskHandlers", "listed"]
