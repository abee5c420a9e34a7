"""A small HTTP/1.1 client for servers that may lie: a canary, an nginx of unknown state, a policy engine.

One request, one connection, one deadline for all of it: connecting, sending, and the last byte of the answer.
Nothing is followed, nothing is decompressed, and no more is kept in memory than was allowed. It connects to
the address it was given and looks up no names.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reconciler.adapters import clock
from reconciler.core.errors import ReconcilerError

HEAD_MAX_BYTES = 32 * 1024
BODY_MAX_BYTES = 1024 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r\n\x00]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_SENDABLE = re.compile(r"[!-~]+")
_SENDABLE_VALUE = re.compile(r"[ -~]*")
_INTERIM_MAX = 5
_LINE_MAX_BYTES = 8 * 1024
_SUN_PATH_MAX = 107


class Failure(StrEnum):
    """The ways in which there is no answer."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    MALFORMED = "malformed"
    TOO_LARGE = "too large"


class HttpError(ReconcilerError):
    """There was no usable answer; `failure` says in which way. Asking again later may help."""

    retryable = True

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Tcp:
    """An IP address and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask. `host` is the Host header."""

    path: str
    method: str = "GET"
    host: str = "localhost"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are in lower case, in the order they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header called `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


def fetch(
    server: Tcp | Unix,
    request: Request,
    timeout_s: float,
    *,
    body_max_bytes: int = BODY_MAX_BYTES,
    monotonic: Callable[[], float] = clock.monotonic,
) -> Response:
    """The answer, whole, within `timeout_s` seconds from now. Raises HttpError."""
    with _Connection(server, monotonic() + timeout_s, monotonic) as connection:
        connection.send(_head(request) + (request.body or b""))
        status, headers = _final_head(connection)
        return Response(status, headers, _body(connection, request.method, status, headers, body_max_bytes))


def can_connect(server: Tcp | Unix, timeout_s: float, *, monotonic: Callable[[], float] = clock.monotonic) -> None:
    """Returns when the server accepts a connection within `timeout_s`; else raises HttpError."""
    with _Connection(server, monotonic() + timeout_s, monotonic):
        return


def _head(request: Request) -> bytes:
    """The request's head. Raises HttpError where a value would have ended its line."""
    headers = [
        ("Host", request.host),
        ("User-Agent", "swiftdeploy"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
        *request.headers,
    ]
    if request.body is not None:
        headers.append(("Content-Length", str(len(request.body))))
    words = (request.method, request.path, *(name for name, _ in headers))
    if not all(map(_SENDABLE.fullmatch, words)) or not all(_SENDABLE_VALUE.fullmatch(value) for _, value in headers):
        raise HttpError(Failure.MALFORMED, "the request holds a character that must not be sent")
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("ascii")


def _final_head(connection: _Connection) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Status and headers of the answer proper, after a few interim ones at most."""
    allowance = HEAD_MAX_BYTES
    for _ in range(_INTERIM_MAX + 1):
        first = _STATUS_LINE.fullmatch(connection.line())
        if first is None:
            raise HttpError(Failure.MALFORMED, "the answer is not HTTP/1.1")
        lines, used = connection.lines(allowance)
        allowance -= used
        if (status := int(first[1])) == 101 or status >= 200:
            return status, tuple(map(_header, lines))
    raise HttpError(Failure.MALFORMED, "interim answers without end")


def _header(line: bytes) -> tuple[str, str]:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise HttpError(Failure.MALFORMED, "the answer has a broken header")
    return match[1].decode("ascii").lower(), match[2].strip(b" \t").decode("latin-1")


def _body(connection: _Connection, method: str, status: int, headers: tuple[tuple[str, str], ...], limit: int) -> bytes:
    """The body as its headers announce it: chunked, of a stated length, or up to the end."""
    if method == "HEAD" or status in (101, 204, 304):
        return b""
    if any(name == "content-encoding" and value.lower() not in ("", "identity") for name, value in headers):
        raise HttpError(Failure.MALFORMED, "the answer is compressed although that was not asked for")
    codings = [value.lower() for name, value in headers if name == "transfer-encoding"]
    lengths = {value for name, value in headers if name == "content-length"}
    if codings and (codings != ["chunked"] or lengths):
        raise HttpError(Failure.MALFORMED, "the answer announces its length in a way that cannot be relied on")
    if codings:
        return _chunks(connection, limit)
    if lengths:
        return connection.exactly(_length(lengths, limit))
    return connection.until_closed(limit)


def _length(lengths: set[str], limit: int) -> int:
    text = next(iter(lengths))
    if len(lengths) > 1 or not (text.isascii() and text.isdigit()):
        raise HttpError(Failure.MALFORMED, "the answer states no usable length")
    if len(text) > 18 or int(text) > limit:
        raise _too_large(limit)
    return int(text)


def _chunks(connection: _Connection, limit: int) -> bytes:
    body = bytearray()
    while size := _chunk_size(connection.line()):
        if len(body) + size > limit:
            raise _too_large(limit)
        body += connection.exactly(size)
        if connection.line():
            raise HttpError(Failure.MALFORMED, "a chunk is longer than it says")
    connection.lines(HEAD_MAX_BYTES)
    return bytes(body)


def _chunk_size(line: bytes) -> int:
    match = _CHUNK.fullmatch(line)
    if match is None:
        raise HttpError(Failure.MALFORMED, "the answer has a broken chunk")
    return int(match[1], 16)


def _too_large(limit: int) -> HttpError:
    return HttpError(Failure.TOO_LARGE, f"the answer is larger than {limit} bytes")


class _Connection:
    """One connection and its deadline; what was received and not yet used waits in `_buffer`."""

    def __init__(self, server: Tcp | Unix, deadline: float, monotonic: Callable[[], float]) -> None:
        self._server = server
        self._deadline = deadline
        self._monotonic = monotonic
        self._buffer = bytearray()
        self._socket = self._connected()

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, content: bytes) -> None:
        """Everything, or HttpError. A server that hangs up early may still have answered, so that is read."""
        try:
            self._socket.settimeout(self._left_s())
            self._socket.sendall(content)
        except (BrokenPipeError, ConnectionResetError):
            return
        except OSError as error:
            raise self._failed(error) from error

    def lines(self, limit: int) -> tuple[list[bytes], int]:
        """The lines before the next empty one, and how many bytes they were; `limit` bytes at most."""
        lines: list[bytes] = []
        used = 0
        while line := self.line():
            used += len(line) + len("\r\n")
            if used > limit:
                raise HttpError(Failure.TOO_LARGE, f"the answer's headers are larger than {HEAD_MAX_BYTES} bytes")
            lines.append(line)
        return lines, used

    def line(self) -> bytes:
        """The next line, without its end."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            if (start := len(self._buffer)) > _LINE_MAX_BYTES:
                raise HttpError(Failure.TOO_LARGE, f"the answer has a line of more than {_LINE_MAX_BYTES} bytes")
            if not self._more():
                raise self._ended_early()
        if end > _LINE_MAX_BYTES:
            raise HttpError(Failure.TOO_LARGE, f"the answer has a line of more than {_LINE_MAX_BYTES} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._buffer) < size:
            if not self._more():
                raise self._ended_early()
        content = bytes(self._buffer[:size])
        del self._buffer[:size]
        return content

    def until_closed(self, limit: int) -> bytes:
        """All that comes until the server closes; `limit` bytes at most."""
        while len(self._buffer) <= limit:
            if not self._more():
                return bytes(self._buffer)
        raise _too_large(limit)

    def _more(self) -> bool:
        """Receive something; false when the server has closed."""
        try:
            self._socket.settimeout(self._left_s())
            received = self._socket.recv(64 * 1024)
        except OSError as error:
            raise self._failed(error) from error
        self._buffer += received
        return bool(received)

    def _connected(self) -> socket.socket:
        try:
            return _open(self._server, self._left_s())
        except OSError as error:
            raise self._failed(error) from error

    def _left_s(self) -> float:
        """Seconds until the deadline, never none."""
        if (left := self._deadline - self._monotonic()) <= 0:
            raise TimeoutError
        return left

    def _ended_early(self) -> HttpError:
        what = "in the middle of its answer" if self._buffer else "before its answer was complete"
        return HttpError(Failure.MALFORMED, f"{self._server} closed the connection {what}")

    def _failed(self, error: OSError) -> HttpError:
        if isinstance(error, TimeoutError):
            return HttpError(Failure.TIMEOUT, f"{self._server} did not answer in time")
        if isinstance(error, ConnectionRefusedError | FileNotFoundError):
            return HttpError(Failure.REFUSED, f"{self._server}: connection refused")
        return HttpError(Failure.UNREACHABLE, f"{self._server}: {(error.strerror or str(error)).lower()}")


def _open(server: Tcp | Unix, timeout_s: float) -> socket.socket:
    family = socket.AF_UNIX if isinstance(server, Unix) else _family(server.address)
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        if isinstance(server, Unix):
            _connect_unix(connection, server.path)
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect((server.address, server.port))
    except BaseException:
        connection.close()
        raise
    return connection


def _family(address: str) -> socket.AddressFamily:
    """Of an IP address; a name is an OSError, since looking it up could take for ever."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except OSError:
            continue
        return family
    raise OSError(f"{address} is not an IP address")


def _connect_unix(connection: socket.socket, path: Path) -> None:
    """Connect, by way of the folder's descriptor where the path is too long for a socket address."""
    if len(os.fsencode(path)) <= _SUN_PATH_MAX:
        connection.connect(os.fspath(path))
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
