"""Two laptops with small clients of their own share one server model over HTTP.

pip install '.[local,serve]'
python examples/laptops.py

The service, `colm-vl serve`, runs on the machine with the server model. Here it is another process of this machine.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from colm_vl import CoLM, Share, Team

PICTURE = Path(__file__).parent / "data" / "digits.png"
QUESTION = "Which digit is larger: top right or bottom right?"


@contextmanager
def guidance_service(keys: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "colm_vl.cli", "serve", "--port", "0", "--keys", str(keys)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[1].removesuffix("/v1")
        finally:
            process.terminate()


def laptop(name: str, address: str, share: Share) -> Team:
    """The clients of the pocket team, with the service as their server. In a team file:

    [server]
    backend = "colm"
    base_url = "http://gpu-box:8700"
    api_key_env = "COLM_KEY"
    """
    table = {"backend": "colm", "base_url": address, "api_key_env": f"KEY_OF_{name.upper()}"}
    clients = [{"name": "unused", "backend": "scripted", "model": "script", "replies": ["-"]}]
    server = Team.from_dict({"clients": clients, "server": table}).server
    return replace(Team.pocket().with_policy(share=share), server=server, source=name)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.toml"
        for name in ("ada", "bob"):
            command = [sys.executable, "-m", "colm_vl.cli", "keys", "add", name, "--keys", str(keys)]
            key = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            os.environ[f"KEY_OF_{name.upper()}"] = key
        with guidance_service(keys) as address:
            for name, share in (("ada", "images"), ("bob", "captions")):
                with CoLM(laptop(name, address, share)) as colm:
                    trace = colm.ask(QUESTION, images=[PICTURE])
                guide = next(call for call in trace.calls if call.stage == "guide")
                print(f"{name}, share = {share}: {', '.join(draft.answer for draft in trace.drafts)} → {trace.answer}")
                print(f"  to the service: {guide.sent.images} pictures, {guide.sent.bytes} bytes")


if __name__ == "__main__":
    main()
