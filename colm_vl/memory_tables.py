"""Shows a memory plan in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from colm_vl.display import bytes_text, clean
from colm_vl.errors import InputError
from colm_vl.memory_plan import MOST_REQUESTS, USABLE, Fit, MemberPlan, MemoryPlan

_UNITS: Mapping[str, int] = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_UNKNOWN = "–"


def read_bytes(text: str) -> int:
    """A size such as "24GB" or "512 MiB". Raises `InputError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]i?B)", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size <= 0:
        raise InputError(f"memory is {text!r}, expected a size", hint="such as 24GB, 16GiB or 800MB")
    return size


def read_size(text: str) -> tuple[int, int]:
    """Width and height, of a text such as "1024x768". Raises `InputError`."""
    found = re.fullmatch(r"(\d{1,5})\s*[x×]\s*(\d{1,5})", text.strip())
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(size) < 1 or size[0] * size[1] > 50_000_000:
        raise InputError(
            f"the size of a picture is {text!r}, expected width x height in pixels", hint="such as 1024x768"
        )
    return size


def plan_tables(plan: MemoryPlan) -> Iterator[RenderableType]:
    members = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("member", "weights", "int8", "nf4", "tokens", "of pictures", "a request", "prefix cache"):
        members.add_column(title, justify="left" if title == "member" else "right", overflow="fold")
    for one in plan.members:
        members.add_row(*_cells(one))
    yield members
    for one in plan.members:
        if one.problem:
            told = f"{clean(one.member.name)}: {clean(one.problem)}" + (f" ({clean(one.hint)})" if one.hint else "")
            yield Text(told, style="red")
    if plan.chosen is None:
        yield Text("No model of this team is known to run in this process, so there is nothing to plan.", style="dim")
        return
    fits = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("quantization", "models in memory", "requests each", "memory"):
        fits.add_column(title, justify="left" if title == "quantization" else "right")
    for fit in plan.fits:
        fits.add_row(fit.quantization, *_fit_cells(fit))
    yield Text()
    yield fits
    yield Text()
    sizes = ", ".join(f"{bytes_text(size)} of {place}" for place, size in plan.memory.items())
    yield Text(f"Planned with {USABLE:.0%} of {sizes}.", style="dim")
    yield from (Text(line) for line in _advice(plan, plan.chosen))
    if not plan.known:
        yield Text("Models whose needs are unknown are not counted.", style="yellow")


def _cells(one: MemberPlan) -> tuple[str, ...]:
    name, found = clean(one.member.name), one.footprint
    if found is None:
        return (name, "unknown" if one.problem else "not here", *[_UNKNOWN] * 6)
    sizes = [bytes_text(found.weights[kind]) for kind in ("none", "int8", "nf4")]
    tokens = (f"{found.tokens:,}", f"{found.picture_tokens:,}")
    return (name, *sizes, *tokens, bytes_text(found.request), bytes_text(min(found.kept, found.kept_at_most)))


def _fit_cells(fit: Fit) -> tuple[str, str, str]:
    if fit.max_loaded == 0:
        return "none", _UNKNOWN, f"{bytes_text(fit.bytes)} needed"
    requests = f"{fit.requests} or more" if fit.requests == MOST_REQUESTS else str(fit.requests)
    return str(fit.max_loaded), requests, bytes_text(fit.bytes)


def _advice(plan: MemoryPlan, fit: Fit) -> Iterator[str]:
    if fit.max_loaded == 0:
        smaller = next((one.quantization for one in reversed(plan.fits) if one.max_loaded), None)
        yield "Not every model fits alone" + (
            f': set quantization = "{smaller}", or use smaller models.' if smaller else ": use smaller models."
        )
        return
    if not fit.enough:
        yield f"Set max_loaded = {fit.max_loaded} under [policy]: so many models fit in memory together."
    over = [
        one.member.name
        for one in plan.members
        if one.footprint and getattr(one.member.options, "max_batch", 0) > fit.requests
    ]
    if over:
        yield f"Set max_batch = {fit.requests} for {clean(', '.join(over))}: more requests at once do not fit."
    elif fit.enough:
        yield "Everything fits as it is set."
