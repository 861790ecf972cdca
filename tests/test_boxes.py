from __future__ import annotations

import json

import PIL.Image
import pytest

from colm_vl import Image, Team
from colm_vl.backends.openai import Options as EndpointOptions
from colm_vl.backends.transformers import Options as LocalOptions
from colm_vl.boxes import MAX_BOXES, Box, Scale, read_boxes, scale_of, scales

RELATIVE = Scale(1000, 1000)


def picture(width: int, height: int) -> Image:
    return Image.open(PIL.Image.new("RGB", (width, height)))


def endpoint(**options: object) -> EndpointOptions:
    return EndpointOptions.model_validate({"model": "m", "base_url": "http://127.0.0.1:1/v1"} | options)


def local(**options: object) -> LocalOptions:
    return LocalOptions.model_validate({"model": "m"} | options)


@pytest.mark.parametrize(
    "said",
    [
        'the bar {"bbox_2d": [100, 200, 300, 400], "label": "July"} is highest',
        '```json\n[\n\t{"label": "July", "bbox_2d": [100, 200.0, 300, 400]}\n]\n```',
        "<|object_ref_start|>July<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>",
    ],
)
def test_boxes_are_read_in_the_forms_of_the_family(said: str) -> None:
    assert read_boxes(said, RELATIVE) == (Box(0.1, 0.2, 0.3, 0.4, "July"),)


def test_a_box_may_have_no_label_and_is_cut_at_the_edge() -> None:
    found = read_boxes('{"bbox_2d": [0, 0, 1010, 500]} <|box_start|>(1, 2),(500, 600)<|box_end|>', RELATIVE)
    assert found == (Box(0, 0, 1.0, 0.5), Box(0.001, 0.002, 0.5, 0.6))


@pytest.mark.parametrize(
    "corners",
    ["[300, 200, 100, 400]", "[1, 2, 3]", "[1, 2, 3, NaN]", "[1, 2, 3, 1e999]", '[1, 2, 3, "4"]', "[-5, 2, 30, 40]",
     "[0, 0, 1500, 900]", "[true, 2, 30, 40]", "[1200, 0, 1300, 5]", "null", "[[1], 2, 3, 4]"],
)  # fmt: skip
def test_what_is_no_box_is_not_read(corners: str) -> None:
    assert read_boxes(f'{{"bbox_2d": {corners}, "label": "x"}}', RELATIVE) == ()


def test_coordinates_of_a_geometry_question_are_no_box() -> None:
    assert read_boxes("the line from (100,200),(300,400)", RELATIVE) == ()


def test_the_number_of_boxes_is_limited() -> None:
    said = json.dumps([{"bbox_2d": [n, n, n + 10, n + 10]} for n in range(200)])
    assert len(read_boxes(said, RELATIVE)) == MAX_BOXES


@pytest.mark.parametrize("model", ["Qwen/Qwen3-VL-4B-Instruct", "qwen3-vl:4b", "qwen3vl", "Qwen2-VL-7B", "/m/qwen2_vl"])
def test_relative_coordinates_need_no_picture(model: str) -> None:
    assert scale_of(model) == RELATIVE


@pytest.mark.parametrize("model", ["llava:7b", "Qwen2.5-7B", "Qwen-VL", "Qwen4-VL", "guide"])
def test_other_models_have_no_known_scale(model: str) -> None:
    assert scale_of(model, endpoint(), picture(280, 280)) is None


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((640, 480), endpoint(), Scale(644, 476)),
        ((4000, 3000), endpoint(max_pixels=640 * 480), Scale(644, 476)),
        ((4000, 3000), endpoint(), None),  # the endpoint's limit is not known
        ((40, 40), endpoint(), None),
        ((4000, 3000), local(), Scale(1148, 840)),
        ((4000, 3000), local(max_pixels=640 * 480), Scale(616, 476)),
        ((100, 50), local(min_pixels=256 * 28 * 28), Scale(644, 336)),
        ((40, 20), local(), Scale(84, 56)),
    ],
)
def test_absolute_coordinates_are_those_of_the_resized_picture(
    size: tuple[int, int], options: EndpointOptions | LocalOptions, expected: Scale | None
) -> None:
    assert scale_of("qwen2.5vl:3b", options, picture(*size)) == expected


def test_absolute_coordinates_equal_those_of_the_familys_image_processor() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'colm-vl[local]'")
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    for width, height in ((640, 480), (4000, 3000), (100, 50), (15, 1200), (1003, 1001), (84, 84)):
        height_, width_ = smart_resize(height, width, 28, 4 * 28**2, 1280 * 28**2)
        assert scale_of("Qwen2.5-VL-3B", local(), picture(width, height)) == Scale(width_, height_)


@pytest.mark.parametrize(("share", "expected"), [("images", 644), ("thumbnails", 252), ("captions", None)])
def test_each_member_has_the_scale_of_what_it_sees(share: str, expected: int | None) -> None:
    members = {"clients": [{"name": "far", "backend": "scripted", "model": "qwen3-vl", "replies": ["x"]},
                           {"name": "llava", "backend": "scripted", "model": "llava", "replies": ["x"]}],
               "server": {"backend": "scripted", "model": "qwen2.5vl", "replies": ["x"]},
               "policy": {"share": share, "thumbnail_pixels": 256 * 192}}  # fmt: skip
    team = Team.from_dict(members)
    found = scales(team, [picture(640, 480)])
    assert found["far"] == RELATIVE
    assert "llava" not in found
    assert (found["server"].width if "server" in found else None) == expected
    assert scales(team, [picture(640, 480)] * 2) == {}
