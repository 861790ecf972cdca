"""Compare one client alone, a vote and the whole team on the same questions. Needs the extra `eval`.

python examples/compare.py
python examples/compare.py --team team.toml --questions questions.jsonl
"""

import argparse
from pathlib import Path

import colm_vl

QUESTIONS = Path(__file__).parent / "data" / "questions.csv"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="CSV, TSV, JSONL or Parquet")
    parser.add_argument("--strategies", default="solo,vote,colm")
    parser.add_argument("--team", type=Path, help="a team file; default: the pocket team")
    options = parser.parse_args()

    # Strategies share their drafts: three strategies cost little more than the largest.
    report = colm_vl.evaluate(options.questions, team=options.team, strategies=options.strategies.split(","))

    costs = report.costs().set_index("strategy")
    for row in report.results().itertuples():
        calls = costs.loc[row.strategy, "calls"]
        print(f"{row.strategy:8} {row.accuracy:.0%} [{row.low:.0%}, {row.high:.0%}], {calls} calls if run alone")

    # All strategies answered the same questions, so they are compared in pairs, not by their intervals.
    print()
    for row in report.comparisons().itertuples():
        points = f"{row.difference * 100:+.0f} points [{row.low * 100:+.0f}, {row.high * 100:+.0f}]"
        verdict = "a difference" if row.p_adjusted < 0.05 else "too few questions to tell"
        print(f"{row.one} instead of {row.other}: {points}, adjusted p = {row.p_adjusted:.2f}: {verdict}")

    print("\nwhat refinement changed")
    for row in report.flips().itertuples():
        print(f"  {row.client:8} {row.corrected} corrected, {row.regressed} made wrong")


if __name__ == "__main__":
    main()
