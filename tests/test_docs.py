"""The documentation agrees with the code: team files, commands, Python blocks and generated tables of every page."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
import typer
from pydantic import BaseModel

import colm_vl
from colm_vl import CoLM, Policy, Team, strategies
from colm_vl._tables import validate
from colm_vl.batch.questions import Questions
from colm_vl.cli import app
from colm_vl.policies import read_settings
from colm_vl.service.settings import Settings
from tests.endpoint import Endpoint, Reply

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "BENCHMARKS.md")),
    *(ROOT / name for name in ("eval/README.md", "examples/README.md", "colm_vl/pocket/MODEL_CARD.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
GENERATED = ("policies.md", "team-file.md", "cli.md")
ENTRY_POINTS = {
    "colm_vl.backends", "colm_vl.strategies", "colm_vl.gates", "colm_vl.benchmarks", "colm_vl.metrics",
    "colm_vl.exchange", "processors.families",
}  # fmt: skip
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SEPARATORS = frozenset({"&&", "|", "||", ";", "&", "<", ">", "<<"})
_SHELLS = ("", "sh", "bash", "console")


class Block(NamedTuple):
    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    return [
        Block(str(page.relative_to(ROOT)), text.count("\n", 0, match.start()) + 1, match[2])
        for page in PAGES
        for text in [page.read_text("utf-8")]
        for match in _FENCE.finditer(text)
        if match[1] in languages
    ]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of this project in a block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if not re.match(r"\s*(\$ )?(colm-vl|make|python -m|\.venv\S*/bin/python -m|[A-Z_]+=\S* )", line):
            continue
        words: list[str] = []
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if word not in _SEPARATORS:
                words.append(word)
            elif words:
                yield [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
                words = []


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_settings_are_valid(block: Block, tmp_path: Path) -> None:
    data = tomllib.loads(block.text)
    if "project" in data:
        assert data["project"]["entry-points"].keys() <= ENTRY_POINTS
    elif data.keys() <= {"clients", "server", "policy"}:
        if "calibrated" in str(data.get("policy", {}).get("gate")):
            del data["policy"]["gate"]  # its file does not exist
        client = {"name": "any", "backend": "scripted", "model": "any", "replies": ["any"]}
        shutil.copy(ROOT / "colm_vl/prompts/profiles/default.toml", tmp_path / "my-prompts.toml")
        Team.from_dict({"clients": [client], **data}, source=str(block), folder=tmp_path)
    else:
        validate(Settings, data, str(block))


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_blocks_compile_and_import_what_exists(block: Block) -> None:
    compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("colm_vl", "processors"):
            module = importlib.import_module(node.module or "")
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize("block", [one for one in blocks(*_SHELLS) if list(commands(one))], ids=str)
def test_commands_exist_with_these_options(block: Block) -> None:
    for words in commands(block):
        if words[0] == "colm-vl":
            check_command(words)
        elif words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word]
            makefile = (ROOT / "Makefile").read_text()
            assert [name for name in targets if not re.search(rf"^{re.escape(name)}:", makefile, re.MULTILINE)] == []
        elif "-m" in words:
            assert find_spec(words[words.index("-m") + 1].split(".")[0]) or "lmms_eval" in words, words


@pytest.mark.parametrize("block", blocks("csv"), ids=str)
def test_tables_of_questions_are_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / "questions.csv").write_text(block.text, "utf-8")
    rows = list(Questions(tmp_path / "questions.csv"))
    assert [row.problem for row in rows if row.problem] == []
    assert [(len(row.pictures), row.choices) for row in rows] == [(1, ("left", "right")), (2, ())]


def test_inline_commands_exist() -> None:
    for page in PAGES:
        for command in re.findall(r"`(colm-vl [a-z][^`]*)`", page.read_text("utf-8")):
            check_command(shlex.split(command), whole=False)


def check_command(words: Sequence[str], *, whole: bool = True) -> None:
    """Fails if a command of colm-vl does not exist or does not take these options and values. `whole`: arguments and
    required options must be there, too."""
    command: Any = typer.main.get_command(app)
    given = list(words[1:])
    while given and given[0] in getattr(command, "commands", {}):
        if (two_words := " ".join(given[:2])) in command.commands:
            given[:2] = [two_words]
        command = command.commands[given.pop(0)]
    assert not hasattr(command, "commands") or not given or given == ["--help"] or not whole, f"{words}: no command"
    options = {name: one for one in command.params for name in one.opts if one.param_type_name == "option"}
    seen, arguments = set(), 0
    while given:
        word, equals, value = given.pop(0).partition("=") if given[0].startswith("--") else (given.pop(0), "", "")
        if word == "--help":
            return
        if not word.startswith("-") or word == "-":
            arguments += 1
            continue
        assert word in options, f"{words}: unknown option {word}"
        option = options[word]
        seen.add(option.name)
        if not option.is_flag:
            assert equals or given, f"{words}: {word} has no value"
            check_value(option, value if equals else given.pop(0), words)
    if whole and not hasattr(command, "commands"):
        positional = [one for one in command.params if one.param_type_name == "argument"]
        most = 99 if any(one.nargs != 1 for one in positional) else len(positional)
        assert sum(one.required for one in positional) <= arguments <= most, f"{words}: {arguments} arguments"
        missing = [one.name for one in command.params if one.required and one.param_type_name == "option"]
        assert set(missing) <= seen, f"{words}: lacks {missing}"


def check_value(option: Any, value: str, words: Sequence[str]) -> None:
    kind = option.type_descriptor.annotation
    if get_origin(kind) is Literal:
        assert value in get_args(kind), words
    elif isinstance(kind, type) and issubclass(kind, Enum):
        assert value in [one.value for one in kind], words
    elif kind in (int, float) and not value.isupper():
        kind(value)
    elif option.opts[0] in ("--strategy", "--strategies") and "=" not in value:
        assert all(strategies.find(name) for name in value.split(",")), words
    elif option.opts[0] == "--set" and "calibrated" not in value:
        changes = read_settings([value.replace("STAGE", "draft")])
        Policy().updated(changes)


def extension(name: str) -> Any:
    """A module of the site's extensions."""
    sys.path.append(str(ROOT / "docs" / "_ext"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop()


def generated() -> Any:
    return extension("reference")


@pytest.mark.parametrize("name", GENERATED)
def test_generated_tables_are_current(name: str) -> None:
    page = (ROOT / "docs" / name).read_text("utf-8")
    assert generated().updated(page) == page, "make docs-tables writes the tables"


def test_every_setting_of_a_team_file_is_described() -> None:
    reference = generated()
    rows = [row for table in reference.tables().values() for row in table.splitlines()[2:]]
    assert [row for row in rows if not row.split("|")[2].strip()] == []
    assert (ROOT / "docs/policies.md").read_text("utf-8").count("| `") == len(reference.policies.policy_keys())


def test_the_page_of_the_command_line_has_every_command() -> None:
    page = generated().command_line()
    for path in ("colm-vl ask", "colm-vl team plan", "colm-vl eval ablate", "colm-vl keys add", "colm-vl usage"):
        assert f"# {path}\n" in page
    assert "`--strategies` TEXT" in page


def test_the_page_of_python_has_every_public_name_once() -> None:
    page = (ROOT / "docs/api.md").read_text("utf-8")
    listed = re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE)
    assert sorted(listed, key=str) == sorted(name for name in colm_vl.__all__ if name != "__version__")


def rows(table: Any, prefix: str = "") -> Iterator[str]:
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            yield from rows(value, f"{prefix}{name}.")
        else:
            yield f"| `{prefix}{name}` | {field.description} |"


def test_all_settings_and_options_of_the_service_are_described() -> None:
    from colm_vl.service.options import ColmOptions

    page = (ROOT / "docs/service.md").read_text("utf-8")
    assert [row for row in rows(Settings()) if row not in page] == []
    assert [name for name in ColmOptions.model_fields if f"`{name}`" not in page] == []


def links(page: Path) -> Mapping[str, Path]:
    text = _FENCE.sub("", page.read_text("utf-8"))
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    return {target: page.parent / target for target in targets if not re.match(r"[a-z]+:", target)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_of_the_repository(page: Path) -> None:
    assert [target for target, path in links(page).items() if not path.exists()] == []


def test_the_check_of_the_site_finds_broken_links_and_other_hosts(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="#top">1</a><a href="b.html#there">2</a><a href="https://example.org/">3</a>'
        '<a href="#gone">4</a><a href="b.html#gone">5</a><a href="gone.html">6</a>'
        '<img src="gone.png"><script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="there">B</p>')
    (tmp_path / "site.css").write_text('@import "https://example.org/a.css"; p { background: url(b.png) }')
    assert extension("check_site").findings(tmp_path) == [
        "a.html: loads https://example.org/x.js from another host",
        "a.html: #gone: no such anchor",
        "a.html: b.html#gone: no such anchor",
        "a.html: gone.html: no such file",
        "a.html: gone.png: no such file",
        "site.css: loads https://example.org/a.css from another host",
    ]


def test_links_of_the_repositorys_files_lead_to_pages_of_the_site() -> None:
    text = "[a](docs/memory.md#x) [b](BENCHMARKS.md) [c](eval/README.md) [d](https://example.org/docs/a.md)"
    shown = extension("pages").with_links(text, Path("CONTRIBUTING.md"))
    assert shown == "[a](memory.md#x) [b](results.md) c [d](https://example.org/docs/a.md)"


def test_the_private_recipe_sends_the_server_no_picture_and_nothing_about_the_file(tmp_path: Path) -> None:
    """The team file of docs/private-data.md, with its questions, against endpoints on loopback."""
    page = (ROOT / "docs/private-data.md").read_text("utf-8")
    (file,) = [tomllib.loads(text) for language, text in _FENCE.findall(page) if language == "toml"]
    (questions,) = [text for _, text in _FENCE.findall(page) if text.startswith('{"id"')]
    for name in ("1.png", "2.png"):
        shutil.copy(ROOT / "docs/examples/house.png", tmp_path / name)
    (tmp_path / "questions.jsonl").write_text(questions.replace('"1.png"', '"1.png"], "secret": ["column"'))
    drafts = ["Caption: a receipt\nAnswer: 41.50", "Caption: a bill\nAnswer: 14.50"]
    clients = [Endpoint(Reply(text)) for text in drafts]
    with Endpoint(Reply("Evidence: 41.50 fits\nCheck: the last line")) as server, clients[0], clients[1]:
        addresses = [one.base_url for one in clients]
        for table, address in zip((*file["clients"], file["server"]), (*addresses, server.base_url), strict=True):
            table["base_url"] = address
        del file["server"]["api_key_env"]
        file["policy"]["reply_format"] = "lines"
        with CoLM(Team.from_dict(file)) as colm:
            traces = list(colm.batch(tmp_path / "questions.jsonl", tmp_path / "out", limit=1))
    assert traces[0].answer
    assert all(seen.pictures for client in clients for seen in client.seen)
    assert len(server.seen) == 1
    body = json.dumps(server.seen[0].body)
    assert "What is the total?" in body
    assert "a receipt" in body
    assert [word for word in ("image_url", "data:", "1.png", "secret", "photos", str(tmp_path)) if word in body] == []
