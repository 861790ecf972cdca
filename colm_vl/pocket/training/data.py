"""The training data of the stages see, draft, guide and refine: packs made from a step and an index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from colm_vl.backends.base import Message
from colm_vl.pocket import outside, world
from colm_vl.pocket.roster import SERVER, Member
from colm_vl.pocket.scenes import DOMAINS
from colm_vl.pocket.training import corpus, material, rehearsal, turns
from colm_vl.pocket.training.learning import Course, Schedule
from colm_vl.pocket.training.packing import Pack
from colm_vl.pocket.training.turns import Guided, Writer

TRAINING_CHOICES = 0.45
"""The share of multiple-choice questions for drafts. It is high because finding the letter is learnt late."""
REHEARSED = 0.4
"""The share of rehearsal packs in the stage draft. The others are questions to be answered alone."""
REAL = 0.7
"""The share of packs from the corpus in the stages guide and refine. Of the others, half are rehearsal and half are
questions to be answered alone."""
CHECKED = 60
"""The number of held-out questions from each of a member's own domains that reports measure."""
ASKS = 5
"""The number of questions per scene that are answered alone."""
CONTESTED: Mapping[str, float] = {
    "shapes": 2.0,
    "counting": 2.0,
    "digits": 2.0,
    "pairs": 1.0,
    "charts": 0.5,
    "text": 0.5,
    material.EASY: 1.0,
    outside.OUTSIDE: 0.7,
}
"""The weight of each domain in the stage guide: low for domains that the server learns quickly."""
LEARNT_LATE: Mapping[str, float] = {"relation": 6.0, "add": 2.0, "comparison": 2.0, "gap": 2.0}
"""Factors by which kinds of questions are more frequent, because their answers do not follow directly from the
caption."""
ASIDE = 0.12
"""The share of conversations of other strategies: peers' replies for a client, a verdict for the server."""
HELD_OUT = 120
"""The number of questions at the end of a corpus that are held out; at most a fifth of it."""


@dataclass(frozen=True, slots=True)
class CorpusReplies:
    """The corpus: drafts by client and question, guidance by question."""

    drafts: Mapping[str, Mapping[int, str]]
    guidance: Mapping[int, str]

    def pair(self, scene: int) -> tuple[Guided, ...]:
        """Both questions of a scene."""
        first = scene * corpus.PER_SCENE
        return tuple(self.guided(index) for index in range(first, first + corpus.PER_SCENE))

    def guided(self, index: int) -> Guided:
        return Guided(
            corpus.sample(index),
            {name: said[index] for name, said in self.drafts.items()},
            self.guidance.get(index, ""),
        )


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The packs of one member. `seed` determines which training pictures are used."""

    member: Member
    writer: Writer
    seed: int = 0

    def see(self, schedule: Schedule) -> Course:
        """Questions from domains by their weights, each answered after a caption."""
        return Course(f"{self.member.name} see", self._drafting("see", 0.0), self._checks(), schedule)

    def draft(self, schedule: Schedule) -> Course:
        """The same, and rehearsal with artificial drafts or guidance."""
        return Course(f"{self.member.name} draft", self._drafting("draft", REHEARSED), self._checks(), schedule)

    def guide_or_refine(self, schedule: Schedule, replies: CorpusReplies, indices: Sequence[int]) -> Course:
        """The stages guide (for the server) and refine (for a client), which learn from the corpus."""
        name = "guide" if self.member is SERVER else "refine"
        others = self._drafting(name, 0.5)
        held = min(HELD_OUT, len(indices) // 5)
        last = indices[-held:]
        scenes = sorted({index // corpus.PER_SCENE for index in indices[:-held]})
        even = self.member is not SERVER
        shares = tuple(accumulate(1.0 if even else CONTESTED[corpus.domain(scene)] for scene in scenes))

        def pack(step: int, index: int) -> Pack:
            rng = self._rng(name, step, index)
            if rng.random() < REAL:
                return self._about(replies.pair(*rng.choices(scenes, cum_weights=shares)), aside=rng.random() < ASIDE)
            return others(step, index)

        checks = {
            domain: [
                self._about([one], aside=False) for one in map(replies.guided, last) if one.sample.domain == domain
            ]
            for domain in material.ALL
        }
        return Course(f"{self.member.name} {name}", pack, checks, schedule)

    def _checks(self) -> Mapping[str, Sequence[Pack]]:
        return {
            domain: [self._check(domain, index) for index in range(CHECKED)]
            for domain in (*(self.member.home or tuple(DOMAINS)), *material.SHARES)
        }

    def _check(self, domain: str, index: int) -> Pack:
        key = f"validation/{index}"
        return self._scene_pack(key, domain, Random(key), 1)

    def _drafting(self, stage: str, rehearsed: float) -> Callable[[int, int], Pack]:
        def pack(step: int, index: int) -> Pack:
            key = f"train/{self.member.name}/{stage}/{self.seed}/{step}/{index}"
            rng = self._rng(f"{stage}/own", step, index)
            if rng.random() < rehearsed:
                return self._about(rehearsal.guided(key, rng, 2, LEARNT_LATE), aside=rng.random() < ASIDE)
            weights = self.member.domain_weights
            return self._scene_pack(key, material.domain(rng, weights), rng, ASKS, LEARNT_LATE)

        return pack

    def _scene_pack(
        self, key: str, domain: str, rng: Random, asks: int, favour: Mapping[str, float] | None = None
    ) -> Pack:
        scene = material.scene(key, domain)
        samples = world.samples_of(key, scene, rng, asks, TRAINING_CHOICES, favour)
        said = [turns.right_reply(one, turns.confidence(self.member, one)) for one in samples]
        prompted = map(self.writer.draft_messages, samples)
        return self.writer.pack(list(zip(prompted, said, strict=True)), scene.pictures)

    def _about(self, about: Sequence[Guided], *, aside: bool) -> Pack:
        """A pack of conversations of one kind about questions that share their pictures."""
        return self.writer.pack([self._conversation(one, aside=aside) for one in about], about[0].sample.pictures)

    def _conversation(self, guided: Guided, *, aside: bool) -> tuple[Sequence[Message], str]:
        """The member's prompt and its target reply."""
        sample = guided.sample
        sure = turns.right_reply(sample, turns.SURE)
        if self.member is not SERVER:
            ask = self.writer.peers_messages if aside else self.writer.refine_messages
            return ask(guided), sure
        if aside:
            return self.writer.verdict_messages(guided), sure
        drafted = [turns.LINES.read_answer(text, sample.choices).answer for text in guided.drafts.values()]
        return self.writer.guidance_messages(guided), turns.guidance(sample.caption, sample.answer_text, drafted)

    def _rng(self, stage: str, step: int, index: int) -> Random:
        return Random(f"{self.member.name}/{stage}/{self.seed}/{step}/{index}")
