"""The components of the tab for single questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from colm_vl.strategies import find

from . import draw
from .examples import MARKS, Example
from .inputs import GATES, SHARES, VOTE, Field, Settings, gate_options, strategies, strategy_choices
from .service import Service
from .start import start


class AskLayout:
    """The components, as attributes, once `create` was called."""

    def __init__(self, service: Service, examples: Sequence[Example]) -> None:
        self.service = service
        self.examples = examples

    def create(self) -> None:
        """Call it within a `gr.Tab`."""
        self.shown = gr.State(None)
        self.known = gr.State(None)
        self.conversation = gr.State(None)
        self.visit = gr.JSON([], visible=False)
        self.fresh = gr.JSON(None, visible=False)
        self.linked = gr.Textbox("", visible=False)
        self.open_link = gr.Button(visible="hidden", elem_id="open-link")
        with gr.Row(elem_classes="cv-ask"):
            with gr.Column(min_width=300, elem_id="question-side"):
                self._lay_out_question()
            with gr.Column(min_width=300, elem_id="answer-side"):
                self._lay_out_answer()
            with gr.Column(min_width=300, elem_id="more-side"):
                self._lay_out_more()

    def _lay_out_question(self) -> None:
        self.errors: dict[Field, Any] = {}
        self.pictures = gr.Gallery(
            label="Pictures", type="filepath", file_types=["image"], sources=["upload", "webcam", "clipboard"],
            interactive=True, columns=3, height=200, object_fit="contain", format="png", elem_id="pictures",
            buttons=[],
        )  # fmt: skip
        self.errors["pictures"] = gr.HTML(elem_id="pictures-error")
        self.question = gr.Textbox(
            label="Question", lines=2, max_lines=6, placeholder="What do you want to know?", elem_id="question",
            max_length=self.service.limits.characters, info="Enter asks, Shift+Enter starts a new line, Esc stops.",
        )  # fmt: skip
        self.errors["question"] = gr.HTML(elem_id="question-error")
        self.kept = gr.HTML(elem_id="kept")
        self.errors["choices"] = gr.HTML(elem_id="choices-error")
        with gr.Row(elem_classes="cv-go"):
            self.go = gr.Button("Ask", variant="primary", elem_id="ask", min_width=120)
            self.halt = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False, min_width=80)
        self.errors["settings"] = gr.HTML(elem_id="ask-error")

    def _lay_out_next(self) -> None:
        """What the visitor can do next: ask a follow-up, a new question, or the same again."""
        with gr.Row(visible=False, elem_classes="cv-next", elem_id="followup-part") as self.followup_part:
            self.followup = gr.Textbox(
                label="Follow-up question", show_label=False, container=False, lines=1, max_lines=4,
                elem_id="followup", min_width=200, max_length=self.service.limits.characters,
            )  # fmt: skip
            self.send = gr.Button("Ask follow-up", elem_id="send", size="sm", min_width=120)
        self.followup_error = gr.HTML(elem_id="followup-error")
        with gr.Row(visible=False, elem_classes="cv-actions", elem_id="next") as self.next:
            self.new = gr.Button("New question", elem_id="new", size="sm", min_width=120)
            self.again = gr.Button("Edit and ask again", elem_id="again", size="sm", min_width=120)
            self.link = gr.HTML(elem_id="link")

    def _lay_out_more(self) -> None:
        with gr.Column(elem_id="examples"):
            gr.HTML(draw.tag("h2", "Or try one of these"), elem_classes="cv-label", visible=bool(self.examples))
            self.example_buttons = [_example_button(number, example) for number, example in enumerate(self.examples)]
        with gr.Accordion("Choices", open=False, elem_id="choices-part"):
            self.choices = gr.Textbox(
                label="Choices, one per line", lines=3, info="Leave it empty for an open answer.", elem_id="choices"
            )
        with gr.Accordion("How the team works", open=False, elem_id="settings"):
            self._lay_out_settings()
        with gr.Accordion("Your questions", open=False, elem_id="history-part") as self.history_part:
            self.icons = gr.HTML(elem_id="history-icons")
            self.history = gr.Radio([], label="Earlier questions, latest first", elem_id="history")
            self.forget = gr.Button("Forget them", size="sm", elem_id="forget")

    def _lay_out_settings(self) -> None:
        team = self.service.colm.team
        own = Settings.of(team)
        names = strategies(team)
        self.strategy = gr.Dropdown(
            strategy_choices(names), value=own.strategy, label="Strategy", elem_id="strategy",
            allow_custom_value=own.strategy not in names,
        )  # fmt: skip
        self.asker = gr.Dropdown(
            [VOTE, *(client.name for client in team.clients)], value=own.asker, label="Whose answer counts",
            elem_id="asker",
        )  # fmt: skip
        self.rounds = gr.Slider(
            1, max(5, own.rounds), value=own.rounds, step=1, label="Rounds of guidance", elem_id="rounds"
        )
        self.gate = gr.Radio(gate_options(team), value=own.gate, label="When the server is asked", elem_id="gate")
        self.confidence = gr.Slider(
            0, 1, value=own.confidence, step=0.05, label="Unsure means a confidence of at most", elem_id="confidence",
            visible=own.gate == GATES[2],
        )  # fmt: skip
        self.share = gr.Radio(list(SHARES), value=own.share, label="What the server may see", elem_id="share")
        self.truth = gr.Textbox(
            label="Right answer, if you know it",
            info="Used to mark answers as right or wrong. It is not sent to models.",
            elem_id="truth",
        )

    def _lay_out_answer(self) -> None:
        begin = start()
        self.remark = gr.HTML(begin.remark, elem_id="remark")
        self.earlier = gr.HTML(elem_id="earlier")
        with gr.Row(elem_classes="cv-answer-row"):
            self.shown_pictures = gr.HTML(begin.pictures, elem_id="shown-pictures")
            self.answer = gr.HTML(begin.answer, elem_id="answer")
        self._lay_out_next()
        with gr.Column(visible=False, elem_id="feedback") as self.rating, gr.Row(elem_classes="cv-rating"):
            gr.HTML(draw.tag("h2", "Was this answer right?"))
            self.up = gr.Button("Right", size="sm", elem_id="thumb-up", min_width=90)
            self.down = gr.Button("Wrong", size="sm", elem_id="thumb-down", min_width=90)
            self.correction = gr.Textbox(
                show_label=False, container=False, placeholder="The right answer, if it was not",
                elem_id="correction", min_width=200,
            )  # fmt: skip
            self.thanks = gr.HTML(elem_id="thanks")
        self.columns = gr.HTML(begin.columns, elem_id="columns")
        self.account = gr.HTML(elem_id="account")
        with gr.Column(visible=False, elem_id="more") as self.more:
            with gr.Column(elem_id="compare-part"):
                gr.HTML(draw.tag("h2", "Would a single model have been enough?"))
                known = self._comparable()
                self.rivals = gr.CheckboxGroup(
                    strategy_choices(known), value=[name for name in known if not find(name).costly],
                    label="Answer the same question with", elem_id="rivals",
                )  # fmt: skip
                self.blind = gr.Checkbox(
                    False, label="Show the answers without the names first", elem_id="blind"
                )  # fmt: skip
                self.compare = gr.Button("Compare", elem_id="compare", size="sm")
                self.table = gr.HTML(elem_id="comparison")
            self.downloads = gr.HTML(elem_id="downloads")

    def _comparable(self) -> list[str]:
        team = self.service.colm.team
        alone = [f"solo:{client.name}" for client in team.clients]
        return [*alone, *(name for name in strategies(team) if name != "solo")]


def _example_button(number: int, example: Example) -> gr.Button:
    classes = ["cv-example"] if example.pictures else ["cv-example", "cv-bare"]
    words = f"{example.title}: {example.question}"
    words += f" · {MARKS[example.kind]}" if example.kind else ""
    return gr.Button(words, elem_id=f"example-{number}", size="sm", elem_classes=classes)


__all__: Sequence[str] = ["AskLayout"]
