"""Several small vision-language models and one large one answer together, without training anything.

from colm_vl import CoLM

with CoLM.from_team("team.toml") as colm:
    trace = colm.ask("What is the total in the chart?", images=["q3.png"])
    print(trace.answer)
"""

from colm_vl.colm import CoLM
from colm_vl.errors import (
    BackendError,
    ColmError,
    ConfigError,
    InputError,
    MissingPackage,
    NoAnswer,
)
from colm_vl.team import Member, Policy, Team
from colm_vl.types import (
    Call,
    Confidence,
    Delta,
    Draft,
    Event,
    Failure,
    Gate,
    Guidance,
    Note,
    Query,
    Refinement,
    Selection,
    Sent,
    Settlement,
    StageStarted,
    Trace,
    Usage,
    Verdict,
)
from processors.errors import ImageError
from processors.images import Image

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "Call",
    "CoLM",
    "ColmError",
    "Confidence",
    "ConfigError",
    "Delta",
    "Draft",
    "Event",
    "Failure",
    "Gate",
    "Guidance",
    "Image",
    "ImageError",
    "InputError",
    "Member",
    "MissingPackage",
    "NoAnswer",
    "Note",
    "Policy",
    "Query",
    "Refinement",
    "Selection",
    "Sent",
    "Settlement",
    "StageStarted",
    "Team",
    "Trace",
    "Usage",
    "Verdict",
    "__version__",
]
