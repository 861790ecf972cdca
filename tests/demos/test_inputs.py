from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from colm_vl import ClientReply, Decision
from colm_vl.gates import Gate
from demos.batch_questions import MAX_QUESTIONS, read_batch
from demos.inputs import (
    GATES,
    VOTE,
    FieldError,
    Limits,
    Settings,
    gate_options,
    in_force,
    read_choices,
    read_query,
    strategies,
    strategy_choices,
)
from tests.teams import FIVE, scripted

LIMITS = Limits(pictures=2, bytes=2000, pixels=84 * 56, characters=20)


@pytest.fixture
def picture(tmp_path: Path, dots_png: bytes) -> Path:
    file = tmp_path / "dots.png"
    file.write_bytes(dots_png)
    return file


def test_a_question_is_read(picture: Path) -> None:
    query = read_query(" How many? ", [picture], read_choices("three\n\n four \n"), LIMITS)
    assert (query.question, query.choices, len(query.images)) == ("How many?", ("three", "four"), 1)


def test_strategies_are_named_in_words() -> None:
    assert strategy_choices(["vote", "solo:charts"]) == [
        ("Clients draft, the majority counts (vote)", "vote"),
        ("charts alone (solo:charts)", "solo:charts"),
    ]


def test_errors_name_their_field(picture: Path, tmp_path: Path) -> None:
    broken, large = tmp_path / "broken.png", tmp_path / "large.png"
    broken.write_bytes(b"nonsense")
    large.write_bytes(picture.read_bytes() + b"\0" * 2000)
    narrow = Limits(pixels=100)
    for field, words, arguments in (
        ("question", "Write a question", (" ", [], (), LIMITS)),
        ("question", "At most 20 characters", ("x" * 21, [], (), LIMITS)),
        ("pictures", "At most 2 pictures", ("How?", [picture] * 3, (), LIMITS)),
        ("pictures", "broken.png", ("How?", [broken], (), LIMITS)),
        ("pictures", "large.png has", ("How?", [large], (), LIMITS)),
        ("pictures", "pixels", ("How?", [picture], (), narrow)),
        ("choices", "expected none or 2", ("How?", [], ("one",), LIMITS)),
    ):
        with pytest.raises(FieldError, match=words) as told:
            read_query(*arguments)  # type: ignore[arg-type]
        assert told.value.field == field


def test_settings_hold_the_teams_policy_until_they_are_changed() -> None:
    with scripted({"one": [FIVE]}, [FIVE], gate={"confidence": 0.7}, asker="one") as colm:
        own = Settings.of(colm.team)
        assert own.changes(colm.team) == {}
        changed = Settings("vote", VOTE, 2, GATES[1], 0.5, "captions").changes(colm.team)
        assert changed == {
            "strategy": "vote", "settle": "vote", "rounds": 2, "gate": "disagreement", "share": "captions",
        }  # fmt: skip
        with pytest.raises(FieldError, match="rounds"):
            Settings("vote", VOTE, 99, GATES[1], 0.5, "captions").changes(colm.team)
        with pytest.raises(FieldError):
            Settings("vote", VOTE, 1, "never", 0.5, "captions").changes(colm.team)


class EveryOther(Gate):
    """A gate of another package."""

    name = "every_other"

    @override
    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        return Decision(True, "its turn")


class WithSettings(EveryOther):
    every: int = 2
    confidence: float = 0.5


@pytest.mark.parametrize("gate", [EveryOther(), WithSettings()])
def test_a_gate_without_an_option_is_kept_until_another_is_chosen(gate: Gate) -> None:
    with scripted({"one": [FIVE]}, [FIVE], gate=gate) as colm:
        own = Settings.of(colm.team)
        assert own.changes(colm.team) == {}
        assert gate_options(colm.team) == (own.gate, *GATES)
        assert f"server asked {own.gate}" in in_force(colm.team)
        assert replace(own, gate=GATES[0]).changes(colm.team) == {"gate": "always"}
    with scripted({"one": [FIVE]}, [FIVE]) as colm:
        assert gate_options(colm.team) == GATES


@pytest.mark.parametrize(
    ("policy", "shown", "to_vote", "to_two"),
    [
        ({}, VOTE, {}, {"asker": "two", "settle": "asker"}),
        ({"asker": "two"}, "two", {"settle": "vote"}, {}),
        ({"asker": "two", "settle": "vote"}, VOTE, {}, {"settle": "asker"}),
        ({"settle": "asker"}, "one", {"settle": "vote"}, {"asker": "two"}),
    ],
)
def test_whose_answer_counts_is_what_the_run_does(
    policy: dict[str, Any], shown: str, to_vote: dict[str, Any], to_two: dict[str, Any]
) -> None:
    with scripted({"one": [FIVE], "two": [FIVE]}, [FIVE], **policy) as colm:
        own = Settings.of(colm.team)
        assert (own.asker, own.changes(colm.team)) == (shown, {})
        assert replace(own, asker=VOTE).changes(colm.team) == to_vote
        assert replace(own, asker="two").changes(colm.team) == to_two
        assert (f"{shown}'s answer counts" in in_force(colm.team)) == (shown != VOTE)
        assert in_force(colm.team.with_policy(strategy="vote")) == ("vote",)


