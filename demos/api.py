"""The page's API endpoint: takes a question and returns the trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.data_classes import GradioRootModel
from gradio_client.utils import is_file_obj_with_meta

from .inputs import FieldError, Settings, read_choices, read_history
from .messages import in_words
from .service import Asked, Service


class _Given(GradioRootModel):  # type: ignore[misc]
    root: Any


def offer_api(service: Service) -> None:
    """Add the endpoint `/ask`. With gradio_client: `Client(url).predict(question=…, images=[…], api_name="/ask")`."""
    own = Settings.of(service.colm.team)
    question = gr.Textbox(label="question", visible=False)
    images = gr.File(label="images", file_count="multiple", visible=False, value=[])
    # Values of other types get a message of ours. A subclass would do too, but Gradio writes a .pyi file for each.
    images.data_model, images.preprocess = _Given, _paths
    choices = gr.JSON(label="choices", visible=False, value=[])
    strategy = gr.Textbox(label="strategy", visible=False, value=own.strategy)
    asker = gr.Textbox(label="asker", visible=False, value=own.asker)
    rounds = gr.Number(label="rounds", visible=False, value=own.rounds, precision=0)
    rounds.preprocess = lambda given: given
    history = gr.JSON(label="history", visible=False, value=[])
    trace = gr.JSON(label="trace", visible=False)

    async def ask(
        question: str, images: list[str], choices: Any, strategy: str, asker: str, rounds: Any, history: Any,
        request: gr.Request,
    ) -> dict[str, Any]:  # fmt: skip
        """Ask one question and return the trace. `choices` is a list, or a text with one choice per line. `history`
        has the earlier turns of a conversation; their pictures come first in `images`."""
        try:
            settings = replace(own, strategy=strategy, asker=asker, rounds=_rounds(rounds))
            query = await service.read(question, images, _choices(choices))
            changes = settings.changes(service.colm.team)
            turns = read_history(history, len(images), service.limits)
            asked = Asked(replace(query, images=(), history=turns), changes, files=tuple(images))
            return (await service.answer(visit_of(request), asked)).to_dict()
        except Exception as error:
            raise gr.Error(in_words(error), print_exception=False) from None

    gr.Button(visible=False).click(
        ask, [question, images, choices, strategy, asker, rounds, history], trace, api_name="ask",
        concurrency_limit=None,
    )  # fmt: skip


def visit_of(request: gr.Request) -> str:
    return str(request.session_hash)


def _paths(payload: _Given | None) -> list[str]:
    """One uploaded file or several. Everything else is refused, so that no file of the server can be named: Gradio has
    checked only the paths of file objects."""
    given = payload.root if payload else None
    files = given if isinstance(given, list) else [given] if given else []
    if not all(map(is_file_obj_with_meta, files)):
        raise gr.Error("images: expected uploaded files, as by handle_file(PATH)", print_exception=False)
    return [file["path"] for file in files]


def _rounds(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise FieldError("settings", f"rounds is {given!r}, expected a whole number.")
    return given


def _choices(choices: Any) -> Sequence[str]:
    if choices is None or isinstance(choices, str):
        return read_choices(choices or "")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise FieldError("choices", f"choices is {choices!r}, expected a list of texts.")
    return choices
