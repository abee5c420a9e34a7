"""A real server on a real socket, with operations that a test writes in a line."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from reconciler.control import ControlServer
from reconciler.operations import Request

Answer = Callable[[Request], Iterator[dict[str, Any]]]
END = {"event": "end", "exit": 0, "text": "", "value": None}


@pytest.fixture
def log() -> Iterator[LogCapture]:
    capture = LogCapture()
    structlog.configure(processors=[capture])
    yield capture
    structlog.reset_defaults()


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


@pytest.fixture
def serve(socket_path: Path, log: LogCapture) -> Iterator[Callable[..., ControlServer]]:
    """Start a server with an answer; all are stopped at the end."""
    servers: list[ControlServer] = []

    def start(answer: Answer | None = None, **limits: Any) -> ControlServer:
        server = ControlServer(socket_path, answer or _echo, **limits)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(wait_s=2)


def _echo(request: Request) -> Iterator[dict[str, Any]]:
    """Says what it was asked."""
    yield {**END, "value": {"verb": request.verb, "args": dict(request.args), "actor": request.actor}}


class Peer:
    """A client that writes whatever bytes it likes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(str(path))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def events(self) -> list[dict[str, Any]]:
        """Everything until the server closes; a reset after the last line is a close too."""
        received = b""
        try:
            while chunk := self.socket.recv(65536):
                received += chunk
        except ConnectionError:
            pass
        return [json.loads(line) for line in received.splitlines()]

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def peer(socket_path: Path) -> Iterator[Callable[[], Peer]]:
    peers: list[Peer] = []

    def connect() -> Peer:
        peers.append(Peer(socket_path))
        return peers[-1]

    yield connect
    for one in peers:
        one.close()
