"""Elements of which the page's HTML is built. Text from visitors and models is escaped by `text`.

All elements are built with `tag` and `text`, so that no unescaped value gets into the page.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

from colm_vl.answers import choice_letters

CLAMPED = 320
"""Longer texts show this many characters, and the rest after a click."""
SPARE = 40
"""A text that is longer by no more than this is shown whole."""
_JOINERS = "\u200c\u200d"
"""Invisible, and part of the spelling of Persian, of Indian scripts and of emoji."""
_PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+")


def text(value: object) -> str:
    """Escape `value` as HTML text, without control characters."""
    return without_templates(html.escape(without_controls(str(value))))


def without_controls(said: str) -> str:
    """Remove control characters, some of which reverse the direction of text. Joiners are kept."""
    kept = "\n\t" + _JOINERS
    return "".join(char for char in said if char in kept or unicodedata.category(char) not in ("Cc", "Cf"))


def without_templates(markup: str) -> str:
    """Escape `${…}` and `{{…}}` in HTML, because Gradio's templates interpret them."""
    return markup.replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;")


def tag(name: str, content: str, classes: str = "", **attributes: object) -> str:
    """An element with `content`, which must be HTML. Attributes are escaped; `aria_label` becomes `aria-label`."""
    written = {"class": classes, **{key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}}
    inside = "".join(f' {key}="{text(value)}"' for key, value in written.items() if value not in ("", None))
    return f"<{name}{inside}>{content}</{name}>"


def is_picture(uri: str) -> bool:
    """Whether it is a data URI of a picture, and nothing else: it may come back from a visitor's browser."""
    return _PICTURE.fullmatch(uri) is not None


def clamped(said: str, most: int = CLAMPED) -> str:
    """A text, of which a long one shows its beginning only, until it is clicked."""
    if len(said) <= most + SPARE:
        return text(said)
    cut = cut_at(said, most)
    return unfolded(said[:cut], tag("span", text(said[cut:])))


def unfolded(start: str, rest: str, classes: str = "cv-clamped") -> str:
    """The plain text `start`, and the HTML `rest` after a click."""
    more = tag("span", "more", "cv-more-word") + tag("span", "less", "cv-less-word")
    shown = tag("span", text(start) + tag("span", " … ", "cv-dots"))
    return tag("details", tag("summary", shown + more) + rest, classes)


def cut_at(said: str, most: int) -> int:
    """Where to cut a text of more than `most` characters: at the end of a word, if there is one."""
    cut = said.rfind(" ", most // 2, most)
    return cut if cut > 0 else most


def disclosed(label: str, content: str) -> str:
    """HTML that is shown after a click on `label`."""
    return tag("details", tag("summary", text(label)) + content, "cv-code")


def error(words: str) -> str:
    """An error message beside a field."""
    return tag("p", text(words), "cv-error", role="alert") if words else ""


def status(words: str) -> str:
    return tag("p", text(words), "cv-status", role="status")


def labelled(choice: str | None, said: str) -> str:
    return f"({choice}) {said}" if choice else said


def lettered(choices: Sequence[str]) -> list[str]:
    """The choices of a question with their letters: "(A) red"."""
    return [labelled(letter, said) for letter, said in zip(choice_letters(len(choices)), choices, strict=True)]


def percent(share: float) -> str:
    """With a no-break space."""
    return f"{share * 100:.0f}\u00a0%"
