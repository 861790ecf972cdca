"""Every benchmark by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from colm_vl.errors import InputError

from .ai2d import AI2D
from .alpaca_eval import AlpacaEval
from .arena_hard import ArenaHard
from .base import Benchmark
from .gsm8k import GSM8K
from .mmbench import MMBench, MMBenchCircular
from .mme import MME
from .mmlu_pro import MMLUPro
from .mmmu import MMMU
from .mmmu_pro import MMMUPro, MMMUPro4, MMMUProVision
from .mt_bench import MTBench
from .ocrbench import OCRBench
from .pocket import Pocket
from .scienceqa import ScienceQA
from .seed_bench import SeedBench

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
