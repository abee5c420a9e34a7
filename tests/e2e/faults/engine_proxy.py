"""A faulty way to the real Docker Engine: a unix socket that relays requests, and harms the ones it is told to.

with EngineProxy(folder / "engine.sock") as proxy:
    proxy.harm(DROP, "POST", r"/containers/create")
    ...  DOCKER_HOST=unix://<folder>/engine.sock
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENGINE = "/var/run/docker.sock"
DRIP_BYTES, DRIP_S = 64, 0.02
DELAY_S = 1.5


@dataclass(frozen=True)
class Request:
    """One request as it came: head without its last empty line, and body."""

    method: str
    path: str
    head: bytes
    body: bytes

    @property
    def upgrades(self) -> bool:
        return b"\r\nupgrade:" in self.head.lower()

    def to_the_engine(self) -> socket.socket:
        """Sent whole; the engine closes after its answer."""
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or ENGINE)
        head = self.head
        if not self.upgrades:
            head = re.sub(rb"\r\n[Cc]onnection:[^\r]*", b"", head) + b"\r\nConnection: close"
        engine.sendall(head + b"\r\n\r\n" + self.body)
        return engine

    def answer(self) -> bytes:
        """The engine's whole answer."""
        with contextlib.closing(self.to_the_engine()) as engine:
            return b"".join(iter(lambda: engine.recv(65536), b""))


Harm = Callable[["EngineProxy", socket.socket, Request], None]


@dataclass
class Fault:
    """What happens to requests of that kind, and how often still (None: always); `struck` counts."""

    harm: Harm
    method: str
    path: re.Pattern[str]
    left: int | None
    struck: int = field(default=0)

    def takes(self, request: Request) -> bool:
        if self.left == 0 or self.method not in ("", request.method) or not self.path.search(request.path):
            return False
        self.left = None if self.left is None else self.left - 1
        self.struck += 1
        return True


class EngineProxy(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Relays until closed. `asked` holds every request line; faults may be changed at any time."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Relay)
        self.asked: list[str] = []
        self.faults: list[Fault] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()

    def harm(self, harm: Harm, method: str, path: str, times: int | None = 1) -> Fault:
        """The next `times` requests of that kind (None: all, until `heal`) are harmed."""
        fault = Fault(harm, method, re.compile(path), times)
        with self._lock:
            self.faults.append(fault)
        return fault

    def heal(self) -> None:
        with self._lock:
            self.faults.clear()

    def fault_for(self, request: Request) -> Harm:
        with self._lock:
            self.asked.append(f"{request.method} {request.path}")
            return next((fault.harm for fault in self.faults if fault.takes(request)), passed)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client or an engine that went away is part of the play."""


class _Relay(socketserver.BaseRequestHandler):
    server: EngineProxy

    def handle(self) -> None:
        request = _read(self.request)
        if request is not None:
            self.server.fault_for(request)(self.server, self.request, request)


def _read(client: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    while found and len(body) < int(found[1]):
        if not (more := client.recv(65536)):
            return None
        body += more
    method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    return Request(method, path, head, body)


# ---------------------------------------------------------------- what can happen


def passed(_proxy: EngineProxy, client: socket.socket, request: Request) -> None:
    """Nothing wrong. One answer for each connection; where it is upgraded, bytes both ways."""
    with contextlib.closing(request.to_the_engine()) as engine:
        if request.upgrades:
            threading.Thread(target=_pump, args=(client, engine), daemon=True).start()
        for data in iter(lambda: engine.recv(65536), b""):
            client.sendall(data)


def lose(_proxy: EngineProxy, client: socket.socket, _request: Request) -> None:
    """Never reaches the engine; the connection breaks."""
    client.close()


def drop(_proxy: EngineProxy, client: socket.socket, request: Request) -> None:
    """Done, but the answer is lost."""
    request.answer()
    client.close()


def refuse(_proxy: EngineProxy, client: socket.socket, _request: Request) -> None:
    """500, and nothing done."""
    _say(client, b"500 Internal Server Error", json.dumps({"message": "the moon is in the wrong house"}).encode())


def refuse_after(_proxy: EngineProxy, client: socket.socket, request: Request) -> None:
    """500, although it was done."""
    request.answer()
    _say(client, b"500 Internal Server Error", b'{"message":"context deadline exceeded"}')


def cut(_proxy: EngineProxy, client: socket.socket, request: Request) -> None:
    """Done, and half of the answer comes."""
    answer = request.answer()
    head_end = answer.find(b"\r\n\r\n") + 4
    client.sendall(answer[: head_end + max(1, (len(answer) - head_end) // 2)])


def garble(_proxy: EngineProxy, client: socket.socket, request: Request) -> None:
    """Done, and the answer is no JSON."""
    request.answer()
    _say(client, b"200 OK", b'{"Id": \xff\xfe<html>\x00')


def babble(_proxy: EngineProxy, client: socket.socket, request: Request) -> None:
    """Done, and the answer is no HTTP."""
    request.answer()
    client.sendall(b"\x16\x03\x01 hello?\r\n\r\n")


def delay(_proxy: EngineProxy, client: socket.socket, request: Request) -> None:
    """Late."""
    time.sleep(DELAY_S)
    passed(_proxy, client, request)


def drip(_proxy: EngineProxy, client: socket.socket, request: Request) -> None:
    """The answer comes in small pieces, slowly."""
    answer = request.answer()
    for start in range(0, len(answer), DRIP_BYTES):
        client.sendall(answer[start : start + DRIP_BYTES])
        time.sleep(DRIP_S)


def rewritten(change: Callable[[bytes], bytes]) -> Harm:
    """Answers of JSON come as `change` makes them."""

    def rewrite(proxy: EngineProxy, client: socket.socket, request: Request) -> None:
        if request.upgrades or "stream=1" in request.path:
            passed(proxy, client, request)
            return
        head, _, body = request.answer().partition(b"\r\n\r\n")
        if b"\r\ntransfer-encoding: chunked" in head.lower():
            body = _unchunked(body)
        status = head.split(b"\r\n", 1)[0].split(b" ", 1)[1]
        _say(client, status, change(body))

    return rewrite


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while (size := int(body.partition(b"\r\n")[0] or b"0", 16)) > 0:
        start = body.find(b"\r\n") + 2
        whole += body[start : start + size]
        body = body[start + size + 2 :]
    return whole


def hang(proxy: EngineProxy, client: socket.socket, _request: Request) -> None:
    """No answer, ever; nothing done."""
    proxy.released.wait(120)
    client.close()


def _say(client: socket.socket, status: bytes, body: bytes) -> None:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    client.sendall(head % (status, len(body)) + body)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        for data in iter(lambda: source.recv(65536), b""):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def mutations(asked: list[str]) -> Iterator[str]:
    """The kinds of acts among them, without the identifiers."""
    for line in asked:
        method, _, path = line.partition(" ")
        if method != "GET":
            yield f"{method} {re.sub(r'[0-9a-f]{12,}', '*', path.partition('?')[0])}"


ALL: tuple[Any, ...] = (lose, drop, refuse, refuse_after, cut, garble, babble, delay, drip)
"""Everything but `hang`, which lasts until the daemon's own limit (10 s for a question, 30 s for an act)."""
