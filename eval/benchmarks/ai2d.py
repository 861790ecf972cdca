"""AI2D: questions about diagrams from school books (Kembhavi et al., arXiv 1603.07396)."""

from __future__ import annotations

from types import MappingProxyType

from eval.benchmarks.letters import LetterBenchmark


class AI2D(LetterBenchmark):
    name = "ai2d"
    title = "AI2D"
    hub = "lmms-lab/ai2d"
    group_columns = MappingProxyType({"category": ("category",)})
    note = "3,088 test questions about diagrams"
