"""What each stage says to a model (`messages`), in which words (`sentences`), and how replies are read (`replies`)."""

from colm_vl.prompts.messages import (
    draft_heading,
    draft_messages,
    draw_boundary,
    guidance_messages,
    peers_messages,
    refine_messages,
    selection_messages,
    verdict_messages,
)
from colm_vl.prompts.replies import (
    LABELLED_LINES,
    ParsedGuidance,
    ParsedReply,
    ParsedSelection,
    ReplyFormat,
    read_selection,
)
from colm_vl.prompts.sentences import GUIDE_TASK, fingerprint

__all__ = [
    "GUIDE_TASK",
    "LABELLED_LINES",
    "ParsedGuidance",
    "ParsedReply",
    "ParsedSelection",
    "ReplyFormat",
    "draft_heading",
    "draft_messages",
    "draw_boundary",
    "fingerprint",
    "guidance_messages",
    "peers_messages",
    "read_selection",
    "refine_messages",
    "selection_messages",
    "verdict_messages",
]
