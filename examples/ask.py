"""Ask one question about a picture, and print what each model of the team wrote.

python examples/ask.py
python examples/ask.py --team team.toml --image chart.png "Which bar is taller?"
"""

import argparse
from pathlib import Path

from colm_vl import CoLM

PICTURE = Path(__file__).parent / "data" / "digits.png"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("question", nargs="?", default="Which digit is larger: top right or bottom right?")
    parser.add_argument("--image", type=Path, default=PICTURE)
    parser.add_argument("--team", type=Path, help="a team file; default: the pocket team")
    options = parser.parse_args()

    with CoLM.from_team(options.team) as colm:
        trace = colm.ask(options.question, images=[options.image])

    print(trace.question)
    print("\nDrafts")
    for draft in trace.drafts:
        print(f"  {draft.client:12} {draft.answer}{percent(draft.confidence.value)}")
    print("\nGuidance")
    for guidance in trace.guidance:
        print("  " + guidance.text.strip().replace("\n", "\n  "))
    print("\nRefined answers")
    for refined in trace.refinements:
        change = "changed" if refined.changed else "kept"
        print(f"  {refined.client:12} {refined.answer}{percent(refined.confidence.value)}, {change}")
    for failure in trace.failures:  # a member that fails does not stop the others
        print(f"  {failure.member} failed: {failure.message}")
    print(f"\nAnswer: {trace.answer}")


def percent(confidence: float | None) -> str:
    return "" if confidence is None else f" ({confidence:.0%})"


if __name__ == "__main__":
    main()
