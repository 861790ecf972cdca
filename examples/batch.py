"""Answer a file of questions, stop in the middle, and go on: no finished call is made again.

python examples/batch.py
python examples/batch.py --team team.toml --questions questions.jsonl --out runs/mine
"""

import argparse
import tempfile
from pathlib import Path

from colm_vl import BatchStats, CoLM

QUESTIONS = Path(__file__).parent / "data" / "questions.csv"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="CSV, TSV, JSONL or Parquet")
    parser.add_argument("--out", type=Path, help="the folder of the run; default: a temporary one")
    parser.add_argument("--limit", type=int, default=8, help="how many questions")
    parser.add_argument("--team", type=Path, help="a team file; default: the pocket team")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary, CoLM.from_team(options.team) as colm:
        out = options.out or Path(temporary) / "run"
        plan = colm.plan(options.questions, limit=options.limit)
        print(f"at most {plan.total} calls for {plan.questions} questions")

        print("\nfirst run, left after three answers")
        run(colm, options, out, stop_after=3)
        print("\nsecond run, with the same folder")
        run(colm, options, out)
        print("\nfiles:", ", ".join(sorted(path.name for path in out.iterdir() if path.suffix in (".json", ".jsonl"))))


def run(colm: CoLM, options: argparse.Namespace, out: Path, stop_after: int | None = None) -> None:
    stats = BatchStats()  # updated while the batch runs
    traces = colm.batch(options.questions, out, limit=options.limit, concurrency=2, stats=stats)
    for number, trace in enumerate(traces, 1):
        print(f"  {number}/{options.limit}  {trace.id:12} {trace.answer or 'failed'}")
        if number == stop_after:
            break  # as Ctrl-C would: running calls are finished and stored
    print(f"  {stats.kept} answers were there before, {stats.calls} calls made, {stats.avoided} calls reused")


if __name__ == "__main__":
    main()
