"""Shared parts of families: the location of a checkpoint, prompts from conversations, and the base encoder.

Conversations have the chat format of Hugging Face: messages with a role and a list of parts, where a part is
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
    """The location of a checkpoint: a folder, or a Hugging Face hub id with a revision. `offline`: only use files on
    this machine."""

    model: str
    revision: str | None = None
    offline: bool = False

    def options(self) -> dict[str, Any]:
        """Keyword arguments for `from_pretrained`. Code in a model's repository is never run; without
        `trust_remote_code`, transformers asks on the terminal whether to run it."""
        return {"revision": self.revision or "main", "local_files_only": self.offline, "trust_remote_code": False}


@dataclass(frozen=True, slots=True)
class Budget:
    """The number of pixels to which pictures are resized. None: the family's default."""

    min_pixels: int | None = None
    max_pixels: int | None = None


class Family(Protocol):
    """Turns conversations into a model's inputs.

    `sees`: whether they can contain pictures. `picture_token`: the token id that represents pictures. `resumable`:
    whether a later turn can be computed from the cached keys and values of earlier ones, without their pictures.
    """

    tokenizer: Any
    sees: bool
    picture_token: int | None
    resumable: bool

    def encode(self, conversations: Sequence[Conversation]) -> dict[str, Any]:
        """One batch of tensors, padded on the left, up to the beginning of the assistant's turn. The result holds all
        inputs of the model's `generate`. Raises `ImageError` if the family does not support a picture."""
        ...


class Chat:
    """Turns conversations into prompts, with the checkpoint's template if it has one.

    Control tokens within texts are broken up by a space ("< |im_end|>"), so that the text of a user or another model
    cannot end its turn or act as a picture.
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
        """Whether pictures can be part of a prompt."""
        return bool(self._template or self._image_token)

    def prompt(self, conversation: Conversation, *, as_text: bool = False) -> str:
        """`as_text`: pass strings instead of lists of parts to the template, as those of text-only models expect."""
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
            # Some templates refuse a system message. Its text is then put before the user's first message.
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
        for _ in range(2):  # the first pass does not find all of overlapping tokens ("<a><b>" and "><b>")
            text = self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return text


class VisionEncoder:
    """A `Family` that uses a processor of transformers. `image_options` are passed to its image processor."""

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
        begun = bos is not None and prompts[0].startswith(bos)  # written by the template: do not add another
        inputs = self.processor(
            text=prompts,
            images=pictures if any(pictures) else None,
            return_tensors="pt",
            text_kwargs={"padding": True, "add_special_tokens": not begun},
            images_kwargs=self._image_options,
        )
        return dict(inputs)

    def prepare(self, images: Sequence[Image]) -> list[Any]:
        """The pictures of one conversation in the form that the processor expects."""
        bound = self._max_pixels
        return [(image if bound is None else image.thumbnail(bound)).pil() for image in images]


def images_of(conversation: Conversation) -> list[Image]:
    return [part["image"] for message in conversation for part in message["content"] if part["type"] == "image"]


def left_padded(tokenizer: Any) -> Any:
    """Set up a tokenizer for batches. Padding on the right would change the model's output."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_processor(model_type: str, source: Source) -> Any:
    """The checkpoint's processor without its video part. Raises `FamilyError` if torchvision does not work."""
    check_torchvision()
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    if name is None:
        raise FamilyError(f"transformers has no processor for models of type {model_type!r}", hint="use another model")
    return _image_only(getattr(transformers, name)).from_pretrained(source.model, **source.options())


def check_torchvision() -> None:
    """Raises `FamilyError` if torchvision is installed but cannot be imported. transformers would otherwise fail later,
    in its image processors, with an unclear error. torchvision itself is not required."""
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
    """Leave out the video processor, which would require torchvision and is not used."""
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
    """A prompt in the style of Vicuna, with which the first LLaVA models were trained. Used without a template."""
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
