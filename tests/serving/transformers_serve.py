"""A real `transformers serve` on loopback, in a process of its own.

    python -m tests.serving.transformers_serve FOLDER [PORT]

serves a checkpoint until it is interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.serving.processes import free_port, running

PACKAGES = ("fastapi", "uvicorn", "accelerate", "torch", "transformers")

# AutoProcessor requires torchvision for this family, for videos. With `--trust-remote-code`, the server uses this
# processor from the checkpoint instead, so torchvision is not needed.
_IMAGES_ONLY = """
from transformers import Qwen2_5_VLProcessor
from transformers.processing_utils import ProcessorMixin


class ImagesOnlyProcessor(Qwen2_5_VLProcessor):
    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
"""


@dataclass(frozen=True)
class Served:
    base_url: str
    model: str


def missing_package() -> str | None:
    """The first package that the server needs and that is not installed."""
    return next((name for name in PACKAGES if importlib.util.find_spec(name) is None), None)


def images_only(checkpoint: Path, folder: Path) -> Path:
    """A copy of a Qwen2.5-VL checkpoint, in `folder`, that loads without torchvision."""
    shutil.copytree(checkpoint, folder)
    (folder / "processing_images_only.py").write_text(_IMAGES_ONLY, encoding="utf-8")
    config = folder / "preprocessor_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["processor_class"] = "ImagesOnlyProcessor"
    settings["auto_map"] = {"AutoProcessor": "processing_images_only.ImagesOnlyProcessor"}
    config.write_text(json.dumps(settings), encoding="utf-8")
    return folder


@contextmanager
def serve(checkpoint: Path, port: int = 0) -> Iterator[Served]:
    """Serve a checkpoint in a `with` block. The name of the model is the checkpoint's folder.

    Raises RuntimeError, with the end of its log, if the server does not start.
    """
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="transformers-serve-") as scratch:
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_MODULES_CACHE": f"{scratch}/modules",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(checkpoint)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--trust-remote-code"]
        with running(command, port, Path(scratch), environment):
            yield Served(f"http://127.0.0.1:{port}/v1", str(checkpoint))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int, nargs="?", default=8080)
    given = parser.parse_args()
    with serve(given.folder, given.port) as served:
        sys.stdout.write(f"{served.model} at {served.base_url}\n")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
