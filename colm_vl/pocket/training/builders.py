"""Creates untrained models of the team's architectures, and saves models in the Hugging Face format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from colm_vl.pocket.drawing import SIDE
from colm_vl.pocket.roster import Member
from colm_vl.pocket.training import vocabulary

PATCH = 14
MERGE = 2
HEAD = 32
CONTEXT = 1024
MEAN = (0.87, 0.87, 0.87)
DEVIATION = (0.25, 0.25, 0.25)
"""Mean and deviation for normalizing pictures: near the background's shade, so that empty patches are close to zero."""

PocketModel: TypeAlias = "Qwen2_5_VLForConditionalGeneration | LlavaForConditionalGeneration"


def picture_tokens(member: Member) -> int:
    """The number of tokens of a picture in the member's prompt."""
    side = SIDE // member.patch
    return (side // MERGE) ** 2 if member.architecture == "qwen2_5_vl" else side**2


def empty_model(member: Member, tokenizer: PreTrainedTokenizerFast) -> PocketModel:
    """A model of the member's size with random weights from torch's global generator.

    The usual standard deviation of 0.02 is meant for widths of thousands. With a width of 128, the signal of pictures
    would be too weak for thousands of steps, so the deviation of each matrix depends on its own width.
    """
    model: PocketModel
    if member.architecture == "qwen2_5_vl":
        model = Qwen2_5_VLForConditionalGeneration(_qwen_config(member, tokenizer))
    else:
        model = LlavaForConditionalGeneration(_llava_config(member, tokenizer))
    for name, weight in model.named_parameters():
        if weight.dim() >= 2:
            inputs = member.width if "embed_tokens" in name else weight[0].numel()
            # The position of a patch is given the same weight as its content.
            torch.nn.init.normal_(weight, std=1.0 if "position_embedding" in name else inputs**-0.5)
    return model


def save(model: PocketModel, member: Member, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that transformers and vLLM can load. The weights are stored in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.chat_template = vocabulary.chat_template(member.architecture)
    tokenizer.save_pretrained(folder)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    training_dtype = model.dtype
    model.half().save_pretrained(folder)
    model.to(training_dtype)
    if member.architecture == "llava":
        _name_as_published(folder / "model.safetensors")
    settings = _qwen_pictures() if member.architecture == "qwen2_5_vl" else _clip_pictures()
    _write_json(folder / "preprocessor_config.json", settings)
    if member.architecture == "llava":
        _write_json(folder / "processor_config.json", _llava_processor(member))


def _name_as_published(path: Path) -> None:
    """Rename the tower's weights to the names in published LLaVA checkpoints. vLLM requires these, transformers accepts
    them, and `save_pretrained` writes shorter ones."""
    weights = load_file(path)
    save_file(
        {name.replace("vision_tower.", "vision_tower.vision_model.", 1): weight for name, weight in weights.items()},
        path,
        {"format": "pt"},
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _text_settings(member: Member, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    heads = member.width // HEAD
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": member.width,
        "intermediate_size": member.width * 3,
        "num_hidden_layers": member.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }


def _qwen_config(member: Member, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]}
    return Qwen2_5_VLConfig(
        text_config={**_text_settings(member, tokenizer), "rope_parameters": rope},
        vision_config={
            "depth": member.sight_layers,
            "hidden_size": member.sight_width,
            "intermediate_size": member.sight_width * 3,
            "num_heads": member.sight_width // HEAD,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "window_size": 112,
            "out_hidden_size": member.width,
            "fullatt_block_indexes": list(range(member.sight_layers)),
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def _llava_config(member: Member, tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    text = {**_text_settings(member, tokenizer), "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    return LlavaConfig(
        text_config=LlamaConfig(**text),
        vision_config=CLIPVisionConfig(
            hidden_size=member.sight_width,
            intermediate_size=member.sight_width * 3,
            num_hidden_layers=member.sight_layers,
            num_attention_heads=member.sight_width // HEAD,
            image_size=SIDE,
            patch_size=member.patch,
            projection_dim=member.width,
            hidden_act="gelu",
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=picture_tokens(member),
        tie_word_embeddings=True,
    )


def _qwen_pictures() -> dict[str, Any]:
    """Pictures of any size are resized to at most 84 x 84 pixels."""
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(MEAN),
        "image_std": list(DEVIATION),
        "min_pixels": SIDE * SIDE,
        "max_pixels": SIDE * SIDE,
        "size": {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE},
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }


def _clip_pictures() -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_center_crop": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(MEAN),
        "image_std": list(DEVIATION),
        "size": {"height": SIDE, "width": SIDE},
        "resample": 3,
        "rescale_factor": 1 / 255,
    }


def _llava_processor(member: Member) -> dict[str, Any]:
    return {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": member.patch,
        "vision_feature_select_strategy": "default",
    }
