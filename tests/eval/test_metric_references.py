"""Metrics compared with reference implementations on generated replies: docs/metrics.md lists the figures.

The references are not part of this project. `COLM_VL_REFERENCES` names a folder with clones of their repositories.
With `-rP`, pytest prints how many replies are graded differently, by kind.
"""

from __future__ import annotations

import ast
import collections
import copy
import logging
import os
import random
import re
import string
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from colm_vl.answers import normalize
from eval.metrics.base import Gold, GradingMetric
from eval.metrics.registry import find
from eval.scoring.lenient import parse_choice

LETTERS = string.ascii_uppercase
logger = logging.getLogger(__name__)

REPLIES = 5_000
MATH_REPLIES = 2_000
BOTTOMS = (1, 1, 2, 3, 4, 5, 7, 20)
REFERENCES = "COLM_VL_REFERENCES"
PUNCTUATION = "VLMEvalKit/vlmeval/smp/misc.py"
VLMEVALKIT = "VLMEvalKit/vlmeval/dataset/utils/vqa_eval.py"
MATCHING = "VLMEvalKit/vlmeval/utils/matching_util.py"
SQUAD = "evaluate/metrics/squad_v2/compute_score.py"
OCRBENCH = "MultimodalOCR/OCRBench/example.py"
VQA = "VQA/PythonEvaluationTools/vqaEvaluation/vqaEval.py"
MATH = "math/modeling/math_equivalence.py"
NAMES = {"re": re, "string": string, "os": os, "collections": collections, "Optional": Optional}
"""What the reference functions import from the standard library."""

Case = tuple[str, list[str]]
"""A reply and the accepted answers."""


@dataclass(frozen=True)
class Choice:
    reply: str
    options: tuple[str, ...]
    letter: str


# --- the references ---


def parsed(file: str) -> ast.Module:
    path = Path(os.environ.get(REFERENCES, "")) / file
    if REFERENCES not in os.environ or not path.exists():
        pytest.skip(f"{REFERENCES} names no folder with {file}: see docs/metrics.md")
    text = path.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # invalid escapes
        return ast.parse(re.sub(r"^(\s*)print .*$", r"\1pass", text, flags=re.MULTILINE))  # Python 2


def reference(file: str, name: str, **needed: Any) -> Callable[..., Any]:
    """A function or class of a reference implementation. Its file's functions, classes and constants that are regular
    expressions are executed, but not its imports."""
    scope: dict[str, Any] = {**NAMES, **needed}
    for node in parsed(file).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) or _is_regex(node):
            with suppress(NameError):  # what needs another import is not called
                exec(compile(ast.Module([node], []), file, "exec"), scope)
    found: Callable[..., Any] = scope[name]
    return found


