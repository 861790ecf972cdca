from __future__ import annotations

import pytest

pytest.importorskip("nh3", reason="nh3 is not installed: pip install 'colm-vl[demo]'")

from colm_vl import Trace
from colm_vl.boxes import Scale
from demos import costs, draw
from demos.view import Size, View, calls_avoided
from tests.teams import FIVE, FOUR, GUIDANCE, scripted

EVIL = "Caption: <img src=x onerror=alert(1)>\nAnswer: <script>alert(1)</script> ${a} {{b}}\nConfidence: 50"


def ask(question: str = "How many dots?", **policy: object) -> tuple[View, Trace]:
    """A view after all events, and the trace."""
    with scripted({"one": [FOUR, FIVE], "two": [FIVE]}, [GUIDANCE], **policy) as colm:
        view = View.begin(colm.team, colm.team.policy.strategy, question)
        for event in colm.stream(question):
            view.take(event)
    assert view.trace is not None
    return view, view.trace


def test_text_leaves_no_markup_and_no_template() -> None:
    drawn = draw.text('<b a="1">&\'${x} {{y}}\u202e\x07')
    assert not set("<>\"'${}\u202e\x07") & set(drawn)


def test_nothing_of_a_reply_is_markup() -> None:
    with scripted({"one": [EVIL]}, [EVIL]) as colm:
        trace = colm.ask("<u>How many?</u>")
    view = View.from_trace(trace, ['data:image/png;base64,"><script>'])
    html = draw.answer(view) + draw.columns(view) + costs.account(trace)
    html += costs.comparison(costs.compared([trace]), "<i>")
    for tag in ("<img src=x", "<script", "<u>", "<i>", "${", "{{"):
        assert tag not in html


def test_boxes_are_drawn_on_the_picture_as_the_latest_reply_gives_them() -> None:
    box = '{{"bbox_2d": [{}], "label": "{}"}}'
    draft = "Caption: " + box.format("0, 0, 100, 100", "first") + "\nAnswer: 4"
    refined = "Caption: " + box.format("250, 500, 500, 900", "</svg><script>$(x)") + "\nAnswer: 5"
    guide = "Evidence: " + box.format("0, 0, 500, 500", "corner")
    with scripted({"one": [{"when": "Guidance", "text": refined}, draft], "two": [FIVE]}, [guide]) as colm:
        view = View.from_trace(colm.ask("How many?"))
    uri = "data:image/png;base64,xyz"
    assert "<svg" not in draw.pictures([uri], view)
    view.size, view.scales = Size(400, 300), {"one": Scale(1000, 1000), "server": Scale(500, 1000)}
    drawn = draw.pictures([uri], view)
    assert 'class="cv-box-0"' in drawn
    assert 'x="25.00%" y="50.00%" width="25.00%" height="40.00%"' in drawn
    assert 'x="0.00%" y="0.00%" width="100.00%" height="50.00%"' in drawn
    assert "first" not in drawn
    assert "<script" not in drawn
    assert "$" not in drawn
    assert "one: &lt;/svg&gt;" in drawn
    assert "server: corner" in drawn
    assert "<svg" not in draw.pictures([uri, uri], view)


def test_formulas_in_answers_are_rendered_wherever_the_answer_is_shown() -> None:
    with scripted({"one": [r"Answer: \(\frac{1}{2}\)"]}, [GUIDANCE]) as colm:
        trace = colm.ask("How much?")
    view = View.from_trace(trace)
    assert draw.answer(view).count("<mfrac>") == 1
    assert draw.columns(view).count("<mfrac>") == 4  # the draft, the refined answer, and what came before each of them
    assert "<mfrac>" in costs.comparison(costs.compared([trace]), "")
    assert "<mfrac>" in costs.blind_comparison([trace])


def test_a_change_is_a_correction_only_where_the_right_answer_is_known() -> None:
    view, _ = ask()
    refinement = view.refinements[1, "one"]
    assert view.mark(refinement) == "changed"
    view.truth = "5"
    assert view.mark(refinement) == "corrected"
    assert view.mark(view.refinements[1, "two"]) == "kept"
    assert "before: 4" in draw.columns(view)


def test_a_trace_is_drawn_like_its_events() -> None:
    view, trace = ask(rounds=2)
    again = View.from_trace(Trace.from_dict(trace.to_dict()))
    assert draw.columns(again) == draw.columns(view)
    assert draw.answer(again) == draw.answer(view)


@pytest.mark.parametrize(
    "strategy", ["colm", "concat", "solo:two", "server", "vote", "self_consistency", "verdict", "moa"]
)
def test_every_strategy_can_be_drawn_at_every_moment(strategy: str) -> None:
    with scripted({"one": [FOUR], "two": [FIVE]}, [FIVE]) as colm:
        view = View.begin(colm.team, strategy, "How many dots?")
        for event in colm.stream("How many dots?", strategy=strategy):
            view.take(event)
            assert draw.answer(view)
            assert draw.columns(view)
    assert "cv-busy" not in draw.answer(view) + draw.columns(view)
    assert view.trace is not None
    assert "5" in draw.answer(view) or "4" in draw.answer(view)


