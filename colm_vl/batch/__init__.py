"""Batches: many questions in one run, which can be resumed after an interruption without repeating finished calls.

runner        runs many questions concurrently
answering     answers one question with all strategies
questions     questions from files or `Query` objects, read row by row
rows          reads rows ahead, in a thread
readers       JSONL, CSV and Parquet files
pictures      opens pictures just before they are used
planning      estimates calls and tokens
scheduling    which calls can be made now, if local models take turns in memory
stats         counts of calls, answers and failures
progress      progress display of the command line
folder        the output folder: traces and answers
settings      the settings with which a folder was made
journal       finished calls
executors     where questions are answered: here, or by Ray
ray_executor  sends questions to the workers of a Ray cluster
ray_cluster   its machines and workers
ray_worker    what runs in the processes of a worker
options       options that two command lines have in common
heads         what identifies lines of traces; traces of other shards
shards        parts of a batch that run at the same time
merging       joins the answers of shards
lines         append-only files that survive a kill
locking       one run at a time in a folder
cancellation  waiting for work that must end, even if the caller is cancelled
"""

from colm_vl.batch.folder import ANSWERS, CALLS, TRACES, answered_in
from colm_vl.batch.planning import Plan, plan
from colm_vl.batch.questions import Questions, Source
from colm_vl.batch.runner import Job, ready_traces, traces
from colm_vl.batch.stats import BatchStats

__all__ = [
    "ANSWERS",
    "CALLS",
    "TRACES",
    "BatchStats",
    "Job",
    "Plan",
    "Questions",
    "Source",
    "answered_in",
    "plan",
    "ready_traces",
    "traces",
]
