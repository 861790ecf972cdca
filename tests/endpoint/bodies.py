"""The bodies of chat completions: whole, and as events of a stream."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from tests.endpoint.script import Reply, Seen


def completion(reply: Reply, seen: Seen, ignores: Collection[str]) -> dict[str, object]:
    """`ignores` are fields of the request that have no effect."""
    content = [{"type": "text", "text": word} for word in _words(reply.text)] if reply.as_parts else reply.text
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, "refusal": reply.refusal},
        "finish_reason": reply.finish_reason,
        "logprobs": _logprobs(reply, seen, _words(reply.text), ignores),
    }
    timings = {} if reply.timings is None else {"timings": reply.timings}
    return _frame("chat.completion", seen, [choice]) | {"usage": _usage(reply, seen)} | timings


def completion_events(reply: Reply, seen: Seen, ignores: Collection[str]) -> list[dict[str, object]]:
    def event(delta: Mapping[str, str], reason: str | None = None, logprobs: object = None) -> dict[str, object]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
        return _frame("chat.completion.chunk", seen, [choice])

    words = [event({"content": word}, None, _logprobs(reply, seen, [word], ignores)) for word in _words(reply.text)]
    first = {"role": "assistant", "content": ""} | ({"refusal": reply.refusal} if reply.refusal else {})
    events = [event(first), *words, event({}, reply.finish_reason)]
    if seen.body.get("stream_options", {}).get("include_usage") and "stream_options" not in ignores:
        events.append(_frame("chat.completion.chunk", seen, []) | {"usage": _usage(reply, seen)})
    return events


def _frame(kind: str, seen: Seen, choices: list[Any]) -> dict[str, object]:
    return {
        "id": f"r{seen.number}",
        "object": kind,
        "created": 0,
        "model": seen.body["model"],
        "choices": choices,
    }


def _logprobs(reply: Reply, seen: Seen, words: list[str], ignores: Collection[str]) -> object:
    wanted = seen.body.get("logprobs") and "logprobs" not in ignores
    if not wanted or reply.probability is None:
        return None
    most = 0 if "top_logprobs" in ignores else seen.body.get("top_logprobs", 0)
    ordered = sorted(reply.likeliest.items(), key=lambda pair: -pair[1])[:most]
    top = [{"token": token, "logprob": math.log(probability)} for token, probability in ordered]
    return {
        "content": [
            {
                "token": word,
                "logprob": math.log(reply.likeliest.get(word, reply.probability)),
                "top_logprobs": top if word in reply.likeliest else [],
            }
            for word in words
        ]
    }


def _usage(reply: Reply, seen: Seen) -> dict[str, object]:
    prompt = len(seen.text.split()) + 16 * len(seen.pictures) if reply.prompt_tokens is None else reply.prompt_tokens
    words = len(_words(reply.text))
    usage: dict[str, object] = {
        "prompt_tokens": prompt,
        "completion_tokens": words,
        "total_tokens": prompt + words,
    }
    if reply.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": reply.cached_tokens}
    return usage


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)] if text else []
