"""MMStar: questions that cannot be answered without their image, in six core capabilities (arXiv 2403.20330).

Rules and columns: MMStar-Benchmark/MMStar, commit 88f243a, `eval/vlmeval/evaluate/mmstar.py`; Lin-Chen/MMStar on the
hub, whose questions end with their options ("Options: A: …, B: …"). VLMEvalKit's TSV has columns A to D.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source, options_in
from ..types import NOTHING, Item, ParsedAnswer, letters
from .multiple_choice import MultipleChoiceBenchmark

_HIDDEN = letters(4)
_LIST = re.compile(r"\s*\bOptions:\s*A:\s")
_OPENINGS = ("", "(", "option ", "the answer is ")


class MMStar(MultipleChoiceBenchmark):
    name = "mmstar"
    title = "MMStar"
    hub = "Lin-Chen/MMStar"
    splits: ClassVar[tuple[str, ...]] = ("val",)
    split_names = MappingProxyType({"val": ("validation", "test")})
    required: ClassVar[tuple[str, ...]] = ("question", "answer")
    group_columns = MappingProxyType({"capability": ("category",), "axis": ("l2_category", "l2-category")})
    note = "1,500 questions; the letter must open the reply"

    @override
    def item(self, row: Row, id_: str, source: Source) -> Item:
        if options_in(row):
            return super().item(row, id_, source)
        question, *rest = _LIST.split(str(row["question"]), maxsplit=1)
        options = _options(rest[0]) if rest else []
        # A question whose options are not listed in this form is asked as it is, with its letters as choices.
        listed = {"question": question, "options": options} if len(options) > 1 else {"options": list(_HIDDEN)}
        return super().item({**row, **listed}, id_, source)

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        text = reply.lower().strip().replace("\n", " ")
        for opening in _OPENINGS:
            letter = text.removeprefix(opening)[:1].upper()
            if text.startswith(opening) and letter in item.letters:
                return ParsedAnswer(letter, opening.strip() or "first letter")
        return NOTHING


def _options(text: str) -> list[str]:
    """The options of a list that starts after "A: "."""
    options = []
    for letter in letters(26)[1:]:
        option, *rest = re.split(rf",?\s+{letter}:\s", text, maxsplit=1)
        options.append(option.strip())
        if not rest:
            break
        text = rest[0]
    return options


BENCHMARKS = (MMStar(),)
