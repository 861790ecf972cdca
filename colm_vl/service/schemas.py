"""JSON schemas of callers: checked before they are used, and applied to the final answer.

Nothing is fetched for a schema, and no regular expression of it is run: a pattern can take time exponential in the
length of a text, and `unevaluatedProperties` and `unevaluatedItems` in the depth of the schema. The member that writes
the answer may still follow them. What else there is to check is limited, since each level of references can double it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final

import jsonschema
import referencing
import referencing.exceptions

from colm_vl.service.errors import refused

MOST_CHARACTERS: Final = 20_000
MOST_STEPS: Final = 50_000
"""Keywords and their parts that are applied to one value: less than a second."""
_PARAM: Final = "response_format"
_NOT_APPLIED: Final = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems")
_steps_left: ContextVar[int] = ContextVar("steps_left")

_Keyword = Callable[[Any, Any, Any, Any], Iterable[jsonschema.ValidationError] | None]


_UNUSABLE: Final = (
    *(RecursionError, ValueError, OverflowError, TypeError, AttributeError, LookupError),
    referencing.exceptions.Unresolvable,
)
"""What jsonschema raises for references into the middle of a schema, too, which need not be schemas."""


class _TooManySteps(Exception):
    pass


def _counted(keyword: _Keyword) -> _Keyword:
    def apply(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[jsonschema.ValidationError] | None:
        left = _steps_left.get() - (len(value) if isinstance(value, list | dict) else 1)
        if left < 0:
            raise _TooManySteps
        _steps_left.set(left)
        return keyword(validator, value, instance, schema)

    return apply


_Validator: Final = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    {name: _counted(keyword) for name, keyword in jsonschema.Draft202012Validator.VALIDATORS.items()}
    | dict.fromkeys(_NOT_APPLIED, lambda *_: None),
)


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises `ApiError` (400) if it is no JSON schema, too long, or refers to another document."""
    schema = _without_dialect(schema)
    try:
        size = len(json.dumps(schema, ensure_ascii=False).encode())
        remote = next((ref for ref in _references(schema) if not ref.startswith("#")), None)
        if size <= MOST_CHARACTERS and remote is None:
            jsonschema.Draft202012Validator.check_schema(schema)
            _allows(schema, {})
    except jsonschema.SchemaError as error:
        raise refused(f"the schema is not valid: {error.message[:200]}", param=_PARAM) from None
    except _TooManySteps:
        raise refused("the schema takes too long to check", hint="use fewer references", param=_PARAM) from None
    except _UNUSABLE:
        raise refused("the schema cannot be resolved, or is nested too deeply", param=_PARAM) from None
    if remote is not None:
        raise refused("the schema refers to another document", hint="use references that begin with #", param=_PARAM)
    if size > MOST_CHARACTERS:
        raise refused(f"the schema has {size:,} characters; at most {MOST_CHARACTERS:,} are allowed", param=_PARAM)


def follows(text: str, schema: Mapping[str, Any]) -> bool:
    """Whether the text is JSON that the schema allows, as far as it is checked."""
    try:
        return _allows(_without_dialect(schema), json.loads(text))
    except (*_UNUSABLE, _TooManySteps):
        return False


def _allows(schema: Mapping[str, Any], value: Any) -> bool:
    _steps_left.set(MOST_STEPS)
    return bool(_Validator(schema, registry=referencing.Registry()).is_valid(value))


def _without_dialect(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Under another dialect, jsonschema would go on with a validator of its own, without our limits."""
    return {key: value for key, value in schema.items() if key != "$schema"}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in ("$ref", "$dynamicRef", "$id", "$schema") and isinstance(inner, str):
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
