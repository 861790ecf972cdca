"""lmms-eval's log of samples (`--log_samples`), with its file of results.

Source: EvolvingLMMs-Lab/lmms-eval, commit 75571cfe, `lmms_eval/loggers/evaluation_tracker.py`,
`lmms_eval/evaluator.py`; read there by `lmms_eval/baselines/loader.py` (`--baseline`).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from colm_vl.batch.lines import dump
from colm_vl.errors import InputError

from ..dataset import json_lines, listed
from ..slug import slug
from .base import Answered, Format, Logged, StrategyAnswers

_IDS = ("id", "question_id", "questionId", "index", "pid", "data_id")
"""Where tasks put the id of a question, in the sample or in what they log for a metric."""
_REPLIES = ("filtered_resps", "resps")


class LmmsEval(Format):
    note = "lmms-eval's log of samples, and its file of results"
    source = "EvolvingLMMs-Lab/lmms-eval, commit 75571cfe"

    @override
    def write(self, answers: StrategyAnswers, folder: Path) -> list[Path]:
        model = f"colm-vl__{slug(answers.strategy)}"
        stamp = answers.finished.strftime("%Y%m%d_%H%M%S")
        task = re.sub(r"\W", "_", answers.benchmark)
        (folder / model).mkdir(exist_ok=True)
        log, results = (folder / model / f"{stamp}_{name}" for name in (f"samples_{task}.jsonl", "results.json"))
        task_hash = hashlib.sha256()
        with log.open("wb") as file:
            for place, answered in enumerate(answers.answers):
                sample = _sample(answered)
                task_hash.update(f"sample_{place}{sample['doc_hash']}".encode())
                file.write(dump(sample))
        found = _results(answers, task, model, stamp) | {"task_hashes": {task: task_hash.hexdigest()}}
        results.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return [log, results]

    @override
    def recognizes(self, path: Path) -> bool:
        if path.suffix != ".jsonl":
            return False
        first = next(json_lines(path), {})
        return "doc_id" in first and any(name in first for name in _REPLIES)

    @override
    def read(self, path: Path) -> Iterator[Logged]:
        for number, row in enumerate(json_lines(path), 1):
            if not any(name in row for name in _REPLIES):
                raise InputError(f"{path}, line {number}: has no reply", hint=f"expected {' or '.join(_REPLIES)}")
            if not str(row.get("doc_id", "")).isdecimal():
                raise InputError(f"{path}, line {number}: doc_id is {row.get('doc_id')!r}, expected a number")
            reply = _only(next(row[name] for name in _REPLIES if name in row))
            if not isinstance(reply, str):
                raise InputError(
                    f"{path}, line {number}: holds several values, not one reply",
                    hint="log a task that generates text, with one sample of each question",
                )
            yield Logged(
                _id(row),
                int(row["doc_id"]),
                reply,
                str(row.get("input", "")),
                tuple(str(one) for one in listed(row.get("target"))),
            )


def _sample(answered: Answered) -> dict[str, Any]:
    item, score = answered.item, answered.score
    target = item.gold[0] if len(item.gold) == 1 else str(list(item.gold))
    document = {"id": item.id, "question": item.question, "options": item.options, "answer": target}
    return {
        "doc_id": answered.position,
        "target": target,
        "filtered_resps": answered.reply,
        "doc_hash": hashlib.sha256(json.dumps(document, indent=2, ensure_ascii=False).encode()).hexdigest(),
        "question_id": item.id,
        **({"score": score.grade} if score else {}),
        "input": answered.prompt,
    }


def _results(answers: StrategyAnswers, task: str, model: str, stamp: str) -> dict[str, Any]:
    overall = answers.results.overall
    spread = statistics.stdev(overall.grades) / math.sqrt(overall.total) if overall.total > 1 else None
    return {
        "results": {
            task: {"alias": task, "score,none": overall.accuracy, "score_stderr,none": spread},
        },
        "group_subtasks": {task: []},
        "configs": {task: {"task": task, "test_split": answers.split, "output_type": "generate_until"}},
        "versions": {task: "Yaml"},
        "n-shot": {task: 0},
        "higher_is_better": {task: {"score": True}},
        "n-samples": {task: {"original": len(answers.ids), "effective": overall.total}},
        "config": {"model": "colm-vl", "model_args": f"strategy={answers.strategy}"},
        "date": stamp,
        "model_source": "colm-vl",
        "model_name": f"colm-vl/{answers.strategy}",
        "model_name_sanitized": model,
    }


def _only(value: Any) -> Any:
    """The reply in lists of one; how many there are differs between versions."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def _id(row: Mapping[str, Any]) -> str:
    places = [row, *(value for value in row.values() if isinstance(value, Mapping))]
    return str(next((place[name] for place in places for name in _IDS if place.get(name) is not None), ""))


FORMAT = LmmsEval()
