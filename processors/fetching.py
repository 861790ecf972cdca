"""Fetching a picture over https, only from hosts that the caller allows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched. Nothing is unless a policy is passed to `Image.open`.

    hosts: names, each with its port where that is not 443 (`"img.example.org"`, `"img.example.org:8443"`).
    max_bytes: the largest answer that is read. timeout: seconds for everything, redirects included.
    """

    hosts: frozenset[str]
    max_bytes: int = 20_000_000
    timeout: float = 20.0


def fetch(url: str, policy: FetchPolicy) -> bytes:
    """The body of `url`. Raises ImageError."""
    raise NotImplementedError