def test_only_strategies_that_the_team_can_carry_out_are_offered() -> None:
    with scripted({"one": [FIVE]}, None, strategy="vote") as colm:
        assert "colm" not in strategies(colm.team)
        assert Settings.of(colm.team).gate == "always"


def test_a_batch_of_pictures_has_one_question(picture: Path) -> None:
    questions = read_batch(None, [str(picture)], "How many?", LIMITS)
    (query,) = questions
    assert (query.id, query.question, len(query.images)) == ("dots.png", "How many?", 1)


def test_a_file_names_uploads_and_never_reads_another_file(picture: Path, tmp_path: Path, dots_png: bytes) -> None:
    secret = tmp_path / "elsewhere" / "secret.png"
    secret.parent.mkdir()
    secret.write_bytes(dots_png)
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"question": "How many?", "images": [str(secret)]}))
    with pytest.raises(FieldError, match=r"line 1 names the picture “secret\.png”, which was not uploaded"):
        read_batch(str(file), [str(picture)], "", LIMITS)
    file.write_text(json.dumps({"id": 7, "question": "How many?", "image": f"../../{picture.name}"}))
    (query,) = read_batch(str(file), [str(picture)], "", LIMITS)
    assert (query.id, query.images[0].source) == ("7", "dots.png")


def test_errors_in_a_batch_file_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    good = json.dumps({"id": "a", "question": "How many?"})
    for written, words in (
        ("", "no questions"),
        (good + "\nnonsense", "questions.jsonl, line 2: is not valid JSON"),
        (good + '\n{"image": "x.png"}', "line 2: the question is missing"),
        (good + "\n" + good, "line 2: the id 'a' was used before"),
    ):
        file.write_text(written)
        with pytest.raises(FieldError, match=words):
            read_batch(str(file), [], "", LIMITS)
    with pytest.raises(FieldError, match="Give a file of questions"):
        read_batch(None, [], "How many?", LIMITS)


def test_tables_and_right_answers_are_read(tmp_path: Path, picture: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("id,question,image,choices,answer\nq1,How many?,dots.png,,4\nq2,Which?,,cat|dog,B\nq3,Why?,,,\n")
    questions = read_batch(str(file), [str(picture)], "", LIMITS)
    assert questions.truths == {"q1": "4", "q2": "dog"}
    assert [len(query.images) for query in questions] == [1, 0, 0]
    file.write_text(f"id,question\nq1,{'x' * 30}\n")
    with pytest.raises(FieldError, match="line 2: a question may have at most 20 characters") as told:
        read_batch(str(file), [], "", LIMITS)
    assert told.value.field == "file"


def test_a_batch_of_any_size_is_answered_at_once(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text("nonsense\n" * (MAX_QUESTIONS + 1))
    with pytest.raises(FieldError, match="At most 1,000 questions are allowed; there are 1,001"):
        read_batch(str(file), [], "", LIMITS)
    for written in ("[" * 100_000, "9" * 10_000):
        file.write_text(written)
        with pytest.raises(FieldError, match="line 1: is n"):
            read_batch(str(file), [], "", LIMITS)


def test_only_line_feeds_separate_lines(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    lines = [json.dumps({"question": f"How many?{char}So?"}, ensure_ascii=False) for char in "\u2028\u2029\x85"]
    file.write_text("\r\n".join(lines), "utf-8", newline="")
    assert [line.question for line in read_batch(str(file), [], "", LIMITS).lines] == [
        f"How many?{char}So?" for char in "\u2028\u2029\x85"
    ]


def test_pictures_of_the_same_name_are_refused(picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / picture.name
    other.parent.mkdir()
    other.write_bytes(picture.read_bytes())
    with pytest.raises(FieldError, match=r"Two pictures are called “dots\.png”"):
        read_batch(None, [str(picture), str(other)], "How many?", LIMITS)


def test_an_unusable_picture_is_skipped_and_reported(picture: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nonsense")
    questions = read_batch(None, [str(broken), str(picture)], "How many?", LIMITS)
    assert [query.id for query in questions] == ["dots.png"]
    assert "broken.png" in questions.skipped[0]
