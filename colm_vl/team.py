"""Reads a team file into a `Team`: its members and their policy. All configuration is read here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator

from colm_vl import gates
from colm_vl._tables import Table, merged, refuse_unknown, short, validate
from colm_vl._toml import read_toml
from colm_vl.backends import registry
from colm_vl.backends.base import Options, Sampling
from colm_vl.errors import ConfigError
from colm_vl.gates import Gate
from colm_vl.prompts import profile as profiles
from colm_vl.prompts.profile import Profile
from colm_vl.types import MemberInfo, Share, Stage

DEFAULT_THUMBNAIL_PIXELS = 256 * 256
POCKET = "the pocket team"
OLD_SHARE = "pictures"
"""The former name of `share = "images"`, still accepted in team files and run folders."""
_SAMPLED_BYTES = 1 << 16


class SamplingPolicy(Table):
    """How the replies of a stage are sampled."""

    max_tokens: int = Field(default=512, ge=1, description="maximum number of tokens in a reply")
    temperature: float = Field(default=0.0, ge=0, le=2, description="sampling temperature; 0 is greedy")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="nucleus sampling: total probability of the tokens to sample from"
    )


class StageSampling(Table):
    """Sampling by stage."""

    select: SamplingPolicy = SamplingPolicy(max_tokens=64)
    draft: SamplingPolicy = SamplingPolicy()
    guide: SamplingPolicy = SamplingPolicy()
    verdict: SamplingPolicy | None = Field(default=None, description="same as guide if not set")
    refine: SamplingPolicy = SamplingPolicy()


def _seconds(default: float) -> Any:
    return Field(
        default=default,
        gt=0,
        description="timeout of one call in seconds; includes retries and model loading, but not queueing",
    )


class Timeouts(Table):
    """Timeouts of calls by stage, in seconds."""

    select: float = _seconds(120)
    draft: float = _seconds(300)
    guide: float = _seconds(300)
    verdict: float | None = Field(default=None, gt=0, description="same as guide if not set")
    refine: float = _seconds(300)


class Policy(Table):
    """How the members work together. Each field can be set in the team file under `[policy]`, or for one question.

    `--help` and docs/policies.md list the fields with these descriptions (`policies.py`).
    """

    strategy: str = Field(
        default="colm",
        min_length=1,
        description="colm, concat, server, vote, verdict, moa, solo or self_consistency; solo:NAME and "
        "self_consistency:NAME name the client, otherwise it is the asker",
    )
    top_k: int | None = Field(default=None, ge=1, description="number of clients that take part; all if not set")
    select: Literal["server", "specialty"] = Field(
        default="server",
        description="how the top k are selected: server (by the server) or specialty (by words that question and "
        "specialty share)",
    )
    rounds: int = Field(default=1, ge=1, le=10, description="rounds of guidance and refinement")
    min_drafts: int = Field(
        default=1, ge=1, description="minimum number of drafts; with fewer, the server is not asked"
    )
    prefetch: bool = Field(
        default=False,
        description="let the server read the pictures and the question while the clients draft; needs a prefix cache",
    )
    quorum: int | None = Field(
        default=None,
        ge=1,
        description="number of drafts, or refined answers, to wait for; other clients are then late; if not set, "
        "all are awaited",
    )
    patience: float = Field(
        default=3.0, ge=0, description="seconds to wait for late clients before their calls are cancelled"
    )
    gate: Annotated[Gate, BeforeValidator(gates.read), PlainSerializer(gates.plain)] = Field(
        default_factory=gates.default,
        description="when the server is asked: always, disagreement, { confidence = 0.8 }, or "
        '{ calibrated = "gate.json" }, which `colm-vl eval calibrate` writes',
    )
    audit: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the questions skipped by the gate for which the server is asked anyway",
    )
    shadow: bool = Field(default=False, description="ask the server even if the gate would skip it, to see the effect")
    prompts: Annotated[Profile, BeforeValidator(profiles.read), PlainSerializer(profiles.plain)] = Field(
        default_factory=lambda: profiles.load(profiles.DEFAULT),
        description="the prompt profile: the name of a shipped one (default or pocket), or the path of a TOML file, "
        "relative to the team file",
    )
    reply_format: Literal["auto", "json", "lines"] = Field(
        default="auto",
        description="format of the replies: lines (labelled lines), json (objects under a JSON schema) or auto (json "
        "for endpoints that support schemas; lines for other endpoints and for models in this process)",
    )
    reason: bool = Field(default=False, description="ask the clients to reason before they answer")
    share: Share = Field(default="images", description="what the server may see: images, thumbnails or captions")
    thumbnail_pixels: int = Field(
        default=DEFAULT_THUMBNAIL_PIXELS, ge=28 * 28, description="maximum pixels of a thumbnail"
    )
    blind: bool = Field(default=False, description="show drafts to the server without names, in random order")
    asker: str | None = Field(
        default=None,
        description="the client whose answer counts with solo and with settle = asker; the first if not set",
    )
    settle: Literal["asker", "vote"] | None = Field(
        default=None,
        description="final answer: asker (that of the asking client) or vote; if not set, asker if one is named, else "
        "vote",
    )
    samples: int | None = Field(
        default=None, ge=1, description="number of samples of self_consistency; if not set, the number of calls of colm"
    )
    layers: int = Field(default=2, ge=1, le=5, description="layers of moa")
    seed: int = Field(default=0, description="seed of sampling and of the order of blind drafts")
    max_loaded: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of local models in memory, for a team or a batch; all if not set",
    )
    timeouts: Timeouts = Timeouts()
    sampling: StageSampling = StageSampling()

    @field_validator("share", mode="before")
    @classmethod
    def _read_share(cls, share: object) -> object:
        return "images" if share == OLD_SHARE else share

    def timeout(self, stage: Stage) -> float | None:
        if stage == "settle":  # a service lets a member write the settled answer in another form
            return self.timeouts.refine
        seconds: float | None = getattr(self.timeouts, stage)
        return self.timeouts.guide if seconds is None else seconds

    def sampling_for(self, stage: Stage) -> Sampling:
        chosen: SamplingPolicy = getattr(self.sampling, stage) or self.sampling.guide
        seed = self.seed if chosen.temperature > 0 else None
        return Sampling(chosen.max_tokens, chosen.temperature, chosen.top_p, seed)

    def updated(self, changes: Mapping[str, Any], folder: Path | None = None) -> Policy:
        """A copy of this policy with some fields changed. A table such as `timeouts` keeps the fields not given. Paths
        are relative to `folder`. Raises `ConfigError` naming an invalid field."""
        own = {**self.model_dump(exclude={"gate", "prompts"}), "prompts": self.prompts}
        if "gate" not in changes:  # a new gate takes the place of the old one, settings included
            own["gate"] = self.gate
        return validate(Policy, merged(own, changes), "policy", folder)


class _MemberSettings(Table):
    """Settings of a member that override those of the policy."""

    prompts: Annotated[Profile | None, BeforeValidator(profiles.read)] = Field(
        default=None, description="prompt profile of this member; that of the policy if not set"
    )
    reply_format: Literal["auto", "json", "lines"] | None = Field(
        default=None, description="reply format of this member; that of the policy if not set"
    )


@dataclass(frozen=True, slots=True)
class Member:
    """A model of the team. `options` are the validated options of its backend. `label` is its model as written in the
    team file, without absolute paths. `prompts` and `reply_format` are its own, if it does not use the policy's.

    `fingerprint` is a SHA-256 of everything that changes this model's replies: the backend, its options, and samples of
    the files if the model is a local folder. It does not cover the name and the specialty, which are part of the
    prompts where they matter, or options that do not affect replies, such as retry and timeout settings.
    """

    name: str
    role: Literal["client", "server"]
    backend: str
    options: Options
    specialty: str = ""
    label: str = ""
    prompts: Profile | None = None
    reply_format: Literal["auto", "json", "lines"] | None = None
    fingerprint: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        model = self.label or Path(self.options.model).name or self.options.model
        object.__setattr__(self, "label", model)
        object.__setattr__(self, "fingerprint", _fingerprint(self.backend, model, self.options))

    def shown(self, text: str) -> str:
        """A message about this model with its label in place of its absolute path, for traces and the page."""
        return text.replace(self.options.model, self.label) if Path(self.options.model).is_absolute() else text


@dataclass(frozen=True, slots=True)
class Team:
    """One or more clients, an optional server, and a policy. `source` names the team's origin in messages; paths that
    are set later are relative to `folder`, or to the working directory if it is None."""

    clients: tuple[Member, ...]
    server: Member | None = None
    policy: Policy = field(default_factory=Policy)
    source: str = "team"
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not self.clients:
            raise ConfigError(f"{self.source}: no clients", hint="add at least one [[clients]] table")
        names = [member.name for member in self.members]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"{self.source}: two members are called {twice!r}", hint="give each a unique name")
        if self.policy.asker is not None:
            self.client(self.policy.asker)
        profiles_here = [self.prompts_of(member) for member in self.members]
        mute = next((profile.name for profile in profiles_here if not profile.texts.reason_task), None)
        if self.policy.reason and mute:
            raise ConfigError(
                f"{self.source}: policy: reason: the prompt profile {mute!r} has no text for it",
                hint="add the key task to the table [reason] of the profile",
            )

    @property
    def is_pocket(self) -> bool:
        return self.source == POCKET

    @property
    def members(self) -> tuple[Member, ...]:
        return (*self.clients, self.server) if self.server else self.clients

    @property
    def infos(self) -> tuple[MemberInfo, ...]:
        """The members as recorded in a trace."""
        return tuple(
            MemberInfo(
                member.name, member.role, member.backend, member.label, member.specialty,
                prompts.name, prompts.fingerprint, member.fingerprint,
            )
            for member in self.members
            for prompts in [self.prompts_of(member)]
        )  # fmt: skip

    def prompts_of(self, member: Member) -> Profile:
        """The prompt profile for this member."""
        return member.prompts or self.policy.prompts

    def reply_format_of(self, member: Member) -> Literal["auto", "json", "lines"]:
        """The reply format for this member; "auto" only if a schema is tried first."""
        wanted = member.reply_format or self.policy.reply_format
        return "lines" if wanted == "auto" and not member.options.tries_schema else wanted

    @property
    def asker(self) -> Member:
        """The client whose answer counts if the policy settles by asker: the one named there, or the first."""
        return self.client(self.policy.asker) if self.policy.asker else self.clients[0]

    def client(self, name: str) -> Member:
        found = next((client for client in self.clients if client.name == name), None)
        if found is None:
            known = ", ".join(client.name for client in self.clients)
            raise ConfigError(f"no client is called {name!r}", hint=f"the clients of {self.source}: {known}")
        return found

    def with_policy(self, **changes: Any) -> Team:
        """A copy of this team with some policy fields changed. Raises `ConfigError` naming an invalid field."""
        return replace(self, policy=self.policy.updated(changes, self.folder))

    @classmethod
    def load(cls, path: str | Path) -> Team:
        """Read a team file. If `model` is the relative path of a folder, it is resolved against the file's folder.

        Raises `ConfigError` naming the file, the key and the allowed values.
        """
        file = Path(path)
        return cls.from_dict(read_toml(file), source=file.name, folder=file.parent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str = "team", folder: Path | None = None) -> Team:
        """Like `load`, from the parsed content of a file."""
        refuse_unknown(data, ("clients", "server", "policy"), source)
        clients, server = data.get("clients", []), data.get("server")
        if not isinstance(clients, list) or not all(isinstance(table, Mapping) for table in clients):
            raise ConfigError(f"{source}: clients is not a list of tables", hint="write each client as [[clients]]")
        if server is not None and not isinstance(server, Mapping):
            raise ConfigError(f"{source}: server is not a table", hint="write it as [server]")
        return cls(
            clients=tuple(
                _read_member(table, "client", f"{source}: clients[{number}]", folder)
                for number, table in enumerate(clients, 1)
            ),
            server=_read_member({"name": "server", **server}, "server", f"{source}: server", folder)
            if server is not None
            else None,
            policy=validate(Policy, data.get("policy", {}), f"{source}: policy", folder),
            source=source,
            folder=folder,
        )

    @classmethod
    def pocket(cls) -> Team:
        """The four tiny models in the package. They only understand a small world of drawn pictures."""
        from colm_vl import pocket

        return replace(cls.load(pocket.team_file()), source=POCKET, folder=None)


def _read_member(
    table: Mapping[str, Any], role: Literal["client", "server"], where: str, folder: Path | None
) -> Member:
    settings = dict(table)
    texts = {}
    for key, default in (("name", None), ("backend", None), ("specialty", "")):
        value = settings.pop(key, default)
        if not isinstance(value, str) or (not value.strip() and default is None):
            given = "missing" if value is None else f"{value!r}"
            raise ConfigError(f"{where}: {key} is {given}, expected a text", hint=_member_hint(key))
        if key == "name" and not value.strip().isprintable():  # names begin lines in terminals and in prompts
            raise ConfigError(f"{where}: name is {short(value)}, expected one line of printable characters")
        texts[key] = value.strip()
    own = tuple(_MemberSettings.model_fields)
    shared = validate(_MemberSettings, {key: settings.pop(key) for key in own if key in settings}, where, folder)
    options_class = registry.options_class(texts["backend"])
    refuse_unknown(settings, tuple(options_class.model_fields), where, ("name", "backend", "specialty", *own))
    options = validate(options_class, _resolve_model(settings, folder), where)
    label = _label(settings.get("model", options.model))
    if options.is_guide and role == "client":
        raise ConfigError(f"{where}: backend {texts['backend']!r} is a guidance service, which cannot be a client")
    return Member(
        texts["name"], role, texts["backend"], options, texts["specialty"], label, shared.prompts, shared.reply_format
    )


def _member_hint(key: str) -> str:
    return f"one of: {', '.join(registry.names())}" if key == "backend" else ""


def _resolve_model(settings: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    model = settings.get("model")
    if folder is not None and isinstance(model, str) and model.strip() and _is_folder(folder / model):
        return settings | {"model": str((folder / model).resolve())}
    return settings


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # longer than a path can be
        return False


def _label(model: str) -> str:
    """A model's name for display: a hub id or relative path as written, or the last part of an absolute path."""
    return Path(model).name if Path(model).is_absolute() else model


def _fingerprint(backend: str, model: str, options: Options) -> str:
    digest = hashlib.sha256(json.dumps([backend, model, options.deciding()], sort_keys=True).encode())
    folder = Path(options.model)
    if options.in_process and _is_folder(folder):
        try:
            for sample in _sampled(folder):
                digest.update(sample)
        except OSError as error:
            raise ConfigError(f"model folder {model!r} cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def _sampled(folder: Path) -> Iterator[bytes]:
    """The beginning and the end of each file, so that a model retrained in the same folder has another fingerprint and
    20 GB of weights need not be read."""
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        with file.open("rb") as content:
            size = file.stat().st_size
            head = content.read(_SAMPLED_BYTES)
            content.seek(max(0, size - _SAMPLED_BYTES))
            yield f"{file.name} {size} ".encode(errors="surrogateescape") + head + content.read(_SAMPLED_BYTES)
