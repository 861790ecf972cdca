"""MathVista: mathematics in images, with choices, numbers and lists as answers (arXiv 2310.02255).

Rules: lupantech/MathVista, commit 53d5258, `evaluation/extract_answer.py` with `--quick_extract` and
`evaluation/calculate_score.py` with `--ignore_empty_extractions`. An answer is extracted if the reply is a choice or a
number and nothing else, or has a sentence of the form "The answer is "…"."; the authors let GPT-4 extract it from other
replies, which are unparsed here. A choice is its letter, or the text with the smallest Levenshtein distance; a number
must be equal after it is rounded to the decimals of the answer, which are the published precision in testmini.
`mathvista_extracted` scores answers that a judge has extracted: `run` writes the file for `extract_answer.py`, and
`eval score mathvista_extracted --reply-column extraction` scores the file that the script has completed.
Layout: `testmini.json` with images in `images/`; AI4Math/MathVista on the hub; VLMEvalKit's TSV. The answers of the
test split are not public.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from typing_extensions import override

from colm_vl.errors import InputError

from ..dataset import Row, Source, listed, official_files, open_rows
from ..metrics.anls import levenshtein
from ..scoring import lenient
from ..types import NOTHING, UNPARSED, Item, ParsedAnswer, letters
from .base import SEPARATOR, Benchmark, first_images
from .judged import AnswerFile

_IMAGES = ("decoded_image", "image", "image_path", "images")
_METADATA = ("language", "source", "category", "task", "context", "grade", "skills")
_QUICK = re.compile(r'The answer is "(.*)"\.')
_BRACKETED = re.compile(r"\(([a-zA-Z])\)")
_QUERY = re.compile(r"Hint: .*?\nQuestion: (.*?)(?:\nChoices:\n.*)?", re.DOTALL)
"""The authors' prompt, which VLMEvalKit's TSV has in place of the question."""
_FORMS = MappingProxyType({"integer": "Answer with a whole number.", "list": "Answer with a list, such as [1, 2, 3]."})
_NUMBERS: Mapping[str, Callable[[str], float]] = MappingProxyType({"integer": int, "float": float})


class MathVista(AnswerFile, Benchmark):
    name = "mathvista"
    title = "MathVista"
    hub = "AI4Math/MathVista"
    splits: ClassVar[tuple[str, ...]] = ("testmini", "test")
    multiple: ClassVar[frozenset[str]] = frozenset({"skills"})
    answer_format: ClassVar[Literal["json", "jsonl"]] = "json"
    note = "1,000 testmini questions; answers are extracted by the authors' rules, without their judge"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        columns = ("question", "question_type", "answer_type", "choices", "pid|index|id")
        for one in official_files(source, {split: f"{split}.json" for split in self.splits}):
            for row in open_rows(one, columns, image_columns=_IMAGES):
                yield _item(row, one)

    @override
    def instruction(self, item: Item) -> str:
        if item.groups["answer_type"] == "float" and item.gold:
            return f"Answer with a number in the form {1.2345:.{_decimals(item)}f}."
        return _FORMS.get(item.groups["answer_type"], "")

    @override
    def format_answer(self, item: Item, answer: str) -> str:
        number = lenient.parse_number(answer).value if item.groups["answer_type"] in _NUMBERS else ""
        return f'The answer is "{number or answer}".'

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        if reply in item.options:
            return ParsedAnswer(item.letters[item.options.index(reply)], "choice")
        if _is_number(reply, item.groups["answer_type"]):
            return normalized(item, reply, "number")
        said = _QUICK.search(reply)
        return normalized(item, said.group(1), "sentence") if said else NOTHING

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        if item.kind == "choice":
            return super().lenient(item, reply)
        parse = lenient.parse_number if item.groups["answer_type"] in _NUMBERS else lenient.parse_text
        settled = parse(reply)
        parsed = normalized(item, settled.value, settled.how)
        return self.official(item, reply) if parsed.how == UNPARSED else parsed

    @override
    def answers(self, items: Sequence[Item], replies: Mapping[str, str], model: str) -> dict[str, Any]:
        return {item.id: self._result(item, replies[item.id]) for item in items}

    def _result(self, item: Item, response: str) -> dict[str, Any]:
        choices = [f"({letter}) {choice}" for letter, choice in zip(item.letters, item.options, strict=True)]
        metadata = {name: item.groups.get(name, "") for name in _METADATA}
        return {
            "pid": item.id,
            "question": item.question,
            "choices": list(item.options) or None,
            "precision": _decimals(item) if item.groups["answer_type"] == "float" and item.gold else None,
            "question_type": item.groups["question_type"],
            "answer_type": item.groups["answer_type"],
            "metadata": {**metadata, "skills": metadata["skills"].split(SEPARATOR)},
            **({"answer": _gold_text(item)} if item.gold else {}),
            "query": "\n".join(filter(None, (item.question, *choices, self.instruction(item)))),
            "response": response,
        }


class MathVistaExtracted(MathVista):
    name = "mathvista_extracted"
    title = "MathVista, extracted answers"
    note = "scores the column `extraction` that the authors' script and its judge have written"

    @override
    def format_answer(self, item: Item, answer: str) -> str:
        return answer

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return normalized(item, reply, "extraction") if reply.strip() else NOTHING


def normalized(item: Item, extraction: str, how: str) -> ParsedAnswer:
    """The answer in the form of the gold answer: the letter of a choice, a number with as many decimals, or a text."""
    if item.kind == "choice":
        return ParsedAnswer(_choice(item, extraction.strip()), how)
    value = extraction
    with suppress(ValueError, OverflowError):
        match item.groups["answer_type"]:
            case "integer":
                value = str(int(float(extraction)))
            case "float":
                value = str(round(float(extraction), _decimals(item)))
        return ParsedAnswer(value, how)
    return NOTHING


def _choice(item: Item, extraction: str) -> str:
    bracketed = _BRACKETED.search(extraction)
    letter = bracketed.group(1).upper() if bracketed else extraction
    if letter in item.letters:
        return letter
    distances = [levenshtein(letter, choice) for choice in item.options]
    return item.letters[distances.index(min(distances))]


def _is_number(reply: str, answer_type: str) -> bool:
    with suppress(KeyError, ValueError):
        _NUMBERS[answer_type](reply)
        return True
    return False


def _decimals(item: Item) -> int:
    return len(item.gold[0].partition(".")[2])


def _gold_text(item: Item) -> str:
    return item.options[item.letters.index(item.gold[0])] if item.kind == "choice" else item.gold[0]


def _item(row: Row, source: Source) -> Item:
    id_ = str(next(row[name] for name in ("pid", "index", "id") if name in row))
    choices = tuple(map(str, listed(row.get("choices")))) if row["question_type"] == "multi_choice" else ()
    answer = str(row.get("answer") or "")
    # Some questions have the same choice twice, and the script compares texts.
    gold = tuple(letter for letter, one in zip(letters(len(choices)), choices, strict=True) if one == answer)
    if answer and choices and not gold:
        raise InputError(
            f"{source.label}: question {id_}: answer {answer!r} is not one of its choices",
            hint="give the file as it was published",
        )
    unit = f" (Unit: {row['unit']})" if row.get("unit") else ""
    query = _QUERY.fullmatch(str(row["question"]))
    metadata = row.get("metadata") or row
    groups = {name: SEPARATOR.join(map(str, listed(metadata.get(name)))) for name in _METADATA}
    kinds = {"question_type": str(row["question_type"]), "answer_type": str(row["answer_type"])}
    return Item(
        id=id_,
        question=query.group(1) if query else str(row["question"]) + unit,
        gold=gold or ((answer,) if answer else ()),
        kind="choice" if choices else "open",
        options=choices,
        images=first_images(row, _IMAGES, folder=source.folder) if source.images else (),
        groups=kinds | {name: value for name, value in groups.items() if value},
    )


BENCHMARKS = (MathVista(), MathVistaExtracted())
