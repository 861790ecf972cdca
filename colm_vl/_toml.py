"""Reads TOML from an untrusted path: it may be a device, a binary file, or written to slow the parser down."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from colm_vl.errors import ConfigError

MAX_FILE_BYTES = 4 << 20  # far more than any team file needs; a device such as /dev/zero never ends
MAX_KEY_PARTS = 32

# tomllib takes time quadratic in the number of parts of a dotted key, so keys with many parts are refused first. This
# check takes linear time: strings and comments are matched whole, with possessive quantifiers.
_TEXT = r"""(?<!\\)"(?:[^"\\\n]|\\.)*+" | '[^'\n]*+'"""
_LONG_TEXT = r"""(?<!\\)"{3}(?:[^\\]|\\.)*?"{3} | '{3}.*?'{3}"""
_KEYS_AND_TEXTS = re.compile(
    rf"""(?P<key> (?<![\w-]) (?:(?:[\w-]++ | {_TEXT}) [ \t]*+ \. [ \t]*+){{{MAX_KEY_PARTS}}} [\w"'-])
    | {_LONG_TEXT} | {_TEXT} | \#[^\n]*+""",
    re.VERBOSE | re.DOTALL,
)


def read_toml(file: Path, kind: str = "team file") -> dict[str, Any]:
    """Raises `ConfigError` with a one-line message if the file cannot be read or parsed, naming its `kind`."""
    example = kind.split()[0] + ".toml"
    try:
        with file.open("rb") as content:
            data = content.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"{file}: has more than {MAX_FILE_BYTES:,} bytes", hint=f"give the path of a {example}")
        text = data.decode("utf-8")
        if any(match["key"] for match in _KEYS_AND_TEXTS.finditer(text)):
            raise ConfigError(
                f"{file}: a key has more than {MAX_KEY_PARTS} parts joined by dots", hint="write it as tables"
            )
        return tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such {kind}", hint=f"give the path of a {example}, or none") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: is a folder, expected a {kind}", hint=f"such as {file / example}") from None
    except (PermissionError, OSError) as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text", hint=f"a {kind} is TOML") from None
    except RecursionError:
        raise ConfigError(f"{file}: is nested too deeply", hint=f"a {kind} has tables of settings") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    except ValueError:  # a NUL character
        raise ConfigError(f"{str(file)!a}: is not a path", hint=f"give the path of a {example}") from None
