"""Measure the accuracy of a team on your own questions with gold answers. Needs the extra `eval`.

python examples/evaluate.py
python examples/evaluate.py --team team.toml --questions questions.jsonl --group-column kind
"""

import argparse
from pathlib import Path

import colm_vl

QUESTIONS = Path(__file__).parent / "data" / "questions.csv"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="CSV, TSV, JSONL or Parquet")
    parser.add_argument("--group-column", default="kind", help="a column to break the accuracy down by")
    parser.add_argument("--out", type=Path, help="keep the run in this folder; the same command then resumes it")
    parser.add_argument("--team", type=Path, help="a team file; default: the pocket team")
    options = parser.parse_args()

    report = colm_vl.evaluate(
        options.questions,
        team=options.team,
        strategies=["colm"],
        group_columns=[options.group_column],
        out=options.out,
    )

    for row in report.results().itertuples():
        print(f"{row.strategy}: {row.accuracy:.0%} of {row.questions} questions, 95 % interval {interval(row)}")
    for row in report.groups().query("group == @options.group_column").itertuples():
        print(f"  {row.name:10} {row.accuracy:.0%} of {row.questions}, {interval(row)}")

    print("\nwrong answers")
    for row in report.items().query("grade < 0.5").itertuples():
        print(f"  {row.id}: {row.answer or 'none'}")


def interval(row: object) -> str:
    return f"{row.low:.0%} to {row.high:.0%}"


if __name__ == "__main__":
    main()
