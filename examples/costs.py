"""Where time and tokens went: the calls of one question, and their sums by stage.

python examples/costs.py
"""

import argparse
from collections import defaultdict
from pathlib import Path

from colm_vl import Call, CoLM, Sent, Usage

PICTURE = Path(__file__).parent / "data" / "digits.png"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--team", type=Path, help="a team file; default: the pocket team")
    options = parser.parse_args()

    with CoLM.from_team(options.team) as colm:
        colm.load()  # otherwise the first calls include loading
        trace = colm.ask("Which digit is larger: top right or bottom right?", images=[PICTURE])

    print("  begins  seconds  first token  prompt (cached)  reply  call")
    stages: defaultdict[str, list[Call]] = defaultdict(list)
    for call in sorted(trace.calls, key=lambda call: call.started):
        stages[call.stage].append(call)
        first = call.timing.prefill  # None where it is not known, such as at an endpoint that was not streamed
        tokens = f"{call.usage.prompt_tokens:6} {f'({call.usage.cached_tokens})':>9}  {call.usage.completion_tokens:5}"
        known = "unknown" if first is None else f"{first:.2f}"
        print(f"  {call.started:6.2f}  {call.seconds:7.2f}  {known:>11}  {tokens}  {call.stage} {call.member}")

    print()
    for stage, calls in stages.items():
        usage = sum((call.usage for call in calls), Usage())
        sent = sum((call.sent for call in calls), Sent())
        tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"
        print(f"{stage:7} {len(calls)} calls, {tokens}, {sent.images} pictures, {sent.bytes:,} bytes to endpoints")
    print(f"total   {len(trace.calls)} calls in {trace.seconds:.2f} s, which is not the sum: clients run together")


if __name__ == "__main__":
    main()
