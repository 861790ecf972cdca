"""Replies that are JSON objects: complete, incomplete, and streamed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colm_vl.prompts.json_fields import StreamedFields, as_lines, find_answer, is_complete, read_fields

WHOLE = '{"caption": "two \\"red\\" dots", "answer": "2", "confidence": 87}'


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        WHOLE.replace(", ", ",\n  "),
        f"```json\n{WHOLE}\n```",
        f"\n {WHOLE} I hope this helps.",
        WHOLE.replace("caption", "Caption"),
        WHOLE.replace("87", "87.0"),
    ],
)
def test_an_object_is_read_however_it_is_wrapped(text: str) -> None:
    fields = read_fields(text)
    assert fields is not None
    assert (fields["caption"], fields["answer"]) == ('two "red" dots', "2")
    assert float(fields["confidence"]) == 87


@pytest.mark.parametrize("text", ["Answer: 5", "", "The set {1, 2} has two.", "{1, 2}", "[1]", '"5"', "{'answer': 5}"])
def test_what_is_no_object_is_none(text: str) -> None:
    assert not read_fields(text)


def test_line_breaks_within_a_text_do_not_spoil_it() -> None:
    assert read_fields('{"caption": "one\ntwo", "answer": "A"}') == {"caption": "one two", "answer": "A"}


def test_what_is_cut_off_is_read_as_far_as_it_goes() -> None:
    for end in range(1, len(WHOLE)):
        fields = read_fields(WHOLE[:end])
        assert fields is not None
        assert not is_complete(WHOLE[:end])
        for name, said in fields.items():
            assert {"caption": 'two "red" dots', "answer": "2", "confidence": "87"}[name].startswith(said)
    assert is_complete(WHOLE)
    assert is_complete(f"```json\n{WHOLE}\n```")
    assert is_complete(f"{WHOLE} I hope that this helps.")


def test_other_kinds_of_values_are_texts() -> None:
    read = read_fields('{"answer": true, "check": ["a", "b"], "evidence": null, "caption": 5, "other": "x"}')
    assert read == {"answer": "yes", "check": "a, b", "caption": "5"}


def test_the_answer_is_found_where_it_stands() -> None:
    text = '{"caption": "\\"answer\\": \\"9\\"", "answer": "the \\"2\\"", "confidence": 87}'
    start, end = find_answer(text) or (0, 0)
    assert text[start:end] == 'the \\"2\\"'
    assert find_answer('{"answer": 42}') == (11, 13)
    assert find_answer('{"caption": "x"}') is None


@given(
    st.dictionaries(
        st.sampled_from(["caption", "answer", "confidence", "check"]), st.one_of(st.text(), st.integers()), min_size=1
    ),
    st.booleans(),
    st.data(),
)
def test_a_stream_shows_the_same_as_the_whole(
    fields: dict[str, str | int], ascii_only: bool, data: st.DataObject
) -> None:
    text = json.dumps(fields, ensure_ascii=ascii_only)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    stream, shown = StreamedFields(), ""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        shown += stream.push(text[start:end])
    shown += stream.flush()
    read = read_fields(text)
    assert shown == (as_lines(read) if read else text)


def test_a_stream_shows_each_field_as_it_grows() -> None:
    stream = StreamedFields()
    shown = [stream.push(piece) for piece in ('{"cap', 'tion": "tw', "o do", 'ts", "ans', 'wer": "2', '"}')]
    assert shown == ["", "Caption: tw", "o do", "ts", "\nAnswer: 2", ""]


def test_a_stream_of_lines_is_shown_as_it_comes() -> None:
    stream = StreamedFields()
    assert [stream.push(piece) for piece in (" ", "Answer", ": {5}")] == ["", " Answer", ": {5}"]
    assert stream.flush() == ""
    odd = StreamedFields()
    assert odd.push("``") + odd.push("x") + odd.flush() == "``x"
