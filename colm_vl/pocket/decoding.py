"""Greedy decoding of many prompts at once, for the drafts and the guidance that training is made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedTokenizerFast

from colm_vl.pocket import packing
from colm_vl.pocket.learning import Runner
from colm_vl.pocket.packing import Batch, Pack

LONGEST = 80
"""Tokens of a reply; the world's longest is about 45."""


def replies(runner: Runner, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Pack], batch: int = 96) -> list[str]:
    """The model's greedy reply to each prompt, in order. A prompt is a pack of one turn in which nothing is learnt."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].prefix) + len(prompts[index].turns[0].ids))
    written = [""] * len(prompts)
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        tokens = _decode(runner, [prompts[index] for index in some], int(tokenizer.eos_token_id))
        for index, text in zip(some, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
            written[index] = text
    return written


@torch.no_grad()
def _decode(runner: Runner, packs: Sequence[Pack], stop: int) -> list[list[int]]:
    model = runner.model.eval()
    batch = runner.batch(packs)
    rows = torch.arange(len(packs), device=runner.device)
    lengths = torch.tensor([len(pack.prefix) + len(pack.turns[0].ids) for pack in packs], device=runner.device)
    cache = DynamicCache(config=model.config.get_text_config())
    with runner.autocast():
        hidden = packing.forward(model, batch, cache)
        picked = model.lm_head(hidden[rows, lengths - 1]).argmax(-1)
    room = torch.arange(batch.ids.shape[1], device=runner.device) < lengths.unsqueeze(1)
    places = batch.positions[:, rows, lengths - 1]
    finished = picked == stop
    chosen = [picked]
    while len(chosen) < LONGEST and not bool(finished.all()):
        room = torch.cat((room, torch.ones_like(room[:, :1])), dim=1)
        places = places + 1
        step = Batch(
            picked.unsqueeze(1),
            places.unsqueeze(-1),
            room[:, None, None, :],
            batch.targets,
            batch.weights,
            batch.pixels[:0],
        )
        with runner.autocast():
            picked = model.lm_head(packing.forward(model, step, cache)[:, -1]).argmax(-1)
        picked = picked.masked_fill(finished, stop)
        finished = finished | (picked == stop)
        chosen.append(picked)
    return [[token for token in row if token != stop] for row in torch.stack(chosen, dim=1).tolist()]
