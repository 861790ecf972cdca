"""JSON schemas of callers: checked before they are used, and applied to the final answer.

Nothing is fetched for a schema, and no regular expression of it is run: a pattern can take time exponential in the
length of a text. The member that writes the answer may still follow it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema
import referencing
import referencing.exceptions

from colm_vl.service.errors import refused

MOST_CHARACTERS: Final = 20_000
_PARAM: Final = "response_format"
_Validator: Final = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, {"pattern": None, "patternProperties": None}
)


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises `ApiError` (400) if it is no JSON schema, too long, or refers to another document."""
    try:
        size = len(json.dumps(schema, ensure_ascii=False).encode())
        remote = next((ref for ref in _references(schema) if not ref.startswith("#")), None)
        if size <= MOST_CHARACTERS and remote is None:
            jsonschema.Draft202012Validator.check_schema(schema)
            _Validator(schema, registry=referencing.Registry()).is_valid({})
    except jsonschema.SchemaError as error:
        raise refused(f"the schema is not valid: {error.message[:200]}", param=_PARAM) from None
    except (RecursionError, referencing.exceptions.Unresolvable, ValueError):
        raise refused("the schema cannot be resolved, or is nested too deeply", param=_PARAM) from None
    if remote is not None:
        raise refused("the schema refers to another document", hint="use references that begin with #", param=_PARAM)
    if size > MOST_CHARACTERS:
        raise refused(f"the schema has {size:,} characters; at most {MOST_CHARACTERS:,} are allowed", param=_PARAM)


def follows(text: str, schema: Mapping[str, Any]) -> bool:
    """Whether the text is JSON that the schema allows, patterns aside."""
    try:
        return bool(_Validator(schema, registry=referencing.Registry()).is_valid(json.loads(text)))
    except (ValueError, RecursionError):
        return False


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in ("$ref", "$dynamicRef", "$id", "$schema") and isinstance(inner, str):
                if key != "$schema":
                    yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
