"""Tiny models of real architectures with random weights, saved as checkpoints.

    python -m tests.tiny_models KIND FOLDER

Their replies are meaningless. They are for tests that do not depend on the weights: that the right tensors reach the
right model, that a batch equals single calls, that a server loads them. The same seed gives the same weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

VOCABULARY = 420
HIDDEN = 128
HEAD = 32  # the smallest head size that vLLM's CPU kernels support
CONTEXT = 4096

_CORPUS = (
    "Question: Which continent is highlighted? Choices: (A) Africa (B) Asia (C) Europe (D) North America",
    "Reply in these three lines: Caption: what you see. Answer: the answer alone. Confidence: a number from 0 to 100",
    "Guidance from a larger model follows. Evidence: the red bar is the highest. Check: the drafts are right",
    "You answer questions, with pictures where there are any. Look again. Keep your answer if you still find it right.",
    "red green blue circle square triangle one two three 0 1 2 3 4 5 6 7 8 9 user assistant system USER ASSISTANT",
)
_QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_LLAMA_TOKENS = ("<unk>", "<s>", "</s>", "<pad>", "<image>")

_QWEN_TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message.role != 'system' %}{{ message.role | upper }}: {% endif %}"
    "{% for part in message.content %}{% if part.type == 'image' %}<image>\n{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% if message.role == 'assistant' %}</s>{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def build(kind: str, folder: Path, seed: int = 0) -> Path:
    """Save a model of `kind`, one of KINDS, in `folder`, and return the folder."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        KINDS[kind](folder)
    return folder


def _qwen2_5_vl(folder: Path) -> None:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    vision = {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "out_hidden_size": HIDDEN,
        "patch_size": 14,
        "window_size": 56,
        "fullatt_block_indexes": [1],
    }
    _save_qwen(folder, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig, vision, "Qwen2_5_VLProcessor", 14)


def _qwen2_vl(folder: Path) -> None:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = {"depth": 2, "embed_dim": 64, "num_heads": 2, "mlp_ratio": 2, "hidden_size": HIDDEN, "patch_size": 14}
    _save_qwen(folder, Qwen2VLForConditionalGeneration, Qwen2VLConfig, vision, "Qwen2VLProcessor", 14)


def _qwen3_vl(folder: Path) -> None:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    vision = {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "out_hidden_size": HIDDEN,
        "patch_size": 16,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    _save_qwen(folder, Qwen3VLForConditionalGeneration, Qwen3VLConfig, vision, "Qwen3VLProcessor", 16)


def _llava(folder: Path) -> None:
    _save_llava(folder, _LLAVA_TEMPLATE)


def _llava_without_template(folder: Path) -> None:
    """A checkpoint without a chat template and without the processor's patch size, like early ones."""
    _save_llava(folder, None)


def _llama(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _llama_tokenizer(_LLAMA_TEMPLATE)
    model = LlamaForCausalLM(LlamaConfig(**_llama_text(tokenizer), max_position_embeddings=CONTEXT))
    _save(folder, model, tokenizer)


KINDS: Mapping[str, Callable[[Path], None]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen2_vl": _qwen2_vl,
    "qwen3_vl": _qwen3_vl,
    "llava": _llava,
    "llava_without_template": _llava_without_template,
    "llama": _llama,
}


def _save_qwen(folder: Path, model: Any, config: Any, vision: dict[str, Any], processor: str, patch: int) -> None:
    tokenizer = _qwen_tokenizer()
    text = _text(tokenizer) | {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "head_dim": HEAD,
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "max_position_embeddings": CONTEXT,
    }
    vision |= {"in_channels": 3, "spatial_patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2}
    if processor == "Qwen3VLProcessor":
        text["rope_parameters"]["mrope_interleaved"] = True
    built = model(
        config(
            text_config=text,
            vision_config=vision,
            tie_word_embeddings=False,
            **{
                f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
                for name, token in (
                    ("vision_start", "vision_start"),
                    ("vision_end", "vision_end"),
                    ("vision", "vision_pad"),
                    ("image", "image_pad"),
                    ("video", "video_pad"),
                )
            },
        )
    )
    _save(folder, built, tokenizer)
    pixels = {"shortest_edge": 4 * (2 * patch) ** 2, "longest_edge": 64 * (2 * patch) ** 2}
    common = {"patch_size": patch, "merge_size": 2, "temporal_patch_size": 2, "size": pixels}
    kinds = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": processor}
    _write_json(folder / "preprocessor_config.json", common | kinds | _normalization())
    video = "Qwen3VLVideoProcessor" if processor == "Qwen3VLProcessor" else "Qwen2VLVideoProcessor"
    kinds = {"video_processor_type": video, "processor_class": processor}
    _write_json(folder / "video_preprocessor_config.json", common | kinds | _normalization())


def _save_llava(folder: Path, template: str | None) -> None:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    tokenizer = _llama_tokenizer(template)
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        projection_dim=64,
        initializer_range=0.1,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_llama_text(tokenizer), max_position_embeddings=CONTEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    _save(folder, LlavaForConditionalGeneration(config), tokenizer)
    size = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    kinds = {"image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor"}
    _write_json(folder / "preprocessor_config.json", size | kinds | _normalization())
    if template is not None:
        counts = {"patch_size": 14, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"}
        _write_json(
            folder / "processor_config.json", counts | {"image_token": "<image>", "processor_class": "LlavaProcessor"}
        )


def _text(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": HIDDEN // HEAD,
        "num_key_value_heads": 2,
        # Larger than usual: otherwise all tokens are about equally likely, and a picture changes nothing.
        "initializer_range": 0.1,
        "tie_word_embeddings": False,
    }


def _llama_text(tokenizer: Any) -> dict[str, Any]:
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return _text(tokenizer) | ids


def _normalization() -> dict[str, Any]:
    return {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }


def _bpe() -> Any:
    """A byte-level BPE, which can encode every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def _qwen_tokenizer() -> Any:
    from transformers import Qwen2Tokenizer

    model = json.loads(_bpe().to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(_QWEN_TOKENS),
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = _QWEN_TEMPLATE
    return tokenizer


def _llama_tokenizer(template: str | None) -> Any:
    """Begins every text with <s>, like Llama's."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    backend = _bpe()
    backend.add_special_tokens(list(_LLAMA_TOKENS))
    backend.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = template
    return tokenizer


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    build(given.kind, given.folder, given.seed)
