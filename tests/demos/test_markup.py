from __future__ import annotations

from html.parser import HTMLParser

import pytest
from typing_extensions import override

pytest.importorskip("nh3", reason="nh3 is not installed: pip install 'colm-vl[demo]'")
pytest.importorskip("latex2mathml", reason="latex2mathml is not installed: pip install 'colm-vl[demo]'")
pytest.importorskip("mdit_py_plugins", reason="mdit-py-plugins is not installed: pip install 'colm-vl[demo]'")

from demos import elements, markup

HOSTILE = (
    "**a** <script>alert(1)</script>",
    "**a** <img src=x onerror=alert(1)>",
    "**a** <svg/onload=alert(1)>",
    "[a](javascript:alert(1)) [b](JaVaScRiPt&colon;alert(1)) [c](data:text/html,<script>) [d](vbscript:x) **a**",
    "<javascript:alert(1)> [relative](/admin) [host](//evil.example/x) **a**",
    '[a](http://x.example/"onmouseover="alert(1)) **a** [b](http://x.example "onclick=alert(1)")',
    "![a](http://x.example/pixel.png) ![b][c]\n\n[c]: http://x.example/pixel.png",
    r"$\text{<script>alert(1)</script>}$ $\text{&lt;img src=x onerror=alert(1)&gt;}$",
    r"$\href{javascript:alert(1)}{x}$ $\style{background:url(http://x.example)}{x}$ $\class{cv-card}{x}$",
    r"$\mathrm{</mrow></math><img src=x onerror=alert(1)>}$",
    r"$\begin{array}{c\" onclick=\"alert(1)}x\end{array}$ $\hspace{1em\" onload=\"alert(1)}$",
    "```<script>\n</code></pre><script>alert(1)</script>\n```\n**a**",
    "**${alert(1)}** {{constructor}} `${alert(1)}` [a](http://x.example/${alert}) $${x}$$ $\\text{\\${x}}$",
    "**a** &#x202e;&lt;script&gt; \u202e\x00",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math> **a**",
)
HUGE = ("[", "*a ", "**a ", r"\(", r"\[", "$a", "$$a", "> ", "<", "[a](", "`", "|", "{", "$x$ ", "- ")


class Elements(HTMLParser):
    """Collects the elements and attributes of HTML."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("said", HOSTILE)
@pytest.mark.parametrize("render", [markup.rich, markup.rich_line])
def test_nothing_hostile_is_left(said: str, render: object) -> None:
    assert callable(render)
    drawn = render(said)
    assert not {"$", "{", "}", "\u202e", "\x00"} & set(drawn)
    for name, attributes in Elements(drawn).found:
        assert name not in {"script", "img", "svg", "style", "iframe", "form", "input", "mglyph", "table"}
        assert not {one for one in attributes if one.startswith("on") or one in ("style", "src", "id", "xlink:href")}
        if name == "a" and "href" in attributes:
            assert str(attributes["href"]).startswith(("http://", "https://"))
            assert attributes["rel"] == "noopener noreferrer nofollow"
            assert attributes["target"] == "_blank"
        if "href" in attributes:
            assert name == "a"


@pytest.mark.parametrize("piece", HUGE)
def test_any_length_of_signs_is_drawn(piece: str) -> None:
    for count in (3000 // len(piece), 100_000 // len(piece)):
        assert len(markup.rich("**a**\n\n" + piece * count)) < 40 * count * len(piece)
    assert markup.rich("$" + piece * (900 // len(piece)) + "$")


@pytest.mark.parametrize(
    "said",
    [
        "July", "3.", "- 5", "# 5", "> 5", "5 * 3 * 2", "2*3*4", "x**2 + y**2", "__init__ and a_b_c", "$5 and $6",
        "a\nb\n\nc", "AT&amp;T <b>", "[1]: a cat", "C:\\dir\\*", "a | b", "1 < 2 > 0",
    ],
)  # fmt: skip
def test_text_without_markup_is_shown_as_it_is(said: str) -> None:
    assert markup.rich(said) == elements.text(said)
    assert markup.rich_line(said) == elements.text(said)


def test_markdown_is_rendered() -> None:
    drawn = markup.rich(
        "## Steps\n1. **bold** and *italic*\n2. `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[x](https://y.example)"
    )
    for expected in (
        "<p><strong>Steps</strong></p>", "<li><strong>bold</strong> and <em>italic</em></li>", "<code>code</code>",
        "<td>2</td>", '<a href="https://y.example"',
    ):  # fmt: skip
        assert expected in drawn


_HALF = r"\frac{1}{2}"


@pytest.mark.parametrize(
    "said", [f"so ${_HALF}$", rf"so \({_HALF}\)", rf"so \[{_HALF}\]", f"so\n$$\n{_HALF}\n$$", f"so\n\\[\n{_HALF}\n\\]"]
)
def test_formulas_become_mathml(said: str) -> None:
    drawn = markup.rich(said)
    assert "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>" in drawn
    assert ('display="block"' in drawn) == (r"\[" in said or "$$" in said)


@pytest.mark.parametrize("latex", [r"\left( a", r"\newcommand{\a}{\a\a}\a", "x" * 1001])
def test_a_formula_that_cannot_be_rendered_is_shown_as_its_source(latex: str) -> None:
    assert f"<code>{elements.text(latex)}</code>" in markup.rich(f"${latex}$")


@pytest.mark.parametrize("answer", [r"\frac{1}{2}", r"x = \sqrt{2}", r"(B) 3\pi", r"90^\circ"])
def test_an_answer_that_is_a_formula_needs_no_delimiters(answer: str) -> None:
    drawn = markup.rich_line(answer)
    assert "<math" in drawn
    assert drawn.startswith("(B) ") == answer.startswith("(B)")


@pytest.mark.parametrize("answer", [r"C:\dir", r"\frac{1}{2} of the houses", r"\n", "x^2"])
def test_other_answers_with_backslashes_are_no_formulas(answer: str) -> None:
    assert markup.rich_line(answer) == elements.text(answer)


def test_long_texts_are_folded_between_paragraphs_or_begin_in_plain_text() -> None:
    paragraph = "**one** " + "word " * 40
    folded = markup.rich(f"{paragraph}\n\n{paragraph}\n\n{paragraph}")
    assert folded.index("<strong>one</strong>") < folded.index("<details") < folded.rindex("<strong>one</strong>")
    long = markup.rich_line("**one** " + "word " * 100)
    assert long.startswith("<details")
    assert "<summary><span>one word" in long
    assert "<strong>one</strong>" in long[long.index("</summary>") :]
