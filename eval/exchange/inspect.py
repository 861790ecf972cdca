"""inspect_ai's log of an evaluation: written as JSON, which `inspect view` opens; read as JSON or `.eval`.

Source: UKGovernmentBEIS/inspect_ai, commit 499e6152, `src/inspect_ai/log/_log.py` (version 2 of the schema) and
`_recorders/`. `make test-clients` reads the written logs with inspect_ai itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

import colm_vl
from colm_vl.batch.lines import dump
from colm_vl.errors import InputError
from colm_vl.types import Trace, Usage

from ..dataset import read_json
from .base import Answered, Format, Logged, StrategyAnswers

_VERSION = 2
_SCORER = "colm_vl"
_SAMPLES = "samples/"
_PEEK = 2000
"""A log begins with its version, status and `eval`."""
_ID_LENGTH = 22


class Inspect(Format):
    note = "inspect_ai's log, which `inspect view` opens"
    source = "UKGovernmentBEIS/inspect_ai, commit 499e6152"

    @override
    def write(self, answers: StrategyAnswers, folder: Path) -> list[Path]:
        log = _log(answers)
        stamp = log["eval"]["created"].replace(":", "-").replace("+", "-")
        task = "".join(char if char.isalnum() else "-" for char in f"{answers.benchmark}-{answers.strategy}")
        path = folder / f"{stamp}_{task}_{log['eval']['eval_id']}.json"
        with path.open("wb") as file:
            file.write(dump(log).removesuffix(b"}\n") + b',"samples":[\n')
            for place, answered in enumerate(answers.answers):
                file.write((b"," if place else b"") + dump(_sample(answered, log["eval"]["model"])))
            file.write(b"]}\n")
        return [path]

    @override
    def recognizes(self, path: Path) -> bool:
        if path.suffix == ".eval":
            return True
        if path.suffix != ".json":
            return False
        with path.open("rb") as file:
            start = file.read(_PEEK)
        return all(key in start for key in (b'"version"', b'"status"', b'"eval"'))

    @override
    def read(self, path: Path) -> Iterator[Logged]:
        for sample in _samples(path):
            id_, epoch = sample["id"], sample.get("epoch", 1)
            if epoch != 1:
                raise InputError(f"{path}: several epochs", hint="give a log with one answer to each question")
            target = sample.get("target") or []
            yield Logged(
                str(id_),
                # inspect_ai numbers samples without an id from 1.
                id_ - 1 if isinstance(id_, int) else None,
                _completion(sample.get("output") or {}),
                _input(sample["input"]),
                (target,) if isinstance(target, str) else tuple(target),
            )


def _log(answers: StrategyAnswers) -> dict[str, Any]:
    """Without samples. Fields that inspect_ai fills by itself are left out."""
    created = answers.finished.isoformat(timespec="seconds")
    overall = answers.results.overall
    metrics = {"accuracy": overall.accuracy}
    if overall.total > 1:
        metrics["stderr"] = statistics.stdev(overall.grades) / math.sqrt(overall.total)
    ids = answers.ids
    model = f"colm-vl/{answers.strategy}"
    return {
        "version": _VERSION,
        "status": "success",
        "eval": {
            "eval_id": _digest("eval", model, created, *ids),
            "run_id": _digest("run", created, *ids),
            "task_id": _digest("task", answers.benchmark, answers.split),
            "created": created,
            "task": answers.benchmark,
            "task_args": {"split": answers.split, "rule": answers.results.rule.value},
            "dataset": {"name": answers.benchmark, "samples": len(ids), "sample_ids": ids, "shuffled": False},
            "model": model,
            "config": {"epochs": 1},
            "packages": {"colm_vl": colm_vl.__version__},
            "scorers": [{"name": _SCORER}],
        },
        "plan": {"steps": [{"solver": answers.strategy}]},
        "results": {
            "total_samples": len(ids),
            "completed_samples": len(ids),
            "scores": [
                {
                    "name": _SCORER,
                    "scorer": _SCORER,
                    "scored_samples": overall.total,
                    "unscored_samples": len(ids) - overall.total,
                    "metrics": {name: {"name": name, "value": value} for name, value in metrics.items()},
                }
            ],
        },
        "stats": {"started_at": created, "completed_at": created, "model_usage": {model: _usage(answers.usage)}},
    }


def _sample(answered: Answered, model: str) -> dict[str, Any]:
    item, trace, score = answered.item, answered.trace, answered.score
    message = {"role": "assistant", "content": answered.reply, "source": "generate", "model": model}
    scores = {_SCORER: {"value": score.grade, "answer": score.value, "explanation": score.how}} if score else {}
    return {
        "id": item.id,
        "epoch": 1,
        "input": answered.prompt,
        "choices": list(item.options) or None,
        "target": item.gold[0] if len(item.gold) == 1 else list(item.gold),
        "messages": [{"role": "user", "content": answered.prompt, "source": "input"}, message],
        "output": {
            "model": model,
            "choices": [{"message": message, "stop_reason": "stop"}],
            "completion": answered.reply,
            "usage": _usage(trace.usage),
            "time": trace.seconds,
        },
        "scores": scores,
        "metadata": {**item.groups, "colm_vl": _collaboration(trace)},
        "model_usage": {model: _usage(trace.usage)},
        "total_time": trace.seconds,
    }


def _collaboration(trace: Trace) -> dict[str, Any]:
    """Who said what before the final answer."""
    return {
        "pictures": [image.source or image.digest for image in trace.images],
        "drafts": {draft.client: draft.answer for draft in trace.drafts},
        "guidance": [guidance.text for guidance in trace.guidance],
        "refinements": [{"client": one.client, "round": one.round, "answer": one.answer} for one in trace.refinements],
        "failures": [f"{one.member or 'question'}, {one.stage}: {one.message}" for one in trace.failures],
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,  # inspect_ai counts cached tokens apart
        "input_tokens_cache_read": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _digest(*parts: str) -> str:
    """The same run gives the same ids, so that exporting it again replaces its logs."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_ID_LENGTH]


def _samples(path: Path) -> Iterable[Mapping[str, Any]]:
    if path.suffix == ".eval":
        return _archived(path)
    samples = read_json(path).get("samples")
    if not samples:
        raise InputError(f"{path}: a log without samples", hint="inspect_ai leaves them out with --no-log-samples")
    return list(samples)


def _archived(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.startswith(_SAMPLES) and name.endswith(".json"):
                    yield json.loads(archive.read(name))
    except NotImplementedError:
        raise InputError(
            f"{path}: this version of Python cannot read its compression (Zstandard)",
            hint=f"inspect log convert {path} --to json --output-dir json, and give the file in json/",
        ) from None
    except (zipfile.BadZipFile, ValueError):
        raise InputError(f"{path}: cannot be read", hint="the file may be incomplete") from None


def _completion(output: Mapping[str, Any]) -> str:
    """The text of the first choice, without reasoning."""
    choices = output.get("choices") or [{}]
    return _text(choices[0].get("message", {}).get("content", ""))


def _input(given: Any) -> str:
    return given if isinstance(given, str) else "\n".join(_text(message.get("content", "")) for message in given)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part.get("type") == "text")


FORMAT = Inspect()
