"""The messages of each stage (`messages`), their texts (`profile`), and how replies are read (`replies`)."""

from colm_vl.prompts.copying import OwnWords, own_words
from colm_vl.prompts.json_fields import StreamedFields, is_complete
from colm_vl.prompts.json_replies import JsonObject, shown, written_in
from colm_vl.prompts.messages import (
    draft_heading,
    draft_messages,
    draw_boundary,
    fence,
    guidance_messages,
    guidance_prefix,
    peers_messages,
    refine_messages,
    schema_messages,
    selection_messages,
    verdict_messages,
)
from colm_vl.prompts.profile import Profile, Texts
from colm_vl.prompts.profile import load as load_profile
from colm_vl.prompts.replies import (
    LABELLED_LINES,
    LabelledLines,
    ParsedGuidance,
    ParsedReply,
    ParsedSelection,
    ReplyFormat,
    read_selection,
    without_thinking,
    written_answer,
)

__all__ = [
    "LABELLED_LINES",
    "JsonObject",
    "LabelledLines",
    "OwnWords",
    "ParsedGuidance",
    "ParsedReply",
    "ParsedSelection",
    "Profile",
    "ReplyFormat",
    "StreamedFields",
    "Texts",
    "draft_heading",
    "draft_messages",
    "draw_boundary",
    "fence",
    "guidance_messages",
    "guidance_prefix",
    "is_complete",
    "load_profile",
    "own_words",
    "peers_messages",
    "read_selection",
    "refine_messages",
    "schema_messages",
    "selection_messages",
    "shown",
    "verdict_messages",
    "without_thinking",
    "written_answer",
    "written_in",
]