def test_a_stopped_question_shows_finished_replies_only() -> None:
    with scripted({"one": [FOUR], "two": [FIVE]}, [GUIDANCE]) as colm:
        view = View.begin(colm.team, "colm", "How many dots?")
        for event in colm.stream("How many dots?"):
            view.take(event)
            if view.drafts:
                break
    view.stop()
    assert "Stopped" in draw.answer(view)
    assert "cv-busy" not in draw.columns(view)
    assert "no reply" in draw.columns(view)


def test_failures_are_shown_in_words_without_the_operators_addresses() -> None:
    refused = {"error": "unreachable", "text": "nothing answers at http://10.0.0.1:8000/v1 (KEY_OF_OURS)"}
    with scripted({"one": [refused], "two": [FIVE]}, [GUIDANCE]) as colm:
        view = View.from_trace(colm.ask("How many dots?"))
    assert "one could not be reached." in draw.columns(view)
    assert "10.0.0.1" not in draw.columns(view) + draw.answer(view)
    assert view.trace is not None
    account = costs.account(view.trace)
    assert "1 of them failed" in account
    assert account.count("<tr>") == 1 + len(view.trace.calls) + 1
    assert "one failed" in draw.answer(view)


@pytest.mark.parametrize(
    ("replies", "policy", "told"),
    [
        (
            ["4", "4", "4", "5", "5", "6", "6"],
            {"strategy": "self_consistency", "samples": 7},
            "3 of 7 agree; 2 say 5; 2 say 6",
        ),
        (["4"] * 7, {"strategy": "self_consistency", "samples": 7}, "All 7 agree"),
    ],
)
def test_samples_of_one_client_are_counted_as_votes(replies: list[str], policy: dict[str, object], told: str) -> None:
    with scripted({"one": [f"Answer: {reply}" for reply in replies]}, None, **policy) as colm:
        view = View.from_trace(colm.ask("How many dots?"))
    assert told in draw.answer(view)


@pytest.mark.parametrize(
    ("fail", "told"), [(3, "2 of 5 agree, 3 gave no answer"), (4, "Only five answered"), (0, "All 5 agree")]
)
def test_agreement_counts_clients_that_gave_no_answer(fail: int, told: str) -> None:
    names = ("one", "two", "three", "four", "five")
    clients = {
        name: [{"error": "refused", "text": "no"}] if place < fail else [FIVE] for place, name in enumerate(names)
    }
    with scripted(clients, None, strategy="vote") as colm:
        view = View.from_trace(colm.ask("How many dots?"))
    assert told in draw.answer(view)


def test_an_unreadable_refinement_is_no_changed_answer() -> None:
    refined = {"when": "Guidance from", "text": "Caption: dots"}
    with scripted({"one": [refined, FIVE]}, [GUIDANCE]) as colm:
        view = View.from_trace(colm.ask("How many dots?"))
    assert "gave no readable answer, so its earlier one counts" in draw.columns(view)
    assert "changed its answer" not in draw.columns(view)


def test_joiners_are_kept_and_the_direction_of_text_is_its_own() -> None:
    persian, family = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469"
    assert draw.text(persian) == persian
    with scripted({"one": [f"Answer: {persian}"]}, None, strategy="vote") as colm:
        view = View.from_trace(colm.ask(family))
    html = draw.answer(view) + draw.columns(view)
    assert family in html
    assert f'dir="auto">{persian}' in html


def test_the_timeline_adds_up_to_the_tokens_read() -> None:
    cached = {"text": FIVE, "prompt_tokens": 100, "cached_tokens": 60}
    with scripted({"one": [cached]}, None, strategy="vote") as colm:
        html = costs.account(colm.ask("How many dots?"))
    assert html.count(">40<") == 2  # the tile, and the row of the call


def test_avoided_calls_are_counted() -> None:
    with scripted({"one": [FIVE], "two": [FIVE], "three": [FIVE]}, [GUIDANCE], gate="disagreement") as colm:
        trace = colm.ask("How many dots?")
    assert calls_avoided(trace) == {"agreed": 4}
    assert "4 avoided" in costs.account(trace)
    assert "The server was not asked" in draw.columns(View.from_trace(trace))


def test_a_strategy_that_shares_drafts_is_charged_for_their_time() -> None:
    slow = {"text": FIVE, "delay": 0.1}
    with scripted({"one": [slow], "two": [slow]}, [GUIDANCE]) as colm:
        rows = costs.compared(colm.compare("How many dots?", ["solo:one", "vote", "colm"]))
    assert all(row.seconds >= 0.1 for row in rows)
    table = costs.comparison(rows, "5")
    assert "1 of 1 single models were right" in table
    assert "the team&#x27;s answer is right" in table


def test_strategies_without_an_answer_are_one_row_of_a_blind_comparison() -> None:
    with scripted({"one": [FIVE]}, strategy="vote") as colm:
        answered = colm.ask("How many dots?")
    silent = Trace("How many dots?", "vote")
    html = costs.blind_comparison([silent, answered, silent])
    assert html.count("<li>") == 2
    assert "no answer</span> from 2 of 3" in html


def test_a_picture_of_the_browser_is_a_data_uri_and_nothing_else() -> None:
    good = "data:image/png;base64,AAAA"
    assert good in draw.pictures([good])
    for bad in (f"{good}${{x}}", f'{good}" onerror="x', "https://a.org/b.png"):
        assert draw.pictures([bad]) == ""
