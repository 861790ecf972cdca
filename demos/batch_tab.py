"""The tab for batches: its layout, progress, and downloads."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import gradio as gr

from colm_vl import ColmError, Query, Trace
from colm_vl.answers import same
from colm_vl.batch.readers import READERS

from . import draw
from .batch_questions import Questions, read_batch
from .batch_runs import KEY, BatchRun, BatchRuns, is_key
from .batch_view import draw_viewer
from .inputs import Field, FieldError, Limits, strategies, strategy_choices
from .messages import failure_in_words, in_words
from .service import Service

SHOWN = 8
"""Number of answers in the table. The downloads contain all of them."""
RUNNING = "A batch of this browser is being answered in another tab. Stop it first."

Updates = dict[Any, Any]


class BatchTab:
    def __init__(self, service: Service, limits: Limits) -> None:
        self.service = service
        self.limits = limits
        self.runs = BatchRuns()

    def lay_out(self, page: gr.Blocks) -> None:
        """Create the components and attach the event handlers. Call it within a `gr.Tab`."""
        self.key = gr.Textbox("", visible=False)
        team = self.service.colm.team
        with gr.Row(elem_classes="cv-split"):
            with gr.Column(scale=4, min_width=300):
                self.file = gr.File(
                    label="Questions (JSONL, CSV, TSV or Parquet)", file_types=list(READERS), height=120,
                    elem_id="batch-file",
                )  # fmt: skip
                self.file_error = gr.HTML(elem_id="batch-file-error")
                gr.HTML(_format_help(), elem_classes="cv-help")
                self.pictures = gr.File(
                    label="Pictures", file_count="multiple", file_types=["image"], height=140, elem_id="batch-pictures"
                )
                self.folder = gr.UploadButton(
                    "Choose a folder of pictures", file_count="directory", size="sm", elem_id="batch-folder"
                )
                self.pictures_error = gr.HTML(elem_id="batch-pictures-error")
                self.question = gr.Textbox(
                    label="One question for every picture", info="Not needed with a file of questions.",
                    elem_id="batch-question", max_length=self.limits.characters,
                )  # fmt: skip
                self.question_error = gr.HTML(elem_id="batch-question-error")
                names = strategies(team)
                self.strategy = gr.Dropdown(
                    strategy_choices(names), value=team.policy.strategy,
                    label="Strategy", elem_id="batch-strategy", allow_custom_value=team.policy.strategy not in names,
                )  # fmt: skip
                self.estimate = gr.HTML(elem_id="batch-estimate")
                with gr.Row(elem_classes="cv-go"):
                    self.go = gr.Button("Start", variant="primary", elem_id="batch-start", min_width=120)
                    self.halt = gr.Button("Stop", variant="stop", interactive=False, elem_id="batch-stop", min_width=80)
                self.again = gr.Button("Continue the stopped batch", visible=False, elem_id="batch-continue")
            with gr.Column(scale=9, min_width=300):
                self.progress = gr.HTML(_idle(), elem_id="batch-progress")
                with gr.Row():
                    self.answers = gr.DownloadButton("Download answers", visible=False, elem_id="batch-answers")
                    self.traces = gr.DownloadButton("Download traces", visible=False, elem_id="batch-traces")
                self.view = gr.HTML(elem_id="batch-view")
        self.errors: dict[Field, Any] = {
            "file": self.file_error, "pictures": self.pictures_error, "question": self.question_error,
        }  # fmt: skip
        self._wire(page)

    def _wire(self, page: gr.Blocks) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self.folder.upload(lambda files: files, self.folder, self.pictures, **private)
        given = [self.file, self.pictures, self.question, self.strategy]
        gr.on(
            [self.file.change, self.pictures.change, self.question.blur, self.strategy.change], self._on_given, given,
            self.estimate, trigger_mode="always_last", **private,
        )  # fmt: skip
        results = [self.progress, self.answers, self.traces, self.view, self.go, self.halt, self.again]
        self.go.click(
            self._on_start, [*given, self.key], [*results, *self.errors.values()],
            js=f"(...given) => [...given.slice(0, -1), {KEY}]", concurrency_limit=None, **private,
        )  # fmt: skip
        kept: dict[str, Any] = {"js": f"() => [{KEY}]", "concurrency_limit": None, **private}
        self.again.click(self._on_continue, self.key, results, **kept)
        page.load(self._on_load, self.key, results, **kept)
        self.halt.click(self._on_stop, self.key, self.halt, queue=False, js=kept["js"], **private)

    async def _on_given(self, file: str | None, pictures: list[str] | None, question: str, strategy: str) -> str:
        """What the batch would cost, or "" while something is missing or wrong."""
        try:
            questions = await asyncio.to_thread(read_batch, file, pictures or [], question, self.limits)
            plan = await asyncio.to_thread(self.service.colm.plan, questions.unopened, strategy=strategy)
        except ColmError:  # `_on_start` tells it
            return ""
        right = f", {len(questions.truths)} with a right answer" if questions.truths else ""
        words = f"{len(questions):,} questions{right}; at most {plan.total:,} model calls."
        return draw.tag("p", draw.text(words), "cv-aside")

    async def _on_start(
        self, file: str | None, pictures: list[str] | None, question: str, strategy: str, key: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        clear: Updates = dict.fromkeys(self.errors.values(), "")
        try:
            questions = await asyncio.to_thread(read_batch, file, pictures or [], question, self.limits)
        except FieldError as error:
            yield clear | {self.errors[error.field]: draw.error(str(error))}
            return
        yield clear
        async with aclosing(self._run(questions, strategy, key, request)) as updates:
            async for update in updates:
                yield update

    async def _on_continue(self, key: str, request: gr.Request) -> AsyncGenerator[Updates, None]:
        """Ask what the browser's last batch has not answered, also after a reload."""
        run = self.runs.find(key)
        if run is None:
            gone = "The batch is no longer kept. Give its questions again."
            yield {self.progress: draw.error(gone), self.again: gr.update(visible=False)}
            return
        async with aclosing(self._run(Questions(run.lines, self.limits), run.strategy, key, request)) as updates:
            async for update in updates:
                yield update

    async def _on_load(self, key: str, request: gr.Request) -> AsyncGenerator[Updates, None]:
        """Show the browser's last batch. It may still run: in another tab, or for some seconds after a reload."""
        async with aclosing(self.service.until_free(_visit(key, request))) as turns:
            async for _ in turns:
                run = self.runs.find(key)
                yield self._buttons(working=True) | ({self.progress: _progress(run, over=False)} if run else {})
        run = self.runs.find(key)
        yield self._buttons(working=False) | (await self._ended(run) if run else {})

    async def _run(
        self, questions: Questions, strategy: str, key: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        visit = _visit(key, request)
        if self.service.is_busy(visit):
            yield {self.progress: draw.error(RUNNING)}
            return
        yield self._buttons(working=True) | {
            self.answers: gr.update(visible=False), self.traces: gr.update(visible=False), self.view: "",
        }  # fmt: skip
        earlier = self.runs.find(key)
        kept = earlier.answers_to(questions, strategy) if earlier else {}
        if kept and earlier:
            questions.previews |= earlier.previews
        asked, begun = questions.without(kept), 0.0
        place = {line.id: number for number, line in enumerate(questions.lines)}

        def timed() -> Iterator[Query]:
            nonlocal begun
            begun = time.monotonic()  # the batch was admitted
            yield from asked

        def so_far(fresh: Sequence[Trace]) -> BatchRun:
            done = sorted([*kept.values(), *fresh], key=lambda trace: place[trace.id])
            seconds = time.monotonic() - begun if begun else 0.0
            skipped = tuple(asked.skipped)
            return BatchRun(questions.lines, strategy, done, skipped, questions.previews, seconds, len(kept))

        run = so_far([])
        try:
            async with aclosing(self.service.batch(visit, timed(), {"strategy": strategy})) as progress:
                async for fresh in progress:
                    run = so_far(fresh)
                    self.runs.keep(key, run)
                    yield {self.progress: _progress(run, over=False)}
            yield self._buttons(working=False) | await self._ended(run)
        except Exception as error:
            yield {self.progress: draw.error(in_words(error))} | self._buttons(working=False)

    async def _ended(self, run: BatchRun) -> Updates:
        """The results, of a stopped batch those that there are."""
        return await self._files(run.traces) | {
            self.progress: _progress(run, over=True),
            self.view: draw_viewer(run.strategy, run.lines, run.traces, run.previews),
            self.again: gr.update(visible=not run.finished, interactive=True),
        }

    async def _files(self, done: Sequence[Trace]) -> Updates:
        if not done:
            return {}
        # In the folder that is removed when the server ends.
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=os.environ.get("GRADIO_TEMP_DIR")))
        try:
            written = await asyncio.to_thread(_write, folder, done)
            # For the download, Gradio copies the files to unguessable paths.
            return {
                part: gr.DownloadButton(value=str(path), visible=True)
                for part, path in zip((self.answers, self.traces), written, strict=True)
            }
        finally:
            asyncio.get_running_loop().call_later(60, shutil.rmtree, folder, True)

    async def _on_stop(self, key: str, request: gr.Request) -> Any:
        self.service.stop(_visit(key, request))
        return gr.update(interactive=False)

    def _buttons(self, *, working: bool) -> Updates:
        return {
            self.go: gr.update(interactive=not working), self.halt: gr.update(interactive=working),
            self.again: gr.update(interactive=not working),
        }  # fmt: skip


