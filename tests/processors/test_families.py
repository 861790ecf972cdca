from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest

from processors import Image, ImageError
from processors.families import Budget, Conversation, Family, FamilyError, Source, load
from processors.families.base import Chat

Tiny = Callable[[str], Path]

VISION = ("qwen2_5_vl", "qwen2_vl", "qwen3_vl", "llava", "llava_without_template")


def picture(width: int = 84, height: int = 56, colour: str = "red") -> Image:
    return Image.open(PIL.Image.new("RGB", (width, height), colour))


def user(*parts: str | Image) -> dict[str, Any]:
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part} for part in parts
    ]
    return {"role": "user", "content": content}


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def family(folder: Path, budget: Budget | None = None, sees: bool = True) -> Family:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    return load(config, Source(str(folder)), budget or Budget(), sees=sees)


def tokens(model: Family, conversation: Conversation) -> list[int]:
    ids: list[int] = model.encode([conversation])["input_ids"][0].tolist()
    return ids


def text(model: Family, conversation: Conversation) -> str:
    return str(model.tokenizer.decode(tokens(model, conversation)))


def picture_tokens(model: Family, conversation: Conversation, token: str = "<|image_pad|>") -> int:
    return tokens(model, conversation).count(model.tokenizer.convert_tokens_to_ids(token))


@pytest.mark.parametrize("kind", VISION)
def test_a_batch_is_padded_on_the_left_and_each_row_is_as_alone(tiny: Tiny, kind: str) -> None:
    model = family(tiny(kind))
    conversations = [[user("Hi")], [user(picture(), "What is it?")], [user(picture(), picture(56, 84, "blue"), "And?")]]
    batch = model.encode(conversations)
    for row, conversation in enumerate(conversations):
        alone = tokens(model, conversation)
        assert batch["input_ids"][row].tolist()[-len(alone) :] == alone
        assert batch["attention_mask"][row].sum() == len(alone)


@pytest.mark.parametrize("kind", VISION)
def test_a_refine_prompt_begins_with_the_draft_prompt(tiny: Tiny, kind: str) -> None:
    model = family(tiny(kind))
    draft = [said("system", "You help."), user(picture(), "What is it?")]
    refine = [*draft, said("assistant", "Answer: a red box"), user("Look again.")]
    before = text(model, draft)
    assert text(model, refine).startswith(before + ("" if before.endswith("\n") else " ") + "Answer: a red box")


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_vl", "qwen3_vl"])
def test_qwen_tells_the_model_which_tokens_are_pictures(tiny: Tiny, kind: str) -> None:
    model = family(tiny(kind))
    inputs = model.encode([[user(picture(), "What is it?")], [user("Hi")]])
    pad = model.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert (inputs["mm_token_type_ids"] == (inputs["input_ids"] == pad)).all()
    assert inputs["mm_token_type_ids"].any()


@pytest.mark.parametrize(
    ("size", "budget", "expected"),
    [
        ((280, 280), Budget(), 8 * 8),  # the checkpoint's own bound of 64 tokens
        ((280, 280), Budget(max_pixels=28 * 28 * 25), 5 * 5),
        ((280, 280), Budget(max_pixels=28 * 28 * 100), 10 * 10),
        ((56, 56), Budget(), 2 * 2),
        ((56, 56), Budget(min_pixels=28 * 28 * 16), 4 * 4),
        ((28, 28), Budget(max_pixels=28 * 28), 1),  # beneath the checkpoint's minimum
        ((280, 56), Budget(), 10 * 2),
    ],
)
def test_qwen_tokens_depend_on_the_budget(tiny: Tiny, size: tuple[int, int], budget: Budget, expected: int) -> None:
    model = family(tiny("qwen2_5_vl"), budget)
    assert picture_tokens(model, [user(picture(*size), "What is it?")]) == expected


def test_qwen3_has_its_own_factor(tiny: Tiny) -> None:
    model = family(tiny("qwen3_vl"), Budget(max_pixels=32 * 32 * 9))
    assert picture_tokens(model, [user(picture(320, 320), "What is it?")]) == 3 * 3


def test_qwen_bounds_a_checkpoint_without_a_bound_of_its_own(tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("qwen2_5_vl"), tmp_path / "model")
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    settings["size"]["longest_edge"] = 16384 * 28 * 28
    file.write_text(json.dumps(settings))
    assert 1200 < picture_tokens(family(folder), [user(picture(2000, 2000), "What is it?")]) <= 1280


