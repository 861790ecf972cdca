"""`transformers serve` on loopback, for Qwen-VL too where torchvision is absent.

    python -m tests.serve_transformers PORT [OPTION...]

The server loads processors through `AutoProcessor`, which wants torchvision for the video half of Qwen-VL's. Here it
gets ours, without that half. Everything else is the server's own. Requests name the model's folder as their `model`.
"""

from __future__ import annotations

import sys
from typing import Any

from processors.families.base import Source, load_processor


def main(port: str, *options: str) -> None:
    from transformers import AutoConfig, AutoProcessor, AutoTokenizer
    from transformers.cli.transformers import main as transformers_main
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    def from_pretrained(model: str, **_: Any) -> Any:
        kind = AutoConfig.from_pretrained(model).model_type
        if kind in PROCESSOR_MAPPING_NAMES:
            return load_processor(kind, Source(model, offline=True))
        return AutoTokenizer.from_pretrained(model)

    AutoProcessor.from_pretrained = from_pretrained
    sys.argv = ["transformers", "serve", "--host", "127.0.0.1", "--port", port, "--device", "cpu", *options]
    transformers_main()


if __name__ == "__main__":
    main(*sys.argv[1:])
