"""The training loop. It saves checkpoints, and resumes from them after an interruption."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from colm_vl.pocket.training import packing
from colm_vl.pocket.training.builders import PocketModel
from colm_vl.pocket.training.packing import Batch, Pack

logger = logging.getLogger(__name__)

REPORT_EVERY = 25
SAVE_SECONDS = 60.0
SPREAD = 1.2
"""Maximum ratio of the longest to the shortest turn in a group: smaller values mean less padding but more calls."""


class Stateful(Protocol):
    """Part of a checkpoint: a model or an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length and learning rate, which rises over `warmup` steps to `rate`, then falls as a cosine to `rate * floor`."""

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
    """The data of a training stage: `pack(step, index)` makes the packs of a step, `checks` are held-out packs by
    domain."""

    name: str
    pack: Callable[[int, int], Pack]
    checks: Mapping[str, Sequence[Pack]]
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Runner:
    """A model on its device. `bfloat16`: compute in bfloat16 if the device supports it."""

    model: PocketModel
    device: torch.device
    pad: int
    bfloat16: bool = True

    def batch(self, packs: Sequence[Pack], spread: float | None = None) -> Batch:
        grid = self.model.config.model_type == "qwen2_5_vl"
        return packing.collate(packs, packing.picture_token(self.model), grid, self.pad, spread).to(self.device)

    def autocast(self) -> torch.autocast:
        """bfloat16 on GPUs and on CPUs with native support; other CPUs are faster in float32."""
        able = self.device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=able and self.bfloat16)


def train(runner: Runner, course: Course, checkpoint: Path) -> None:
    """Train the model in place, starting from `checkpoint` if it exists."""
    model, schedule = runner.model, course.schedule
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.rate, betas=(0.9, 0.98), weight_decay=0.01)
    parts = {"model": model, "optimizer": optimizer}
    first = resume(parts, checkpoint)
    if first:
        logger.info("%s: resuming at step %d of %d", course.name, first, schedule.steps)
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
            save(parts, done, schedule.steps, checkpoint)
            saved = time.monotonic()


@torch.no_grad()
def exact_share(runner: Runner, packs: Sequence[Pack]) -> float:
    """The share of replies that greedy decoding would reproduce exactly, computed with teacher forcing."""
    if not packs:
        return 0.0
    runner.model.eval()
    right = total = 0
    for start in range(0, len(packs), 64):
        some = packs[start : start + 64]
        batch = runner.batch(some)
        (group,) = batch.groups
        with runner.autocast():
            cache = packing.of_owners(packing.read_prefixes(runner.model, batch.prefixes), group.owners)
            picked = runner.model.lm_head(packing.read_turns(runner.model, group, cache)[:, :-1]).argmax(-1)
        wanted = group.targets[:, 1:]
        wrong = ((picked != wanted) & (wanted != -100)).any(1)
        right += int((~wrong).sum())
        total += len(wrong)
    return right / total


def _step(runner: Runner, optimizer: torch.optim.Optimizer, packs: Sequence[Pack]) -> float:
    optimizer.zero_grad(set_to_none=True)
    with runner.autocast():
        loss = packing.loss(runner.model, runner.batch(packs, SPREAD))
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(runner.model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def resume(parts: Mapping[str, Stateful], checkpoint: Path) -> int:
    """Load each part from `checkpoint`. Returns the number of finished steps, or 0 if there is no checkpoint."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


def save(parts: Mapping[str, Stateful], step: int, steps: int, checkpoint: Path) -> None:
    """Save a checkpoint after `step` of `steps`, atomically: an interruption leaves the previous one intact."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    beside = checkpoint.with_suffix(".part")
    torch.save({**{name: part.state_dict() for name, part in parts.items()}, "step": step, "steps": steps}, beside)
    beside.replace(checkpoint)
