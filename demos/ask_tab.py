"""The tab for single questions: connects its components with their event handlers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from .api import offer_api
from .ask_handlers import AskHandlers, listed
from .history import ADD, FOLLOW, FORGET, READ
from .inputs import GATES
from .known import draw_kept

BEGIN = """() => {
  sessionStorage.removeItem("colm-vl-draft");
  document.querySelector("#question textarea").focus();
  return [];
}"""
"""JavaScript: go to the empty field of a new question."""
EDIT = """() => {
  const followup = document.querySelector("#followup textarea");
  (followup?.value ? followup : document.querySelector("#question textarea")).focus();
}"""
"""JavaScript: go to the field that was filled."""


class AskTab(AskHandlers):
    def lay_out(self, page: gr.Blocks) -> None:
        """Create the components and attach the event handlers. Call it within a `gr.Tab`."""
        self.create()
        self._wire(page)
        offer_api(self.service)

    # --- event handlers ---

    def _wire(self, page: gr.Blocks) -> None:
        settings = [self.strategy, self.asker, self.rounds, self.gate, self.confidence, self.share]
        fields = [self.pictures, self.question, self.choices, *settings, self.truth]
        results = [
            self.answer, self.columns, self.account, self.more, self.table, self.downloads, self.thanks, self.shown,
            self.fresh, self.go, self.halt, self.compare, *self.errors.values(), *self.example_buttons,
            self.choices, self.truth, self.known, self.shown_pictures, self.rating, self.correction,
            self.kept, self.conversation, self.earlier, self.followup_part, self.followup, self.followup_error,
            self.send, self.next, self.new, self.again, self.remark, self.link,
        ]  # fmt: skip
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        working: dict[str, Any] = {**private, "concurrency_limit": None}
        for trigger in (self.go.click, self.question.submit):
            trigger(self._on_ask, [*fields, self.known], results, **working)
        for number, button in enumerate(self.example_buttons):
            filled = button.click(
                self._fill_in(number), None,
                [self.pictures, self.question, self.choices, self.truth, self.known, self.kept], **private,
            )  # fmt: skip
            filled.then(self._on_ask, [*fields, self.known], results, **working)
        for trigger in (self.send.click, self.followup.submit):
            trigger(self._on_follow, [self.followup, self.shown, self.conversation, *settings], results, **working)
        self.halt.click(self._on_stop, None, None, queue=False, **private)
        self.compare.click(
            self._on_compare, [self.shown, self.rivals, self.blind],
            [self.table, self.halt, *self._startable], **working,
        )  # fmt: skip
        known = [self.choices, self.truth, self.known]
        self.pictures.change(
            self._on_pictures, [self.pictures, *known, self.conversation],
            [
                self.errors["pictures"], *known, self.kept, self.conversation, self.followup_part, self.followup_error,
            ],
            **private,
        )  # fmt: skip
        self.question.input(
            self._on_question, [self.question, *known], [*known, self.kept], trigger_mode="always_last", **private
        )  # fmt: skip
        self.gate.change(lambda gate: gr.update(visible=gate == GATES[2]), self.gate, self.confidence, **private)
        gr.on(
            [self.choices.change, self.truth.change], draw_kept, [self.choices, self.truth], self.kept,
            trigger_mode="always_last", **private,
        )  # fmt: skip
        filled_in = [self.pictures, self.question, self.choices, self.truth, self.known, self.kept]
        self.history.input(
            self._on_open, [self.history, self.visit], [*results, *filled_in, self.history], **private
        )  # fmt: skip
        filled = self.again.click(
            self._on_again, self.shown, [*filled_in, self.conversation, self.followup, self.followup_part], **private
        )  # fmt: skip
        filled.then(None, None, None, js=EDIT, **private)
        self.new.click(self._on_new, None, [*results, self.pictures, self.question], js=BEGIN, **private)
        history = [self.visit, self.history, self.icons]
        self.fresh.change(listed, self.fresh, history, js=ADD, **private)
        self.forget.click(listed, self.visit, history, js=FORGET, **private)
        for read in (page.load, self.history_part.expand):
            read(listed, self.visit, history, js=READ, **private)
        for follow in (page.load, self.open_link.click):
            follow(self._on_link, [self.visit, self.linked], [*results, *filled_in], js=FOLLOW, **private)
        if self.feedback is not None:
            self.up.click(self._on_thumb("up"), [self.shown, self.correction], self.thanks, **private)
            self.down.click(self._on_thumb("down"), [self.shown, self.correction], self.thanks, **private)
        page.unload(self._on_leave)


__all__: Sequence[str] = ["AskTab"]
