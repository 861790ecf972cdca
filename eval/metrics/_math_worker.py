"""Compares mathematical answers for the metric `math`, in a process of its own, which can be stopped at any time.

A line of standard input is a reply and the accepted answers, as JSON; the line of standard output is true or false.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import isclose
from typing import Any

import pint
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from sympy import Expr, N

_FROM_LATEX = (LatexExtractionConfig(boxed_match_priority=0),)
_FROM_ALL = (*_FROM_LATEX, ExprExtractionConfig())

_DELIMITER = re.compile(r"\$|\\\(|\\\[|\\boxed\b")
_WORD = re.compile(r"(?<![A-Za-z\\\d])(?!(?:sin|cos|tan|cot|sec|csc|log|exp|and)\b)[A-Za-z]{3,}")
_STYLED = re.compile(r"\\(?:text|mathrm|mathbf|textbf|textnormal|textrm|mbox|operatorname)\s*\{([^{}]*)\}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{\w+\*?\}")
_THOUSANDS = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")
_EXPONENT = re.compile(r"(?<=\d)[eE]([+-]?\d+)")
_CONSTANT = re.compile(r"\\mathrm\s*\{([ei])\}")
_DEGREE = re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|°|º")
_SPACING = re.compile(r"\\[,;:! ]|~|\\q?quad\b")
_LETTERS = "A-Za-zµμΩÅ"
_QUANTITY = re.compile(
    rf"(?P<number>.*(?:(?<!frac)[\d}})]|\\pi))(?P<space>\s*)(?P<unit>[{_LETTERS}][{_LETTERS}²³⁻¹·/*^{{}}()\d\s-]*)",
    re.DOTALL,
)
_TOLERANCE = 1e-6
"""Math-Verify rounds to six decimals."""
_EXACT = 1e-12


@dataclass(frozen=True, slots=True)
class Quantity:
    """A text that ends in a number and a unit. `certain`: the unit cannot be the product of variables."""

    number: str
    unit: Any
    certain: bool


def equal(accepted: str, reply: str) -> bool:
    """Whether the reply is the accepted answer. A unit that only one of them has is ignored."""
    if _plain(accepted) == _plain(reply):
        return True
    wanted, found = quantity(accepted), quantity(reply)
    if wanted and found and wanted.unit != found.unit:
        return same_converted(wanted, found)
    both = bool(wanted and found and (wanted.certain or found.certain))
    return same_value(
        wanted.number if wanted and (both or wanted.certain) else accepted,
        found.number if found and (both or found.certain) else reply,
    )


def same_value(accepted: str, reply: str) -> bool:
    replies = values(reply)
    return any(_same(one, other) for one in values(accepted) for other in replies)


def same_converted(accepted: Quantity, reply: Quantity) -> bool:
    try:
        converted = _units().Quantity(_float(reply.number), reply.unit).to(accepted.unit).magnitude
        return isclose(converted, _float(accepted.number), rel_tol=_TOLERANCE)
    except (pint.PintError, ArithmeticError, TypeError, ValueError):
        return False


def values(text: str) -> list[Any]:
    """The expression in a text, and how it is written. Without delimiters, a text is LaTeX unless it has words."""
    # Math-Verify removes \mathrm{e} as if it were a unit.
    text = _CONSTANT.sub(r"\1", _EXPONENT.sub(r" \\cdot 10^{\1}", _THOUSANDS.sub("", text)))
    if not _DELIMITER.search(text) and not _has_words(text):
        found = parse(f"${_tidy(text)}$", _FROM_LATEX, fallback_mode="no_fallback", parsing_timeout=None)
        if found:
            return list(found)
    return list(parse(text, _FROM_ALL, parsing_timeout=None))


def quantity(text: str) -> Quantity | None:
    final = _final(text)
    plain = _STYLED.sub(r" \1", final)
    plain = _SPACING.sub(" ", _DEGREE.sub(" degree", plain)).replace("degree C", "degC").replace("degree F", "degF")
    match = _QUANTITY.fullmatch(plain.strip().removesuffix(".").rstrip())
    if match is None:
        return None
    name = match["unit"].translate({ord("{"): None, ord("}"): None})
    try:
        unit = _units().parse_units(name)
    except Exception:  # pint raises anything, AssertionError included, for a text that is no unit
        return None
    marked = plain != final
    return Quantity(match["number"], unit, marked or (bool(match["space"]) and len(name.strip()) > 1))


def _final(text: str) -> str:
    """The last boxed formula, else the text from its last pair of delimiters on, without them."""
    start = text.rfind("\\boxed{")
    if start >= 0:
        return "".join(_braced(text[start + len("\\boxed{") :]))
    parts = re.split(r"\$+|\\[()\[\]]", text)
    return " ".join(parts[-2:]) if len(parts) > 2 else text


def _braced(text: str) -> Iterator[str]:
    depth = 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return
        yield char


def _plain(text: str) -> str:
    plain = " ".join(_STYLED.sub(r"\1", text).replace("$", "").split())
    return _tidy(plain.casefold() if _has_words(plain) else plain)


def _tidy(text: str) -> str:
    """Without emphasis in Markdown and a final full stop."""
    return text.strip("*_ \t\n").removesuffix(".").rstrip("* ")


def _has_words(text: str) -> bool:
    return bool(_WORD.search(_ENVIRONMENT.sub("", _STYLED.sub("", text))))


def _float(number: str) -> float:
    first = values(number)[:1]
    return float(first[0].evalf()) if first and hasattr(first[0], "evalf") else float(number)


def _same(one: Any, other: Any) -> bool:
    """Math-Verify rounds to decimals, by which all small numbers are equal, and does not compare values with roots of
    decimal numbers."""
    if not all(isinstance(value, Expr) and value.is_real and value.is_number for value in (one, other)):
        return bool(verify(one, other, timeout_seconds=None))
    difference, size = abs(N(one) - N(other)), abs(N(one))
    if difference <= _EXACT * size:
        return True
    small = difference < _TOLERANCE and difference > 10 * _TOLERANCE * size
    return not small and bool(verify(one, other, timeout_seconds=None))


@cache
def _units() -> pint.UnitRegistry[Any]:
    return pint.UnitRegistry()


def main() -> None:
    logging.disable()
    _units()
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        reply, accepted = json.loads(line)
        try:
            found = any(equal(one, reply) for one in accepted)
        except Exception:  # SymPy raises anything for expressions that have no value
            found = False
        print(json.dumps(found), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
