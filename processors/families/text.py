"""Text-only models: those that `AutoModelForCausalLM` loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from processors.errors import FamilyError
from processors.families.base import Budget, Chat, Conversation, Source, images_of, left_padded

MODEL_TYPES: frozenset[str] = frozenset()  # selected by the model's head, not by its type


class TextEncoder:
    sees = False
    picture_token = None
    resumable = True

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = left_padded(tokenizer)
        template = tokenizer.chat_template
        self._template = template.get("default") if isinstance(template, dict) else template
        self._chat = Chat(tokenizer, self._template)

    def encode(self, conversations: Sequence[Conversation]) -> dict[str, Any]:
        """Raises `FamilyError` if there are pictures."""
        if any(images_of(conversation) for conversation in conversations):
            raise FamilyError("this model takes text only", hint="use a vision model, or leave the pictures out")
        prompts = [self._chat.prompt(conversation, as_text=True) for conversation in conversations]
        inputs = self.tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=self._template is None)
        # Some tokenizers also return token types, which the `generate` of a decoder refuses.
        return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def load(config: Any, source: Source, budget: Budget) -> TextEncoder:
    from transformers import AutoTokenizer

    return TextEncoder(AutoTokenizer.from_pretrained(source.model, **source.options()))
