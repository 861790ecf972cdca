"""The team as an OpenAI-compatible service on this machine, asked with the openai SDK and with httpx.

pip install '.[serve]' openai httpx
python examples/service.py
"""

import argparse
import base64
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from openai import OpenAI

PICTURE = Path(__file__).parent / "data" / "digits.png"
QUESTION = "Which digit is larger: top right or bottom right?"


@contextmanager
def served(*options: str) -> Iterator[str]:
    """Run `colm-vl serve` and yield its address. You would start it in a terminal of its own."""
    command = [sys.executable, "-m", "colm_vl.cli", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[1]  # colm-vl: http://127.0.0.1:PORT/v1  (Ctrl-C ends it)
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--team", help="a team file; default: the pocket team")
    options = parser.parse_args()

    picture = "data:image/png;base64," + base64.b64encode(PICTURE.read_bytes()).decode()
    content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": picture}}]
    messages = [{"role": "user", "content": content}]

    with served(*(["--team", options.team] if options.team else [])) as address:
        models = httpx.get(f"{address}/models", timeout=60).json()["data"]
        print("models:", ", ".join(model["id"] for model in models))

        print("\nhttpx, strategy vote, with the trace")
        body = {"model": "vote", "messages": messages, "colm": {"trace": True}}
        reply = httpx.post(f"{address}/chat/completions", json=body, timeout=300).raise_for_status().json()
        print("  answer:", reply["choices"][0]["message"]["content"])
        print("  votes:", reply["colm"]["trace"]["settlement"]["votes"])

        print("\nopenai SDK, strategy colm, as a stream")
        with OpenAI(base_url=address, api_key="none") as client:
            stream = client.chat.completions.create(model="colm", messages=messages, stream=True)
            for chunk in stream:
                delta = chunk.choices[0].delta if chunk.choices else None
                # drafts, guidance and refinements come as reasoning, the settled answer as content
                print(getattr(delta, "reasoning_content", None) or "", end="")
                print(f"\nanswer: {delta.content}" if delta and delta.content else "", end="")
    print()


if __name__ == "__main__":
    main()
