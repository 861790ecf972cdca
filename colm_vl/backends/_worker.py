"""The thread of a model: loads it at first use, collects waiting requests into batches, and runs them.

Each model has one thread, because models of transformers are not thread-safe: Qwen-VL stores the positions of the
current conversation on the model, and CUDA graphs belong to a thread.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from colm_vl.backends._batch import Batch, Job
from colm_vl.backends._common import check_pictures
from colm_vl.backends._loading import LocalModel, forget_locals, out_of_memory
from colm_vl.backends._prefix import PrefixStore
from colm_vl.errors import BackendError, ColmError, InputError, LoadFailed
from processors.errors import ImageError
from processors.families import FamilyError

logger = logging.getLogger(__name__)


class Worker:
    """`load` is called once, in the worker's thread. A request waits up to `batch_wait` seconds for others. Requests
    that arrive while a batch runs form the next batch of up to `max_batch`. `keep_bytes` limits the prefix cache."""

    def __init__(
        self,
        load: Callable[[], LocalModel],
        *,
        max_batch: int,
        batch_wait: float,
        max_pixels: int | None,
        keep_bytes: int,
    ) -> None:
        self._load = load
        self._max_batch = max_batch
        self._batch_wait = batch_wait
        self._max_pixels = max_pixels
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._store = PrefixStore(keep_bytes)
        self._running: Sequence[Job] = ()
        self._closed = False
        self._model: LocalModel | None = None
        self._failure: ColmError | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, job: Job) -> None:
        with self._starting:
            if self._thread is None:
                # A daemon thread, so that an unclosed backend does not keep the program from exiting.
                self._thread = threading.Thread(target=self._run, name="colm-vl model", daemon=True)
                self._thread.start()
        self._jobs.put(job)

    def stop(self) -> None:
        """End the thread and unload the model after the current batch. Does not wait for it."""
        self._jobs.put(None)

    def close(self) -> None:
        """End the thread after the current decoding step. Running and waiting requests fail."""
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
            if self._closed:  # checked after setting `_running`, which `close` reads
                for waiting in batch:
                    _refuse(waiting)
            try:
                self._serve(batch)
            except Exception as error:  # callers must get a reply in any case
                logger.exception("the thread of a model failed")
                for job in batch:
                    job.finish(BackendError(f"a model's thread failed: {type(error).__name__}", hint="see the log"))
            self._running = ()
            if last:
                break
        if self._model is not None:
            self._model = None
            self._store.clear()
            _free_memory()

    def _gather(self, first: Job) -> tuple[list[Job], bool]:
        """The next batch, without cancelled requests, and whether it is the last."""
        batch = [first]
        deadline = time.monotonic() + self._batch_wait
        while len(batch) < self._max_batch:
            try:
                job = self._jobs.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch = [waiting for waiting in (*batch, job) if not waiting.gone()]
        return batch, False

    def _serve(self, batch: Sequence[Job]) -> None:
        if all(job.done or job.gone() for job in batch):
            return
        model = self._loaded()
        if isinstance(model, ColmError):
            for job in batch:
                job.finish(model)
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
        # Requests that continue a cached conversation form a batch of their own.
        batch_of = Batch(model, self._store, self._max_pixels)
        continuing = [job for job in asking if batch_of.resumable(job)]
        self._answer(model, continuing)
        self._answer(model, [job for job in asking if job not in continuing])

    def _loaded(self) -> LocalModel | ColmError:
        """The model, loaded if necessary. A permanent failure to load is returned again without another attempt."""
        known = self._model or self._failure
        if known is not None:
            return known
        try:
            self._model = self._load()
        except ColmError as error:
            forget_locals(error)
            if not error.retryable:
                self._failure = error
            return error
        return self._model

    def _answer(self, model: LocalModel, jobs: Sequence[Job]) -> None:
        """Answer all requests. A batch that fails is retried in halves, so that batches that do not fit in memory
        become smaller, and an invalid request fails alone."""
        jobs = [job for job in jobs if not job.done and not job.gone()]
        if not jobs:
            return
        error: ColmError | None = None
        left: Sequence[Job] = ()
        try:
            left = Batch(model, self._store, self._max_pixels).run(jobs)
        except Exception as raised:
            # `raised` is not kept, because its traceback references the tensors of the batch.
            error = _explained(raised, model)
        if error is None:
            self._answer(model, left)
            return
        _free_memory()
        if len(jobs) == 1:
            jobs[0].finish(error)
            return
        middle = len(jobs) // 2
        self._answer(model, jobs[:middle])
        self._answer(model, jobs[middle:])


def _refuse(job: Job) -> None:
    job.finish(BackendError("the model was closed before it answered", hint="connect it again"))
    job.cancelled = True


def _explained(error: Exception, model: LocalModel) -> ColmError:
    import torch

    if isinstance(error, (ImageError, FamilyError)):
        return InputError(str(error), hint=error.hint)
    if isinstance(error, ColmError):
        return error
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
