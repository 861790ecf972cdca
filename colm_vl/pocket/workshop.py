"""The stages of training the team, each from files to files, so that a killed run goes on where it was.

see, draft   every member, alone           <out>/checkpoints/<member>.<stage>.pt
guide        clients draft on the corpus   <out>/corpus/<client>.jsonl
             the server learns guidance    <out>/checkpoints/server.guide.pt
refine       the server guides the corpus  <out>/corpus/guidance.jsonl
             the clients learn to refine   <out>/checkpoints/<client>.refine.pt
save         the Hugging Face folders      <out>/weights/<member>/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedTokenizerFast

from colm_vl import prompts
from colm_vl.pocket import builders, corpus, decoding, learning, sight, vocabulary
from colm_vl.pocket.builders import PocketModel
from colm_vl.pocket.learning import Runner, Schedule
from colm_vl.pocket.lessons import Heard, Lessons
from colm_vl.pocket.packing import Pack
from colm_vl.pocket.roster import CLIENTS, MEMBERS, SERVER, Member
from colm_vl.pocket.turns import Writer

logger = logging.getLogger(__name__)

Stage = Literal["see", "draft", "guide", "refine", "save"]
STAGES: tuple[Stage, ...] = ("see", "draft", "guide", "refine", "save")
STARTS_FROM: Mapping[str, str] = {"charts": "shapes", "server": "shapes"}
"""Whose weights, as they are after the stage see, a member starts from: learning to see at all is what takes
longest."""


SIGHTS: Mapping[str, Mapping[str, float]] = {
    "shapes": {"shapes": 1.2, "counting": 1.2, "pairs": 0.6, "charts": 1.0, "digits": 1.0},
    "digits": {"digits": 1.0},
}
"""What the towers that do not start from another member's are shown; that of `shapes` serves three members."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each stage is, by member, and how large the corpus."""

    sight: Mapping[str, Schedule]
    see: Mapping[str, Schedule]
    draft: Mapping[str, Schedule]
    guide: Schedule
    refine: Mapping[str, Schedule]
    guide_questions: int = 3000
    refine_questions: int = 3000

    def scaled(self, factor: float) -> Plan:
        """All lengths times `factor`: for a smoke test or a longer run."""

        def steps(schedule: Schedule) -> Schedule:
            return replace(schedule, steps=max(2, round(schedule.steps * factor)))

        return Plan(
            {name: steps(schedule) for name, schedule in self.sight.items()},
            {name: steps(schedule) for name, schedule in self.see.items()},
            {name: steps(schedule) for name, schedule in self.draft.items()},
            steps(self.guide),
            {name: steps(schedule) for name, schedule in self.refine.items()},
            max(120, round(self.guide_questions * factor)),
            max(120, round(self.refine_questions * factor)),
        )


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where a training run happens and by which plan."""

    out: Path
    device: torch.device
    plan: Plan
    seed: int = 7
    tokenizer: PreTrainedTokenizerFast = field(init=False)

    def __post_init__(self) -> None:
        folder = self.out / "tokenizer"
        if not folder.exists():
            vocabulary.build().save_pretrained(folder)
        object.__setattr__(self, "tokenizer", PreTrainedTokenizerFast.from_pretrained(folder))

    def run(self, stage: Stage, names: Sequence[str]) -> None:
        """One stage for the named members, as far as the stage concerns them. What is done already is not done
        again."""
        steps: Mapping[Stage, Callable[[Member], None]] = {
            "see": self.see,
            "draft": self.draft,
            "guide": self.guide,
            "refine": self.refine,
            "save": self.save,
        }
        for name in names:
            steps[stage](MEMBERS[name])

    def see(self, member: Member) -> None:
        course = self._lessons(member).see(self.plan.see[member.name])
        torch.manual_seed(self.seed)
        model = builders.empty_model(member, self.tokenizer)
        donor = STARTS_FROM.get(member.name)
        if donor:
            grow(model, self._state(donor, "see"))
        elif not self._checkpoint(member.name, "see").exists():
            self._sight(model, member)
        learning.train(self._runner(model), course, self._checkpoint(member.name, "see"))

    def _sight(self, model: PocketModel, member: Member) -> None:
        """The tower first, from captions alone; then the whole model learns to answer."""
        kept = self._checkpoint(member.name, "sight")
        if kept.exists():
            model.load_state_dict(self._state(member.name, "sight"))
            return
        model.to(self.device)
        sight.train(model, SIGHTS[member.name], self.plan.sight[member.name], member.name)
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": model.state_dict()}, kept)

    def draft(self, member: Member) -> None:
        model = self._load(member, "see")
        course = self._lessons(member).draft(self.plan.draft[member.name])
        learning.train(self._runner(model), course, self._checkpoint(member.name, "draft"))

    def guide(self, member: Member) -> None:
        """A client drafts on the corpus; the server, which comes last, learns from what all of them said."""
        if member is not SERVER:
            self._write_drafts(member)
            return
        model = self._load(SERVER, "draft")
        course = self._lessons(SERVER).guide(self.plan.guide, self._heard(), range(self.plan.guide_questions - 90))
        learning.train(self._runner(model), course, self._checkpoint(SERVER.name, "guide"))

    def refine(self, member: Member) -> None:
        if member is SERVER:
            return
        self._write_guidance()
        first = self._total() - self.plan.refine_questions
        model = self._load(member, "draft")
        course = self._lessons(member).refine(
            self.plan.refine[member.name], self._heard(), range(first, self._total() - 90)
        )
        learning.train(self._runner(model), course, self._checkpoint(member.name, "refine"))

    def save(self, member: Member) -> None:
        stage = "guide" if member is SERVER else "refine"
        folder = self.out / "weights"
        builders.save(self._load(member, stage), member, self.tokenizer, folder / member.name)
        (folder / "prompts.sha256").write_text(prompts.fingerprint() + "\n", encoding="utf-8")

    def _total(self) -> int:
        """Questions of the corpus: the last third of what guided the server's training also serves the clients'."""
        return max(self.plan.refine_questions, self.plan.guide_questions * 2 // 3 + self.plan.refine_questions * 2 // 3)

    def _write_drafts(self, member: Member) -> None:
        path = self.out / "corpus" / f"{member.name}.jsonl"
        if path.exists():
            return
        writer = Writer(member, self.tokenizer)
        runner = self._runner(self._load(member, "draft"))

        def prompt(index: int) -> Pack:
            sample = corpus.sample(index)
            return writer.pack([(writer.draft_messages(sample), "")], sample.pictures)

        self._speak(runner, path, range(self._total()), prompt)

    def _write_guidance(self) -> None:
        path = self.out / "corpus" / "guidance.jsonl"
        if path.exists():
            return
        writer = Writer(SERVER, self.tokenizer)
        runner = self._runner(self._load(SERVER, "guide"))
        heard = self._heard()

        def prompt(index: int) -> Pack:
            guided = heard.guided(index)
            return writer.pack([(writer.guidance_messages(guided), "")], guided.sample.pictures)

        first = self._total() - self.plan.refine_questions
        self._speak(runner, path, range(first, self._total()), prompt)

    def _speak(self, runner: Runner, path: Path, indices: range, prompt: Callable[[int], Pack]) -> None:
        said: dict[int, str] = {}
        for start in range(0, len(indices), 960):
            some = indices[start : start + 960]
            written = decoding.replies(runner, self.tokenizer, [prompt(index) for index in some])
            said.update(zip(some, written, strict=True))
            logger.info("%s: %d of %d replies", path.stem, len(said), len(indices))
        corpus.write(path, said)

    def _heard(self) -> Heard:
        folder = self.out / "corpus"
        guidance = folder / "guidance.jsonl"
        drafts = {client.name: corpus.read(folder / f"{client.name}.jsonl") for client in CLIENTS}
        return Heard(drafts, corpus.read(guidance) if guidance.exists() else {})

    def _lessons(self, member: Member) -> Lessons:
        return Lessons(member, Writer(member, self.tokenizer), self.seed)

    def _runner(self, model: PocketModel) -> Runner:
        return Runner(model.to(self.device), self.device, int(self.tokenizer.pad_token_id))

    def _checkpoint(self, name: str, stage: str) -> Path:
        return self.out / "checkpoints" / f"{name}.{stage}.pt"

    def _state(self, name: str, stage: str) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = torch.load(
            self._checkpoint(name, stage), weights_only=True, map_location="cpu"
        )["model"]
        return state

    def _load(self, member: Member, stage: str) -> PocketModel:
        model = builders.empty_model(member, self.tokenizer)
        model.load_state_dict(self._state(member.name, stage))
        return model


def grow(model: PocketModel, donor: Mapping[str, torch.Tensor]) -> None:
    """Take over a donor of the same widths; layers that the donor lacks come last and begin as the identity."""
    model.load_state_dict(dict(donor), strict=False)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name not in donor and name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
