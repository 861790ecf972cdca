from __future__ import annotations

import re

import pytest

pytest.importorskip("nh3", reason="nh3 is not installed: pip install 'colm-vl[demo]'")

from demos import changes


def unmarked(drawn: str, without: str) -> str:
    """The text of HTML without the elements of that name, and without what is only said to screen readers."""
    drawn = re.sub(f"<{without}>.*?</{without}> ?", "", drawn)
    drawn = re.sub(r'<span class="cv-unseen">.*?</span>', "", drawn)
    return re.sub(r"<[^>]*>", "", drawn)


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        ("a red square and a blue disc", "a red square and a green disc"),
        ("a red square", "two red squares, a red square"),
        ("one two three four", "one four"),
        ("one four", "one two three four"),
        ("one two", "one"),
        ("line one\nline two", "line one\n\nline 2"),
        ("a <b> c", "a <i> c"),
    ],
)
def test_added_and_removed_words_are_marked_and_told(earlier: str, now: str) -> None:
    drawn = changes.differing(earlier, now)
    assert drawn is not None
    added, removed = drawn.count("<ins>"), drawn.count("<del>")
    assert drawn.count('<ins><span class="cv-unseen">added: </span>') == added
    assert drawn.count('<del><span class="cv-unseen">removed: </span>') == removed
    assert added + removed > 0
    assert unmarked(drawn, "del").rstrip() == now.replace("<", "&lt;").replace(">", "&gt;")
    assert unmarked(drawn, "ins").split() == earlier.replace("<", "&lt;").replace(">", "&gt;").split()


def test_changed_words_that_follow_each_other_are_marked_together() -> None:
    drawn = changes.differing("there is a dark window in it", "there is a red door in it")
    assert drawn is not None
    assert "</span>dark window</del>" in drawn
    assert "</span>red door</ins>" in drawn


def test_replies_that_differ_nearly_everywhere_are_shown_unmarked() -> None:
    assert changes.differing("a chart with seven bars", "the picture shows three dogs") is None
    drawn = changes.written("the picture shows three dogs", "a chart with seven bars")
    assert "<ins>" not in drawn
    assert drawn.index("a chart with seven bars") < drawn.index("the picture shows three dogs")
    assert changes.changed("a chart with seven bars", "the picture shows three dogs") == "the picture shows three dogs"


def test_descriptions_with_markup_are_rendered_instead_of_marked() -> None:
    assert "<strong>two</strong>" in changes.changed("one **one**", "one **two**")
    assert "<ins>" in changes.changed("one red dot", "two red dots, one red dot")
    assert changes.changed("one red dot", "one red dot") == "one red dot"


@pytest.mark.parametrize(
    ("earlier", "now"),
    [("a b " * 900, "b a c " * 600), ("a " * 1900 + "c", "b " + "a " * 1900), ("a " * 3000, "b " * 3000)],
)
def test_long_replies_that_repeat_themselves_are_not_compared(earlier: str, now: str) -> None:
    assert changes.differing(earlier, now) is None
    assert "<ins>" not in changes.written(now, earlier)
