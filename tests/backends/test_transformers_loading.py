"""Loading of local models, and its error messages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from colm_vl.backends import _loading
from colm_vl.backends.transformers import Options, TransformersBackend
from colm_vl.errors import LoadFailed, MissingPackage, ModelNotFound, TimedOut
from tests.backends.local import Connect, Tiny, ask, mixed, together

ROOT = Path(__file__).parents[2]


async def test_a_model_is_loaded_once_at_the_first_request(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    load = _loading._open
    monkeypatch.setattr(_loading, "_open", lambda options, *rest: opened.append(options.model) or load(options, *rest))
    backend = connect("qwen2_5_vl")
    assert not opened
    await together(backend, mixed())
    assert len(opened) == 1


async def test_a_timeout_does_not_interrupt_loading(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    go_on = threading.Event()
    load = _loading._open

    def slow(options: Options, *rest: Any) -> Any:
        opened.append(options.model)
        go_on.wait(60)
        return load(options, *rest)

    monkeypatch.setattr(_loading, "_open", slow)
    backend = connect("llama")
    with pytest.raises(TimedOut):
        await backend.generate(ask("Hi", timeout=0.05))
    go_on.set()
    assert (await backend.generate(ask("Hi"))).text
    assert len(opened) == 1


@pytest.mark.parametrize("model", ["/nowhere/at/all", "./nowhere", "a/b/c"])
async def test_a_missing_folder(connect: Connect, model: str) -> None:
    with pytest.raises(ModelNotFound, match=f"model folder '{model}' does not exist"):
        await connect(Path(model)).generate(ask("Hi")) if model.startswith("/") else await TransformersBackend(
            Options(model=model)
        ).generate(ask("Hi"))


async def test_a_folder_without_a_model(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        await connect(tmp_path).generate(ask("Hi"))


async def test_code_in_a_models_folder_is_not_run(connect: Connect, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "config.json").write_text('{"model_type": "odd", "auto_map": {"AutoConfig": "odd.OddConfig"}}')
    (tmp_path / "odd.py").write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\n")
    with pytest.raises(LoadFailed, match="custom code"):
        await connect(tmp_path).generate(ask("Hi"))
    assert not ran.exists()


async def test_a_missing_hub_model_while_offline() -> None:
    backend = TransformersBackend(Options(model="nobody/nothing", offline=True))
    with pytest.raises(ModelNotFound, match="'nobody/nothing' is not on this machine, and offline is set") as caught:
        await backend.generate(ask("Hi"))
    assert "hf download nobody/nothing" in caught.value.hint


async def test_damaged_weights(connect: Connect, tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("llama"), tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:1000])
    backend = connect(folder)
    with pytest.raises(LoadFailed, match="weights are damaged or incomplete"):
        await backend.generate(ask("Hi"))
    with pytest.raises(LoadFailed):
        await backend.capabilities()


async def test_a_model_that_writes_no_text(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(LoadFailed, match="is of type 'clip', expected one that writes text"):
        await connect(tmp_path).generate(ask("Hi"))


@pytest.mark.parametrize(
    ("package", "options", "extra"),
    [("torch", {}, "local"), ("transformers", {}, "local"), ("bitsandbytes", {"quantization": "nf4"}, "quant")],
)
async def test_the_error_for_a_missing_model_package_has_the_pip_line(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, package: str, options: dict[str, Any], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=package) as caught:
        await connect("qwen2_5_vl", **options).generate(ask("Hi"))
    assert caught.value.hint == f"pip install 'colm-vl[{extra}]'"


async def test_a_torchvision_that_does_not_fit_is_named(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LoadFailed, match=r"torchvision does not fit torch.*nms does not exist") as caught:
        await connect("llava").generate(ask("Hi"))
    assert "pip uninstall torchvision" in caught.value.hint


def test_options_are_checked() -> None:
    with pytest.raises(ValidationError, match="min_pixels 5000 is above max_pixels 4000"):
        Options(model="m", min_pixels=5000, max_pixels=4000)
    with pytest.raises(ValidationError):
        Options(model="m", quantization="int4")  # type: ignore[arg-type]


def test_the_module_loads_neither_torch_nor_transformers() -> None:
    program = "import sys, colm_vl.backends.transformers; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


async def test_revision_and_offline_choose_from_the_hubs_cache(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two revisions of a model in the hub's cache, without a network."""
    from huggingface_hub import constants

    repository = tmp_path / "models--someone--tiny"
    for name, commit, kind in (("main", "a" * 40, "qwen2_5_vl"), ("text", "b" * 40, "llama")):
        shutil.copytree(tiny(kind), repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / name).write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    details = {}
    for revision in (None, "text", "absent"):
        backend = TransformersBackend(Options(model="someone/tiny", revision=revision, offline=True))
        with suppress(ModelNotFound):
            details[revision] = (await backend.capabilities()).detail
        await backend.aclose()
    assert details == {None: "qwen2_5_vl, cpu", "text": "llama, cpu"}
