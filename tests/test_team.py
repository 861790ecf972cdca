"""Team files, and the messages for invalid ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from colm_vl import ConfigError, Team
from colm_vl.gates.confidence import ConfidenceGate
from colm_vl.team import Policy

CLIENT = '[[clients]]\nname = "near"\nbackend = "scripted"\nmodel = "x"\nreplies = ["Answer: 5"]\n'


def load(folder: Path, text: str) -> Team:
    file = folder / "team.toml"
    file.write_text(text)
    return Team.load(file)


def test_a_team_file_gives_clients_server_and_policy(tmp_path: Path) -> None:
    team = load(
        tmp_path,
        CLIENT
        + '[server]\nbackend = "scripted"\nmodel = "big"\nreplies = ["x"]\n'
        + "[policy]\nrounds = 2\ngate = { confidence = 0.8 }\nsampling.draft.temperature = 0.5\ntimeouts.guide = 7\n",
    )
    assert [member.name for member in team.members] == ["near", "server"]
    assert team.policy.rounds == 2
    assert team.policy.gate == ConfidenceGate(confidence=0.8)
    assert team.policy.sampling_for("draft").temperature == 0.5
    assert team.policy.sampling_for("guide").temperature == 0
    assert team.policy.timeout("guide") == 7


def test_a_relative_model_folder_is_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    team = load(tmp_path, CLIENT.replace('"x"', '"weights"'))
    assert team.clients[0].options.model == str((tmp_path / "weights").resolve())
    assert load(tmp_path, CLIENT).clients[0].options.model == "x"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "no clients", "[[clients]]"),
        (CLIENT + CLIENT, "two members are called 'near'", "unique name"),
        (
            CLIENT + 'colour = "red"\n',
            "unknown key 'colour'",
            "known keys: name, backend, specialty, prompts, reply_format, model",
        ),
        (CLIENT + 'modle = "red"\n', "unknown key 'modle'", "did you mean 'model'"),
        (CLIENT.replace('name = "near"', ""), "name is missing", ""),
        (CLIENT.replace('model = "x"', ""), "model: Field required", ""),
        (CLIENT.replace('"x"', "7"), "model: Input should be a valid string (given: 7)", ""),
        (CLIENT.replace("scripted", "magic"), "unknown backend 'magic'", "scripted"),
        (CLIENT + "[policy]\nroundz = 2\n", "policy: unknown key 'roundz'", "did you mean 'rounds'"),
        (CLIENT + "[policy]\nrounds = 0\n", "policy: rounds", ""),
        (CLIENT + '[policy]\nasker = "far"\n', "no client is called 'far'", "near"),
        (CLIENT + '[policy]\ngate = "sometimes"\n', "expected always, disagreement", ""),
        (CLIENT + "[policy.sampling.draft]\ntemprature = 1\n", "sampling.draft.temprature", ""),
        (CLIENT + "servers = 1\n", "unknown key 'servers'", ""),
        ("clients = 3\n", "clients is not a list", "[[clients]]"),
        ("server = 3\n" + CLIENT, "server is not a table", "[server]"),
        (CLIENT + "[server]\n", "server: backend is missing", "one of:"),
        (CLIENT.replace("near", "\\u001b[31mnear"), "expected one line of printable characters", ""),
        (CLIENT.replace("near", "near\\nfar"), "expected one line of printable characters", ""),
        ("[[clients]\n", "not valid TOML", ""),
        ("deep = " + 20_000 * "[", "nested too deeply", ""),
    ],
)
def test_errors_of_a_team_file_name_file_key_and_remedy(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert message in raised.value.message
    assert "team.toml" in raised.value.message + raised.value.hint or "backend" in raised.value.message
    assert hint in raised.value.hint
    assert "\n" not in raised.value.message


def test_other_files_are_refused_as_team_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such team file"):
        Team.load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is a folder"):
        Team.load(tmp_path)
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Team.load(tmp_path / "picture.toml")
    if Path("/dev/zero").exists():  # not on Windows
        with pytest.raises(ConfigError, match="more than 4,194,304 bytes"):
            Team.load("/dev/zero")
    with pytest.raises(ConfigError, match="is not a path"):
        Team.load("team\0.toml")


def endpoint(**options: str) -> str:
    settings = {"model": "m", "base_url": "http://127.0.0.1:9/v1", **options}
    return '[[clients]]\nname = "a"\nbackend = "openai"\n' + "".join(f'{k} = "{v}"\n' for k, v in settings.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "http://user:hunter2@127.0.0.1:9/v1"}, "base_url: expected an address without user, password"),
        ({"base_url": "http://127.0.0.1:9/v1?key=hunter2"}, "base_url: expected an address without user, password"),
        ({"base_url": "hunter2"}, "base_url: expected an address that begins with http"),
        ({"base_url": "http://127.0.0.1:99999/v1"}, "base_url: expected an address without white space"),
        ({"base_url": "http://127.0.0.1:9/\\u001b[31mv1"}, "base_url: expected an address without white space"),
        ({"base_url": "http://hunter2@[::1/v1"}, "base_url: expected an address that begins with http"),
        ({"base_url": "http://hunter2@\u2100/v1"}, "base_url: expected an address that begins with http"),
        ({"api_key_env": "sk-hunter2"}, "api_key_env: expected the name of an environment variable"),
        ({"api_key_env": "hf_hunter2"}, "api_key_env: expected the name of an environment variable"),
        ({"api_key_env": "hunter2hunter2hunter2"}, "api_key_env: expected the name of an environment variable"),
        ({"api_key_env": "gsk_hunter2hunter2"}, "api_key_env: expected the name of an environment variable"),
        ({"extra_body": "hunter2"}, "extra_body: Input should be a valid"),
    ],
)
def test_invalid_settings_that_may_be_secrets_are_not_shown(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, endpoint(**options))
    assert message in raised.value.message
    assert "hunter2" not in raised.value.message + raised.value.hint


@pytest.mark.parametrize(
    "name", ["BOX_KEY", "OPENAI_API_KEY_FOR_PROJECT2", "HF_TOKEN", "myKey", "box_key", "OPENROUTERAPIKEYOFMINE"]
)
def test_names_of_variables_are_accepted(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, endpoint(api_key_env=name)).clients


def test_names_in_the_environment_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("hf_token", "secret")
    assert load(tmp_path, endpoint(api_key_env="hf_token")).clients


@pytest.mark.parametrize(
    "text",
    [
        "a" + 50_000 * ".a" + " = 1",
        "[a" + 50_000 * ".a" + "]",
        "a = { b" + 50_000 * " . 'b'" + " = 1 }",
        'x."=\\"".a' + 50_000 * '."\\""' + " = 1",
    ],
)
def test_a_key_of_very_many_parts_is_refused_at_once(tmp_path: Path, text: str) -> None:
    started = time.process_time()
    with pytest.raises(ConfigError, match=r"team\.toml: a key has more than 32 parts"):
        load(tmp_path, CLIENT + text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "part", ["a", '"', '\\"', "a.", "'a'.", "'", '""', "a" + 31 * ".a" + " ", '\\"""', "'a\n", "'''", '"""\\']
)
def test_the_check_for_long_keys_takes_linear_time(tmp_path: Path, part: str) -> None:
    started = time.process_time()
    with pytest.raises(ConfigError):
        load(tmp_path, "x = 1\n" + (400_000 // len(part)) * part)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ['"{}"', "'{}'", '"""{}\n{}"""', "'''\n{}'''", '"ok" # {}'])
def test_dots_in_strings_and_comments_are_allowed(tmp_path: Path, text: str) -> None:
    written = text.replace("{}", "Look. Now, e.g. v1.2.3. " * 200)
    assert load(tmp_path, CLIENT.replace('["Answer: 5"]', "[" + written + "\n]")).clients


def test_a_model_may_be_named_at_any_length(tmp_path: Path) -> None:
    name = 5_000 * "x"  # longer than a path can be, and asked whether it is one
    assert load(tmp_path, endpoint(model=name)).clients[0].options.model == name


def test_a_policy_is_checked_when_it_is_changed() -> None:
    assert Policy().updated({"gate": "confidence=0.9"}).gate == ConfidenceGate(confidence=0.9)
    with pytest.raises(ConfigError, match="policy: rounds"):
        Policy().updated({"rounds": "many"})


def test_a_fingerprint_changes_with_what_changes_replies(tmp_path: Path) -> None:
    one = load(tmp_path, CLIENT).clients[0]
    renamed = load(tmp_path, CLIENT.replace("near", "far")).clients[0]
    other = load(tmp_path, CLIENT.replace('"x"', '"y"')).clients[0]
    assert one.fingerprint == renamed.fingerprint != other.fingerprint


def test_retry_and_timeout_settings_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    usual = load(tmp_path, endpoint()).clients[0]
    patient = load(tmp_path, endpoint(max_concurrency=2, max_retries=9, retry_delay=2.0, timeout_connect=9.0)).clients[
        0
    ]
    closer = load(tmp_path, endpoint(detail="high")).clients[0]
    assert usual.fingerprint == patient.fingerprint != closer.fingerprint
