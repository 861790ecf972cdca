"""Greedy decoding in batches, for the drafts and the guidance used in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedTokenizerFast

from colm_vl.pocket.training import packing
from colm_vl.pocket.training.learning import Runner
from colm_vl.pocket.training.packing import Pack

LONGEST = 80
"""Maximum number of tokens in a reply; the longest have about 45."""


def replies(runner: Runner, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Pack], batch: int = 96) -> list[str]:
    """The model's greedy reply to each prompt, in order. A prompt is a pack of one turn without tokens to learn."""
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
    (group,) = batch.groups
    rows = torch.arange(len(packs), device=runner.device)
    last = torch.tensor([len(pack.turns[0].ids) for pack in packs], device=runner.device) - 1
    with runner.autocast():
        cache = packing.of_owners(packing.read_prefixes(model, batch.prefixes), group.owners)
        picked = model.lm_head(packing.read_turns(model, group, cache)[rows, last]).argmax(-1)
    room = group.mask[rows, 0, last]
    places = group.positions[:, rows, last]
    finished = picked == stop
    chosen = [picked]
    while len(chosen) < LONGEST and not bool(finished.all()):
        room = torch.cat((room, torch.ones_like(room[:, :1])), dim=1)
        places = places + 1
        step = replace(group, ids=picked.unsqueeze(1), positions=places.unsqueeze(-1), mask=room[:, None, None, :])
        with runner.autocast():
            picked = model.lm_head(packing.read_turns(model, step, cache)[:, -1]).argmax(-1)
        picked = picked.masked_fill(finished, stop)
        finished = finished | (picked == stop)
        chosen.append(picked)
    return [[token for token in row if token != stop] for row in torch.stack(chosen, dim=1).tolist()]
