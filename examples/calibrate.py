"""Skip the server where a certificate says that little accuracy is lost. Needs the extra `eval`.

python examples/calibrate.py
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from colm_vl import CoLM

PICTURES = Path(__file__).parent / "data" / "pictures"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--benchmark", default="pocket", help="a benchmark, or a file of questions with gold answers")
    parser.add_argument("--limit", default="40", help="more questions allow a smaller risk")
    parser.add_argument("--risk", default="0.25", help="the share of questions that may be harmed")
    parser.add_argument("--team", help="a team file; default: the pocket team")
    options = parser.parse_args()
    team = ["--team", options.team] if options.team else []

    with tempfile.TemporaryDirectory() as folder:
        run, certificate = f"{folder}/run", f"{folder}/gate.json"
        # Every question is put to the server, too, so that it is known what skipping it would have cost.
        colm_vl("eval", "run", options.benchmark, *team, "--strategies", "colm", "--limit", options.limit, "--out", run)
        print(colm_vl("eval", "calibrate", run, "--risk", options.risk, "--out", certificate))

        print("with the calibrated gate")
        with CoLM.from_team(options.team, gate={"calibrated": certificate}) as colm:
            for name in ("shapes-6", "shapes-18", "counting-19"):
                trace = colm.ask("How many objects are there?", images=[PICTURES / f"{name}.png"])
                (decision,) = trace.gates
                print(f"  {name:12} {'asked' if decision.asked else 'skipped'}: {decision.reason}")


def colm_vl(*arguments: str) -> str:
    command = [sys.executable, "-m", "colm_vl.cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
