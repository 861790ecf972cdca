"""Follow a question while it is answered: stages, replies as they are written, and the final trace.

python examples/stream.py
"""

import argparse
import time
from pathlib import Path

from colm_vl import CoLM, Decision, Delta, Draft, Guidance, Note, Queued, Refinement, Settlement, StageStarted, Trace

PICTURE = Path(__file__).parent / "data" / "digits.png"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--team", type=Path, help="a team file; default: the pocket team")
    options = parser.parse_args()

    question, pieces, began = "Which digit is larger: top right or bottom right?", 0, time.monotonic()
    with CoLM.from_team(options.team) as colm:
        colm.load()  # local models; otherwise they are loaded by the first question
        print(f"{time.monotonic() - began:6.2f} s  ready")
        for event in colm.stream(question, images=[PICTURE]):
            match event:
                case Delta():  # a piece of a reply; a program with a screen would show it at once
                    pieces += 1
                    continue
                case StageStarted(stage, members):
                    line = f"{stage}: {', '.join(members)}"
                case Queued(member=member, ahead=int(ahead)):
                    line = f"{member} waits, {ahead} calls are ahead"
                case Draft() | Refinement():
                    line = f"  {event.client}: {event.answer}"
                case Guidance(text=text):
                    line = "  guidance: " + "; ".join(text.split("\n"))
                case Decision(asked=asked, reason=reason):
                    line = f"  the gate {'asks' if asked else 'skips'} the server: {reason}"
                case Settlement(answer=answer, method=method):
                    line = f"answer: {answer} ({method})"
                case Note(text=line):
                    pass
                case Trace(calls=calls):  # the last event
                    line = f"{len(calls)} calls, {pieces} pieces of text"
                case _:  # Call, Failure, Late, Selection, Verdict, …
                    continue
            print(f"{time.monotonic() - began:6.2f} s  {line}")


if __name__ == "__main__":
    main()
