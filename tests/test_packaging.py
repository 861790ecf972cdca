"""The content of the wheel, its commands after installation, and the extras named in hints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.demos.conftest import free_port

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


class Installed:
    """The wheel in its own environment, with the dependencies of this one."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        venv = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        self.scripts = venv / "bin"
        packages = next(venv.glob("lib/python*/site-packages"))
        (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        done = self.pip("install", "--no-deps", str(wheel))
        assert done.returncode == 0, done.stderr

    def pip(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        python = str(self.scripts / "python")
        return self._run(sys.executable, "-m", "pip", "--python", python, command, "--no-index", *arguments)

    def colm_vl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(str(self.scripts / "colm-vl"), *arguments)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(str(self.scripts / "python"), *arguments)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment()
        return subprocess.run(
            command, cwd=self.elsewhere, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_the_contents_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    top = {file.partition("/")[0] for file in files if ".dist-info/" not in file}
    assert top == {"colm_vl", "processors"}
    for needed in (
        "eval/cli.py",
        "eval/report/report.html.jinja",
        "viewer/viewer.css",
        "viewer/viewer.js",
        "demos/style.css",
        "demos/page.js",
        "pocket/team.toml",
        "py.typed",
    ):
        assert f"colm_vl/{needed}" in files
    assert any(file.startswith("colm_vl/pocket/weights/server/") for file in files)
    assert not [file for file in files if "/training/" in file or "test" in Path(file).name]


EVERY_MODULE = """
import importlib, pkgutil, colm_vl, processors
for package in (colm_vl, processors):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""


def test_every_module_of_the_wheel_can_be_imported(installed: Installed) -> None:
    """A module with `from eval import …` would find nothing, or another project's package."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'colm-vl[demo]'")
    done = installed.python("-c", EVERY_MODULE)
    assert done.returncode == 0, done.stderr
    assert {"colm_vl.eval.report.write", "colm_vl.demos.ask_tab"} <= set(done.stdout.split())


def test_eval_runs_after_an_install(installed: Installed) -> None:
    done = installed.colm_vl("eval", "list")
    assert done.returncode == 0, done.stderr
    assert "scienceqa" in done.stdout
    for name, content in (
        ("gold", {"validation_Art_1": {"question_type": "short-answer", "ground_truth": "7"}}),
        ("replies", {"validation_Art_1": "It is 7."}),
    ):
        (installed.elsewhere / f"{name}.json").write_text(json.dumps(content))
    done = installed.colm_vl("eval", "score", "mmmu", "--gold", "gold.json", "--predictions", "replies.json", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"][0]["correct"] == 1


def test_the_page_runs_after_an_install(installed: Installed) -> None:
    assert "--feedback" in installed.colm_vl("page", "--help").stdout
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'colm-vl[demo]'")
    port = free_port()
    team = ROOT / "docs/examples/scripted.toml"
    command = [installed.scripts / "colm-vl", "page", "--team", team, "--port", str(port)]
    page = subprocess.Popen(command, cwd=installed.elsewhere, env=installed.environment(), stdout=subprocess.PIPE)
    try:
        assert page.stdout is not None
        assert f":{port}" in page.stdout.readline().decode()  # it says so once it listens
        assert "colm" in httpx.get(f"http://127.0.0.1:{port}", trust_env=False).text
    finally:
        page.terminate()
        page.communicate()


def test_the_line_of_a_hint_installs_an_extra_without_a_registry_that_has_the_project(installed: Installed) -> None:
    done = installed.pip("install", "--dry-run", "colm-vl[eval]")
    assert done.returncode == 0, done.stderr
    assert "does not provide the extra" not in done.stderr


def test_a_checkout_uses_its_own_eval_and_demos(tmp_path: Path) -> None:
    for other in ("eval", "demos"):
        (tmp_path / f"{other}.py").write_text("raise AssertionError('a package of the registry')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for arguments, shown in ((["eval", "list"], "scienceqa"), (["page", "--help"], "--feedback")):
        command = [sys.executable, "-m", "colm_vl.cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert shown in done.stdout, done.stderr


HEAVY = ("datasets", "gradio", "jinja2", "matplotlib", "numpy", "pandas", "pyarrow", "scipy", "statsmodels", "torch")
HELP = f"""
import sys
from colm_vl import cli
sys.argv = ["colm-vl", "--help"]
try:
    cli.main()
finally:
    assert not {{*{HEAVY}}} & sys.modules.keys(), sys.modules.keys()
"""
BARE = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None
from colm_vl import cli
cli.main()
"""


def test_help_imports_no_package_of_an_extra() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "eval" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ("eval score mmmu --gold gold.parquet --predictions {replies}", "eval"),
        ("eval score mmmu --gold {gold} --predictions {replies}", "eval"),
        ("page --port 8999", "demo"),
    ],
)
def test_a_command_names_its_missing_extra_in_one_line(arguments: str, extra: str, tmp_path: Path) -> None:
    gold, replies = tmp_path / "gold.json", tmp_path / "replies.json"
    gold.write_text('{"validation_Art_1": {"question_type": "short-answer", "ground_truth": "7"}}')
    replies.write_text('{"validation_Art_1": "7"}')
    (tmp_path / "gold.parquet").touch()
    given = arguments.replace("gold.parquet", str(tmp_path / "gold.parquet")).format(gold=gold, replies=replies).split()
    done = subprocess.run(
        [sys.executable, "-c", BARE, *given], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"pip install 'colm-vl[{extra}]'" in done.stderr


def _texts() -> Iterator[tuple[Path, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for name in listed.split("\0"):
        if name.endswith((".py", ".md", ".toml")) or name == "Makefile":
            yield ROOT / name, (ROOT / name).read_text(encoding="utf-8")


def test_every_extra_that_a_hint_names_exists() -> None:
    named = {
        extra.strip(): path
        for path, text in _texts()
        for pattern in (r"colm-vl\[([\w, -]+)\]", r"'\.\[([\w, -]+)\]'", r"""require\(\s*[\w".]+, "(\w+)"\s*\)""")
        for group in re.findall(pattern, text)
        for extra in group.split(",")
    }
    assert {"eval", "demo", "local", "quant"} <= named.keys()
    assert not {extra: path for extra, path in named.items() if extra not in EXTRAS}


def test_the_base_install_brings_one_http_client() -> None:
    """Over what is installed here: every package that a base install implies."""
    wanted, implied = [Requirement(line) for line in PROJECT["dependencies"]], set[str]()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in implied or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        implied.add(name)
        wanted += [Requirement(line) for line in metadata.requires(name) or ()]
    assert "aiohttp" in implied
    assert not implied & {"openai", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "torch"}
