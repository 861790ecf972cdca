"""Several turns about the same pictures in one training step.

A pack is a shared prefix (system, pictures) and turns (question, reply, and what may follow). The prefix is computed
once; then each turn is a row of its own that attends to the prefix's keys and values and to itself, at the positions
it has at inference. So the model computes for every turn exactly what it computes for the prefix with that turn
alone, and the pictures are seen once instead of once a turn.
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
    """Token ids of one turn; `learn` is how much the prediction of each counts in training, 0 for what was asked."""

    ids: tuple[int, ...]
    learn: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """`prefix` holds one image token for every visual token of each picture, in order."""

    prefix: tuple[int, ...]
    turns: tuple[Turn, ...]
    pictures: tuple[Image.Image, ...]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What the turns share: ids (B, P), positions (3, B, P), mask (B, 1, P, P), pixels (pictures, 3, 84, 84) in the
    order of their tokens."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    pixels: Tensor


@dataclass(frozen=True, slots=True)
class Turns:
    """Turns of similar length: `owners` (N,) their prefixes' rows, ids (N, T), positions (3, N, T), mask (N, 1, T,
    P + T), targets (N, T) with -100 and weights (N, T) with 0 where nothing is learnt."""

    owners: Tensor
    ids: Tensor
    positions: Tensor
    mask: Tensor
    targets: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch's prefixes and its turns, these in groups by length so that little is padding."""

    prefixes: Prefixes
    groups: tuple[Turns, ...]

    def to(self, device: torch.device) -> Batch:
        return Batch(_to(self.prefixes, device), tuple(_to(group, device) for group in self.groups))


def picture_token(model: PocketModel) -> int:
    """The id that stands for a visual token."""
    name = "image_token_id" if isinstance(model, Qwen2_5_VLForConditionalGeneration) else "image_token_index"
    return int(getattr(model.config, name))


def collate(packs: Sequence[Pack], image_token: int, grid: bool, pad: int, spread: float | None = None) -> Batch:
    """Pad prefixes and turns. With `spread`, turns are sorted into groups in which the longest is at most that many
    times the shortest; without, all are one group in their order. `grid`: visual tokens have positions of rows and
    columns (Qwen) or a plain count."""
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
    """Positions (3, L) of the prefix: time, row and column for visual tokens with `grid`, else three equal counts."""
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
    """Normalised pixels (P, 3, 84, 84), as the image processors make them."""
    if not pictures:
        return torch.zeros((0, 3, SIDE, SIDE))
    raw = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).float() / 255
    mean, deviation = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(DEVIATION).view(1, 3, 1, 1)
    return (raw - mean) / deviation


def see(model: PocketModel, pixels: Tensor) -> Tensor:
    """Visual tokens (P x tokens, width) of all pictures at once.

    For Qwen this is the model's own vision tower computed as a batch: transformers attends picture by picture in a
    loop, which on a CPU takes most of the time of a step.
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
    """Keys and values of the prefixes, pictures included."""
    embeddings = model.get_input_embeddings()(prefixes.ids)
    if len(prefixes.pixels):
        places = (prefixes.ids == picture_token(model)).unsqueeze(-1).expand_as(embeddings)
        embeddings = embeddings.masked_scatter(places, see(model, prefixes.pixels).to(embeddings.dtype))
    cache = DynamicCache(config=model.config.get_text_config())
    _speak(model, embeddings, prefixes.positions, prefixes.mask, cache)
    return cache


def of_owners(cache: DynamicCache, owners: Tensor) -> DynamicCache:
    """A cache with one row for each turn: a copy of its prefix's. The original stays as it is."""
    rows = DynamicCache()
    for index, layer in enumerate(cache.layers):
        rows.update(layer.keys[owners], layer.values[owners], index)
    return rows


def read_turns(model: PocketModel, turns: Turns, cache: DynamicCache) -> Tensor:
    """Final hidden states (N, T, width). `cache` holds the turns' prefixes, a row each, and is extended."""
    return _speak(model, model.get_input_embeddings()(turns.ids), turns.positions, turns.mask, cache)


def _speak(model: PocketModel, embeddings: Tensor, positions: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    grid = isinstance(model, Qwen2_5_VLForConditionalGeneration)
    model.model.language_model.set_attn_implementation("pocket_training")
    hidden: Tensor = model.model.language_model(
        inputs_embeds=embeddings,
        attention_mask=mask,
        position_ids=positions if grid else positions[0],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return hidden


def loss(model: PocketModel, batch: Batch) -> Tensor:
    """Weighted mean cross-entropy of the tokens to be learnt; logits are computed for those alone."""
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
    """(B, 1, L, L) from (B, L), true where row may attend to column: causal, and padding to itself alone, so that no
    row is empty."""
    length = present.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return ((causal & present.unsqueeze(1)) | torch.eye(length, dtype=torch.bool)).unsqueeze(1)


def _to(part: Part, device: torch.device) -> Part:
    return replace(part, **{each.name: getattr(part, each.name).to(device) for each in fields(part)})


def _qwen_patches(pixels: Tensor) -> Tensor:
    """(P, 36, 1176): patches in the order of the merger's 2 x 2 groups, the picture doubled as two frames."""
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


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Attention in plain products: torch's fused kernel takes a CPU several times as long for the backward pass of
    short sequences in bfloat16."""
    scores = (query * scale) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.float().masked_fill(~mask, -1e4)
    return scores.softmax(-1).to(value.dtype) @ value


def _attention_of_text(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """`_attend` as transformers calls it, for our own calls: those of others leave out a mask that is just causal."""
    if mask is None:
        raise ValueError("a model in training is asked by `read_turns` alone: open its saved folder for anything else")
    return _attend(query, key, value, scaling, mask).transpose(1, 2).contiguous(), None


AttentionInterface.register("pocket_training", _attention_of_text)


def _rotate(part: Tensor) -> Tensor:
    half = part.shape[-1] // 2
    return torch.cat((-part[..., half:], part[..., :half]), dim=-1)
