"""What families share: where a checkpoint's files are, how a conversation becomes a prompt, what an encoder returns.

A conversation is in the chat form of Hugging Face: messages with a role and a list of parts, where a part is
`{"type": "text", "text": str}` or `{"type": "image", "image": processors.Image}`.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from processors.errors import FamilyError
from processors.images import Image

Message = Mapping[str, Any]
Conversation = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint is: a folder, or an id of the Hugging Face hub with its revision. `offline`: only what is on
    this machine."""

    model: str
    revision: str | None = None
    offline: bool = False

    def options(self) -> dict[str, Any]:
        """For any `from_pretrained`."""
        return {"revision": self.revision or "main", "local_files_only": self.offline}


@dataclass(frozen=True, slots=True)
class Budget:
    """Pixels that a picture is brought to. None: what the family finds sensible."""

    min_pixels: int | None = None
    max_pixels: int | None = None


class Family(Protocol):
    """Turns conversations into a model's inputs.

    `sees`: whether they may hold pictures. `picture_token`: the id that stands in for pictures. `resumable`: whether a
    later turn may be computed from keys and values kept of the earlier ones, without their pictures.
    """

    tokenizer: Any
    sees: bool
    picture_token: int | None
    resumable: bool

    def encode(self, conversations: Sequence[Conversation]) -> dict[str, Any]:
        """One batch of tensors, padded on the left, ending where the assistant's turn begins: everything that the
        model's `generate` needs, so pass it on whole. Raises ImageError for a picture beyond the family's means."""
        ...


class Chat:
    """Writes conversations as prompts, by the checkpoint's own template where it has one.

    Control tokens within texts are broken up by a space ("< |im_end|>"): what a user, or another model, wrote cannot
    end its own turn, nor pretend to be a picture.
    """

    def __init__(self, tokenizer: Any, template: str | None, image_token: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._image_token = image_token
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= {*tokenizer.all_special_tokens, *([image_token] if image_token else [])}
        longest_first = sorted((token for token in special if len(token.strip()) > 1), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @property
    def usable(self) -> bool:
        """Whether a picture can be written at all."""
        return bool(self._template or self._image_token)

    def prompt(self, conversation: Conversation, *, as_text: bool = False) -> str:
        """`as_text`: the template wants texts, not lists of parts, as those of text-only models do."""
        messages = [self._clean(message) for message in conversation]
        if self._template is None:
            return _plain_prompt(messages, self._image_token or "", self._tokenizer.eos_token or "\n")
        if as_text:
            messages = [{"role": message["role"], "content": _joined(message)} for message in messages]
        import jinja2

        try:
            return self._render(messages)
        except jinja2.TemplateError:
            if messages[0]["role"] != "system":
                raise
            # Some templates refuse a system message: its text then opens the user's first turn.
            return self._render(_without_system(messages))

    def _render(self, messages: list[dict[str, Any]]) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, add_generation_prompt=True
            )
        )

    def _clean(self, message: Message) -> dict[str, Any]:
        parts = [
            {"type": "image"} if part["type"] == "image" else {"type": "text", "text": self._broken_up(part["text"])}
            for part in message["content"]
        ]
        return {"role": message["role"], "content": parts}

    def _broken_up(self, text: str) -> str:
        for _ in range(2):  # tokens that overlap ("<a><b>" and "><b>") are not all found the first time
            text = self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return text


class VisionEncoder:
    """A Family over a processor of transformers. Families with quirks pass what differs.

    `image_options` goes to the image processor at each call.
    """

    sees = True

    def __init__(
        self,
        processor: Any,
        *,
        resumable: bool,
        max_pixels: int | None = None,
        image_options: dict[str, Any] | None = None,
    ) -> None:
        self.resumable = resumable
        self.picture_token: int | None = getattr(processor, "image_token_id", None)
        self.tokenizer = left_padded(processor.tokenizer)
        self.processor = processor
        self.chat = Chat(self.tokenizer, _template_of(processor), getattr(processor, "image_token", None))
        self._max_pixels = max_pixels
        self._image_options = image_options or {}

    def encode(self, conversations: Sequence[Conversation]) -> dict[str, Any]:
        prompts = [self.chat.prompt(conversation) for conversation in conversations]
        pictures = [self.prepare(images_of(conversation)) for conversation in conversations]
        bos = self.tokenizer.bos_token
        begun = bos is not None and prompts[0].startswith(bos)  # the template has written it: do not add another
        inputs = self.processor(
            text=prompts,
            images=pictures if any(pictures) else None,
            return_tensors="pt",
            text_kwargs={"padding": True, "add_special_tokens": not begun},
            images_kwargs=self._image_options,
        )
        return dict(inputs)

    def prepare(self, images: Sequence[Image]) -> list[Any]:
        """One conversation's pictures, as the processor wants them."""
        bound = self._max_pixels
        return [(image if bound is None else image.thumbnail(bound)).pil() for image in images]


def images_of(conversation: Conversation) -> list[Image]:
    return [part["image"] for message in conversation for part in message["content"] if part["type"] == "image"]


def left_padded(tokenizer: Any) -> Any:
    """Prepares a tokenizer for batches. Padding on the right would change what the model says."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_processor(model_type: str, source: Source) -> Any:
    """The checkpoint's processor, without its video part. Raises FamilyError for a torchvision that does not work."""
    check_torchvision()
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    if name is None:
        raise FamilyError(f"transformers has no processor for models of type {model_type!r}", hint="use another model")
    return _image_only(getattr(transformers, name)).from_pretrained(source.model, **source.options())


def check_torchvision() -> None:
    """Raises FamilyError for a torchvision that is installed and cannot be imported: transformers would fail later, in
    its image processors, with an error that tells a user nothing. Without any torchvision all is well."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        import torch

        cause = " ".join(str(error).split())
        raise FamilyError(
            f"torchvision does not fit torch {torch.__version__}: {cause}",
            hint="pip uninstall torchvision (it is not needed), or install the torchvision made for this torch",
        ) from error


def _image_only(processor_class: Any) -> Any:
    """The video processors of transformers need torchvision, and nothing here needs video."""
    if "video_processor" not in processor_class.get_attributes():
        return processor_class

    class ImageOnly(processor_class):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

        @classmethod
        def from_args_and_dict(cls, args: list[Any], processor_dict: dict[str, Any], **options: Any) -> Any:
            return super().from_args_and_dict([*args, None], processor_dict, **options)

    return ImageOnly


def _template_of(processor: Any) -> str | None:
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


def _joined(message: Message) -> str:
    return "\n".join(part["text"] for part in message["content"] if part["type"] == "text")


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    system, first, *rest = messages
    if isinstance(first["content"], str):
        return [{"role": first["role"], "content": f"{system['content']}\n\n{first['content']}"}, *rest]
    opening = {"type": "text", "text": _joined(system) + "\n\n"}
    return [{"role": first["role"], "content": [opening, *first["content"]]}, *rest]


def _plain_prompt(messages: Sequence[Message], image_token: str, end: str) -> str:
    """For checkpoints without a template, in the style of Vicuna, on which the first LLaVA models were trained."""
    turns = []
    for message in messages:
        parts = [part["text"] if part["type"] == "text" else image_token for part in message["content"]]
        text = "\n".join(parts).strip()
        if message["role"] == "system":
            turns.append(f"{text} ")
        elif message["role"] == "user":
            turns.append(f"USER: {text} ")
        else:
            turns.append(f"ASSISTANT: {text}{end}")
    return "".join(turns) + "ASSISTANT:"
