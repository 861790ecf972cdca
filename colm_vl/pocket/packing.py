"""Several turns about the same pictures in one training sequence.

A pack is a shared prefix (system, pictures) and turns (question, reply, and what may follow). Each turn attends to
the prefix
and to itself, and its positions go on from the prefix's end, so that the model computes for every turn exactly what
it computes at inference for the prefix with that turn alone. The pictures are seen once instead of once a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import (
    Cache,
    LlavaForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
)

from colm_vl.pocket.builders import DEVIATION, MEAN, MERGE, PATCH, PocketModel
from colm_vl.pocket.drawing import SIDE

GRID = SIDE // PATCH


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
class Batch:
    """Tensors of a forward pass: ids (B, L), positions (3, B, L), mask (B, 1, L, L), targets (B, L) with -100 and
    weights (B, L) with 0 where nothing is learnt, pixels (P, 3, 84, 84) of all pictures in the order of their
    tokens."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    targets: Tensor
    weights: Tensor
    pixels: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(
            *(getattr(self, name).to(device) for name in ("ids", "positions", "mask", "targets", "weights", "pixels"))
        )


def picture_token(model: PocketModel) -> int:
    """The id that stands for a visual token."""
    name = "image_token_id" if isinstance(model, Qwen2_5_VLForConditionalGeneration) else "image_token_index"
    return int(getattr(model.config, name))


def collate(packs: Sequence[Pack], image_token: int, grid: bool, pad: int) -> Batch:
    """Pad packs to the longest. `grid`: visual tokens have positions of rows and columns (Qwen) or a plain count."""
    length = max(len(pack.prefix) + sum(len(turn.ids) for turn in pack.turns) for pack in packs)
    ids = torch.full((len(packs), length), pad)
    segments = torch.full((len(packs), length), -1)
    positions = torch.zeros((3, len(packs), length), dtype=torch.long)
    targets = torch.full((len(packs), length), -100)
    weights = torch.zeros((len(packs), length))
    for row, pack in enumerate(packs):
        start = len(pack.prefix)
        places = prefix_positions(pack.prefix, image_token, grid)
        ids[row, :start] = torch.tensor(pack.prefix)
        segments[row, :start] = 0
        positions[:, row, :start] = places
        following = int(places.max()) + 1
        for number, turn in enumerate(pack.turns, 1):
            end = start + len(turn.ids)
            tokens = torch.tensor(turn.ids)
            ids[row, start:end] = tokens
            segments[row, start:end] = number
            positions[:, row, start:end] = torch.arange(following, following + len(turn.ids))
            weights[row, start:end] = torch.tensor(turn.learn)
            targets[row, start:end] = torch.where(weights[row, start:end] > 0, tokens, -100)
            start = end
    pictures = [picture for pack in packs for picture in pack.pictures]
    return Batch(ids, positions, _mask(segments), targets, weights, to_pixels(pictures))


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


def forward(model: PocketModel, batch: Batch, cache: Cache | None = None) -> Tensor:
    """Final hidden states (B, L, width) of the text model; `cache` is read and extended."""
    embeddings = model.get_input_embeddings()(batch.ids)
    if len(batch.pixels):
        places = (batch.ids == picture_token(model)).unsqueeze(-1).expand_as(embeddings)
        embeddings = embeddings.masked_scatter(places, see(model, batch.pixels).to(embeddings.dtype))
    grid = isinstance(model, Qwen2_5_VLForConditionalGeneration)
    hidden: Tensor = model.model.language_model(
        inputs_embeds=embeddings,
        attention_mask=batch.mask,
        position_ids=batch.positions if grid else batch.positions[0],
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state
    return hidden


def loss(model: PocketModel, batch: Batch) -> Tensor:
    """Weighted mean cross-entropy of the tokens to be learnt; logits are computed for those alone."""
    hidden = forward(model, batch)
    wanted = batch.targets[:, 1:]
    learnt = wanted != -100
    logits = model.lm_head(hidden[:, :-1][learnt])
    weights = batch.weights[:, 1:][learnt]
    return (functional.cross_entropy(logits.float(), wanted[learnt], reduction="none") * weights).sum() / weights.sum()


def _mask(segments: Tensor) -> Tensor:
    """(B, 1, L, L), true where row may attend to column; padding attends to itself so that no row is empty."""
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    rows, columns = segments.unsqueeze(2), segments.unsqueeze(1)
    allowed = causal & (columns >= 0) & ((columns == 0) | (columns == rows))
    return (allowed | torch.eye(length, dtype=torch.bool)).unsqueeze(1)


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
    seen = functional.scaled_dot_product_attention(query.to(hidden.dtype), key.to(hidden.dtype), mixed[2])
    result: Tensor = attention.proj(seen.transpose(1, 2).reshape(batch, length, width))
    return result


def _rotate(part: Tensor) -> Tensor:
    half = part.shape[-1] // 2
    return torch.cat((-part[..., half:], part[..., :half]), dim=-1)
