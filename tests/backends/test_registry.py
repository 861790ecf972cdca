"""Backends are found by name."""

from __future__ import annotations

import subprocess
import sys
import types
from importlib.metadata import EntryPoint

import pytest

from colm_vl import plugins
from colm_vl.backends import base, registry, scripted
from colm_vl.errors import ConfigError, MissingPackage


def announce(monkeypatch: pytest.MonkeyPatch, name: str, module: types.ModuleType) -> None:
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entry = EntryPoint(name, module.__name__, "colm_vl.backends")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == "colm_vl.backends" else [])


def test_the_modules_of_the_folder_are_backends_but_not_its_helpers() -> None:
    assert {"openai", "scripted"} <= set(registry.names())
    assert not {"base", "registry"} & set(registry.names())
    assert not any(name.startswith("_") for name in registry.names())
    assert list(registry.names()) == sorted(registry.names())


def test_finding_backends_imports_no_heavy_package() -> None:
    code = (
        "import sys; from colm_vl.backends import registry; registry.names();"
        "[registry.options_class(name) for name in ('openai', 'scripted', 'transformers') if name in registry.names()];"
        "print([name for name in ('torch', 'transformers', 'openai', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_backend_is_made_from_its_options() -> None:
    options = registry.options_class("scripted")(model="m", replies=["yes"])  # type: ignore[call-arg]
    assert isinstance(registry.connect("scripted", options), scripted.ScriptedBackend)


def test_options_of_another_backend_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"'scripted' takes colm_vl\.backends\.scripted\.Options"):
        registry.connect("scripted", base.Options(model="m"))


def test_the_error_for_an_unknown_backend_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'telepathy'") as caught:
        registry.options_class("telepathy")
    assert "openai" in caught.value.hint
    assert "scripted" in caught.value.hint


@pytest.mark.parametrize("name", ["base", "registry", "_common", "..types", "base.Options"])
def test_other_modules_cannot_be_reached_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown backend"):
        registry.options_class(name)


def test_other_packages_announce_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_plug_in")
    module.Options = scripted.Options  # type: ignore[attr-defined]
    module.connect = scripted.connect  # type: ignore[attr-defined]
    announce(monkeypatch, "elsewhere", module)
    assert "elsewhere" in registry.names()
    backend = registry.connect("elsewhere", scripted.Options(model="m", replies=("yes",)))
    assert isinstance(backend, scripted.ScriptedBackend)


def test_an_announced_backend_does_not_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, "scripted", types.ModuleType("an_impostor"))
    assert registry.options_class("scripted") is scripted.Options


@pytest.mark.parametrize("missing", ["connect", "Options"])
def test_an_announced_module_that_is_not_a_backend_is_reported(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    module = types.ModuleType("half_a_plug_in")
    for name in {"connect", "Options"} - {missing}:
        setattr(module, name, getattr(scripted, name))
    announce(monkeypatch, "half", module)
    with pytest.raises(ConfigError, match=f"'half' has no {missing}"):
        registry.options_class("half")


def test_the_error_for_a_missing_package_has_the_pip_line() -> None:
    with pytest.raises(MissingPackage, match="package 'no_such_package' is not installed") as caught:
        registry.require("no_such_package", "local")
    assert caught.value.hint == "pip install 'colm-vl[local]'"


def test_a_failing_import_is_reported_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with open(f"{tmp_path}/broken_package.py", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("from json import no_such_name\n")
    with pytest.raises(MissingPackage, match="installed and cannot be imported: cannot import name 'no_such_name'"):
        registry.require("broken_package", "quant")


def test_require_returns_the_module() -> None:
    assert registry.require("json", "local").loads("1") == 1
