"""Runs a batch of requests: encodes them, checks their lengths, generates replies, and delivers them row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from colm_vl.backends._decoding import Decoding, Row
from colm_vl.backends._grammar import Constraint
from colm_vl.backends._loading import LocalModel
from colm_vl.backends._prefix import Handle, Kept, PrefixStore, cut_out, resume
from colm_vl.backends.base import Generation, Request
from colm_vl.errors import ColmError, ContextTooLong
from colm_vl.types import Sent, Timing, Usage
from processors.families import Conversation

Event = str | Generation | LocalModel | ColmError


@dataclass(eq=False, slots=True)
class Job:
    """A request in the worker's queue. The worker calls `send` in its own thread, with pieces of text if `streamed`,
    and last with the `Generation` or the error. A job without a request only loads the model and receives it."""

    request: Request | None
    send: Callable[[Event], None]
    streamed: bool = False
    started: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    done: bool = False
    _said: int = 0

    def gone(self) -> bool:
        """Whether the caller no longer waits for it."""
        timeout = self.request.timeout if self.request else None
        return self.cancelled or (timeout is not None and time.monotonic() > self.started + timeout)

    def finish(self, event: Generation | LocalModel | ColmError) -> None:
        if not self.done:
            self.done = True
            self.send(event)

    def stream(self) -> Callable[[str], None] | None:
        """A function that receives the pieces of a reply. If the reply is started again, text that was already sent is
        not sent a second time."""
        if not self.streamed:
            return None
        heard = 0

        def on_piece(piece: str) -> None:
            nonlocal heard
            heard += len(piece)
            fresh = heard - self._said
            if fresh > 0:
                self._said = heard
                self.send(piece[-fresh:])

        return on_piece


class Batch:
    """Requests that share one call of the model's `generate`."""

    def __init__(self, model: LocalModel, store: PrefixStore, max_pixels: int | None) -> None:
        self._model = model
        self._store = store
        self._max_pixels = max_pixels

    def resumable(self, job: Job) -> bool:
        return self._kept(job) is not None

    def run(self, jobs: Sequence[Job]) -> list[Job]:
        """Answer all requests. If some prompts are too long, only these fail, and the others are returned to be run
        again."""
        import torch

        begun = time.monotonic()
        inputs = self._model.family.encode([conversation_of(request_of(job)) for job in jobs])
        lengths = [int(length) for length in inputs["attention_mask"].sum(dim=1)]
        fitting = [job for job, length in zip(jobs, lengths, strict=True) if self._fits(job, length)]
        if len(fitting) < len(jobs):
            return fitting
        constraints = [self._constraint(request_of(job)) for job in jobs]
        inputs = _placed(inputs, self._model.model)
        cached = [0] * len(jobs)
        kept = [one for job in jobs if (one := self._kept(job))]
        if len(kept) == len(jobs) and (prefix := resume(kept, inputs, self._model.family.picture_token)):
            inputs, cached = prefix.inputs, list(prefix.cached)
            if prefix.rope_deltas is not None:
                self._model.model.model.rope_deltas = prefix.rope_deltas
        handles = [Handle(self._store) for _ in jobs]
        rows = [self._row(begun, *each) for each in zip(jobs, lengths, cached, handles, constraints, strict=True)]
        decoding = Decoding(rows, self._model.stops, torch)
        with torch.inference_mode():
            output = self._model.model.generate(
                **inputs,
                max_new_tokens=max(row.max_tokens for row in rows),
                logits_processor=[decoding.choose],
                stopping_criteria=[decoding.advance],
                return_dict_in_generate=True,
            )
            if self._model.family.resumable and self._store.limit:
                width = inputs["input_ids"].shape[1]
                for index, (job, row) in enumerate(zip(jobs, rows, strict=True)):
                    known = self._cut_out(job, row, index, output, width, lengths[index]) if row.ended else None
                    if known is not None:
                        self._store.keep(handles[index], known)
        return []

    def _fits(self, job: Job, length: int) -> bool:
        context = self._model.context
        if context is None or length < context:
            return True
        job.finish(
            ContextTooLong(
                f"the prompt is {length} tokens, and model {self._model.name!r} takes {context} with its reply",
                hint="shorten the question, send fewer pictures, or lower max_pixels",
            )
        )
        return False

    def _constraint(self, request: Request) -> Constraint | None:
        return None if request.schema is None else self._model.grammars.begin(request.schema)

    def _row(
        self, begun: float, job: Job, length: int, cached: int, handle: Handle, constraint: Constraint | None
    ) -> Row:
        """`begun` is when the batch was taken from the queue."""
        request = request_of(job)

        def on_end(row: Row) -> None:
            if constraint is not None:
                constraint.end()
            now = time.monotonic()
            job.finish(
                Generation(
                    text=row.text,
                    finish_reason="stop" if row.stopped_itself else "length",
                    usage=Usage(length, cached, len(row.ids)),
                    sent=self._sent(request),
                    logprobs=tuple(row.tokens),
                    seconds=now - job.started,
                    handle=handle,
                    timing=Timing(begun - job.started, row.first_token - begun, now - row.first_token),
                )
            )

        context = self._model.context
        wanted = request.sampling.max_tokens
        limit = wanted if context is None else min(wanted, context - length)
        tokenizer = self._model.family.tokenizer
        letters = partial(self._letters, request.letters) if request.letters else None
        return Row(request.sampling, limit, tokenizer, job.stream(), on_end, job.gone, constraint, letters)

    def _letters(self, letters: Sequence[str], token: int, logprobs: Any) -> Mapping[str, float] | None:
        return self._model.letters.among(token, letters, logprobs)

    def _sent(self, request: Request) -> Sent:
        """`bytes` is 0, since nothing leaves this machine. Pixels are computed from the budget, without resizing."""
        bound = self._max_pixels
        pixels = (image.pixels if bound is None else min(image.pixels, bound) for image in request.images)
        return Sent(images=len(request.images), pixels=sum(pixels))

    def _kept(self, job: Job) -> Kept | None:
        request = request_of(job)
        if request.continues is None:
            return None
        return self._store.find(request.continues.handle, _digests(request))

    def _cut_out(self, job: Job, row: Row, index: int, output: Any, width: int, length: int) -> Kept | None:
        """The row's conversation without its last token, which was not computed. Prompts have `width` tokens with
        padding; this one has `length` without."""
        start, count = width - length, length + len(row.ids) - 1
        layers = cut_out(output.past_key_values, index, start, count)
        if layers is None:
            return None
        deltas = getattr(getattr(self._model.model, "model", None), "rope_deltas", None)
        return Kept(
            ids=tuple(output.sequences[index, start : start + count].tolist()),
            pictures=_digests(request_of(job)),
            layers=layers,
            rope_deltas=None if deltas is None else deltas[index : index + 1].clone(),
        )


def request_of(job: Job) -> Request:
    if job.request is None:
        raise ValueError("the job has no request")
    return job.request


def conversation_of(request: Request) -> Conversation:
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
                for part in message.parts
            ],
        }
        for message in request.messages
    ]


def _digests(request: Request) -> tuple[str, ...]:
    return tuple(image.digest for image in request.images)


def _placed(inputs: dict[str, Any], model: Any) -> dict[str, Any]:
    """Move the inputs to the model's device, and pixels to its dtype."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }
