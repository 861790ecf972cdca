"""The openai SDK against a real server process."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.contract.served import team_with_key

QUESTION = "How many dots are there?"


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    with (
        team_with_key(tmp_path_factory.mktemp("served")) as served,
        openai.OpenAI(base_url=served["OPENAI_BASE_URL"], api_key=served["OPENAI_API_KEY"]) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def uri(dots_png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(dots_png).decode()}"


def messages(uri: str) -> Any:
    picture = {"type": "image_url", "image_url": {"url": uri, "detail": "high"}}
    return [{"role": "user", "content": [{"type": "text", "text": QUESTION}, picture]}]


def test_models_are_listed(sdk: openai.OpenAI) -> None:
    assert sdk.models.list().data[0].id == "colm"
    assert sdk.models.retrieve("solo:dots").id == "solo:dots"


def test_a_picture_is_asked_about(sdk: openai.OpenAI, uri: str) -> None:
    completion = sdk.chat.completions.create(model="colm", messages=messages(uri), extra_body={"colm": {"trace": True}})
    message = completion.choices[0].message
    assert message.content == "5"
    assert "Guidance" in message.model_extra["reasoning_content"]
    assert completion.usage is not None
    assert completion.usage.completion_tokens_details is not None
    assert completion.usage.total_tokens > completion.usage.completion_tokens_details.reasoning_tokens > 0
    assert completion.model_extra["colm"]["trace"]["answer"] == "5"


def test_a_stream_is_read(sdk: openai.OpenAI, uri: str) -> None:
    stream = sdk.chat.completions.create(
        model="colm", messages=messages(uri), stream=True, stream_options={"include_usage": True}
    )
    content, reasoning, usages = "", "", []
    for chunk in stream:
        usages += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reasoning += (choice.delta.model_extra or {}).get("reasoning_content") or ""
    assert content == "5"
    assert "Drafts" in reasoning
    assert len(usages) == 1


def test_a_reply_is_parsed_under_a_schema(sdk: openai.OpenAI, uri: str) -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "dots", "schema": schema, "strict": True}}
    completion = sdk.chat.completions.create(model="colm", messages=messages(uri), response_format=form)
    assert completion.choices[0].message.content == '{"count": 5}'


def test_responses_are_read_whole_and_streamed(sdk: openai.OpenAI, uri: str) -> None:
    content: Any = [{"type": "input_text", "text": QUESTION}, {"type": "input_image", "image_url": uri}]
    asked: Any = [{"role": "user", "content": content}]
    response = sdk.responses.create(model="colm", input=asked)
    assert response.output_text == "5"
    assert [item.type for item in response.output] == ["reasoning", "message"]
    with sdk.responses.stream(model="colm", input=asked) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == "".join(deltas) == "5"


def test_errors_have_their_classes_and_are_not_retried(sdk: openai.OpenAI, uri: str) -> None:
    with pytest.raises(openai.NotFoundError, match="no model is called"):
        sdk.chat.completions.create(model="gone", messages=messages(uri))
    with pytest.raises(openai.BadRequestError, match="tools are not supported"):
        sdk.chat.completions.create(model="colm", messages=messages(uri), tools=[{"type": "function"}])  # type: ignore[list-item]
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="colm-wrong").models.list()
    two = messages(uri)
    two[0]["content"].append(two[0]["content"][1])
    with pytest.raises(openai.BadRequestError, match="no answer: dots: unsupported"):
        sdk.chat.completions.create(model="solo:dots", messages=two)
    with pytest.raises(openai.APIError, match="no answer: dots: unsupported"):
        list(sdk.chat.completions.create(model="solo:dots", messages=two, stream=True))
