"""Turns questions into token ids: the project's prompts, rendered like the members' chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import PIL.Image
from transformers import PreTrainedTokenizerFast

from colm_vl import prompts
from colm_vl.backends.base import Message
from colm_vl.pocket.outside import OUTSIDE
from colm_vl.pocket.roster import CLIENTS, Member
from colm_vl.pocket.training import builders, vocabulary
from colm_vl.pocket.training.packing import Pack, Turn
from colm_vl.pocket.world import Sample
from colm_vl.types import Query
from processors.images import Image

LINES = prompts.LabelledLines(prompts.load_profile("pocket"))
SURE, UNSURE = 90, 40
ANSWER_WEIGHT = 4.0


@dataclass(frozen=True, slots=True)
class Guided:
    """A question with the team's replies: drafts by client and, optionally, the server's guidance."""

    sample: Sample
    drafts: Mapping[str, str]
    guidance: str = ""


def query(sample: Sample) -> Query:
    """The question for the prompts. Its pictures are blank, since prompts depend only on their number."""
    return Query(sample.question, (_blank(),) * len(sample.pictures), sample.choices)


def reply(caption: str, answer: str, confidence: int) -> str:
    """A reply to a draft or refine prompt.

    A choice is answered with its text, not with its letter. `LabelledLines` accepts both, and these models learn late
    to find the letter.
    """
    return f"Caption: {caption}\nAnswer: {answer}\nConfidence: {confidence}"


def right_reply(sample: Sample, confidence: int) -> str:
    """The right reply, which is that the model does not know if the question is not of its world."""
    known = sample.domain != OUTSIDE
    return reply(sample.caption, sample.answer_text, confidence if known else UNSURE)


def confidence(member: Member, sample: Sample) -> int:
    """The confidence that a member is trained to state: high in its own domains, low elsewhere."""
    return SURE if sample.domain in member.home or not member.home else UNSURE


def guidance(caption: str, answer: str, drafted: Sequence[str]) -> str:
    """Guidance for `caption` and `answer`, given the answers of the drafts."""
    disagreement = "yes" if len(set(drafted)) > 1 else "none"
    return f"Evidence: {caption}\nDisagreement: {disagreement}\nCheck: whether {answer} fits"


def headings(drafts: Mapping[str, str]) -> dict[str, str]:
    """Drafts by the headings in the prompts of the server and of peers."""
    return {
        prompts.draft_heading(client.name, client.specialty): drafts[client.name]
        for client in CLIENTS
        if client.name in drafts
    }


class Writer:
    """Writes a member's prompts and replies as token ids."""

    def __init__(self, member: Member, tokenizer: PreTrainedTokenizerFast) -> None:
        self.member = member
        self.tokenizer = tokenizer
        self._openers = set(tokenizer.convert_tokens_to_ids(["\nAnswer:", "\nCheck:"]))
        self._closer = tokenizer.convert_tokens_to_ids("\nConfidence:")
        self._picture = vocabulary.PICTURE[member.architecture]
        inner = "<|image_pad|>" if member.architecture == "qwen2_5_vl" else "<image>"
        self._expanded = self._picture.replace(inner, inner * builders.picture_tokens(member))

    def draft_messages(self, sample: Sample) -> tuple[Message, ...]:
        return prompts.draft_messages(query(sample), self.member.specialty, reply_format=LINES)

    def refine_messages(self, guided: Guided) -> tuple[Message, ...]:
        own = guided.drafts[self.member.name]
        conversation = self.draft_messages(guided.sample)
        return prompts.refine_messages(conversation, own, query(guided.sample), guided.guidance, reply_format=LINES)

    def peers_messages(self, guided: Guided) -> tuple[Message, ...]:
        others = {name: text for name, text in guided.drafts.items() if name != self.member.name}
        own = guided.drafts[self.member.name]
        conversation = self.draft_messages(guided.sample)
        return prompts.peers_messages(conversation, own, query(guided.sample), headings(others), reply_format=LINES)

    def guidance_messages(self, guided: Guided) -> tuple[Message, ...]:
        return prompts.guidance_messages(query(guided.sample), headings(guided.drafts), reply_format=LINES)

    def verdict_messages(self, guided: Guided) -> tuple[Message, ...]:
        return prompts.verdict_messages(query(guided.sample), headings(guided.drafts), reply_format=LINES)

    def pack(self, pairs: Sequence[tuple[Sequence[Message], str]], pictures: tuple[PIL.Image.Image, ...]) -> Pack:
        """Conversations about the same pictures with the replies to learn. An empty reply gives a prompt for
        decoding."""
        prefix = ""
        turns: list[Turn] = []
        for messages, said in pairs:
            shared, question = self._split(self.render(messages))
            if prefix and shared != prefix:
                raise ValueError("the turns of a pack have different prefixes: expected one system prompt for all")
            prefix = shared
            asked = self.tokenizer.encode(question, add_special_tokens=False)
            learnt = self.tokenizer.encode(said + "<|im_end|>", add_special_tokens=False) if said else []
            turns.append(Turn((*asked, *learnt), (0.0,) * len(asked) + self._weights(learnt)))
        return Pack(tuple(self._encode_prefix(prefix)), tuple(turns), pictures)

    def _weights(self, said: Sequence[int]) -> tuple[float, ...]:
        """The few tokens of the answer have a greater weight than the many of the caption."""
        weight, weights = 1.0, []
        for token in said:
            weights.append(weight)
            if token in self._openers:
                weight = ANSWER_WEIGHT
            elif token == self._closer:
                weight = 1.0
        return tuple(weights)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as rendered by the chat template, with one placeholder for each picture, up to the reply."""
        text = ""
        for message in messages:
            parts = "".join(part if isinstance(part, str) else self._picture for part in message.parts)
            text += f"<|im_start|>{message.role}\n{parts}<|im_end|>\n"
        return text + "<|im_start|>assistant\n"

    def _split(self, text: str) -> tuple[str, str]:
        at = text.index("Question:")
        return text[:at], text[at:]

    @cache  # noqa: B019 - a handful of prefixes, as long-lived as the writer
    def _encode_prefix(self, prefix: str) -> list[int]:
        return list(self.tokenizer.encode(prefix.replace(self._picture, self._expanded), add_special_tokens=False))


@cache
def _blank() -> Image:
    return Image.open(PIL.Image.new("RGB", (28, 28)))
