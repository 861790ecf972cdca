"""Runs the application in uvicorn until SIGTERM or Ctrl-C, and lets what is under way end."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from types import FrameType
from typing import Final

import uvicorn
from typing_extensions import override

from colm_vl.errors import ConfigError
from colm_vl.service.app import create_app
from colm_vl.service.context import Service

_BACKLOG: Final = 2048
_AFTER_GRACE: Final = 5
"""Seconds in which cancelled requests can still be answered."""


def serve(service: Service, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        create_app(service),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(service.settings.grace) + _AFTER_GRACE,
    )
    _Server(config, service).run([listener])


def listen(host: str, port: int, *, keys: bool) -> socket.socket:
    """Bind an address. Raises `ConfigError` if it cannot be bound, or is not loopback and there are no keys."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise ConfigError(f"--host {host}: no such address", hint="an address of this machine") from None
    if not keys and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise ConfigError(
            f"--host {host} can be reached by others, and there are no keys",
            hint="colm-vl keys add NAME, then --keys keys.toml",
        )
    listener = socket.socket(family)
    if os.name == "posix":  # elsewhere it would allow a second process at the same port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)  # connections are accepted from now on, though answered only once the service runs
    except OSError as error:
        listener.close()
        raise ConfigError(f"{host}:{port}: {error.strerror}", hint="choose another --port") from None
    return listener


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's, it does not raise the signal again at the end: the exit status is 0."""
        self.force_exit = self._service.stopping
        self._service.stopping = self.should_exit = True

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        late = asyncio.get_running_loop().call_later(self._service.settings.grace, self._service.cancel_all)
        try:
            await super().shutdown(sockets)
        finally:
            late.cancel()
