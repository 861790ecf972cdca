"""The metric `math`. The pairs under "Math-Verify" and "MATH" are facts from the tests of these projects."""

from __future__ import annotations

import logging
import threading

import pytest

from eval.metrics.base import Gold
from eval.metrics.registry import find

pytest.importorskip("math_verify", reason="math-verify is not installed: pip install '.[math]'")

EQUAL = [
    # fractions, decimals, percentages
    (r"\frac12", "0.5"),
    ("1/3", "0.333333"),
    ("28%", "28"),
    ("28%", "28 percent"),
    (r"28\%", "0.28"),
    ("1,000", "1000"),
    ("1 000", "1000"),
    (r"1.6\times10^{-19}", "1.6e-19"),
    # expressions
    (r"\sqrt{2}", "2^{1/2}"),
    (r"\sqrt{49.8}", r"\sqrt{\frac{249}{5}}"),
    ("2x+3", "3+2x"),
    ("(x+1)^2", "x^2+2x+1"),
    ("x=5", "5"),
    # intervals, sets, tuples, matrices
    ("[0,1)", "$[0,1)$"),
    ("1 < x < 2", "(1,2)"),
    (r"x \in [1,3]", "[1,3]"),
    (r"\{1,2\}", "{2,1}"),
    ("{1,2}", "1, 2"),
    ("3 and 4", "4, 3"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
    # units
    ("5 cm", "5"),
    ("5 km/h", "$5$"),
    ("5 cm", "50 mm"),
    ("2 hours", "120 minutes"),
    ("9.8 m/s^2", "980 cm/s²"),
    (r"3 \times 10^8 m/s", "300000 km/s"),
    (r"15\mbox{ cm}^2", r"The area is $\boxed{1500\text{ mm}^2}$."),
    (r"90^\circ", r"\frac{\pi}{2}\text{ rad}"),
    ("20 °C", "68 °F"),
    ("3 kΩ", "3000 ohms"),
    # long replies and texts
    ("15", "The area is 15 square centimeters."),
    ("73", "**73**"),
    (r"\text{even}", "Even"),
    # Math-Verify
    ("$-2,1$", r"The only integer roots are $\boxed{-2,1}.$"),
    (r"$(3, \frac{\pi}{2})$", r"The polar coordinates are $\boxed{\left( 3, \frac{\pi}{2} \right)}.$"),
    (r"$[-1, -\frac{1}{2}) \cup (0, 1)$", r"The solution set is $\boxed{[-1, -\tfrac12) \cup (0, 1)}.$"),
    (r"$1 \pm \sqrt{19}$", r"By the quadratic formula, $x = \boxed{1 \pm \sqrt{19}}.$"),
    ("$125$ miles", r"The distance is $\boxed{125\textnormal{ miles}}.$"),
    (r"$x \neq 5$", "The solution is $x != 5$"),
    (r"$\frac{9}{4}\pi$", r"Therefore $\boxed{\frac94\pi}$."),
    # MATH
    (r"\sqrt{2}", r"\sqrt2"),
    (r"\frac{1}{72}", r"\frac1{72}"),
    (r"10\text{ units}", "10 "),
]
DIFFERENT = [
    ("1/3", "0.33"),
    ("1", "-1"),
    ("0", "1e-9"),
    (r"1.6\times10^{-19}", r"9.1\times10^{-31}"),
    ("2x+3", "4x+3"),
    ("2a", "2"),
    ("[0,1)", "(0,1)"),
    ("(1,2)", "(2,1)"),
    ("{1,2}", "{1,3}"),
    ("3 and 4", "4"),
    (r"\pm 3", "3"),
    (r"-\infty", r"\infty"),
    ("5 cm", "5 m"),
    ("5 cm", "5 kg"),
    ("20 °C", "20 °F"),
    ("red", "der"),
    ("7", ""),
    # Math-Verify
    ("$x > 5$", "Therefore $x < 5$ is the solution."),
    ("$7 = 11a+c$", "$11a+c$"),
    ("$[0,9)$", "$[0,1)$"),
    ("2", "AZYUK2A"),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    ("$1 - \\frac{1}{\\mathrm{e}}$", "$1 + \\frac{1}{\\mathrm{e}}$"),
]


def grade(reply: str, *accepted: str, metric: str = "math") -> float:
    return find(metric).grade(reply, Gold(accepted))


@pytest.mark.parametrize(("accepted", "reply"), EQUAL)
def test_equal(accepted: str, reply: str) -> None:
    assert grade(reply, accepted) == 1


@pytest.mark.parametrize(("accepted", "reply"), DIFFERENT)
def test_different(accepted: str, reply: str) -> None:
    assert grade(reply, accepted) == 0


def test_one_accepted_answer_is_enough() -> None:
    assert grade("0.5", "3", r"\frac12") == 1


def test_what_cannot_be_compared_in_time_gets_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The comparison is stopped, and the next reply is graded as usual, in any thread."""
    with caplog.at_level(logging.WARNING):
        assert grade("9^{9^{9^{9}}}", "3", metric="math,seconds=0.5") == 0
    assert "no result within 0.5 s" in caplog.text
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(grade("1/2", "0.5")))
    thread.start()
    thread.join()
    assert found == [1]
