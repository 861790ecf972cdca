"""Pre-training of the vision towers, before the text models.

Simple heads on the visual tokens predict the facts of a caption: the object in each cell, counts of each kind, heights
of bars, positions of digits. This direct supervision is learnt in minutes, while the loss of replies would take hours.
The heads are discarded.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from colm_vl.pocket import world
from colm_vl.pocket.drawing import COLOURS, SHAPES, SIDE
from colm_vl.pocket.scenes import CELLS
from colm_vl.pocket.training import learning, packing
from colm_vl.pocket.training.builders import MERGE, PATCH, PocketModel
from colm_vl.pocket.training.learning import Runner, Schedule

logger = logging.getLogger(__name__)

REPORT_EVERY = 100

KINDS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
_PLACED = re.compile(rf"({'|'.join(sorted(CELLS, key=len, reverse=True))}) ({'|'.join(KINDS)})")
EMPTY_CELL = 0.1
"""The weight of an empty cell in the loss, compared with one that holds an object."""
CELLS_A_SIDE = SIDE // (PATCH * MERGE)
"""The number of visual tokens in a row of a picture, for a tower that learns counting."""
_BAR = re.compile(r"(\w+) (\d)")


@dataclass(frozen=True, slots=True)
class Example:
    """A picture with the facts of its caption as numbers. `task` names the head that predicts them."""

    task: str
    picture: Image.Image
    labels: tuple[int, ...]


class Heads(nn.Module):
    """A head for each task, on visual tokens of width `width`.

    Like a text model, a head finds its slots (cells, colours, corners) by attention to the content of tokens, not to
    their positions in the sequence. The tower thus learns to encode the position in the picture in each token. Since
    Qwen's tower has relative positions only, each token is also asked which of the `tokens` it is: without this,
    positions are learnt late or not at all.
    """

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.kinds = nn.Linear(width, len(KINDS))
        self.places = nn.Linear(width, tokens)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.slots = nn.ParameterDict(
            {
                "shapes": nn.Parameter(torch.randn(len(CELLS), width)),
                "charts": nn.Parameter(torch.randn(len(COLOURS), width)),
                "digits": nn.Parameter(torch.randn(4, width)),
            }
        )
        self.classes = nn.ModuleDict(
            {"shapes": nn.Linear(width, len(KINDS) + 1), "charts": nn.Linear(width, 10), "digits": nn.Linear(width, 10)}
        )

    def loss(self, task: str, tokens: Tensor, labels: Tensor) -> Tensor:
        """`tokens` (P, T, width), `labels` (P, n) of one task.

        For counting, the target is given for each token, according to the objects' centres. With only the totals of
        pictures, counting takes ten times as long to learn.
        """
        if task == "counting":
            expected = functional.softplus(self.kinds(tokens))
            wanted = labels.float().reshape(*tokens.shape[:2], len(KINDS))
            per_token = functional.poisson_nll_loss(expected, wanted, log_input=False, reduction="sum")
            in_all = functional.poisson_nll_loss(expected.sum(1), wanted.sum(1), log_input=False, reduction="sum")
            return (per_token + in_all) / (2 * len(tokens))
        logits = self._logits(task, tokens).flatten(0, 1)
        weights = torch.ones(logits.shape[-1], device=logits.device)
        if task == "shapes":
            weights[0] = EMPTY_CELL  # three cells in four are empty: a head that says so everywhere learns nothing more
        return functional.cross_entropy(logits, labels.flatten(), weight=weights)

    def loss_of_places(self, tokens: Tensor) -> Tensor:
        """The loss of predicting the place of each token in its picture."""
        logits = self.places(functional.layer_norm(tokens, tokens.shape[-1:]))
        wanted = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[:2])
        return functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())

    def right(self, task: str, tokens: Tensor, labels: Tensor) -> float:
        """Share of numbers predicted exactly."""
        if task == "counting":
            guessed = functional.softplus(self.kinds(tokens)).sum(1).round().long()
            labels = labels.reshape(*tokens.shape[:2], len(KINDS)).sum(1)
        else:
            guessed = self._logits(task, tokens).argmax(-1)
        there = labels > 0 if task in ("counting", "shapes", "charts") else torch.ones_like(labels, dtype=torch.bool)
        return float((guessed == labels)[there].float().mean())

    def _logits(self, task: str, tokens: Tensor) -> Tensor:
        """(P, n, classes)."""
        tokens = functional.layer_norm(tokens, tokens.shape[-1:])
        queries = self.slots[task].expand(len(tokens), -1, -1)
        read, _ = self.attention(queries, tokens, tokens, need_weights=False)
        logits: Tensor = self.classes[task](read)
        return logits


def example(domain: str, key: str) -> Example:
    """A training picture of the domain with its caption as numbers; one of the two for pairs."""
    scene = world.scene(key, domain)
    caption = scene.caption
    if domain == "shapes":
        placed = dict(_PLACED.findall(caption))
        return Example(
            "shapes", scene.pictures[0], tuple(KINDS.index(placed[c]) + 1 if c in placed else 0 for c in CELLS)
        )
    if domain == "charts":
        bars = dict(_BAR.findall(caption))
        return Example("charts", scene.pictures[0], tuple(int(bars.get(colour, 0)) for colour in COLOURS))
    if domain == "digits":
        return Example("digits", scene.pictures[0], tuple(int(digit) for digit in re.findall(r"\d", caption)))
    which = Random(key).randrange(len(scene.pictures))
    counts = [0] * (CELLS_A_SIDE**2 * len(KINDS))
    for spot in scene.spots:
        if spot.picture == which:
            cell = int(spot.y * CELLS_A_SIDE // SIDE) * CELLS_A_SIDE + int(spot.x * CELLS_A_SIDE // SIDE)
            counts[cell * len(KINDS) + KINDS.index(spot.kind)] += 1
    return Example("counting", scene.pictures[which], tuple(counts))


def train(runner: Runner, domain_weights: Mapping[str, float], schedule: Schedule, checkpoint: Path, name: str) -> None:
    """Train the model's tower and projector in place, starting from `checkpoint` if it exists."""
    model = runner.model
    blank = packing.to_pixels([Image.new("RGB", (SIDE, SIDE))]).to(runner.device)
    with torch.no_grad():
        width, tokens = model.config.get_text_config().hidden_size, len(packing.see(model, blank))
    heads = Heads(width, tokens).to(runner.device)
    tower = [
        weight
        for part, weight in model.named_parameters()
        if ".visual." in part or "vision_tower" in part or "projector" in part
    ]
    optimizer = torch.optim.AdamW([*tower, *heads.parameters()], lr=schedule.rate, betas=(0.9, 0.98), weight_decay=0.01)
    parts = {"model": model, "heads": heads, "optimizer": optimizer}
    first = learning.resume(parts, checkpoint)
    begun = saved = time.monotonic()
    for step in range(first, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(step)
        rng = Random(f"{name}/{step}")
        drawn = rng.choices(tuple(domain_weights), tuple(domain_weights.values()), k=schedule.batch)
        examples = [example(domain, f"train/sight/{name}/{step}/{index}") for index, domain in enumerate(drawn)]
        done = step + 1
        with runner.autocast():
            losses, scores = _losses(model, heads, examples, score=done % REPORT_EVERY == 0)
        optimizer.zero_grad(set_to_none=True)
        losses.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([*tower, *heads.parameters()], 1.0)
        optimizer.step()
        if scores:
            pace = (done - first) / (time.monotonic() - begun)
            told = ", ".join(f"{task} {score:.0%}" for task, score in sorted(scores.items()))
            logger.info(
                "%s sight: step %d of %d, right %s, %.2f steps a second", name, done, schedule.steps, told, pace
            )
        if time.monotonic() - saved > learning.SAVE_SECONDS or done == schedule.steps:
            learning.save(parts, done, schedule.steps, checkpoint)
            saved = time.monotonic()


def _losses(
    model: PocketModel, heads: Heads, examples: Sequence[Example], *, score: bool
) -> tuple[Tensor, dict[str, float]]:
    """The mean loss over the examples and, if `score`, the share of right predictions by task."""
    ordered = sorted(examples, key=lambda one: one.task)
    tokens = packing.see(model, packing.to_pixels([one.picture for one in ordered]).to(model.device))
    tokens = tokens.float().reshape(len(ordered), -1, tokens.shape[-1])
    total = heads.loss_of_places(tokens)
    scores = {"places": math.exp(-float(total.detach()))} if score else {}
    for task in {one.task for one in ordered}:
        rows = [row for row, one in enumerate(ordered) if one.task == task]
        labels = torch.tensor([ordered[row].labels for row in rows], device=tokens.device)
        total = total + heads.loss(task, tokens[rows], labels) * len(rows) / len(ordered)
        if score:
            scores[task] = heads.right(task, tokens[rows], labels)
    return total, scores
