"""Many questions in one run, which may be killed at any moment and goes on without paying for a call twice.

`questions` are read row by row from what `readers` find in files, and `planning` estimates what they cost. `running`
asks them, several at a time: `schedule` decides which calls may be made now where models take turns in memory,
`pictures` opens them just before use, `stats` keeps count, and `progress`, which only the command line imports, shows
it. What stays on disk is in `folder`: what the run was made with (`settings`), its finished calls (`journal`), its
traces and answers, in files that survive a kill (`lines`), used by one run at a time (`locking`).
"""

from colm_vl.batch.folder import ANSWERS, CALLS, TRACES, answered_in
from colm_vl.batch.planning import Plan, plan
from colm_vl.batch.questions import Questions, Source
from colm_vl.batch.runner import Job, traces
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
    "traces",
]
