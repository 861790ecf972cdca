"""The Gradio theme, which uses the light and dark colours of style.css."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import gradio as gr

from colm_vl import viewer

from .examples import Example

STYLES = (Path(__file__).with_name("style.css"), viewer.STYLE, Path(__file__).with_name("viewer.css"))
SCRIPT = Path(__file__).with_name("page.js")
_WATCH = """
new MutationObserver(() => {
  if (document.querySelector(".viewer:not([data-begun])")) document.dispatchEvent(new Event("viewer-added"));
}).observe(document.body, { childList: true, subtree: true });
"""
ICON = Path(__file__).with_name("icon.svg")
_COLOURS = {
    "ground": ("body_background_fill",),
    "paper": (
        "background_fill_primary", "block_background_fill", "block_label_background_fill", "input_background_fill",
        "input_background_fill_focus", "button_secondary_background_fill", "checkbox_label_background_fill",
        "checkbox_background_color", "button_cancel_background_fill", "input_background_fill_hover",
    ),
    "sunken": ("background_fill_secondary",),
    "line": (
        "block_border_color", "border_color_primary", "button_secondary_border_color", "checkbox_label_border_color",
        "block_label_border_color", "button_cancel_border_color",
    ),
    "edge": ("input_border_color", "input_border_color_hover", "checkbox_border_color", "checkbox_border_color_hover"),
    "ink": (
        "body_text_color", "button_secondary_text_color", "button_secondary_text_color_hover", "accordion_text_color",
        "checkbox_label_text_color", "checkbox_label_text_color_selected",
    ),
    "soft": (
        "body_text_color_subdued", "block_label_text_color", "block_title_text_color", "block_info_text_color",
        "input_placeholder_color",
    ),
    "accent": (
        "color_accent", "slider_color", "input_border_color_focus", "border_color_accent",
        "checkbox_border_color_selected", "checkbox_border_color_focus", "button_secondary_border_color_hover",
        "link_text_color", "loader_color",
    ),
    "button": ("button_primary_background_fill", "button_primary_border_color", "checkbox_background_color_selected"),
    "button-hover": ("button_primary_background_fill_hover", "button_primary_border_color_hover"),
    "on-button": ("button_primary_text_color",),
    "tint": (
        "color_accent_soft", "button_secondary_background_fill_hover", "checkbox_label_background_fill_hover",
        "checkbox_label_background_fill_selected",
    ),
    "bad": ("button_cancel_text_color", "button_cancel_text_color_hover", "error_text_color"),
    "bad-tint": ("button_cancel_background_fill_hover",),
}  # fmt: skip


def theme() -> gr.themes.Base:
    """The theme uses only fonts that are part of Gradio. Bold replaces semibold, which lacks letters there."""
    base = gr.themes.Base(
        neutral_hue=gr.themes.colors.slate,
        font=[gr.themes.LocalFont("IBM Plex Sans", (400, 700)), "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", (400,)), "ui-monospace", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
    )
    names = {name: f"var(--cv-{colour})" for colour, fields in _COLOURS.items() for name in fields}
    # Not all names have a dark variant. Where there is one, it must be set too, or Gradio's own colour is used.
    dark = {f"{name}_dark": value for name, value in names.items() if hasattr(base, f"{name}_dark")}
    return base.set(**names, **dark, input_border_width="1px", input_shadow="none", block_shadow="none",
                    block_label_shadow="none", button_primary_shadow="none")  # fmt: skip


def css(examples: Iterable[Example]) -> str:
    """The style sheet, including the examples' pictures as data URIs."""
    icons = (
        f"#example-{number}::before {{ background-image: url({_icon(example)}); }}"
        for number, example in enumerate(examples)
        if example.pictures
    )
    return "\n".join((*(style.read_text(encoding="utf-8") for style in STYLES), *icons))


def script() -> str:
    """The page's function, which runs once, with the viewer of questions, whose elements are added later."""
    own, shared = (file.read_text(encoding="utf-8") for file in (SCRIPT, viewer.SCRIPT))
    return f"() => {{ ({own.strip().rstrip(';')})();\n{shared}{_WATCH} }}"


def _icon(example: Example) -> str:
    file = io.BytesIO()
    picture = example.pictures[-1].copy()
    picture.thumbnail((96, 96))
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