def _visit(key: str, request: gr.Request) -> str:
    """One batch of a browser runs at a time, since all its tabs keep it under the same key."""
    return f"batch {key if is_key(key) else request.session_hash}"


def _write(folder: Path, done: Sequence[Trace]) -> Sequence[Path]:
    answers = (
        {"id": trace.id, "question": trace.question, "answer": trace.answer, "choice": trace.choice,
         "degraded": trace.degraded, "clients": {name: reply.answer for name, reply in trace.final.items()}}
        for trace in done
    )  # fmt: skip
    paths = []
    for name, rows in (("answers", answers), ("traces", (trace.to_dict() for trace in done))):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        paths.append(path)
    return paths


def _progress(run: BatchRun, *, over: bool) -> str:
    done, skipped, total = run.traces, run.skipped, len(run.lines)
    truths = {line.id: line.truth for line in run.lines if line.truth}
    count = len(done) + len(skipped)
    fresh = count - run.kept
    percent = round(100 * count / total)
    words = f"{len(done)} of {total} answered" + (f", {len(skipped)} could not be asked" if skipped else "")
    if over:
        words += f", the last {fresh} in {run.seconds:.0f} s" if run.kept else f" in {run.seconds:.0f} s"
    if over and count < total:
        words = f"Stopped: {words}"
    fill = f'<span class="cv-fill" style="width:{percent:d}%"></span>'
    bar = draw.tag(
        "span", fill, "cv-bar cv-long", role="progressbar", aria_label="Questions answered",
        aria_valuenow=percent, aria_valuemin="0", aria_valuemax="100",
    )  # fmt: skip
    left = f"about {run.seconds / fresh * (total - count):.0f} s left" if fresh and not over else ""
    head = draw.tag("p", draw.text(words), "cv-headline cv-quiet" + ("" if over else " cv-busy"), role="status")
    notes = [left, _right(done, truths), _without(done), *skipped[:SHOWN]]
    aside = "".join(draw.tag("p", draw.text(note), "cv-aside") for note in notes if note)
    return draw.tag("section", head + bar + aside + _table(done, truths), "cv-answer", aria_label="Progress")


