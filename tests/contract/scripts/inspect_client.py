"""Evaluates one question with inspect_ai; prints what it got as JSON. Arguments: a picture file, a folder for logs."""

import json
import sys

import inspect_ai
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
from inspect_ai.scorer import match

content = [ContentText(text="How many dots are there?"), ContentImage(image=sys.argv[1], detail="low")]
task = Task(dataset=[Sample(input=[ChatMessageUser(content=content)], target="5")], scorer=match())


def run(model: str) -> dict:
    (log,) = inspect_ai.eval(
        task,
        model=f"openai-api/colm/{model}",
        display="none",
        log_dir=sys.argv[2],
        temperature=0,
        max_tokens=64,
        max_retries=0,
    )
    sample = log.samples[0]
    if sample.error:
        return {"error": sample.error.message}
    parts = sample.output.message.content
    return {
        "status": log.status,
        "accuracy": log.results.scores[0].metrics["accuracy"].value,
        "reasoning": "".join(part.reasoning for part in parts if part.type == "reasoning") if parts else "",
        "tokens": sample.output.usage.total_tokens,
    }


sys.stdout.write(json.dumps({"colm": run("colm"), "gone": run("gone")}))
