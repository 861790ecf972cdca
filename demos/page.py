"""Builds the page. `draw` renders HTML, and `service` answers questions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from colm_vl import CoLM, Team

from . import draw
from .ask_tab import AskTab
from .batch_tab import BatchTab
from .examples import Example, drawn_examples, pocket_examples
from .history import FeedbackFile
from .inputs import Limits
from .service import Service
from .waiting import WaitingLine


@dataclass(frozen=True, slots=True)
class Options:
    """`width` questions are answered at the same time, and up to `line` more can wait. `loaded` is set once the local
    models are loaded; until then, the page tells that they are being loaded."""

    width: int = 4
    line: int = 16
    feedback: Path | None = None
    limits: Limits = Limits()
    loaded: threading.Event | None = None


def examples_for(team: Team) -> Sequence[Example]:
    return pocket_examples() if team.is_pocket else drawn_examples()


def build(colm: CoLM, options: Options, examples: Sequence[Example]) -> gr.Blocks:
    """The page for a team. `colm` answers the questions; the caller closes it."""
    service = Service(colm, WaitingLine(options.width, options.line), options.limits)
    if options.loaded:
        service.loaded = options.loaded
    feedback = FeedbackFile(options.feedback) if options.feedback else None
    with gr.Blocks(title="colm-vl", analytics_enabled=False, fill_width=True, delete_cache=(3600, 24 * 3600)) as page:
        gr.HTML(_masthead(colm.team), elem_id="masthead")
        loading = gr.HTML(elem_id="loading")

        async def tell_of_loading() -> AsyncGenerator[str, None]:
            if not service.loaded.is_set():
                yield draw.tag("p", "The models are being loaded. The first answer takes longer.", "cv-aside cv-busy")
                while not service.loaded.is_set():  # noqa: ASYNC110 - an event of threads cannot be awaited
                    await asyncio.sleep(0.5)
            yield ""

        page.load(tell_of_loading, None, loading, api_visibility="private", show_progress="hidden",
                  concurrency_limit=None)  # fmt: skip
        with gr.Tabs():
            with gr.Tab("Ask", id="ask"):
                AskTab(service, feedback, examples).lay_out(page)
            with gr.Tab("Batch", id="batch"):
                BatchTab(service, options.limits).lay_out(page)
    return page


def _masthead(team: Team) -> str:
    clients = ", ".join(client.name for client in team.clients)
    words = f"{len(team.clients)} small models look at your picture, each on its own"
    words += "; a larger one reads their drafts and guides them; then each refines its answer." if team.server else "."
    theme = draw.tag("button", "Light or dark", "cv-button cv-small", type="button", data_theme="switch")
    head = draw.tag("div", draw.tag("h1", "colm-vl") + theme, "cv-title")
    parts = [head, draw.tag("p", draw.text(words), "cv-lead")]
    who = f"Clients: {clients}." + (f" Server: {team.server.label}." if team.server else " No server.")
    if team.is_pocket:
        who = (
            "Pocket team: tiny models that only understand drawn shapes, bar charts, written digits and small sums, "
            "and no follow-up questions. "
            "For your own pictures, start the page with a team of real models."
        )
    return "".join([*parts, draw.tag("p", draw.text(who), "cv-team")])


__all__: Sequence[str] = ["Options", "build", "examples_for"]
