"""Requests and replies of `POST /v1/chat/completions`. Fields of OpenAI's API that are not here are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from colm_vl.service.asking import ColmResult
from colm_vl.service.options import ColmOptions

MOST_PARTS = 1000


class ImageUrl(BaseModel):
    url: str = Field(description="a data URI, or an https URL on a host that the operator allows")


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    type: Literal["image_url"]
    image_url: ImageUrl | str


class RefusalPart(BaseModel):
    """In replies of other models that are sent back as part of a conversation."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(max_length=MOST_PARTS)] | None = None


class StreamOptions(BaseModel):
    include_usage: bool | None = None


class JsonSchemaFormat(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    name: str = "answer"
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class ChatRequest(BaseModel):
    model: str = Field(examples=["colm"])
    messages: Annotated[list[ChatMessage], Field(min_length=1)] = Field(
        examples=[[{"role": "user", "content": "Which bar is taller?"}]]
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    n: int | None = Field(default=None, description="1; more are refused")
    tools: list[Any] | None = Field(default=None, description="refused, or ignored if the operator has chosen so")
    tool_choice: Any = Field(default=None, description="auto or none")
    functions: list[Any] | None = Field(default=None, description="as tools")
    function_call: Any = Field(default=None, description="as tool_choice")
    modalities: list[str] | None = Field(default=None, description='["text"]; others are refused')
    audio: dict[str, Any] | None = Field(default=None, description="refused")
    response_format: ResponseFormat | None = None
    colm: ColmOptions = ColmOptions()


class PromptDetails(BaseModel):
    cached_tokens: int = 0


class CompletionDetails(BaseModel):
    reasoning_tokens: int = Field(default=0, description="of all replies but the one from which the answer was read")


class ChatUsage(BaseModel):
    """Tokens of all calls of all members."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ReplyMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    reasoning_content: str | None = Field(default=None, description="drafts, guidance and refinements")


class ReplyChoice(BaseModel):
    index: int = 0
    message: ReplyMessage
    finish_reason: Literal["stop"] = "stop"


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ReplyChoice]
    usage: ChatUsage
    colm: ColmResult | None = None


class ChunkDelta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None


class ChunkChoice(BaseModel):
    index: int = 0
    delta: ChunkDelta
    finish_reason: Literal["stop"] | None = None


class ChatChunk(BaseModel):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None
    colm: ColmResult | None = None
