"""Writes a vision-language model with random weights, for measurements in which only its speed and its size matter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from colm_vl.pocket import team_file

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
_LARGEST_PICTURE = 1280 * 28**2
_CONTEXT = 8192
_HEAD = 64


def write(folder: Path, *, hidden: int = 512, layers: int = 8) -> int:
    """Write a Qwen2.5-VL with the pocket server's tokenizer, and return its number of parameters (by default about 60
    million). `hidden` is the width of both of its parts, a multiple of 128; `layers` is that of its text model.

    A picture of 784 x 784 pixels has 784 tokens, as in Qwen2.5-VL. The same weights are written each time.
    """
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    source = team_file().parent / "weights" / "server"
    settings = json.loads((source / "config.json").read_text("utf-8"))
    settings["dtype"] = "float32"
    width = {"hidden_size": hidden, "intermediate_size": 3 * hidden}
    settings["text_config"] |= width | {
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // _HEAD,
        "num_key_value_heads": hidden // _HEAD // 2,
        "max_position_embeddings": _CONTEXT,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
        "initializer_range": 0.1,  # with the usual 0.02, all tokens are about equally likely
    }
    del settings["text_config"]["layer_types"]
    settings["vision_config"] |= width | {
        "depth": 8,
        "num_heads": hidden // _HEAD,
        "out_hidden_size": hidden,
        "fullatt_block_indexes": [3, 7],
    }
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**settings)).eval()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for name in _TOKENIZER:
        shutil.copy(source / name, folder / name)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"model_max_length": _CONTEXT}), "utf-8")
    pictures = json.loads((source / "preprocessor_config.json").read_text("utf-8"))
    pictures |= {"max_pixels": _LARGEST_PICTURE, "size": pictures["size"] | {"longest_edge": _LARGEST_PICTURE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures, indent=2), "utf-8")
    return int(model.num_parameters())
