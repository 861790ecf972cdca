"""A model's own thread: it loads the model on first use, gathers waiting requests into batches, and runs them.

One thread a model, because a model of transformers is not to be used by two at once: Qwen-VL keeps the positions of
the conversation it is at on the model itself, and CUDA graphs belong to a thread.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from colm_vl.backends._common import check_pictures, pictures_sent
from colm_vl.backends._decoding import Decoding, Row
from colm_vl.backends._loading import LocalModel, out_of_memory
from colm_vl.backends.base import Generation, Request
from colm_vl.errors import BackendError, ColmError, ContextTooLong, InputError, LoadFailed
from colm_vl.types import Usage
from processors.errors import ImageError
from processors.families import Conversation, FamilyError

logger = logging.getLogger(__name__)

Event = str | Generation | LocalModel | ColmError


@dataclass(eq=False, slots=True)
class Job:
    """A request on its way. The worker calls `send`, from its own thread, with pieces of text if `streamed`, and last
    with the Generation or the error. Without a request it is only asked to load: then with the LocalModel."""

    request: Request | None
    send: Callable[[Event], None]
    streamed: bool = False
    started: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    done: bool = False
    _said: int = 0

    def gone(self) -> bool:
        """Nobody waits for it any more."""
        timeout = self.request.timeout if self.request else None
        return self.cancelled or (timeout is not None and time.monotonic() > self.started + timeout)

    def finish(self, event: Generation | LocalModel | ColmError) -> None:
        if not self.done:
            self.done = True
            self.send(event)

    def stream(self) -> Callable[[str], None] | None:
        """Takes the pieces of a reply from its beginning. If it is begun anew, what was said is not said again."""
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


class Worker:
    """`load` is called once, in the worker's thread. A request waits `batch_wait` seconds for company; those that
    arrive while a batch runs are the next batch, up to `max_batch`."""

    def __init__(
        self, load: Callable[[], LocalModel], *, max_batch: int, batch_wait: float, max_pixels: int | None
    ) -> None:
        self._load = load
        self._max_batch = max_batch
        self._batch_wait = batch_wait
        self._max_pixels = max_pixels
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._running: Sequence[Job] = ()
        self._closed = False
        self._model: LocalModel | None = None
        self._failure: ColmError | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, job: Job) -> None:
        with self._starting:
            if self._thread is None:
                # A daemon: a program that forgets to close a backend ends all the same.
                self._thread = threading.Thread(target=self._run, name="colm-vl model", daemon=True)
                self._thread.start()
        self._jobs.put(job)

    def stop(self) -> None:
        """Lets the thread end, and the model go, once the batch at hand is over. Does not wait for that."""
        self._jobs.put(None)

    def close(self) -> None:
        """Ends the thread after the step that is being computed. Requests that are running or waiting fail."""
        with self._starting:
            thread, self._thread = self._thread, None
        self._closed = True
        for job in self._running:
            _refuse(job)
        self.stop()
        if thread is not None:
            thread.join()
        while not self._jobs.empty():
            waiting = self._jobs.get()
            if waiting is not None:
                _refuse(waiting)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, last = self._gather(job)
            self._running = batch
            if self._closed:  # read after the batch is where `close` finds it
                for waiting in batch:
                    _refuse(waiting)
            try:
                self._serve(batch)
            except Exception as error:  # whatever it is: nobody shall wait for ever
                logger.exception("the thread of a model failed")
                for job in batch:
                    job.finish(BackendError(f"a model's thread failed: {type(error).__name__}", hint="see the log"))
            self._running = ()
            if last:
                break
        if self._model is not None:
            self._model = None
            _free_memory()

    def _gather(self, first: Job) -> tuple[list[Job], bool]:
        """The next batch, and whether it is the last."""
        batch = [first]
        deadline = time.monotonic() + self._batch_wait
        while len(batch) < self._max_batch:
            try:
                job = self._jobs.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _serve(self, batch: Sequence[Job]) -> None:
        if all(job.done or job.gone() for job in batch):
            return
        try:
            model = self._loaded()
        except ColmError as error:
            for job in batch:
                job.finish(error)
            return
        asking = []
        for job in batch:
            if job.done:
                continue
            if job.request is None:
                job.finish(model)
                continue
            try:
                if not model.family.sees:
                    check_pictures(job.request, 0, model.name)
            except ColmError as error:
                job.finish(error)
            else:
                asking.append(job)
        self._answer(model, asking)

    def _loaded(self) -> LocalModel:
        if self._failure is not None:
            raise self._failure
        if self._model is None:
            try:
                self._model = self._load()
            except ColmError as error:
                if not error.retryable:
                    self._failure = error
                raise
        return self._model

    def _answer(self, model: LocalModel, jobs: Sequence[Job]) -> None:
        """Answers all, however often that takes: a batch that fails is tried again in halves, so that one that does
        not fit in memory gets smaller, and one bad request fails alone."""
        jobs = [job for job in jobs if not job.done and not job.gone()]
        if not jobs:
            return
        error: ColmError | None = None
        try:
            self._run_batch(model, jobs)
        except Exception as raised:
            # Not kept: its traceback holds the tensors of the batch.
            error = _explained(raised, model)
        if error is None:
            return
        _free_memory()
        if len(jobs) == 1:
            jobs[0].finish(error)
            return
        middle = len(jobs) // 2
        self._answer(model, jobs[:middle])
        self._answer(model, jobs[middle:])

    def _run_batch(self, model: LocalModel, jobs: Sequence[Job]) -> None:
        import torch

        inputs = model.family.encode([_conversation(_request(job)) for job in jobs])
        lengths = [int(length) for length in inputs["attention_mask"].sum(dim=1)]
        fitting = [job for job, length in zip(jobs, lengths, strict=True) if self._fits(model, job, length)]
        if len(fitting) < len(jobs):
            self._answer(model, fitting)
            return
        rows = [self._row(model, job, length) for job, length in zip(jobs, lengths, strict=True)]
        decoding = Decoding(rows, model.stops, torch)
        with torch.inference_mode():
            model.model.generate(
                **_placed(inputs, model.model),
                max_new_tokens=max(row.max_tokens for row in rows),
                logits_processor=[decoding.choose],
                stopping_criteria=[decoding.advance],
            )

    def _fits(self, model: LocalModel, job: Job, length: int) -> bool:
        if model.context is None or length < model.context:
            return True
        job.finish(
            ContextTooLong(
                f"the prompt is {length} tokens, and model {model.name!r} takes {model.context} with its reply",
                hint="shorten the question, send fewer pictures, or lower max_pixels",
            )
        )
        return False

    def _row(self, model: LocalModel, job: Job, length: int) -> Row:
        request = _request(job)

        def on_end(row: Row) -> None:
            job.finish(
                Generation(
                    text=row.text,
                    finish_reason="stop" if row.stopped_itself else "length",
                    usage=Usage(length, 0, len(row.ids)),
                    sent=pictures_sent(request, self._max_pixels),
                    logprobs=tuple(row.tokens),
                    seconds=time.monotonic() - job.started,
                )
            )

        room = request.sampling.max_tokens if model.context is None else model.context - length
        limit = min(request.sampling.max_tokens, room)
        return Row(request.sampling, limit, model.family.tokenizer, job.stream(), on_end, job.gone)


def _refuse(job: Job) -> None:
    job.finish(BackendError("the model was closed before it had answered", hint="connect it again"))
    job.cancelled = True


def _request(job: Job) -> Request:
    if job.request is None:
        raise ValueError("a job without a request has nothing to be answered")
    return job.request


def _conversation(request: Request) -> Conversation:
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


def _placed(inputs: dict[str, Any], model: Any) -> dict[str, Any]:
    """On the model's device; pixels in its dtype."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }


def _explained(error: Exception, model: LocalModel) -> ColmError:
    import torch

    if isinstance(error, ColmError):
        return error
    if isinstance(error, (ImageError, FamilyError)):
        return InputError(str(error), hint=error.hint)
    if out_of_memory(error, torch):
        return LoadFailed(
            f"model {model.name!r} ran out of memory",
            hint='lower max_pixels or max_batch, or set quantization = "nf4"',
        )
    text = " ".join(str(error).split())[:300]
    return BackendError(f"model {model.name!r} failed: {type(error).__name__}: {text}")


def _free_memory() -> None:
    import torch

    if torch.accelerator.is_available():
        gc.collect()
        torch.accelerator.empty_cache()
