"""Reads every log in a folder and writes one of its own, without calling a model; prints what it read as JSON.

Arguments: a folder with logs, a folder for the log of its own.
"""

import json
import sys

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import match
from inspect_ai.solver import solver


@solver
def red():
    async def solve(state, generate):
        state.output = ModelOutput.from_content("none", "red")
        return state

    return solve


def summary(log):
    scores = {sample.id: sample.scores["colm_vl"].value for sample in log.samples if sample.scores}
    return {
        "status": log.status,
        "model": log.eval.model,
        "accuracy": log.results.scores[0].metrics["accuracy"].value,
        "scores": scores,
        "completions": {sample.id: sample.output.completion for sample in log.samples},
        "tokens": sum(usage.total_tokens for usage in log.stats.model_usage.values()),
    }


found = [summary(read_eval_log(info)) for info in list_eval_logs(sys.argv[1])]
task = Task(
    dataset=[Sample(input=f"Number {number}: which?", target="red") for number in range(5)],
    solver=red(),
    scorer=match(),
)
for log_format in ("json", "eval"):
    evaluate(task, model="mockllm/model", display="none", log_dir=sys.argv[2], log_format=log_format)
sys.stdout.write(json.dumps(found))
