"""`colm_vl.__all__` contains every name that public methods take or return, and every exception."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import sys
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import colm_vl
from colm_vl import colm, engine, errors, events, team, types
from processors.errors import ColmError, ImageError

OURS = ("colm_vl", "processors")


def test_all_is_sorted_and_every_name_exists() -> None:
    assert list(colm_vl.__all__) == sorted(colm_vl.__all__)
    assert all(hasattr(colm_vl, name) for name in colm_vl.__all__)


def test_all_contains_every_class_of_the_public_modules() -> None:
    public = {
        name
        for module in (colm, engine, events, team, types)
        for name, _ in _classes_of(module)
        if not name.startswith("_")
    }
    assert not public - set(colm_vl.__all__)


def test_all_contains_the_types_of_public_methods_and_fields() -> None:
    missing = {}
    for name in colm_vl.__all__:
        value = getattr(colm_vl, name)
        if inspect.isclass(value):
            for used, where in _named_in(value):
                if used not in colm_vl.__all__:
                    missing[used] = f"{name}.{where}"
    assert not missing


def test_every_error_is_a_colm_error_and_exported() -> None:
    for module in (errors, importlib.import_module("processors.errors")):
        for name, error in _classes_of(module):
            assert issubclass(error, ColmError)
            assert getattr(colm_vl, name) is error
            assert name in colm_vl.__all__
            assert name in (errors.__doc__ or "")
    assert colm_vl.ColmError is ColmError
    assert issubclass(ImageError, ValueError)


def test_errors_of_the_page_and_of_training_are_colm_errors() -> None:
    for module, name in (("demos.inputs", "FieldError"), ("demos.service", "Busy"), ("demos.waiting", "Full")):
        assert issubclass(getattr(importlib.import_module(module), name), ColmError)


def _classes_of(module: ModuleType) -> Iterator[tuple[str, type]]:
    for name, value in vars(module).items():
        if inspect.isclass(value) and value.__module__ == module.__name__:
            yield name, value


def _named_in(value: type) -> Iterator[tuple[str, str]]:
    """The project's names in the annotations of a class: fields, parameters and results."""
    for owner in value.__mro__:
        if not owner.__module__.startswith(OURS):
            continue
        for field, annotation in vars(owner).get("__annotations__", {}).items():
            if not field.startswith("_"):
                yield from ((used, field) for used in _ours(annotation, owner.__module__))
        for name, member in vars(owner).items():
            if name.startswith("_") and not (
                name == "__init__" and owner.__module__ in (colm.__name__, engine.__name__)
            ):
                continue
            function = inspect.unwrap(
                member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            )
            if inspect.isfunction(function) and function.__module__.startswith(OURS):
                for annotation in function.__annotations__.values():
                    yield from ((used, name) for used in _ours(annotation, function.__module__))


def _ours(annotation: Any, module: str) -> Iterator[str]:
    scope = vars(sys.modules[module])
    text = annotation.__forward_arg__ if isinstance(annotation, typing.ForwardRef) else str(annotation)
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Name) and not hasattr(builtins, node.id):
            value = scope.get(node.id)
            if isinstance(value, ModuleType | typing.TypeVar) or value is getattr(typing, node.id, None):
                continue
            if inspect.isclass(value) and not value.__module__.startswith(OURS):
                continue
            yield node.id
