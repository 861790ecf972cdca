"""Every benchmark by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from colm_vl.errors import InputError
from eval.benchmarks.base import Benchmark
from eval.benchmarks.mmmu import MMMU
from eval.benchmarks.scienceqa import ScienceQA

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {benchmark.name: benchmark for benchmark in (MMMU(), ScienceQA())}
)


def find(name: str) -> Benchmark:
    """Raises `InputError` for a name that is none."""
    if name not in BENCHMARKS:
        raise InputError(f"unknown benchmark {name!r}", hint=f"one of: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
