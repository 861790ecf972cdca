"""Trains on several turns about the same pictures in one step.

A pack is a shared prefix (system message, pictures) and turns (question, reply, and possibly more). The prefix is
computed once. Then each turn is a separate row that attends to the prefix's keys and values and to itself, at the same
positions as at inference. The result for every turn is exactly that of the prefix followed by this turn alone, but the
pictures are computed once instead of once per turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import (
    AttentionInterface,
    DynamicCache,
    LlavaForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
)

from colm_vl.pocket.drawing import SIDE
from colm_vl.pocket.training.builders import DEVIATION, MEAN, MERGE, PATCH, PocketModel

GRID = SIDE // PATCH

Part = TypeVar("Part", "Prefixes", "Turns")


@dataclass(frozen=True, slots=True)
class Turn:
    """Token ids of one turn. `learn` is the weight of each token in the loss, 0 for those of the question."""

    ids: tuple[int, ...]
    learn: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """`prefix` contains one image token for every visual token of each picture, in order."""

    prefix: tuple[int, ...]
    turns: tuple[Turn, ...]
    pictures: tuple[Image.Image, ...]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The shared prefixes: ids (B, P), positions (3, B, P), mask (B, 1, P, P), pixels (pictures, 3, 84, 84) in the
    order of their tokens."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    pixels: Tensor


@dataclass(frozen=True, slots=True)
class Turns:
    """Turns of similar length: `owners` (N,) are the rows of their prefixes; ids (N, T), positions (3, N, T), mask (N,
    1, T, P + T); targets (N, T) are -100 and weights (N, T) 0 for tokens that are not learnt."""

    owners: Tensor
    ids: Tensor
    positions: Tensor
    mask: Tensor
    targets: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """The prefixes and turns of a batch. Turns are grouped by length to reduce padding."""

    prefixes: Prefixes
    groups: tuple[Turns, ...]

    def to(self, device: torch.device) -> Batch:
        return Batch(_to(self.prefixes, device), tuple(_to(group, device) for group in self.groups))


def picture_token(model: PocketModel) -> int:
    """The id of the placeholder for visual tokens."""
    name = "image_token_id" if isinstance(model, Qwen2_5_VLForConditionalGeneration) else "image_token_index"
    return int(getattr(model.config, name))


def collate(packs: Sequence[Pack], image_token: int, grid: bool, pad: int, spread: float | None = None) -> Batch:
    """Pad prefixes and turns. With `spread`, turns are sorted into groups in which the longest is at most `spread`
    times as long as the shortest; without it, all form one group in their order. `grid`: visual tokens have
    two-dimensional positions (Qwen)."""
    length = max(len(pack.prefix) for pack in packs)
    ids = torch.full((len(packs), length), pad)
    positions = torch.zeros((3, len(packs), length), dtype=torch.long)
    for row, pack in enumerate(packs):
        ids[row, : len(pack.prefix)] = torch.tensor(pack.prefix)
        positions[:, row, : len(pack.prefix)] = prefix_positions(pack.prefix, image_token, grid)
    present = torch.arange(length) < torch.tensor([[len(pack.prefix)] for pack in packs])
    following = positions.amax(dim=(0, 2)) + 1
    prefixes = Prefixes(ids, positions, _mask(present), to_pixels([one for pack in packs for one in pack.pictures]))
    turns = [(row, turn) for row, pack in enumerate(packs) for turn in pack.turns]
    return Batch(prefixes, tuple(_group(part, present, following, pad) for part in _by_length(turns, spread)))


def _by_length(turns: list[tuple[int, Turn]], spread: float | None) -> list[list[tuple[int, Turn]]]:
    if spread is None:
        return [turns]
    groups: list[list[tuple[int, Turn]]] = []
    for one in sorted(turns, key=lambda one: len(one[1].ids)):
        if not groups or len(one[1].ids) > spread * len(groups[-1][0][1].ids):
            groups.append([])
        groups[-1].append(one)
    return groups


def _group(turns: Sequence[tuple[int, Turn]], present: Tensor, following: Tensor, pad: int) -> Turns:
    length = max(len(turn.ids) for _, turn in turns)
    owners = torch.tensor([row for row, _ in turns])
    ids = torch.full((len(turns), length), pad)
    weights = torch.zeros((len(turns), length))
    for row, (_, turn) in enumerate(turns):
        ids[row, : len(turn.ids)] = torch.tensor(turn.ids)
        weights[row, : len(turn.ids)] = torch.tensor(turn.learn)
    spoken = torch.arange(length) < torch.tensor([[len(turn.ids)] for _, turn in turns])
    before = present[owners][:, None, None, :].expand(-1, -1, length, -1)
    return Turns(
        owners,
        ids,
        (following[owners].unsqueeze(1) + torch.arange(length)).expand(3, -1, -1),
        torch.cat((before, _mask(spoken)), dim=-1),
        torch.where(weights > 0, ids, -100),
        weights,
    )


def prefix_positions(prefix: Sequence[int], image_token: int, grid: bool) -> Tensor:
    """Positions (3, L) of the prefix: time, row and column for visual tokens if `grid`, otherwise three equal
    counts."""
    if not grid:
        return torch.arange(len(prefix)).expand(3, -1)
    side = GRID // MERGE
    columns: list[tuple[int, int, int]] = []
    following, index = 0, 0
    while index < len(prefix):
        if prefix[index] == image_token:
            columns += [
                (following, following + row, following + column) for row in range(side) for column in range(side)
            ]
            following += side
            index += side * side
        else:
            columns.append((following, following, following))
            following += 1
            index += 1
    return torch.tensor(columns).T


def to_pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """Normalized pixels (P, 3, 84, 84), equal to those of the image processors."""
    if not pictures:
        return torch.zeros((0, 3, SIDE, SIDE))
    raw = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).float() / 255
    mean, deviation = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(DEVIATION).view(1, 3, 1, 1)
    return (raw - mean) / deviation


def see(model: PocketModel, pixels: Tensor) -> Tensor:
    """Visual tokens (P x tokens, width) of all pictures.

    For Qwen, this computes the model's vision tower as a batch. transformers computes attention picture by picture in a
    loop, which takes most of a step's time on a CPU.
    """
    if isinstance(model, LlavaForConditionalGeneration):
        return torch.cat(list(model.model.get_image_features(pixel_values=pixels).pooler_output), dim=0)
    tower = model.model.visual
    patches = _qwen_patches(pixels)
    hidden = functional.linear(patches, tower.patch_embed.proj.weight.flatten(1))
    cos, sin = _sight_rotation(tower, pixels.device)
    for block in tower.blocks:
        hidden = hidden + _sight_attention(block.attn, block.norm1(hidden), cos, sin)
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged: Tensor = tower.merger(hidden.reshape(-1, hidden.shape[-1]))
    return merged


def read_prefixes(model: PocketModel, prefixes: Prefixes) -> DynamicCache:
    """Keys and values of the prefixes, including pictures."""
    embeddings = model.get_input_embeddings()(prefixes.ids)
    if len(prefixes.pixels):
        places = (prefixes.ids == picture_token(model)).unsqueeze(-1).expand_as(embeddings)
        embeddings = embeddings.masked_scatter(places, see(model, prefixes.pixels).to(embeddings.dtype))
    cache = DynamicCache(config=model.config.get_text_config())
    _speak(model, embeddings, prefixes.positions, prefixes.mask, cache)
    return cache


def of_owners(cache: DynamicCache, owners: Tensor) -> DynamicCache:
    """A cache with one row for each turn, copied from that of its prefix. The original is not changed."""
    rows = DynamicCache()
    for index, layer in enumerate(cache.layers):
        rows.update(layer.keys[owners], layer.values[owners], index)
    return rows


def read_turns(model: PocketModel, turns: Turns, cache: DynamicCache) -> Tensor:
    """Final hidden states (N, T, width). `cache` contains the prefix of each turn and is extended."""
    return _speak(model, model.get_input_embeddings()(turns.ids), turns.positions, turns.mask, cache)


def _speak(model: PocketModel, embeddings: Tensor, positions: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    grid = isinstance(model, Qwen2_5_VLForConditionalGeneration)
    model.model.language_model.set_attn_implementation("pocket_training")
    bias = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -1e4)
    hidden: Tensor = model.model.language_model(
        inputs_embeds=embeddings,
        attention_mask=bias,
        position_ids=positions if grid else positions[0],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return hidden


def loss(model: PocketModel, batch: Batch) -> Tensor:
    """Weighted mean cross-entropy of the tokens to learn. Logits are computed for these tokens only."""
    cache = read_prefixes(model, batch.prefixes)
    states: list[Tensor] = []
    wanted: list[Tensor] = []
    weights: list[Tensor] = []
    for turns in batch.groups:
        hidden = read_turns(model, turns, of_owners(cache, turns.owners))
        learnt = turns.targets[:, 1:] != -100
        states.append(hidden[:, :-1][learnt])
        wanted.append(turns.targets[:, 1:][learnt])
        weights.append(turns.weights[:, 1:][learnt])
    losses = functional.cross_entropy(model.lm_head(torch.cat(states)).float(), torch.cat(wanted), reduction="none")
    every = torch.cat(weights)
    return (losses * every).sum() / every.sum()


def _mask(present: Tensor) -> Tensor:
    """(B, 1, L, L) from (B, L), true where the row attends to the column: causal, and padding only to itself, so that
    no row is empty."""
    length = present.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return ((causal & present.unsqueeze(1)) | torch.eye(length, dtype=torch.bool)).unsqueeze(1)


def _to(part: Part, device: torch.device) -> Part:
    return replace(part, **{each.name: getattr(part, each.name).to(device) for each in fields(part)})


def _qwen_patches(pixels: Tensor) -> Tensor:
    """(P, 36, 1176): patches in the order of the merger's 2 x 2 groups; the picture is repeated as two frames."""
    side = GRID // MERGE
    split = pixels.reshape(-1, 3, side, MERGE, PATCH, side, MERGE, PATCH)
    ordered = split.permute(0, 2, 5, 3, 6, 1, 4, 7)
    doubled = ordered.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    return doubled.reshape(len(pixels), GRID * GRID, -1)


