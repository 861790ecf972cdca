"""The training loop: packs in, a checkpoint out; goes on where it was killed."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from colm_vl.pocket import packing
from colm_vl.pocket.builders import PocketModel
from colm_vl.pocket.packing import Batch, Pack

logger = logging.getLogger(__name__)

REPORT_EVERY = 25
SAVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast. The rate rises over `warmup` steps to `rate`, then falls as a cosine to `rate * floor`."""

    steps: int
    rate: float = 1e-3
    floor: float = 0.05
    warmup: int = 100
    batch: int = 32
    check_every: int = 250

    def rate_at(self, step: int) -> float:
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@dataclass(frozen=True, slots=True)
class Course:
    """What is learnt: `pack(step, index)` makes the packs of a step, `checks` are held-out packs by domain."""

    name: str
    pack: Callable[[int, int], Pack]
    checks: Mapping[str, Sequence[Pack]]
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Runner:
    """A model on its device. `grid`: whether visual tokens have rows and columns as positions."""

    model: PocketModel
    device: torch.device
    pad: int

    def batch(self, packs: Sequence[Pack]) -> Batch:
        grid = self.model.config.model_type == "qwen2_5_vl"
        return packing.collate(packs, packing.picture_token(self.model), grid, self.pad).to(self.device)

    def autocast(self) -> torch.autocast:
        """bfloat16 on a GPU; a CPU without the instructions for it is faster in float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda")


def train(runner: Runner, course: Course, checkpoint: Path) -> None:
    """Run the course, or what is left of it according to `checkpoint`. The model is trained in place."""
    model, schedule = runner.model, course.schedule
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.rate, betas=(0.9, 0.98), weight_decay=0.01)
    first = _resume(model, optimizer, checkpoint)
    if first:
        logger.info("%s: goes on at step %d of %d", course.name, first, schedule.steps)
    model.train()
    begun = saved = time.monotonic()
    recent: list[float] = []
    for step in range(first, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(step)
        recent.append(_step(runner, optimizer, [course.pack(step, index) for index in range(schedule.batch)]))
        done = step + 1
        if done % REPORT_EVERY == 0:
            pace = (done - first) / (time.monotonic() - begun)
            left = (schedule.steps - done) / pace / 60
            logger.info(
                "%s: step %d of %d, loss %.3f, %.2f steps a second, %.0f minutes left",
                course.name, done, schedule.steps, sum(recent) / len(recent), pace, left,
            )  # fmt: skip
            recent.clear()
        if done % schedule.check_every == 0 or done == schedule.steps:
            scores = {name: exact_share(runner, packs) for name, packs in course.checks.items()}
            logger.info("%s: exact replies %s", course.name, ", ".join(f"{n} {s:.0%}" for n, s in scores.items()))
            model.train()
        if time.monotonic() - saved > SAVE_SECONDS or done == schedule.steps:
            _save(model, optimizer, done, checkpoint)
            saved = time.monotonic()


@torch.no_grad()
def exact_share(runner: Runner, packs: Sequence[Pack]) -> float:
    """Share of replies that greedy decoding would write word for word: each token is the likeliest after the right
    ones."""
    if not packs:
        return 0.0
    runner.model.eval()
    right = total = 0
    for start in range(0, len(packs), 64):
        some = packs[start : start + 64]
        batch = runner.batch(some)
        with runner.autocast():
            hidden = packing.forward(runner.model, batch)
            wrong = _wrong_tokens(runner.model, hidden, batch.targets)
        for row, pack in enumerate(some):
            at = len(pack.prefix)
            for turn in pack.turns:
                right += not bool(wrong[row, at : at + len(turn.ids)].any())
                total += 1
                at += len(turn.ids)
    return right / total


def _wrong_tokens(model: PocketModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """(B, L): true where a token to be learnt is not the likeliest."""
    wrong = torch.zeros_like(targets, dtype=torch.bool)
    wanted = targets[:, 1:]
    learnt = wanted != -100
    picked = model.lm_head(hidden[:, :-1][learnt]).argmax(-1)
    wrong[:, 1:][learnt] = picked != wanted[learnt]
    return wrong


def _step(runner: Runner, optimizer: torch.optim.Optimizer, packs: Sequence[Pack]) -> float:
    """One update from two halves of the packs, the short ones and the long ones, so that little is padding."""
    ordered = sorted(packs, key=lambda pack: len(pack.prefix) + sum(len(turn.ids) for turn in pack.turns))
    half = (len(ordered) + 1) // 2
    total = 0.0
    optimizer.zero_grad(set_to_none=True)
    for part in (ordered[:half], ordered[half:]):
        if part:
            with runner.autocast():
                loss = packing.loss(runner.model, runner.batch(part)) * (len(part) / len(packs))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(runner.model.parameters(), 1.0)
    optimizer.step()
    return total


def _resume(model: PocketModel, optimizer: torch.optim.Optimizer, checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location=model.device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(model: PocketModel, optimizer: torch.optim.Optimizer, step: int, checkpoint: Path) -> None:
    """Written beside and moved into place, so that a kill leaves the old one whole."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    beside = checkpoint.with_suffix(".part")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, beside)
    beside.replace(checkpoint)
