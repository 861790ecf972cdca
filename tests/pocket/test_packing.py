"""Training gives the results of inference: packed turns, vision towers, decoding and rendering, compared with
transformers."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForImageTextToText, PreTrainedTokenizerFast

from colm_vl.pocket import world
from colm_vl.pocket.roster import MEMBERS
from colm_vl.pocket.training import builders, decoding, packing, turns, vocabulary
from colm_vl.pocket.training.builders import PocketModel
from colm_vl.pocket.training.learning import Runner
from colm_vl.pocket.training.turns import Writer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return vocabulary.build()


@pytest.fixture(scope="module", params=["shapes", "digits"])
def member(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(member: str, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = builders.empty_model(MEMBERS[member], tokenizer)
    path = tmp_path_factory.mktemp(member)
    builders.save(model, MEMBERS[member], tokenizer, path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> PocketModel:
    opened: PocketModel = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return opened.eval()


@pytest.fixture(scope="module")
def reference(folder: Path) -> PocketModel:
    """The same model, computed by transformers."""
    opened: PocketModel = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return opened.eval()


@pytest.mark.parametrize("domain", ["charts", "pairs", "text"])
def test_packed_turns_equal_single_ones(
    member: str,
    folder: Path,
    model: PocketModel,
    reference: PocketModel,
    tokenizer: PreTrainedTokenizerFast,
    domain: str,
) -> None:
    writer = Writer(MEMBERS[member], tokenizer)
    scene = world.scene("check/3", domain)
    samples = world.samples_of("check/3", scene, Random(1), 3)
    pack = writer.pack([(writer.draft_messages(one), turns.right_reply(one, 90)) for one in samples], scene.pictures)
    other = world.samples_of("check/4", world.scene("check/4", "text"), Random(1), 1)[0]
    padding = writer.pack([(writer.draft_messages(other), turns.right_reply(other, 90))], ())
    runner = Runner(model, torch.device("cpu"), tokenizer.pad_token_id)
    with torch.no_grad():
        batch = runner.batch([pack, padding], 1.2)
        cache = packing.read_prefixes(model, batch.prefixes)
        rows: dict[tuple[int, ...], torch.Tensor] = {}
        for group in batch.groups:
            logits = model.lm_head(packing.read_turns(model, group, packing.of_owners(cache, group.owners)))
            rows |= {tuple(ids.tolist()): row for ids, row in zip(group.ids, logits, strict=True)}
        for turn in pack.turns:
            ids = torch.tensor([[*pack.prefix, *turn.ids]])
            single = reference(
                input_ids=ids, attention_mask=torch.ones_like(ids), **_pixels(folder, model, ids, scene.pictures)
            )
            (packed,) = (row for ids, row in rows.items() if ids[: len(turn.ids)] == turn.ids)
            torch.testing.assert_close(
                packed[: len(turn.ids)], single.logits[0, len(pack.prefix) :], atol=1e-4, rtol=1e-3
            )


def test_decoding_equals_generate(
    member: str, folder: Path, model: PocketModel, reference: PocketModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    writer = Writer(MEMBERS[member], tokenizer)
    samples = list(world.generate(3, 6))
    prompts = [writer.pack([(writer.draft_messages(one), "")], one.pictures) for one in samples]
    runner = Runner(model, torch.device("cpu"), tokenizer.pad_token_id, bfloat16=False)
    written = decoding.replies(runner, tokenizer, prompts)
    for sample, prompt, reply in zip(samples, prompts, written, strict=True):
        ids = torch.tensor([[*prompt.prefix, *prompt.turns[0].ids]])
        given = _pixels(folder, model, ids, sample.pictures)
        out = reference.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=decoding.LONGEST, **given
        )
        assert reply == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_prompts_are_rendered_as_the_chat_template_does(
    member: str, folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    writer = Writer(MEMBERS[member], tokenizer)
    saved = PreTrainedTokenizerFast.from_pretrained(folder)
    for sample in world.generate(4, 6):
        messages = writer.draft_messages(sample)
        chat = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                    for part in message.parts
                ],
            }
            for message in messages
        ]
        rendered = saved.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert rendered == writer.render(messages)
        pack = writer.pack([(messages, "")], sample.pictures)
        inner = "<|image_pad|>" if member == "shapes" else "<image>"
        tokens = builders.picture_tokens(MEMBERS[member])
        assert [*pack.prefix, *pack.turns[0].ids] == saved.encode(
            rendered.replace(inner, inner * tokens), add_special_tokens=False
        )


def test_weights_have_the_names_that_engines_know(member: str, folder: Path) -> None:
    names = load_file(folder / "model.safetensors").keys()
    expected = "visual.blocks.0.attn.qkv.weight" if member == "shapes" else "vision_tower.vision_model.embeddings."
    assert any(name.startswith(expected) for name in names), sorted(names)[:3]


def test_the_tokenizer_encodes_any_text(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ("Wie hoch ist der Turm? 42 m²", "日本語 🙂", "red circle 12, Answer: (B)\n\nx  y"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def _pixels(
    folder: Path, model: PocketModel, ids: torch.Tensor, pictures: tuple[object, ...]
) -> dict[str, torch.Tensor]:
    if not pictures:
        return {}
    given = dict(AutoImageProcessor.from_pretrained(folder)(images=list(pictures), return_tensors="pt"))
    if model.config.model_type == "qwen2_5_vl":
        given["mm_token_type_ids"] = (ids == packing.picture_token(model)).long()
    return given