def _is_regex(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and "re.compile" in ast.unparse(node.value)


def graded(metric: str, reply: str, accepted: list[str], choices: tuple[str, ...] = ()) -> float:
    chosen = find(metric)
    assert isinstance(chosen, GradingMetric)
    return chosen.grade(reply, Gold(tuple(accepted), choices))


# --- generated replies ---

WORDS = (
    "a", "the", "An", "cat", "cats", "CAT", "tree", "12", "12.5", "12,5", "5%", "6%", "0", "0.0", "nan", "%", "-3", "",
)  # fmt: skip
GLUE = (" ", "  ", "-", ". ", "", "\n", ", ")


def generated(words: tuple[str, ...] = WORDS) -> Iterator[Case]:
    """Replies and accepted answers, many of them near to each other."""
    chance = random.Random(0)

    def text() -> str:
        parts = [chance.choice(words) + chance.choice(GLUE) for _ in range(chance.randint(0, 3))]
        return "".join(parts) + chance.choice(words)

    def near(text: str) -> str:
        if chance.random() < 0.5 and text:
            place = chance.randrange(len(text))
            return text[:place] + chance.choice("xA 5.%") + text[place + 1 :]
        return text

    def number() -> str:
        return f"{chance.uniform(-2, 2) * 10 ** chance.randint(-2, 3):.2f}" + chance.choice(["", "", "%"])

    for turn in range(REPLIES):
        if turn % 4 == 0:
            gold = number()
            bare, percent = gold.rstrip("%"), "%" * gold.endswith("%")
            yield f"{float(bare) * chance.uniform(0.9, 1.1):.3f}{percent}", [gold]
        else:
            accepted = [text() for _ in range(chance.randint(1, 3))]
            yield near(chance.choice(accepted)) if chance.random() < 0.8 else text(), accepted


ANNOTATED = (
    "A cat", "cat.", "two", "2", "dont", "don't know", "1,000", "1000", "red/blue", "red blue", "yes!", "3.5", "'twas",
)  # fmt: skip
CONTRACTIONS = ("dont", "shouldntve", "shouldn'tve", "twas", "'ow'sat", "somebody'd", "yall'd've", "shes", "Ive")


def annotated() -> Iterator[Case]:
    """Replies with the answers of ten annotators."""
    chance = random.Random(1)
    for _ in range(REPLIES):
        pool = chance.sample([*ANNOTATED, *CONTRACTIONS], chance.choice([1, 4, 4, 4]))
        answers = [chance.choice(pool) for _ in range(10)]
        yield chance.choice([*pool, *pool, *ANNOTATED]) + chance.choice(["", "", ".", " ?", ", the"]), answers


# --- metrics that equal their references ---


def test_anls_equals_its_reference() -> None:
    compute = reference(VLMEVALKIT, "anls_compute")
    for reply, accepted in generated():
        similarity = 1 - min(compute(one, reply) for one in accepted)
        expected = similarity if similarity >= 0.5 else 0
        assert graded("anls", reply, accepted) == pytest.approx(expected), (reply, accepted)


def test_numeric_equals_its_reference() -> None:
    compute = reference(VLMEVALKIT, "relaxed_correctness")
    correct = 0.0
    for reply, accepted in generated():
        expected = max(compute(one.strip(), reply.strip()) for one in accepted)
        assert graded("numeric", reply, accepted) == expected, (reply, accepted)
        correct += expected
    assert 0.2 * REPLIES < correct < 0.8 * REPLIES


def test_f1_equals_its_reference() -> None:
    compute = reference(SQUAD, "compute_f1")
    for reply, accepted in generated():
        expected = max(compute(one, reply) for one in accepted)
        assert graded("f1", reply, accepted) == pytest.approx(expected), (reply, accepted)


def test_contains_equals_its_reference() -> None:
    """The script has no function for it: its loop over the questions is executed."""
    program = next(node for node in parsed(OCRBENCH).body if isinstance(node, ast.If))
    loops = [node for node in program.body if isinstance(node, ast.For) and "'result'" in ast.unparse(node)]
    loop = compile(ast.Module(loops[:1], []), OCRBENCH, "exec")
    cases = [
        (f"It is {reply} or so" if turn % 2 else reply, accepted) for turn, (reply, accepted) in enumerate(generated())
    ]
    rows = [{"type": "", "dataset_name": "textVQA", "answers": accepted, "predict": reply} for reply, accepted in cases]
    exec(loop, {"data": rows})
    found = [graded("contains", reply, accepted) for reply, accepted in cases]
    assert found == [row["result"] for row in rows]
    assert 0.2 * REPLIES < sum(found) < 0.9 * REPLIES


# --- metrics that differ from references, in ways that docs/metrics.md describes ---


class Differences:
    """Counts of the replies that a metric and a reference grade differently, by kind; "" is a kind not described."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.total = 0
        self.first: Any = None

    def count(self, case: Any, ours: float, theirs: float, kind: str) -> None:
        self.total += 1
        if ours != pytest.approx(theirs, abs=1e-4):
            self.counts[kind] += 1
            if not kind:
                self.first = self.first or (case, ours, theirs)

    def check(self, *kinds: str) -> None:
        logger.warning("%d of %d differ: %s", self.counts.total(), self.total, dict(self.counts.most_common()))
        assert self.total >= 2_000
        assert self.counts.keys() == set(kinds), self.first


TEXTS = (
    *WORDS, "two", "Two", "2", "yes", "true", "1,000", "1000", "1000.0", "**tree**", "(cat)", "a cat's", "½", "$12$",
)  # fmt: skip


def test_exact_and_squad() -> None:
    compute, squad = reference(SQUAD, "compute_exact"), reference(SQUAD, "normalize_answer")
    found = Differences()

    def kind(reply: str, ours: float) -> str:
        if not ours:
            return "punctuation or an article within the text" if squad(reply) else "nothing but punctuation"
        try:
            return f"equal as numbers{float(normalize(reply)):.0}"[:16]
        except ValueError:
            return "yes and true" if normalize(reply) in {"yes", "no"} else ""

    for reply, accepted in (*generated(TEXTS), *((word, [other]) for word in TEXTS for other in TEXTS)):
        ours, theirs = graded("exact", reply, accepted), float(max(compute(one, reply) for one in accepted))
        found.count((reply, accepted), ours, theirs, kind(reply, ours))
    found.check(
        "punctuation or an article within the text", "nothing but punctuation", "equal as numbers", "yes and true"
    )


OPTIONS = (("red", "blue", "green", "black"), ("a cat", "a dog"), ("3", "4", "5", "13"), ("A", "B", "C"))
SAID = (
    "{letter}", "({letter})", "{letter}. {text}", "{lower}", "**{letter}**", "{text}", "It is {text}.",
    "The answer is {letter}.", "the correct answer is **{letter}**: {text}", "Answer: ({letter}) {text}",
    "{text} is right, not {other}", "Not {other_letter} but {letter}", "A man may like {text}",
    "I think that it is {letter} since all of the others are wrong here", "{letter}\nQuestion: another one",
    "\\boxed{{{letter}}}", "{letter} or {other_letter}", "I cannot tell", "",
)  # fmt: skip


def chosen() -> Iterator[Choice]:
    chance = random.Random(2)
    for _ in range(REPLIES):
        options = chance.choice(OPTIONS)
        place, other = chance.sample(range(len(options)), 2)
        letter, other_letter = LETTERS[place], LETTERS[other]
        text = chance.choice(SAID).format(
            letter=letter, lower=letter.lower(), text=options[place], other=options[other], other_letter=other_letter
        )
        yield Choice(text, options, letter)


def test_choice_and_vlmevalkit() -> None:
    infer = reference(MATCHING, "can_infer", cp=copy, logger=logger)
    found = Differences()
    for one in chosen():
        ours = parse_choice(one.reply, one.options).value
        theirs = infer(one.reply, dict(zip(LETTERS, one.options, strict=False))) or ""
        kind = "only `choice` reads one" if not theirs else "only VLMEvalKit reads one" if not ours else "other letters"
        found.count(one, float(ours == one.letter), float(theirs == one.letter), kind)
    found.check("only `choice` reads one")


def test_vqa_and_the_script_of_its_authors() -> None:
    """The script does not normalize an answer on which all annotators agree, and it rounds."""
    script = reference(VQA, "VQAEval", sys=sys)
    found = Differences()
    for reply, accepted in (*annotated(), *generated()):
        answers = [{"answer_id": number, "answer": answer} for number, answer in enumerate(accepted)]
        question = {"answers": answers, "question_type": "", "answer_type": ""}
        asked = SimpleNamespace(qa={1: question}, getQuesIds=lambda: [1])
        judged = script(asked, SimpleNamespace(qa={1: {"answer": reply}}), n=6)
        judged.updateProgress = lambda _: None
        judged.evaluate()
        ours, theirs = graded("vqa", reply, accepted), judged.accuracy["overall"] / 100
        unanimous = len({one.strip() for one in accepted}) == 1
        found.count((reply, accepted), ours, theirs, "all annotators agree" * unanimous)
    found.check("all annotators agree")


def test_vqa_and_vlmevalkit() -> None:
    punctuation = reference(PUNCTUATION, "process_punctuation")
    theirs = reference(VLMEVALKIT, "process_answer", process_punctuation=punctuation)
    found = Differences()
    for reply, accepted in (*annotated(), *generated()):
        given, answers = theirs(reply), [theirs(one) for one in accepted]
        others = [answers[:place] + answers[place + 1 :] for place in range(len(answers))]
        expected = sum(min(1, rest.count(given) / 3) for rest in others) / len(answers)
        stop = any(re.search(r"\d\.(?!\d)", text) for text in (reply, *accepted))
        found.count((reply, accepted), graded("vqa", reply, accepted), expected, "full stop after a digit" * stop)
    found.check("full stop after a digit")


@dataclass(frozen=True)
class Formulas:
    accepted: str
    reply: str
    equal: bool


def formulas() -> Iterator[Formulas]:
    """A value in two forms, or two values near to each other."""
    chance = random.Random(3)

    def form(value: Fraction, alone: bool) -> str:
        sign, top, bottom = "-" * (value < 0), abs(value.numerator), value.denominator
        forms = [f"{sign}\\frac{{{top}}}{{{bottom}}}", f"{sign}\\dfrac{{{top}}}{{{bottom}}}"]
        if bottom < 10 and top < 10:
            forms.append(f"{sign}\\frac{top}{bottom}")
        if bottom == 1:
            forms += [f"{sign}{top}", f"{sign}{top}.0"]
        if 100 % bottom == 0:
            forms.append(f"{float(value)}")
        if alone:
            forms += [f"{sign}{top}/{bottom}", f"{sign}{top}/{bottom}\\text{{ units}}"]
            forms += [f"{sign}{top:,}"] if bottom == 1 else []
            forms += [f"{float(value * 100):g}\\%"] if 100 % bottom == 0 else []
        return chance.choice(forms)

    shapes = (
        "{}", "{}", "{}", "x = {}", "({}, {})", "[{}, {})", "\\{{{}, {}\\}}", "\\sqrt{{{}}}", "{}x + {}", "{}\\pi",
        "x < {}",
    )  # fmt: skip
    for _ in range(MATH_REPLIES):
        shape = chance.choice(shapes)
        used = shape.count("{}")
        values = sorted(
            Fraction(chance.randint(-30, 3000), chance.choice([1, 1, 2, 3, 4, 5, 7, 20])) for _ in range(used)
        )
        others = sorted(value + chance.choice([0, 0, 0, 1, Fraction(1, 100)]) for value in values)
        accepted, reply = (shape.format(*(form(one, shape == "{}") for one in those)) for those in (values, others))
        yield Formulas(accepted, reply, values == others)


def test_math_and_math_verify() -> None:
    """Between dollars, since Math-Verify finds formulas by their delimiters."""
    library = pytest.importorskip("math_verify", reason="math-verify is not installed: pip install '.[math]'")
    configs = (library.LatexExtractionConfig(boxed_match_priority=0), library.ExprExtractionConfig())
    parsed(MATH)  # skips as the others, because it takes a minute
    found, true = Differences(), Differences()  # `true`: from whether the values are equal by construction
    for one in formulas():
        accepted, reply = f"${one.accepted}$", f"${one.reply}$"
        ours = graded("math", reply, [accepted])
        theirs = library.verify(library.parse(accepted, configs), library.parse(reply, configs))
        found.count(one, ours, float(theirs), "root of a decimal number" * ("sqrt" in reply and one.equal))
        true.count(one, ours, float(one.equal), "")
    true.check()
    found.check("root of a decimal number")


def test_math_and_math() -> None:
    """The comparison of texts by the authors of the data set MATH."""
    pytest.importorskip("math_verify", reason="math-verify is not installed: pip install '.[math]'")
    is_equiv = reference(MATH, "is_equiv")
    found = Differences()
    for one in formulas():
        ours, theirs = graded("math", one.reply, [one.accepted]), float(is_equiv(one.accepted, one.reply))
        found.count(one, ours, theirs, "equal values" if ours and one.equal else "")
    found.check("equal values")
