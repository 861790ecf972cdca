"""What each stage teaches a member: see, draft, guide, refine, each as packs made from a step and an index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from colm_vl.backends.base import Message
from colm_vl.pocket import world
from colm_vl.pocket.roster import SERVER, Member
from colm_vl.pocket.scenes import DOMAINS
from colm_vl.pocket.training import corpus, rehearsal, turns
from colm_vl.pocket.training.learning import Course, Schedule
from colm_vl.pocket.training.packing import Pack
from colm_vl.pocket.training.turns import Guided, Writer

TRAINING_CHOICES = 0.45
"""How many of the drafts' questions have options: finding the letter is learnt late."""
REHEARSED = 0.4
"""Of the packs in the stage draft; the others are questions to be answered alone."""
REAL = 0.7
"""Of the packs in the stages guide and refine; the others keep up what was learnt before, half of each kind."""
CHECKED = 60
"""Held-out questions of each domain at home by which a report tells how far a member is."""
ASKS = 5
"""Questions about a scene, answered alone."""
CONTESTED: Mapping[str, float] = {
    "shapes": 2.0,
    "counting": 2.0,
    "digits": 2.0,
    "pairs": 1.0,
    "charts": 0.5,
    "text": 0.5,
}
"""How often the server meets drafts of a domain in the stage guide, in parts: least where it is soon always right."""
LEARNT_LATE: Mapping[str, float] = {"relation": 6.0, "add": 2.0, "comparison": 2.0, "gap": 2.0}
"""Kinds of questions whose answer is a step away from the caption: how many times as often as others they are asked."""
ASIDE = 0.12
"""Of the conversations about drafts: those that another strategy has, peers' replies for a client, a verdict for the
server."""
HELD_OUT = 120
"""Questions at a corpus's end that training leaves out, or a fifth of a small one."""


@dataclass(frozen=True, slots=True)
class Heard:
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
class Lessons:
    """The packs of one member. `seed` shifts which pictures of the training range it meets."""

    member: Member
    writer: Writer
    seed: int = 0

    def see(self, schedule: Schedule) -> Course:
        """Questions of its diet, each answered after a caption."""
        return Course(f"{self.member.name} see", self._drafting("see", 0.0), self._checks(), schedule)

    def draft(self, schedule: Schedule) -> Course:
        """The same, and made-up drafts or guidance to learn reading from."""
        return Course(f"{self.member.name} draft", self._drafting("draft", REHEARSED), self._checks(), schedule)

    def listen(self, schedule: Schedule, heard: Heard, indices: Sequence[int]) -> Course:
        """The stages guide (for the server) and refine (for a client): what to make of what the others really said."""
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
                return self._about(heard.pair(*rng.choices(scenes, cum_weights=shares)), aside=rng.random() < ASIDE)
            return others(step, index)

        checks = {
            domain: [self._about([one], aside=False) for one in map(heard.guided, last) if one.sample.domain == domain]
            for domain in DOMAINS
        }
        return Course(f"{self.member.name} {name}", pack, checks, schedule)

    def _checks(self) -> Mapping[str, Sequence[Pack]]:
        return {
            domain: [self._check(domain, index) for index in range(CHECKED)]
            for domain in self.member.home or tuple(DOMAINS)
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
            diet = self.member.diet
            return self._scene_pack(key, rng.choices(tuple(diet), tuple(diet.values()))[0], rng, ASKS, LEARNT_LATE)

        return pack

    def _scene_pack(
        self, key: str, domain: str, rng: Random, asks: int, favour: Mapping[str, float] | None = None
    ) -> Pack:
        scene = world.scene(key, domain)
        samples = world.samples_of(key, scene, rng, asks, TRAINING_CHOICES, favour)
        said = [turns.right_reply(one, turns.confidence(self.member, one)) for one in samples]
        prompted = map(self.writer.draft_messages, samples)
        return self.writer.pack(list(zip(prompted, said, strict=True)), scene.pictures)

    def _about(self, about: Sequence[Guided], *, aside: bool) -> Pack:
        """One kind of conversation about all of these, which share their pictures."""
        return self.writer.pack([self._conversation(one, aside=aside) for one in about], about[0].sample.pictures)

    def _conversation(self, guided: Guided, *, aside: bool) -> tuple[Sequence[Message], str]:
        """What the member is told and what it should say."""
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
