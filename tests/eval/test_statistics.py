"""Intervals and tests compared with published values; flips and costs on hand-made traces."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colm_vl.types import Call, Decision, Draft, MemberInfo, Refinement, Sent, Settlement, Trace, Usage
from eval.benchmarks.registry import find
from eval.client_answers import ClientAnswer, client_answers
from eval.costs import CallTimes, Cost, CostPoint, Journal, cost, pareto, seconds_of_calls
from eval.flips import FlipCounts, oracle, steps
from eval.report.summary import summarize
from eval.run_folder import Evaluation
from eval.statistics import compare, holm, mcnemar, wilson
from eval.types import Item, Rule


def test_wilson_as_published() -> None:
    # Newcombe 1998, Table I: 81 of 263 gives 0.2553 to 0.3662 (method 3).
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert (round(wilson(0, 20).low, 4), round(wilson(0, 20).high, 4)) == (0.0, 0.1611)


def test_mcnemar_is_the_exact_binomial() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == pytest.approx(2 * 0.5**5)
    assert mcnemar(3, 9) == mcnemar(9, 3) == pytest.approx(0.1459961, abs=1e-6)


def test_holm_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@pytest.mark.parametrize("grades", [st.sampled_from((0.0, 1.0)), st.floats(0, 1).map(lambda grade: round(grade, 2))])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_interval_contains_the_difference_and_is_antisymmetric(
    data: st.DataObject, grades: st.SearchStrategy[float]
) -> None:
    pairs = data.draw(st.lists(st.tuples(grades, grades), min_size=1, max_size=60))
    ones, others = ([pair[side] for pair in pairs] for side in (0, 1))
    there, back = (compare({"a": first, "b": second})[0] for first, second in _ways(ones, others))
    assert there.difference == pytest.approx(-back.difference)
    assert there.p == pytest.approx(back.p)
    for pair in (there, back):
        assert pair.interval.low - 1e-9 <= pair.difference <= pair.interval.high + 1e-9


def test_grades_are_compared_with_the_paired_t_test() -> None:
    """By hand: differences 0.5, 0.2, 0.3, 0 have mean 0.25 and standard error 0.1041; t = 2.402 with 3 degrees."""
    one = {"1": 1.0, "2": 0.6, "3": 0.9, "4": 0.3}
    pair = compare({"base": {"1": 0.5, "2": 0.4, "3": 0.6, "4": 0.3}, "better": one})[0]
    assert (pair.difference, pair.wins, pair.losses) == (pytest.approx(0.25), 3, 0)
    assert pair.p == pytest.approx(0.0957, abs=1e-4)
    assert (pair.interval.low, pair.interval.high) == (
        pytest.approx(-0.0812, abs=1e-4),
        pytest.approx(0.5812, abs=1e-4),
    )


def _ways(ones: list[float], others: list[float]) -> list[tuple[dict[str, float], dict[str, float]]]:
    first, second = ({str(index): one for index, one in enumerate(side)} for side in (ones, others))
    return [(first, second), (second, first)]


def test_comparisons_use_the_questions_that_both_have() -> None:
    pair = compare({"a": {"1": True, "2": True}, "b": {"2": False, "3": True}})[0]
    assert (pair.one, pair.other, pair.items, pair.wins, pair.losses) == ("b", "a", 1, 0, 1)


def test_every_kind_of_flip_is_counted() -> None:
    stood = [
        ClientAnswer(item, "c", round_, answer, correct)
        for item, before, after in (
            ("corrected", ("1", False), ("2", True)),
            ("regressed", ("2", True), ("1", False)),
            ("changed_wrong", ("1", False), ("3", False)),
            ("kept right", ("2", True), ("two", True)),
            ("kept wrong", ("The 1", False), ("1.", False)),
        )
        for round_, (answer, correct) in enumerate((before, after))
    ]
    counts = FlipCounts()
    for step in steps(stood):
        counts.add(step)
    (row,) = counts.rows()
    assert (row.corrected, row.regressed, row.changed_wrong, row.kept_correct, row.kept_wrong) == (1, 1, 1, 1, 1)
    assert row.corrected_rate == pytest.approx(1 / 3)
    assert row.regressed_rate == pytest.approx(1 / 2)


def test_samples_of_one_client_are_not_flips() -> None:
    """In self-consistency, the samples are independent answers."""
    stood = [ClientAnswer("1", "c", 0, answer, answer == "x") for answer in ("x", "y", "x")]
    assert list(steps(stood)) == []


def test_oracle_counts_found_and_missed() -> None:
    drafts = {"a": (True, False), "b": (False, False), "c": (True, True), "d": (False, False)}
    found = oracle(drafts, {"a": False, "b": True, "c": True, "d": False})
    assert (found.items, found.any_correct, found.all_correct, found.correct, found.found, found.missed) == (
        4,
        2,
        1,
        2,
        1,
        1,
    )


def trace(strategy: str, *calls: Call) -> Trace:
    members = (MemberInfo("c", "client", "scripted", "m"), MemberInfo("s", "server", "scripted", "m"))
    return Trace(
        question="?",
        strategy=strategy,
        id="0",
        members=members,
        drafts=(Draft("c", "Answer: 4", "4"),),
        refinements=(Refinement("c", "I cannot say", "", round=1), Refinement("c", "Answer: 5", "5", round=2)),
        gates=(Decision(False, "all agree", round=1),),
        settlement=Settlement("5"),
        calls=calls,
    )


def test_answers_of_every_round_are_scored() -> None:
    item = Item("0", "?", ("5",), "open", groups={"domain": "counting", "question": "count"})
    found = client_answers(find("pocket"), {"0": item}, [trace("colm")], Rule.STRICT)
    assert [(stand.round, stand.answer, stand.correct) for stand in found] == [
        (0, "4", False),
        (1, "4", False),  # an unreadable refinement keeps the previous answer
        (2, "5", True),
    ]


def test_a_shared_draft_costs_every_strategy() -> None:
    made = Call("c", "draft", seconds=2.0, usage=Usage(10, 4, 3))
    guided = Call("s", "guide", round=1, seconds=1.0, usage=Usage(20, 0, 5), sent=Sent(bytes=700))
    first = trace("solo", made)
    second = trace("colm", Call("c", "draft", usage=Usage(10, 4, 3), reused=True), guided)
    found = cost(second, CallTimes(seconds_of_calls([first, second])))
    assert found.seconds == {"draft": 2.0, "guide": 1.0}
    assert (found.calls, found.server_calls, found.skipped, found.bytes) == (2, 1, 1, 700)
    assert found.tokens == 10 + 3 + 20 + 5
    assert found.server_tokens == 25


def test_tokens_do_not_depend_on_what_a_cache_held() -> None:
    cold, warm = (trace("colm", Call("s", "guide", usage=Usage(20, cached, 5))) for cached in (0, 18))
    costs = [cost(one, CallTimes({})) for one in (cold, warm)]
    assert [(one.tokens, one.server_tokens) for one in costs] == [(25, 25)] * 2
    assert [one.cached_tokens for one in costs] == [0, 18]


def test_the_pareto_front_uses_tokens_per_question(tmp_path: Path) -> None:
    """In an interrupted run, the cheaper strategy may have answered more questions."""
    groups = {"domain": "counting", "question": "count"}
    items = {key: Item(key, "?", ("5",), "open", groups=groups) for key in "01"}
    cheap, dear = (Call("c", "draft", usage=Usage(tokens)) for tokens in (10, 15))
    traces = {"vote": tuple(replace(trace("vote", cheap), id=key) for key in items), "solo": (trace("solo", dear),)}
    found = summarize(Evaluation("x", tmp_path, find("pocket"), "test", items, traces))
    assert [one.accuracy for one in found.strategies] == [1.0, 1.0]
    assert found.front == ("vote",)


def test_durations_of_a_killed_run_come_from_its_journal(tmp_path: Path) -> None:
    usage, sent = Usage(10, 4, 3), Sent(bytes=700)
    line = {"key": "0", "member": "c", "stage": "draft", "round": 0, "sample": 0, "usage": [10, 4, 3]}
    lines = [json.dumps(line | {"sent": [700, 0, 0], "seconds": seconds}) for seconds in (1.0, 2.0)]
    (tmp_path / "calls.jsonl").write_text("\n".join([*lines, '{"key": "cut o']))
    again = [trace("solo", Call("c", "draft", usage=usage, sent=sent, reused=True)) for _ in range(2)]
    found = sum((cost(one, CallTimes({}, Journal(tmp_path))) for one in again), Cost())
    assert (found.seconds, found.total_seconds) == ({"draft": 3.0}, 3.0)
    unknown = sum((cost(one, CallTimes({}, Journal(tmp_path / "nowhere"))) for one in again), Cost())
    assert (unknown.seconds, unknown.total_seconds) == ({"draft": None}, None)


def test_the_pareto_front_has_the_points_that_none_dominates() -> None:
    points = [
        CostPoint("dear", 9, 0.9),
        CostPoint("cheap", 1, 0.5),
        CostPoint("beaten", 5, 0.4),
        CostPoint("middle", 5, 0.7),
    ]
    assert [point.name for point in pareto(points)] == ["cheap", "middle", "dear"]
