"""Requests and replies of `POST /v1/responses`. Fields of OpenAI's API that are not here are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from colm_vl.service.asking import ColmResult
from colm_vl.service.options import ColmOptions

MOST_PARTS = 1000


class InputText(BaseModel):
    type: Literal["input_text", "output_text"]
    text: str


class InputRefusal(BaseModel):
    type: Literal["refusal"]
    refusal: str


class InputImage(BaseModel):
    type: Literal["input_image"]
    image_url: str = Field(description="a data URI, or an https URL on a host that the operator allows")


InputPart = Annotated[InputText | InputRefusal | InputImage, Field(discriminator="type")]


class InputMessage(BaseModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[InputPart], Field(max_length=MOST_PARTS)]


class InputReasoning(BaseModel):
    """Reasoning of an earlier reply, which is sent back as part of a conversation. It is not read."""

    type: Literal["reasoning"]


def _kind_of(item: Any) -> str:
    """Messages may leave out their type."""
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "message")
    return str(kind)


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")] | Annotated[InputReasoning, Tag("reasoning")], Discriminator(_kind_of)
]


class TextFormat(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    type: Literal["text", "json_object", "json_schema"]
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class TextOptions(BaseModel):
    format: TextFormat | None = None


class ResponsesRequest(BaseModel):
    model: str = Field(examples=["colm"])
    input: str | Annotated[list[InputItem], Field(min_length=1)] = Field(examples=["Which bar is taller?"])
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    text: TextOptions | None = None
    tools: list[Any] | None = Field(default=None, description="refused, or ignored if the operator has chosen so")
    tool_choice: Any = Field(default=None, description="auto or none")
    previous_response_id: str | None = Field(default=None, description="refused: nothing is stored")
    background: bool | None = Field(default=None, description="refused if true: nothing is stored")
    colm: ColmOptions = ColmOptions()


class OutputText(BaseModel):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = Field(default_factory=list)


class OutputMessage(BaseModel):
    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed"] = "completed"
    content: list[OutputText]


class ReasoningText(BaseModel):
    type: Literal["reasoning_text"] = "reasoning_text"
    text: str


class ReasoningItem(BaseModel):
    """Drafts, guidance and refinements."""

    type: Literal["reasoning"] = "reasoning"
    id: str
    status: Literal["in_progress", "completed"] = "completed"
    summary: list[Any] = Field(default_factory=list)
    content: list[ReasoningText]


class InputDetails(BaseModel):
    cached_tokens: int


class OutputDetails(BaseModel):
    reasoning_tokens: int


class ResponsesUsage(BaseModel):
    """Tokens of all calls of all members."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseError(BaseModel):
    code: str
    message: str


class ResponseReply(BaseModel):
    id: str
    object: Literal["response"] = "response"
    created_at: int
    model: str
    status: Literal["in_progress", "completed", "failed"]
    output: list[ReasoningItem | OutputMessage] = Field(default_factory=list)
    error: ResponseError | None = None
    incomplete_details: None = None
    instructions: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    parallel_tool_calls: bool = False
    tool_choice: Literal["none"] = "none"
    tools: list[Any] = Field(default_factory=list)
    temperature: float | None = None
    top_p: float | None = None
    usage: ResponsesUsage | None = None
    colm: ColmResult | None = None
