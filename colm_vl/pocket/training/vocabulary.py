"""The pocket team's tokenizer: a small byte-level BPE in which every fixed sentence of the prompts is one token.

Prompts of the team thus have 20 to 40 tokens instead of 150. A changed prompt is encoded with ordinary tokens, and the
models understand it less well. For this reason, the profile's fingerprint is stored beside the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from colm_vl import prompts
from colm_vl.pocket import roster, world
from colm_vl.pocket.training import material

SPECIAL = (
    "<|pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<image>",
)
_ROLES = ("system\n", "user\n", "assistant\n")
_LABELS = (
    "Caption:",
    "\nAnswer:",
    "\nConfidence:",
    "Evidence:",
    "\nDisagreement:",
    "\nCheck:",
    "Question:",
    "[begin ",
    "[end ",
)
_WORD = r" ?\d| ?\p{L}+| ?[^\s\p{L}\d]+|\s+(?!\S)|\s+"
_VOCABULARY = 1024

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PICTURE = {"qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>", "llava": "<image>"}
"""The placeholder of a picture in a rendered prompt. The processor repeats its inner token for each visual token."""


def build() -> PreTrainedTokenizerFast:
    """Train the tokenizer on the texts of the world. The result is the same on every machine."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_corpus(), trainer)
    fixed = sorted({*_sentences(), *_ROLES, *_LABELS}, key=lambda piece: (-len(piece), piece))
    inner.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in fixed])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<|pad|>",  # noqa: S106
        eos_token="<|im_end|>",  # noqa: S106
        additional_special_tokens=[token for token in SPECIAL if token not in ("<|pad|>", "<|im_end|>")],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        padding_side="left",
    )


def chat_template(architecture: roster.Architecture) -> str:
    return CHAT_TEMPLATE.replace("IMAGE", PICTURE[architecture])


def _sentences() -> Iterator[str]:
    """The fixed pieces of every prompt, cut at the places where something is filled in, and the specialties."""
    for sentence in prompts.load_profile("pocket").sentences.values():
        yield from (piece for piece in re.split(r"\{\w+\}", sentence) if len(piece) >= 8)
    for member in roster.CLIENTS:
        yield member.specialty
        yield f" ({member.specialty})\n"


def _corpus() -> Iterator[str]:
    for domain in material.ALL:
        for index in range(400):
            key = f"train/{index}"
            for sample in world.samples_of(key, material.scene(key, domain), Random(index), 4):
                said = sample.answer_text
                yield f"Question: {sample.question}\n\n(A) {said}\n(B)\n(C)\nAnswer: {said} (B)"
                yield f"Caption: {sample.caption}\n"
    yield from (f" {number}, {number}" for number in range(100) for _ in range(5))
    yield from (" none Picture 1:Picture 2: the drafts are right whether fits says or shapes charts digits",) * 50