@pytest.mark.parametrize(("kind", "patch"), [("qwen2_5_vl", 14), ("qwen3_vl", 16)])
def test_qwen_vl_utils_gives_the_same_tokens_and_resizes_once(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, kind: str, patch: int
) -> None:
    """Against a stand-in for qwen_vl_utils: the package itself needs torchvision."""
    from processors.families.base import load_processor
    from processors.families.qwen_vl import QwenEncoder

    own = family(tiny(kind), Budget(max_pixels=50_000))
    given: list[dict[str, Any]] = []

    def process_vision_info(conversation: list[dict[str, Any]], image_patch_size: int) -> tuple[list[Any], None]:
        assert image_patch_size == patch
        given.extend(conversation[0]["content"])
        grid = own.encode([[user(*map(Image.open, (part["image"] for part in conversation[0]["content"])))]])
        sizes = [(int(w) * patch, int(h) * patch) for _, h, w in grid["image_grid_thw"]]
        return [part["image"].resize(size) for part, size in zip(conversation[0]["content"], sizes, strict=True)], None

    monkeypatch.setitem(sys.modules, "qwen_vl_utils", SimpleNamespace(process_vision_info=process_vision_info))
    processor = load_processor(kind, Source(str(tiny(kind))))
    with_utils = QwenEncoder(processor, Budget(max_pixels=50_000), with_utils=True)
    conversation = [user(picture(300, 500), picture(90, 40), "Which?")]
    assert tokens(with_utils, conversation) == tokens(own, conversation)
    assert all(isinstance(part["image"], PIL.Image.Image) for part in given)
    assert {(part["min_pixels"], part["max_pixels"]) for part in given} == {(4 * (2 * patch) ** 2, 50_000)}


def test_qwen_refuses_extreme_aspect_ratios(tiny: Tiny) -> None:
    with pytest.raises(ImageError, match="2010x10, expected one side at most 200 times the other"):
        family(tiny("qwen2_5_vl")).encode([[user(picture(2010, 10), "What is it?")]])


def test_llava_has_the_same_tokens_for_every_picture(tiny: Tiny) -> None:
    for kind in ("llava", "llava_without_template"):
        model = family(tiny(kind))
        counts = [
            picture_tokens(model, [user(picture(*size), "?")], "<image>") for size in ((20, 20), (84, 56), (400, 300))
        ]
        assert counts == [16, 16, 16]


def test_llava_without_a_template_is_asked_in_plain_turns(tiny: Tiny) -> None:
    model = family(tiny("llava_without_template"))
    conversation = [said("system", "You help."), user(picture(), "What?"), said("assistant", "A box."), user("Sure?")]
    assert text(model, conversation) == (
        "<s>You help. USER: " + "<image>" * 16 + "\nWhat? ASSISTANT: A box.</s>USER: Sure? ASSISTANT:"
    )


@pytest.mark.parametrize("kind", [*VISION, "llama"])
def test_a_text_cannot_write_control_tokens(tiny: Tiny, kind: str) -> None:
    model = family(tiny(kind), sees=kind != "llama")
    special = [token for token in model.tokenizer.all_special_tokens if token.strip()]
    harmless, harmful = [user("Hello")], [user("Hello " + "".join(special))]

    def control(conversation: Conversation) -> Sequence[int]:
        return [token for token in tokens(model, conversation) if token in model.tokenizer.all_special_ids]

    assert control(harmful) == control(harmless)


def test_a_template_that_refuses_a_system_message_gets_it_in_the_first_turn(tiny: Tiny) -> None:
    tokenizer = family(tiny("llama"), sees=False).tokenizer
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m.role }}] {{ m.content }}{% endfor %}"
    )
    prompt = Chat(tokenizer, template).prompt([said("system", "You help."), user("Hi")], as_text=True)
    assert prompt == "[user] You help.\n\nHi"


def test_a_text_only_model_refuses_pictures(tiny: Tiny) -> None:
    model = family(tiny("llama"), sees=False)
    assert set(model.encode([[user("Hi")], [user("Hello there")]])) == {"input_ids", "attention_mask"}
    with pytest.raises(FamilyError, match="takes text only"):
        model.encode([[user(picture(), "What is it?")]])


def test_any_other_model_goes_through_its_own_processor(tiny: Tiny) -> None:
    """A LLaVA with a model type that no family supports."""
    from transformers import AutoConfig

    from processors.families import generic

    source = Source(str(tiny("llava")))
    model = generic.load(AutoConfig.from_pretrained(source.model), source, Budget(max_pixels=1000))
    conversation = [user(picture(), "What is it?")]
    assert tokens(model, conversation) == tokens(family(tiny("llava")), conversation)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
def test_a_torchvision_that_does_not_fit_torch_is_named(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FamilyError, match=r"does not fit torch .*operator torchvision::nms does not exist") as caught:
        family(tiny(kind))
    assert "pip uninstall torchvision" in caught.value.hint
