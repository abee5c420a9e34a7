"""HTTP as far as a webhook needs it: bounded connections, one request each, one deadline for all of it.

The standard library parses the request. Around it stands what it lacks: a deadline for the whole connection, and
limits on how many there are.
"""

from __future__ import annotations

import io
import socket
import socketserver
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Protocol, cast

import structlog

from reconciler.adapters.clock import monotonic
from reconciler.formats.webhook import Claim, Headers, Reply

_DRAINED_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What requests may cost. A storm gets `burst` requests answered, then `rate_per_s`; the rest is told 429.

    After `connection_s` a client gets `last_words_s` to hear its answer and close.
    """

    connections: int = 8
    connection_s: float = 5.0
    last_words_s: float = 1.0
    burst: int = 60
    rate_per_s: float = 20.0
    hint_every_s: float = 1.0
    told_every_s: float = 60.0


class Answers(Protocol):
    """Who decides what is answered; asked from many threads."""

    bounds: Bounds

    def before_body(self, method: str, path: str, headers: Headers) -> Reply | Claim:
        """A refusal, or what the request offers as proof. The body's length is known and bearable then."""
        ...

    def judged(self, claim: Claim, headers: Headers, body: bytes) -> Reply:
        """The answer to a whole request."""
        ...

    def answered(self, reply: Reply) -> None:
        """This was answered."""
        ...


class Server(socketserver.ThreadingTCPServer):
    """Lets so many connections in at a time and a second, each in a thread; turns the rest away at once."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], listener: Answers) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.listener = listener
        self._stopped = threading.Event()
        self._free = threading.BoundedSemaphore(listener.bounds.connections)
        self._rate = _Rate(listener.bounds.burst, listener.bounds.rate_per_s)
        super().__init__(address, _Connection)

    def stop(self) -> None:
        """No more connections are taken, and the address is free. Not for the thread that serves."""
        self._stopped.set()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that serves
        self.shutdown()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, object]:
        """The next connection; without descriptors left, those that serve are waited for."""
        try:
            return super().get_request()
        except OSError:
            self._stopped.wait(0.2)
            raise

    def process_request(self, request: object, client_address: object) -> None:
        """A thread for it, or 429 at once."""
        connection = cast(socket.socket, request)
        if self._rate.allows() and self._free.acquire(blocking=False):
            try:
                super().process_request(connection, client_address)
            except RuntimeError:  # no thread can be started
                self._free.release()
                self._turn_away(connection)
            return
        self._turn_away(connection)

    def process_request_thread(self, request: object, client_address: object) -> None:
        """In the thread; afterwards its place is free again."""
        try:
            super().process_request_thread(cast(socket.socket, request), client_address)
        finally:
            self._free.release()

    def _turn_away(self, connection: socket.socket) -> None:
        reply = Reply(429, "too many requests; what is followed is looked at by itself too")
        with suppress(OSError):
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.recv(65536)  # unread bytes would make the kernel drop the answer
            connection.send(_wire(reply))
        self.listener.answered(reply)
        self.shutdown_request(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """A bug: said with its place, never raised. The error's own words may hold what was sent, so they are not."""
        structlog.get_logger().error("webhook.failed", error=place_of(sys.exc_info()[1]))


def place_of(error: BaseException | None) -> str:
    """An error's kind and the place it came from, without its words."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


class _Connection(BaseHTTPRequestHandler):
    """One request, read within one deadline by the standard library's parser."""

    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        """Whatever is read from here on shares one deadline."""
        self.connection = self.request
        self._stream = _Deadline(self.connection, monotonic() + self.server.listener.bounds.connection_s)
        self.rfile = io.BufferedReader(self._stream)
        self.wfile = cast(io.BufferedIOBase, self._stream)

    def finish(self) -> None:
        """Nothing to flush."""

    def handle(self) -> None:
        """Answer the first request; whatever follows on the connection is not read."""
        self._claim: Claim | None = None
        self._is_answered = False
        with suppress(OSError):
            try:
                self._handle()
            except TimeoutError:
                self._stream.deadline = monotonic() + self.server.listener.bounds.last_words_s
                self._reply(Reply(408, "the request took too long"))
            self._linger()

    def _handle(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            return
        if len(self.raw_requestline) > 65536:
            self.requestline = self.request_version = self.command = ""
            self._reply(Reply(414, "the request's first line is too long"))
            return
        if not self.parse_request() or not self._is_welcome():
            return
        headers, length = self._headers(), int(self.headers["content-length"])
        body = self.rfile.read(length)
        if len(body) < length:
            self._reply(Reply(400, "the body is shorter than Content-Length says"))
        elif self._claim is not None:
            self._reply(self.server.listener.judged(self._claim, headers, body))

    def _is_welcome(self) -> bool:
        """Whether the body may come; otherwise it is answered already."""
        if self._claim is not None or self._is_answered:
            return not self._is_answered
        found = self.server.listener.before_body(self.command, self.path, self._headers())
        if isinstance(found, Reply):
            self._reply(found)
            return False
        self._claim = found
        return True

    def handle_expect_100(self) -> bool:
        """`Expect: 100-continue`: only a body that may come is asked for."""
        return self._is_welcome() and super().handle_expect_100()

    def _headers(self) -> Headers:
        found: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            found.setdefault(name.lower(), []).append(str(value).strip())
        return found

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the parser does not understand, in our form; nothing of what was sent is repeated."""
        self._reply(Reply(int(code), "this is no request that is understood here"))

    def _reply(self, reply: Reply) -> None:
        self._is_answered = True
        self.server.listener.answered(reply)
        self.wfile.write(_wire(reply))

    def _linger(self) -> None:
        """Read what is still coming, within bounds: closing on unread bytes would make the kernel drop the answer."""
        if not self._is_answered:
            return
        self.connection.shutdown(socket.SHUT_WR)
        self._stream.deadline = monotonic() + self.server.listener.bounds.last_words_s
        left = _DRAINED_BYTES
        while left > 0 and (read := self.rfile.read1(65536)):
            left -= len(read)

    def log_message(self, format: str, *args: object) -> None:
        """The library would log what strangers send."""


class _Deadline(io.RawIOBase):
    """A socket as a stream whose every read and write ends at one moment (monotonic seconds), with TimeoutError."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._wait()
        return self.connection.recv_into(buffer)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._wait()
        self.connection.sendall(data)
        return len(data)

    def _wait(self) -> None:
        left_s = self.deadline - monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.connection.settimeout(left_s)


_REASONS = {
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    429: "Too Many Requests",
    503: "Service Unavailable",
}


def _wire(reply: Reply) -> bytes:
    body = reply.body()
    lines = [
        f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Refused')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *{405: ["Allow: POST"], 429: ["Retry-After: 5"]}.get(reply.status, []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Rate:
    """So many at once, then so many a second; asked by one thread."""

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._at = float(burst), monotonic()

    def allows(self) -> bool:
        now = monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