def _sight_rotation(tower: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    side = GRID // MERGE
    order = torch.arange(GRID * GRID).reshape(side, MERGE, side, MERGE).permute(0, 2, 1, 3).flatten()
    places = torch.stack((order // GRID, order % GRID)).T.to(device)
    cos, sin = tower.rotary_pos_emb(torch.zeros(1, device=device), places)
    return cos, sin


def _sight_attention(attention: Any, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    batch, length, width = hidden.shape
    mixed = attention.qkv(hidden).reshape(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key = (part * cos + _rotate(part) * sin for part in (mixed[0], mixed[1]))
    seen = _attend(query, key, mixed[2], query.shape[-1] ** -0.5, None)
    result: Tensor = attention.proj(seen.transpose(1, 2).reshape(batch, length, width))
    return result


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    """Attention with plain matrix products; `bias` is added to the scores. On CPUs, the backward pass of torch's fused
    kernel is several times slower for short sequences in bfloat16."""
    scores = (query * scale) @ key.transpose(-1, -2)
    if bias is not None:
        scores = scores.float().add_(bias)
    return scores.softmax(-1).to(value.dtype) @ value


def _attention_of_text(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """`_attend` with the interface of transformers. It requires a mask, which other callers leave out if it is
    causal."""
    if mask is None:
        raise ValueError("a model in training can only be called by `read_turns`; load its saved folder for other uses")
    return _attend(query, key, value, scaling, mask).transpose(1, 2).contiguous(), None


AttentionInterface.register("pocket_training", _attention_of_text)


def _rotate(part: Tensor) -> Tensor:
    half = part.shape[-1] // 2
    return torch.cat((-part[..., half:], part[..., :half]), dim=-1)