def _right(done: Sequence[Trace], truths: Mapping[str, str]) -> str:
    """How many of the questions with a known answer were answered correctly, with the 95 % Wilson interval."""
    marks = [same(trace.answer, truths[trace.id]) for trace in done if trace.id in truths]
    if not marks:
        return ""
    count, right, z = len(marks), sum(marks), NormalDist().inv_cdf(0.975)
    middle = (right + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * sqrt(right * (count - right) / count + z * z / 4)
    return f"{right} of {count} right: {right / count:.0%} (95 % interval {middle - half:.0%} to {middle + half:.0%})"


def _without(done: Sequence[Trace]) -> str:
    """How many questions have no answer, and why."""
    without = [trace for trace in done if not trace.answer]
    if not without:
        return ""
    reasons = dict.fromkeys(failure_in_words(failure) for trace in without for failure in trace.failures)
    why = " ".join(list(reasons)[:SHOWN]) or "No answer could be read from the replies."
    return f"{len(without)} without an answer. {why}"


def _table(done: Sequence[Trace], truths: Mapping[str, str]) -> str:
    if not done:
        return ""
    head = draw.tag("tr", "".join(draw.tag("th", name, scope="col") for name in ("Id", "Question", "Answer", "Agreed")))
    rows = "".join(_row(trace, truths.get(trace.id, "")) for trace in reversed(done[-SHOWN:]))
    caption = draw.tag("caption", "The latest answers")
    table = draw.tag("table", caption + draw.tag("thead", head) + draw.tag("tbody", rows))
    return draw.tag("div", table, "cv-scroll", tabindex="0", role="region", aria_label="The latest answers")


def _row(trace: Trace, truth: str) -> str:
    agreed = f"{len(trace.settlement.by)} of {len(trace.final) or 1}" if trace.settlement else "–"
    cells = (draw.clamped(trace.question), _opened(trace, truth), draw.text(agreed))
    return draw.tag(
        "tr", draw.tag("th", draw.text(trace.id), scope="row") + "".join(draw.tag("td", cell) for cell in cells)
    )


def _opened(trace: Trace, truth: str) -> str:
    """The answer; what each client answered and what failed after a click."""
    said = draw.text(draw.labelled(trace.choice, trace.answer) or "no answer")
    if truth:
        right = same(trace.answer, truth)
        words = "right" if right else f"wrong: it is {truth}"
        said += " " + draw.tag("span", draw.text(words), f"cv-chip cv-{'right' if right else 'wrong'}")
    parts = [f"{name}: {reply.answer or 'no readable answer'}" for name, reply in trace.final.items()]
    parts += [failure_in_words(failure) for failure in trace.failures]
    inside = "".join(draw.tag("p", draw.text(part), "cv-aside", dir="auto") for part in parts)
    return draw.tag("details", draw.tag("summary", said) + inside, "cv-row")


def _idle() -> str:
    inside = draw.tag("p", "Ask many questions at once.", "cv-headline cv-quiet")
    inside += draw.tag("p", "Answers appear here. When all are finished, you can download them.", "cv-by")
    return draw.tag("section", inside, "cv-answer", aria_label="Progress")


def _format_help() -> str:
    example = (
        '{"id": "q1", "question": "What is the total?", "images": ["chart.png"], "choices": ["3", "4"], "answer": "4"}'
    )
    words = "One question per row, with the names of the pictures uploaded below and, if known, the right answer:"
    return draw.tag("p", words) + draw.tag("pre", draw.text(example), tabindex="0")
