"""RealWorldQA: questions about scenes, many of them taken from vehicles (xAI, April 2024).

There is no official script. Choices are parsed as by VLMEvalKit (see `multiple_choice.py`); other replies must be the
word or number, without case and a full stop at their end, as in EvolvingLMMs-Lab/lmms-eval, commit 75571cfe,
`lmms_eval/tasks/realworldqa/utils.py`. Layout: `annotations.json` with images in `images/`; on the hub, `question`,
`answer` and `image`. There, a question contains its options ("A. …") and how to reply, which is left out if it asks for
a letter. In VLMEvalKit's TSV, options are columns.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source, beside, options_in
from ..scoring import lenient
from ..types import UNPARSED, Item, ParsedAnswer, letters, whole_reply
from .multiple_choice import MultipleChoiceBenchmark

_OPTION = re.compile(r"^\s*([A-Z])\.\s+(.*?)\s*$", re.MULTILINE)
_LETTER_ONLY = re.compile(r"^\s*Please answer directly with only the letter.*$", re.MULTILINE)


class RealWorldQA(MultipleChoiceBenchmark):
    name = "realworldqa"
    title = "RealWorldQA"
    hub = "lmms-lab-encoder/RealWorldQA"
    required: ClassVar[tuple[str, ...]] = ("question", "answer")
    note = "765 questions: a letter, or a word or number"

    @override
    def item(self, row: Row, id_: str, source: Source) -> Item:
        if options_in(row):
            return super().item(row, id_, source)
        question, answer = str(row["question"]), str(row["answer"]).strip()
        options = _OPTION.findall(question)
        if len(options) > 1 and answer in letters(len(options)):
            bare = _LETTER_ONLY.sub("", _OPTION.sub("", question)).strip()
            return super().item({**row, "question": bare, "options": [text for _, text in options]}, id_, source)
        images = self.images(row, source) if source.images else ()
        return Item(id_, question.strip(), (answer.lower(),), "open", images=images)

    @override
    def images(self, row: Row, source: Source) -> tuple[bytes | Path, ...]:
        found = super().images(row, source)
        if source.folder and found and isinstance(found[0], Path) and not found[0].exists():
            return (beside(source.folder, found[0].name, "images"),)
        return found

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        if item.kind == "choice":
            return super().official(item, reply)
        parsed = whole_reply(reply)
        return replace(parsed, value=parsed.value.rstrip(".").lower())

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        settled = lenient.parse_text(reply)
        if item.kind == "choice" or settled.how == UNPARSED:
            return super().lenient(item, reply)
        return replace(self.official(item, settled.value), how=settled.how)


BENCHMARKS = (RealWorldQA(),)
