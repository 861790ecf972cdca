"""Ask a follow-up question: every member gets the earlier turns, with their pictures.

python examples/conversation.py
"""

import argparse
from pathlib import Path

from colm_vl import CoLM, EarlierTurn, Image, Query

PICTURE = Path(__file__).parent / "data" / "digits.png"
QUESTIONS = ("What digit is at the top right?", "What digit is at the bottom right?")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("--image", type=Path, default=PICTURE)
    parser.add_argument("--team", type=Path, help="a team file; default: the pocket team")
    options = parser.parse_args()

    images = (Image.open(options.image),)
    history: tuple[EarlierTurn, ...] = ()
    with CoLM.from_team(options.team) as colm:
        for question in options.questions:
            # All pictures of the conversation are in `images`. Each turn says how many came with it.
            trace = colm.ask(Query(question, images=images, history=history))
            print(f"[{len(history)} earlier turns] {question}\n    {trace.answer}")
            history += (
                EarlierTurn("user", question, images=0 if history else len(images)),
                EarlierTurn("assistant", trace.answer),
            )


if __name__ == "__main__":
    main()
