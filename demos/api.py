"""The page's API endpoint: takes a question and returns the trace."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import gradio as gr

from .inputs import Limits, Settings, read_query
from .messages import in_words
from .service import Asked, Service


def offer_api(service: Service, limits: Limits) -> None:
    """Add the endpoint `/ask`. With gradio_client: `Client(url).predict(question=…, images=[…], api_name="/ask")`."""
    own = Settings.of(service.colm.team.policy)
    question = gr.Textbox(label="question", visible=False)
    # A File component, not paths as text: Gradio accepts only uploaded files, so no file of the server can be named.
    images = gr.File(label="images", file_count="multiple", visible=False, value=[])
    choices = gr.Textbox(label="choices", visible=False, value="")
    strategy = gr.Textbox(label="strategy", visible=False, value=own.strategy)
    asker = gr.Textbox(label="asker", visible=False, value=own.asker)
    rounds = gr.Number(label="rounds", visible=False, value=own.rounds, precision=0)
    trace = gr.JSON(label="trace", visible=False)

    async def ask(
        question: str, images: Any, choices: str, strategy: str, asker: str, rounds: float, request: gr.Request
    ) -> dict[str, Any]:
        """Ask one question and return the trace. `choices` has one choice per line."""
        settings = replace(own, strategy=strategy, asker=asker, rounds=int(rounds))
        try:
            query = await asyncio.to_thread(read_query, question, images or [], choices, limits)
            asked = Asked(query, settings.changes(service.colm.team))
            return (await service.answer(visit_of(request), asked)).to_dict()
        except Exception as error:
            raise gr.Error(in_words(error), print_exception=False) from None

    gr.Button(visible=False).click(
        ask, [question, images, choices, strategy, asker, rounds], trace, api_name="ask", concurrency_limit=None
    )


def visit_of(request: gr.Request) -> str:
    return str(request.session_hash)
