"""The training stages. Each reads and writes files, so that an interrupted run can be resumed.

sight        two towers, alone             <out>/checkpoints/<member>.sight.pt
see, draft   every member, alone           <out>/checkpoints/<member>.<stage>.pt
speak        clients draft on the corpus   <out>/corpus/<client>.jsonl
guide        the server learns guidance    <out>/checkpoints/server.guide.pt
             and guides the corpus         <out>/corpus/guidance.jsonl
refine       the clients learn to refine   <out>/checkpoints/<client>.refine.pt
save         the Hugging Face folders      <out>/weights/<member>/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedTokenizerFast

from colm_vl.errors import ColmError
from colm_vl.pocket.roster import CLIENTS, SERVER, Member
from colm_vl.pocket.training import builders, corpus, decoding, learning, sight, vocabulary
from colm_vl.pocket.training.builders import PocketModel
from colm_vl.pocket.training.data import CorpusReplies, TrainingData
from colm_vl.pocket.training.learning import Course, Runner, Schedule
from colm_vl.pocket.training.packing import Pack
from colm_vl.pocket.training.turns import LINES, Writer

logger = logging.getLogger(__name__)

Stage = Literal["sight", "see", "draft", "speak", "guide", "refine", "save"]
STAGES: tuple[Stage, ...] = ("sight", "see", "draft", "speak", "guide", "refine", "save")
STARTS_FROM: Mapping[str, str] = {"charts": "shapes", "server": "shapes"}
"""The members whose vision tower other members start from."""
SMALLEST = 60
"""The minimum number of questions in a corpus: all domains, and some to hold out."""
SIGHTS: Mapping[str, Mapping[str, float]] = {
    "shapes": {"shapes": 3.0, "counting": 2.0, "pairs": 1.0, "charts": 0.7, "digits": 0.7},
    "digits": {"digits": 1.0},
}
"""The weights of domains in the stage sight, for members that do not start from another tower."""


class NotReady(ColmError):
    """A stage needs the result of an earlier stage that is missing or incomplete. The message names it."""

    kind = "not_ready"


@dataclass(frozen=True, slots=True)
class Plan:
    """The schedule of each stage by member, and the numbers of questions for the stages guide and refine."""

    sight: Mapping[str, Schedule]
    see: Mapping[str, Schedule]
    draft: Mapping[str, Schedule]
    guide_or_refine: Mapping[str, Schedule]
    guide_questions: int = 8000
    refine_questions: int = 5000

    def scaled(self, factor: float) -> Plan:
        """Multiply all lengths by `factor`, for a smoke test or a longer run."""

        def steps(schedules: Mapping[str, Schedule]) -> Mapping[str, Schedule]:
            return {
                name: replace(schedule, steps=max(2, round(schedule.steps * factor)))
                for name, schedule in schedules.items()
            }

        return Plan(
            steps(self.sight),
            steps(self.see),
            steps(self.draft),
            steps(self.guide_or_refine),
            max(SMALLEST, round(self.guide_questions * factor)),
            max(SMALLEST, round(self.refine_questions * factor)),
        )


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A training run: its folder, device and plan."""

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

    def run_stage(self, stage: Stage, member: Member) -> None:
        """Run one stage for one member, if it takes part in it. Finished work is not repeated."""
        steps: Mapping[Stage, Callable[[Member], None]] = {
            "sight": self.sight,
            "see": self.see,
            "draft": self.draft,
            "speak": self.speak,
            "guide": self.guide,
            "refine": self.refine,
            "save": self.save,
        }
        if stage not in steps:
            raise ValueError(f"stage {stage!r} is unknown: expected one of {', '.join(steps)}")
        if concerns(stage, member):
            steps[stage](member)

    def sight(self, member: Member) -> None:
        """Pre-train the vision tower. Towers of other members start from one of these."""
        torch.manual_seed(self.seed)
        runner = self._runner(builders.empty_model(member, self.tokenizer))
        schedule = self.plan.sight[member.name]
        sight.train(runner, SIGHTS[member.name], schedule, self._checkpoint(member.name, "sight"), member.name)

    def see(self, member: Member) -> None:
        torch.manual_seed(self.seed)
        model = builders.empty_model(member, self.tokenizer)
        copy_weights(model, self._state(STARTS_FROM.get(member.name, member.name), "sight"))
        self._train(member, "see", model, self._data(member).see(self.plan.see[member.name]))

    def draft(self, member: Member) -> None:
        course = self._data(member).draft(self.plan.draft[member.name])
        self._train(member, "draft", self._load(member, "see"), course)

    def speak(self, member: Member) -> None:
        """A client writes drafts for the corpus."""
        writer = Writer(member, self.tokenizer)

        def prompt(index: int) -> Pack:
            sample = corpus.sample(index)
            return writer.pack([(writer.draft_messages(sample), "")], sample.pictures)

        self._speak(member, "draft", self._corpus(member.name), range(self._total()), prompt)

    def guide(self, member: Member) -> None:
        """The server learns guidance from the clients' drafts, then writes guidance for the other questions."""
        replies = self._corpus_replies(guided=False)
        course = self._data(member).guide_or_refine(
            self.plan.guide_or_refine[member.name], replies, range(self.plan.guide_questions)
        )
        self._train(member, "guide", self._load(member, "draft"), course)
        writer = Writer(member, self.tokenizer)

        def prompt(index: int) -> Pack:
            guided = replies.guided(index)
            return writer.pack([(writer.guidance_messages(guided), "")], guided.sample.pictures)

        self._speak(member, "guide", self._corpus("guidance"), self._guided(), prompt)

    def refine(self, member: Member) -> None:
        course = self._data(member).guide_or_refine(
            self.plan.guide_or_refine[member.name], self._corpus_replies(guided=True), self._guided()
        )
        self._train(member, "refine", self._load(member, "draft"), course)

    def save(self, member: Member) -> None:
        stage = "guide" if member is SERVER else "refine"
        folder = self.out / "weights"
        builders.save(self._load(member, stage), member, self.tokenizer, folder / member.name)
        (folder / "prompts.sha256").write_text(LINES.profile.fingerprint + "\n", encoding="utf-8")

    def _total(self) -> int:
        return self.plan.guide_questions + self.plan.refine_questions

    def _guided(self) -> range:
        """The questions for which the server writes guidance: not those of its training, where it would be too good."""
        return range(self.plan.guide_questions, self._total())

    def _train(self, member: Member, stage: Stage, model: PocketModel, course: Course) -> None:
        learning.train(self._runner(model), course, self._checkpoint(member.name, stage))

    def _speak(self, member: Member, stage: Stage, path: Path, indices: range, prompt: Callable[[int], Pack]) -> None:
        if path.exists():
            return
        runner = self._runner(self._load(member, stage))
        said: dict[int, str] = {}
        for start in range(0, len(indices), 960):
            some = indices[start : start + 960]
            written = decoding.replies(runner, self.tokenizer, [prompt(index) for index in some])
            said.update(zip(some, written, strict=True))
            logger.info("%s: %d of %d replies", path.stem, len(said), len(indices))
        corpus.write(path, said)

    def _corpus_replies(self, *, guided: bool) -> CorpusReplies:
        """The clients' drafts and, if `guided`, the server's guidance."""
        drafts = {client.name: self._said(client.name, "speak") for client in CLIENTS}
        return CorpusReplies(drafts, self._said("guidance", "guide") if guided else {})

    def _said(self, name: str, stage: Stage) -> dict[int, str]:
        path = self._corpus(name)
        if not path.exists():
            raise NotReady(f"there is no corpus {path.name}: run {stage} first")
        return corpus.read(path)

    def _corpus(self, name: str) -> Path:
        return self.out / "corpus" / f"{name}.jsonl"

    def _data(self, member: Member) -> TrainingData:
        return TrainingData(member, Writer(member, self.tokenizer), self.seed)

    def _runner(self, model: PocketModel) -> Runner:
        return Runner(model.to(self.device), self.device, int(self.tokenizer.pad_token_id))

    def _checkpoint(self, name: str, stage: str) -> Path:
        return self.out / "checkpoints" / f"{name}.{stage}.pt"

    def _state(self, name: str, stage: str) -> dict[str, torch.Tensor]:
        """The weights after a stage. Raises `NotReady` if the stage is not finished."""
        path = self._checkpoint(name, stage)
        if not path.exists():
            raise NotReady(f"{name} has no checkpoint of the stage {stage}: run {stage} first")
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state["step"] < state["steps"]:
            raise NotReady(f"{name} stopped at step {state['step']} of {state['steps']} of {stage}: run {stage} again")
        weights: dict[str, torch.Tensor] = state["model"]
        return weights

    def _load(self, member: Member, stage: str) -> PocketModel:
        model = builders.empty_model(member, self.tokenizer)
        model.load_state_dict(self._state(member.name, stage))
        return model


def concerns(stage: Stage, member: Member) -> bool:
    """Whether a member takes part in a stage."""
    if stage == "sight":
        return member.name in SIGHTS
    if stage == "guide":
        return member is SERVER
    return member is not SERVER or stage not in ("speak", "refine")


def copy_weights(model: PocketModel, donor: Mapping[str, torch.Tensor]) -> None:
    """Copy the weights of a donor of the same width. Additional layers come last and start as the identity."""
    model.load_state_dict(dict(donor), strict=False)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name not in donor and name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
