"""Runs the live page's server: on a port, until it is interrupted or closed."""

from __future__ import annotations

import contextlib
import secrets
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvicorn

from sightline.errors import InputError
from sightline.live.server import WaitingLine, build

if TYPE_CHECKING:
    from sightline.live.engine import Engine

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class Bound:
    """A server with its port taken, not yet running. line: of its work. failures: what loading the model raised."""

    server: uvicorn.Server
    socket: socket.socket
    address: str
    line: WaitingLine
    failures: list[Exception] = field(default_factory=list)

    def run(self) -> None:
        """Serve until interrupted or closed; raises what loading the model raised."""
        with contextlib.suppress(KeyboardInterrupt):
            self.server.run(sockets=[self.socket])
        if self.failures:
            raise self.failures[0]


def bind(name: str, load: Callable[[], Engine], port: int, host: str) -> Bound:
    """Takes the port; InputError where another program has it."""
    token = None if host in LOOPBACK else secrets.token_urlsafe(16)
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    page = build(name, load, token, failed)
    config = uvicorn.Config(page, host=host, port=port, log_level="warning", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    try:
        socket.getaddrinfo(host, port)
    except (OSError, UnicodeError) as error:
        raise InputError(f"There is no host {host!r} to serve on: give this machine's name, or 127.0.0.1.") from error
    try:
        taken = config.bind_socket()
    except SystemExit as error:  # uvicorn's way to say that the port is taken
        raise InputError(f"The port {port} of {host} is taken: give another port, or 0 for any free one.") from error
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{taken.getsockname()[1]}/" + (f"?token={token}" if token else "")
    return Bound(server, taken, address, page.state.line, failures)


def serve(
    name: str,
    load: Callable[[], Engine],
    *,
    port: int,
    host: str,
    open_browser: bool,
    on_ready: Callable[[str], None] = print,
) -> bool:
    """Serves until it is interrupted, with the model loaded behind the page. on_ready: is given the address.

    Returns whether the model is still at work, loading or answering, for whose end the interpreter would wait.
    """
    bound = bind(name, load, port, host)
    on_ready(bound.address)
    if open_browser:
        webbrowser.open(bound.address)
    bound.run()
    return bound.line.is_working
