"""Renders the Markdown and LaTeX of replies as HTML that is safe to show.

What models write is not trusted: raw HTML stays text, pictures are not loaded, and a list of elements and attributes
that are allowed is applied to the result. Text without markup is shown exactly as it was written.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Sequence
from functools import cache, lru_cache
from xml.etree.ElementTree import Element

import nh3
from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath.index import make_block_func, rules

from .elements import CLAMPED, SPARE, clamped, cut_at, tag, text, unfolded, without_controls, without_templates

_MOST = 6000
"""Characters of a text that is rendered; longer ones stay plain, because hostile ones take long to parse."""
_MOST_LATEX = 1000
_SIGNS = re.compile(r"[*`#|\\$<\[]|^\s*(?:[-+>]|\d+[.)])\s|^ *(?:-{3,}|_{3,}|~{3,})", re.MULTILINE)
"""Texts without any of these have no markup."""
_COMMANDS = re.compile(
    r"\\(?:[dt]?frac|sqrt|pi|theta|alpha|beta|times|cdot|div|pm|leq?|geq?|neq?|approx|infty|circ|overline|angle)(?![a-z])"
)
"""Of formulas without delimiters, which are removed from answers so that they can be compared."""
_TEXT = frozenset({"paragraph_open", "paragraph_close", "text", "text_special", "softbreak", "hardbreak"})
_HTML: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("p", "br", "strong", "em", "code", "pre", "ul", "li", "blockquote", "hr"), ()),
    **dict.fromkeys(("table", "thead", "tbody", "tr", "th", "td"), ()),
    "ol": ("start",),
    "a": ("href", "target"),
}
_MATHML: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("mrow", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup", "mtr"), ()),
    **dict.fromkeys(("mphantom", "merror", "mpadded"), ()),
    **dict.fromkeys(("mi", "mn", "mtext", "ms"), ("mathvariant",)),
    **dict.fromkeys(("munder", "mover", "munderover"), ("accent", "accentunder")),
    "math": ("display",),
    "mo": ("stretchy", "fence", "form", "largeop", "movablelimits", "separator", "minsize", "maxsize"),
    "mspace": ("width", "linebreak"),
    "mstyle": ("displaystyle", "scriptlevel"),
    "mtable": ("columnalign", "columnlines", "rowlines"),
    "mtd": ("columnalign", "columnspan", "rowspan"),
    "menclose": ("notation",),
}
_ALLOWED = {name: set(attributes) for name, attributes in (_HTML | _MATHML).items()}


def rich(said: str, most: int = CLAMPED) -> str:
    """A text of several lines, with its markup rendered. A long one shows its beginning only, until it is clicked."""
    said = said.strip()
    return _rich(said, most, "\n" in said)


def rich_line(said: str, most: int = CLAMPED) -> str:
    """A short text such as an answer: "3." is a number there, not an item of a list, and ``\\sqrt{2}`` a formula."""
    letter, answer = re.fullmatch(r"(\([A-Z]\) )?(.*)", said, re.DOTALL).groups(default="")  # type: ignore[union-attr]
    prose = re.search(r"[^\W\d_]{2}", re.sub(r"\\[A-Za-z]+", " ", answer))
    if not prose and _COMMANDS.search(answer) and len(answer) <= _MOST_LATEX:
        return text(letter) + _rich(rf"\({answer}\)", most, False)
    return _rich(said, most, False)


def is_plain(said: str) -> bool:
    """Whether `rich` leaves the text as it is."""
    return rich(said) == clamped(said.strip())


@lru_cache(maxsize=128)  # a question that is being answered is drawn again and again
def _rich(said: str, most: int, blocks: bool) -> str:
    if len(said) > _MOST or not _SIGNS.search(said):
        return clamped(said, most)
    plain = without_controls(said)
    try:
        tokens = _parser().parse(plain) if blocks else _parser().parseInline(plain)
        if all(token.type in _TEXT for token in _flat(tokens)):
            return clamped(said, most)
        shown = _words(tokens)
        if len(shown) <= most + SPARE:
            return _block(_rendered(tokens), blocks)
        return _folded(tokens, shown, most, blocks)
    except RecursionError:
        return clamped(said, most)


def _folded(tokens: Sequence[Token], shown: str, most: int, blocks: bool) -> str:
    """The first paragraphs or lists that are not too long, or else the beginning in plain text; then all."""
    first, length = 0, 0
    for end, token in enumerate(tokens, 1):
        if token.level or token.nesting == 1:
            continue
        length += len(_words(tokens[first:end]))
        if length > most + SPARE:
            break
        first = end
    if first:
        return _block(_rendered(tokens[:first]), blocks) + unfolded("", _block(_rendered(tokens[first:]), blocks))
    whole = _block(_rendered(tokens), blocks)
    return unfolded(shown[: cut_at(shown, most)], whole, "cv-clamped cv-whole")


def _block(content: str, blocks: bool) -> str:
    return tag("div", content, "cv-rich") if blocks else tag("span", content, "cv-rich")


def _rendered(tokens: Sequence[Token]) -> str:
    parser = _parser()
    markup: str = parser.renderer.render(tokens, parser.options, {})
    clean = nh3.clean(
        markup, tags=set(_ALLOWED), attributes=_ALLOWED, url_schemes={"http", "https"}, url_relative="deny",
        link_rel="noopener noreferrer nofollow",
    )  # fmt: skip
    return without_templates(clean)


def _words(tokens: Sequence[Token]) -> str:
    """The text without its markup."""
    return " ".join("".join(_word(token) for token in _flat(tokens)).split())


def _word(token: Token) -> str:
    return (
        token.content
        if token.content and token.type != "inline"
        else " "
        if token.block or "break" in token.type
        else ""
    )


def _flat(tokens: Sequence[Token]) -> list[Token]:
    """`inline` tokens are replaced by what they contain."""
    return [one for token in tokens for one in (token.children or [] if token.type == "inline" else [token])]


@cache
def _parser() -> MarkdownIt:
    # Without raw HTML, pictures, and links that are defined elsewhere: "[1]: a cat" would vanish.
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 10})
    parser.enable("table").disable(["image", "reference", "entity", "code", "lheading", "html_inline", "html_block"])
    dollarmath_plugin(parser, allow_labels=False, allow_digits=False, allow_space=False, double_inline=True)
    brackets = next(rule for rule in rules["brackets"]["block"] if rule["name"] == "math_block")
    parser.block.ruler.before("fence", "math_block_brackets", make_block_func(brackets))
    parser.inline.ruler.before("escape", "math_brackets", _brackets)
    parser.inline.ruler.before("emphasis", "within_word", _signs_within_words)
    for name in ("math_inline", "math_inline_double", "math_block"):
        parser.add_render_rule(name, _formula)
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("heading_open", lambda *_: "<p><strong>")
    parser.add_render_rule("heading_close", lambda *_: "</strong></p>\n")
    return parser


def _signs_within_words(state: StateInline, silent: bool) -> bool:
    r"""Leave "2*3*4", "x**2" and "__init__" as they are: only asterisks at the edge of a word are markup."""
    sign, start = state.src[state.pos], state.pos
    if sign not in "*_":
        return False
    end = start
    while end < state.posMax and state.src[end] == sign:
        end += 1
    word = string.ascii_letters + string.digits
    within = start > 0 and end < state.posMax and state.src[start - 1] in word and state.src[end] in word
    if sign == "*" and not within:
        return False
    if not silent:
        state.pending += state.src[start:end]
    state.pos = end
    return True


def _brackets(state: StateInline, silent: bool) -> bool:
    r"""``\(…\)`` and ``\[…\]`` within a line. The plugin's own rule takes seconds for a few thousand of ``\(``."""
    kind = {r"\(": "math_inline", r"\[": "math_inline_double"}.get(state.src[state.pos : state.pos + 2])
    if kind is None:
        return False
    end = state.src.find(r"\)" if kind == "math_inline" else r"\]", state.pos)
    if end < 0:
        return False
    if not silent:
        state.push(kind, "math", 0).content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


def _link(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType) -> str:
    tokens[place].attrSet("target", "_blank")
    return renderer.renderToken(tokens, place, options, env)


def _formula(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType) -> str:
    token = tokens[place]
    display = "inline" if token.type == "math_inline" else "block"
    return mathml(token.content.strip(), display)


@lru_cache(maxsize=128)
def mathml(latex: str, display: str) -> str:
    """The formula as MathML, or its source where it cannot be read. `display` is "inline" or "block"."""
    source = tag("code", text(latex))
    if len(latex) > _MOST_LATEX or re.search(r"\\(?:re)?newcommand|\\def", latex):  # a macro can expand without end
        return source
    try:
        return _element(convert_to_element(latex, display=display))
    except Exception:  # of many types: the converter does not document them
        return source


def _element(element: Element) -> str:
    """`element` as HTML. The converter writes characters as references, and leaves `<` in texts unescaped."""
    inside = text(html.unescape(element.text or "")) + "".join(_element(child) for child in element)
    if element.tag not in _MATHML:
        return inside
    attributes = {name: html.unescape(value) for name, value in element.attrib.items()}
    return tag(
        element.tag, inside, **{name: attributes[name] for name in sorted(attributes) if name in _MATHML[element.tag]}
    )
