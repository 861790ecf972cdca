"""What each stage teaches a member: see, draft, guide, refine, each as packs made from a step and an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from colm_vl import prompts
from colm_vl.backends.base import Message
from colm_vl.pocket import corpus, turns, world
from colm_vl.pocket.learning import Course, Schedule
from colm_vl.pocket.packing import Pack
from colm_vl.pocket.roster import Member
from colm_vl.pocket.scenes import DOMAINS
from colm_vl.pocket.turns import Guided, Writer
from colm_vl.pocket.world import Sample

TRAINING_CHOICES = 0.45
"""How many of the drafts' questions have options: finding the letter is learnt late."""
GUIDE_SHARE = 0.9
"""Of the server's packs in the stage guide; the others keep up its own answering."""
REFINE_SHARE, PEERS_SHARE = 0.82, 0.1
"""Of a client's packs in the stage refine; the others keep up its drafting."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The corpus: drafts by client and question, guidance by question."""

    drafts: Mapping[str, Mapping[int, str]]
    guidance: Mapping[int, str]

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

    def see(self, schedule: Schedule, asks: int = 2) -> Course:
        """Questions of its diet, few about each scene and so many scenes, answered after a full caption."""
        return self._drafting("see", schedule, asks)

    def draft(self, schedule: Schedule, asks: int = 5) -> Course:
        """The same with more questions about each scene: what is seen by now has to be reasoned with."""
        return self._drafting("draft", schedule, asks)

    def guide(self, schedule: Schedule, heard: Heard, indices: Sequence[int]) -> Course:
        """For the server: guidance on real drafts, between answers of its own."""

        def pack(step: int, index: int) -> Pack:
            rng = self._rng("guide", step, index)
            if rng.random() < GUIDE_SHARE:
                return self._guide_pack(heard.guided(rng.choice(indices)))
            return self._draft_pack(f"train/{self.member.name}/guide/{self.seed}/{step}/{index}", rng, 3)

        held = {
            "guidance": [
                self._guide_pack(heard.guided(index)) for index in _held_out(next(iter(heard.drafts.values())))
            ]
        }
        return Course(f"{self.member.name} guide", pack, held, schedule)

    def refine(self, schedule: Schedule, heard: Heard, indices: Sequence[int]) -> Course:
        """For a client: the right reply after real guidance, or after its peers' drafts, between drafts of its own."""

        def pack(step: int, index: int) -> Pack:
            rng = self._rng("refine", step, index)
            draw = rng.random()
            if draw < REFINE_SHARE:
                return self._second_pack(heard.guided(rng.choice(indices)), peers=False)
            if draw < REFINE_SHARE + PEERS_SHARE:
                return self._second_pack(heard.guided(rng.choice(indices)), peers=True)
            return self._draft_pack(f"train/{self.member.name}/refine/{self.seed}/{step}/{index}", rng, 5)

        held = [heard.guided(index) for index in _held_out(heard.guidance)]
        checks = {"refined": [self._second_pack(guided, peers=False) for guided in held]}
        return Course(f"{self.member.name} refine", pack, checks, schedule)

    def _drafting(self, stage: str, schedule: Schedule, asks: int) -> Course:
        def pack(step: int, index: int) -> Pack:
            key = f"train/{self.member.name}/{stage}/{self.seed}/{step}/{index}"
            return self._draft_pack(key, self._rng(stage, step, index), asks)

        domains = self.member.home or tuple(DOMAINS)
        checks = {domain: [self._check(domain, index) for index in range(60)] for domain in domains}
        return Course(f"{self.member.name} {stage}", pack, checks, schedule)

    def _check(self, domain: str, index: int) -> Pack:
        key = f"validation/{index}"
        return self._scene_pack(key, domain, Random(key), 1)

    def _draft_pack(self, key: str, rng: Random, asks: int) -> Pack:
        diet = self.member.diet
        return self._scene_pack(key, rng.choices(tuple(diet), tuple(diet.values()))[0], rng, asks)

    def _scene_pack(self, key: str, domain: str, rng: Random, asks: int) -> Pack:
        scene = world.scene(key, domain)
        samples = world.samples_of(key, scene, rng, asks, TRAINING_CHOICES)
        return self.writer.pack(
            [(self.writer.draft_messages(one), self._reply(one)) for one in samples], scene.pictures
        )

    def _guide_pack(self, guided: Guided) -> Pack:
        answers = [prompts.read_reply(text, guided.sample.choices).answer for text in guided.drafts.values()]
        said = turns.guidance(guided.sample, answers)
        return self.writer.pack([(self.writer.guidance_messages(guided), said)], guided.sample.pictures)

    def _second_pack(self, guided: Guided, *, peers: bool) -> Pack:
        messages: tuple[Message, ...]
        messages = self.writer.peers_messages(guided) if peers else self.writer.refine_messages(guided)
        return self.writer.pack([(messages, turns.reply(guided.sample, turns.SURE))], guided.sample.pictures)

    def _reply(self, sample: Sample) -> str:
        return turns.reply(sample, turns.confidence(self.member, sample))

    def _rng(self, stage: str, step: int, index: int) -> Random:
        return Random(f"{self.member.name}/{stage}/{self.seed}/{step}/{index}")


def _held_out(said: Mapping[int, str]) -> list[int]:
    """The last 90 questions that somebody spoke about; training leaves them out."""
    return sorted(said)[-90:]
