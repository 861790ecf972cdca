"""Several small vision-language models and one large one answer questions together. Nothing is trained.

from colm_vl import CoLM

with CoLM.from_team("team.toml") as colm:
    trace = colm.ask("What is the total in the chart?", images=["q3.png"])
    print(trace.answer)
"""

from colm_vl._portal import Stream
from colm_vl.backends.base import (
    Backend,
    Capabilities,
    Footprint,
    Generation,
    Memory,
    Message,
    Options,
    Part,
    Piece,
    Quantization,
    QueuePlace,
    Request,
    Role,
    Sampling,
    TokenLogprob,
)
from colm_vl.batch import BatchStats, Plan, Source
from colm_vl.batch.executors import RayOptions
from colm_vl.batch.merging import MergedShards, merge_shards
from colm_vl.batch.planning import PlannedCall
from colm_vl.batch.stats import StageStats
from colm_vl.colm import CoLM
from colm_vl.engine import AsyncCoLM, Images
from colm_vl.errors import (
    BackendError,
    BadReply,
    ColmError,
    ConfigError,
    ContextTooLong,
    FamilyError,
    ImageError,
    InputError,
    LoadFailed,
    MissingPackage,
    ModelNotFound,
    NoAnswer,
    OutputError,
    RateLimited,
    Refused,
    TimedOut,
    Unavailable,
    Unreachable,
    Unsupported,
)
from colm_vl.evaluation import evaluate
from colm_vl.events import Delta, Event, Note, Queued, StageStarted
from colm_vl.gates.base import Gate
from colm_vl.health import Health
from colm_vl.prompts import Profile, Texts
from colm_vl.team import Member, Policy, SamplingPolicy, StageSampling, Team, Timeouts
from colm_vl.types import (
    Call,
    ClientReply,
    Confidence,
    Decision,
    Draft,
    EarlierTurn,
    Failure,
    Flaw,
    Guidance,
    ImageInfo,
    Late,
    MemberInfo,
    Query,
    Refinement,
    Selection,
    Sent,
    Settlement,
    Share,
    Stage,
    Timing,
    Trace,
    Usage,
    Verdict,
)
from processors.fetching import FetchPolicy
from processors.images import Image, ImageSource

__version__ = "0.2.0"

__all__ = [
    "AsyncCoLM",
    "Backend",
    "BackendError",
    "BadReply",
    "BatchStats",
    "Call",
    "Capabilities",
    "ClientReply",
    "CoLM",
    "ColmError",
    "Confidence",
    "ConfigError",
    "ContextTooLong",
    "Decision",
    "Delta",
    "Draft",
    "EarlierTurn",
    "Event",
    "Failure",
    "FamilyError",
    "FetchPolicy",
    "Flaw",
    "Footprint",
    "Gate",
    "Generation",
    "Guidance",
    "Health",
    "Image",
    "ImageError",
    "ImageInfo",
    "ImageSource",
    "Images",
    "InputError",
    "Late",
    "LoadFailed",
    "Member",
    "MemberInfo",
    "Memory",
    "MergedShards",
    "Message",
    "MissingPackage",
    "ModelNotFound",
    "NoAnswer",
    "Note",
    "Options",
    "OutputError",
    "Part",
    "Piece",
    "Plan",
    "PlannedCall",
    "Policy",
    "Profile",
    "Quantization",
    "Query",
    "QueuePlace",
    "Queued",
    "RateLimited",
    "RayOptions",
    "Refinement",
    "Refused",
    "Request",
    "Role",
    "Sampling",
    "SamplingPolicy",
    "Selection",
    "Sent",
    "Settlement",
    "Share",
    "Source",
    "Stage",
    "StageSampling",
    "StageStarted",
    "StageStats",
    "Stream",
    "Team",
    "Texts",
    "TimedOut",
    "Timeouts",
    "Timing",
    "TokenLogprob",
    "Trace",
    "Unavailable",
    "Unreachable",
    "Unsupported",
    "Usage",
    "Verdict",
    "__version__",
    "evaluate",
    "merge_shards",
]
