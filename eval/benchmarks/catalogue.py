"""Every benchmark by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from colm_vl.errors import InputError
from eval.benchmarks.ai2d import AI2D
from eval.benchmarks.alpaca_eval import AlpacaEval
from eval.benchmarks.arena_hard import ArenaHard
from eval.benchmarks.base import Benchmark
from eval.benchmarks.gsm8k import GSM8K
from eval.benchmarks.mmbench import MMBench, MMBenchCircular
from eval.benchmarks.mme import MME
from eval.benchmarks.mmlu_pro import MMLUPro
from eval.benchmarks.mmmu import MMMU
from eval.benchmarks.mmmu_pro import MMMUPro, MMMUPro4, MMMUProVision
from eval.benchmarks.mt_bench import MTBench
from eval.benchmarks.ocrbench import OCRBench
from eval.benchmarks.pocket import Pocket
from eval.benchmarks.scienceqa import ScienceQA
from eval.benchmarks.seed_bench import SeedBench

_ALL: tuple[Benchmark, ...] = (
    Pocket(),
    MMMU(),
    MMMUPro(),
    MMMUPro4(),
    MMMUProVision(),
    ScienceQA(),
    AI2D(),
    MMBench(),
    MMBenchCircular(),
    SeedBench(),
    MME(),
    OCRBench(),
    MMLUPro(),
    GSM8K(),
    AlpacaEval(),
    MTBench(),
    ArenaHard(),
)

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({benchmark.name: benchmark for benchmark in _ALL})


def find(name: str) -> Benchmark:
    """Raises `InputError` for a name that is none."""
    if name not in BENCHMARKS:
        raise InputError(f"unknown benchmark {name!r}", hint=f"one of: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
