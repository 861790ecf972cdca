"""Encodes requests for chat completions: messages and sampling become the bytes of a body.

Pictures are inserted as the bytes cached by `Image`. Base64 needs no escaping, so it is not passed through a JSON
encoder.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from colm_vl.backends._openai_media import Named
from colm_vl.backends.base import Message, Request
from processors.images import Image

# Parameters that endpoints can refuse, and that can be left out or have another name.
DISPENSABLE: Final = (
    "top_logprobs", "logprobs", "stream_options", "max_tokens", "temperature", "top_p", "seed", "response_format",
)  # fmt: skip
_MOST_LOGPROBS = 20

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parameters(request: Request, *, stream: bool, refused: Collection[str]) -> dict[str, object]:
    """Everything in the body but model, messages and stream. `refused` are those of DISPENSABLE to do without."""
    sampling = request.sampling
    wanted: dict[str, object] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "logprobs": True,
    }
    if sampling.top_p < 1:
        wanted["top_p"] = sampling.top_p
    if sampling.seed is not None:
        wanted["seed"] = sampling.seed
    if request.letters and "logprobs" not in refused:
        wanted["top_logprobs"] = min(_MOST_LOGPROBS, 5 + len(request.letters))
    if request.schema is not None:
        form = {"name": "reply", "strict": True, "schema": request.schema}
        wanted["response_format"] = {"type": "json_schema", "json_schema": form}
    if stream:
        wanted["stream_options"] = {"include_usage": True}
    kept = {name: value for name, value in wanted.items() if name not in refused}
    return kept if "max_tokens" in kept else kept | {"max_completion_tokens": sampling.max_tokens}


def encode_messages(
    messages: Sequence[Message],
    *,
    max_pixels: int | None,
    detail: str | None,
    names: Mapping[Image, Named] = MappingProxyType({}),
) -> list[bytes]:
    """The conversation as pieces of a JSON array. Equal messages give equal bytes, as prefix caches require.

    Pictures that are not yet encoded are encoded here, which takes tens of milliseconds for large ones. Those with a
    name have it as their uuid.
    """
    # Conversations without pictures use strings as content: servers of text-only models often support nothing else.
    if not any(message.images for message in messages):
        return [_json([{"role": message.role, "content": message.text} for message in messages])]
    end = b'","detail":' + _json(detail) + b"}" if detail else b'"}'
    pieces = [b"["]
    for number, message in enumerate(messages):
        pieces.append(b"," if number else b"")
        if not message.images:
            pieces.append(_json({"role": message.role, "content": message.text}))
            continue
        pieces.append(b'{"role":' + _json(message.role) + b',"content":[')
        for place, part in enumerate(message.parts):
            pieces.append(b"," if place else b"")
            if isinstance(part, str):
                pieces.append(_json({"type": "text", "text": part}))
                continue
            name = names.get(part)
            if name is not None and name.kept:
                pieces.append(b'{"type":"image_url","image_url":null')
            else:
                pieces += (b'{"type":"image_url","image_url":{"url":"', part.data_uri_bytes(max_pixels), end)
            pieces.append(b"}" if name is None else b',"uuid":' + _json(name.uuid) + b"}")
        pieces.append(b"]}")
    pieces.append(b"]")
    return pieces


def encode_body(messages: Iterable[bytes], fields: Mapping[str, Any]) -> bytes:
    """The whole body. `messages` are the pieces from `encode_messages`; `fields` are all other fields."""
    return b"".join([b'{"messages":', *messages, b",", _json(fields)[1:]])


def _json(value: object) -> bytes:
    # Lone surrogates cannot be encoded and are replaced by a question mark.
    return _encoder.encode(value).encode("utf-8", "replace")
