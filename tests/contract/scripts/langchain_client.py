"""Asks with ChatOpenAI; prints what it got as JSON. Arguments: the data URI of a picture."""

import json
import sys

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from openai import APIError

picture = {"type": "image_url", "image_url": {"url": sys.argv[1]}}
question = HumanMessage([{"type": "text", "text": "How many dots are there?"}, picture])
model = ChatOpenAI(model="colm", max_completion_tokens=64)
reply = model.invoke([SystemMessage("Be brief."), question])
found = {
    "content": reply.content,
    "tokens": reply.usage_metadata["total_tokens"],
    "streamed": "".join(str(chunk.content) for chunk in model.stream([question])),
    "conversation": model.invoke([question, AIMessage(reply.content), HumanMessage("Are you sure?")]).content,
}
schema = {"title": "Dots", "type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
found["structured"] = model.with_structured_output(schema, method="json_schema").invoke([question])
try:
    model.bind_tools([schema]).invoke([question])
except APIError as error:
    found["error"] = str(error)
sys.stdout.write(json.dumps(found))
