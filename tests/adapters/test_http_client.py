"""The client against servers that lie, drip, flood and hang up; each is a real socket."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters import http_client
from reconciler.adapters.http_client import Failure, HttpError, Request, Response, Tcp, Unix, can_connect, fetch

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(talk: Talk, listener: socket.socket | None = None) -> Iterator[Tcp]:
    """One that reads a request's head and then does what `talk` does, for every connection."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        with contextlib.suppress(OSError):  # the test is over
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := connection.recv(65536)):
                    return  # gone before it had asked
                head += piece
            heads.append(head)
            talk(connection)

    heads: list[bytes] = []
    threading.Thread(target=serve, daemon=True).start()
    try:
        address = listener.getsockname()
        yield Tcp(*address[:2]) if isinstance(address, tuple) else Tcp("", 0)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def says(*pieces: bytes, every_s: float = 0.0) -> Talk:
    def talk(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(every_s)

    return talk


def ask(talk: Talk, timeout_s: float = 2.0, body_max_bytes: int = 1000, request: Request | None = None) -> Response:
    with server(talk) as address:
        return fetch(address, request or Request("/"), timeout_s, body_max_bytes=body_max_bytes)


def failure(talk: Talk, timeout_s: float = 2.0, body_max_bytes: int = 1000) -> Failure:
    with pytest.raises(HttpError) as raised:
        ask(talk, timeout_s, body_max_bytes)
    return raised.value.failure


OK = b"HTTP/1.1 200 OK\r\n"


# --- what is understood ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (OK + b"Content-Length: 5\r\n\r\nhello, and more than that", b"hello"),
        (OK + b"content-length:0\r\n\r\n", b""),
        (OK + b"\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde"),
        (OK + b"Transfer-Encoding: Chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"\r\nlate", b"late"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", b""),
        (OK + b"Content-Encoding: identity\r\n\r\nplain", b"plain"),
    ],
)
def test_an_honest_answer_is_read_however_it_is_cut(answer: bytes, body: bytes) -> None:
    assert ask(says(answer)).body == body
    assert ask(says(*(answer[i : i + 1] for i in range(len(answer))))).body == body


def test_status_and_headers_are_answered() -> None:
    response = ask(says(b"HTTP/1.1 503 Busy\r\nX-Mode:  canary \r\nX-Mode: stable\r\nContent-Length: 0\r\n\r\n"))
    assert response.status == 503
    assert response.header("x-mode") == "canary"
    assert response.header("absent") is None


@pytest.mark.fault("G6", "H2")
def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with server(says(OK + b"Content-Length: 6\r\n\r\nsecret")) as elsewhere:
        location = f"Location: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n".encode()
        response = ask(says(b"HTTP/1.1 302 Found\r\n" + location))
    assert (response.status, response.body) == (302, b"")


def test_the_request_asks_for_one_plain_answer() -> None:
    echo: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        echo.append(connection.recv(65536))
        connection.sendall(OK + b"Content-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: talk(listener.accept()[0]))
        thread.start()
        request = Request("/v1/x?y=1", "POST", "opa", (("Authorization", "Bearer t"),), b'{"a":1}')
        fetch(Tcp(*listener.getsockname()), request, 2.0)
        thread.join()
    head, _, body = echo[0].partition(b"\r\n\r\n")
    assert body == b'{"a":1}'
    assert head.split(b"\r\n") == [
        b"POST /v1/x?y=1 HTTP/1.1",
        b"Host: opa",
        b"User-Agent: swiftdeploy",
        b"Accept-Encoding: identity",
        b"Connection: close",
        b"Authorization: Bearer t",
        b"Content-Length: 7",
    ]


@pytest.mark.parametrize(
    "request_",
    [
        Request("/a b"),
        Request("/\r\nX: y"),
        Request("/ü"),
        Request(""),
        Request("/", host="a\r\nX: y"),
        Request("/", method="GET /x"),
        Request("/", headers=(("X", "a\nb"),)),
        Request("/", headers=(("X y", "a"),)),
    ],
)
def test_a_request_that_would_break_its_lines_is_never_sent(request_: Request) -> None:
    with server(says(OK + b"\r\n")) as address, pytest.raises(HttpError, match="must not be sent"):
        fetch(address, request_, 2.0)


def test_a_head_request_has_no_body() -> None:
    assert ask(says(OK + b"Content-Length: 99\r\n\r\n"), request=Request("/", "HEAD")).body == b""


# --- what is not ---------------------------------------------------------------------------------------------


def endless(piece: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        while True:
            connection.sendall(piece)

    return talk


def then(first: bytes, rest: Talk) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(first)
        rest(connection)

    return talk


@pytest.mark.fault("H2")
@pytest.mark.parametrize(
    "talk",
    [
        says(*[OK[i : i + 1] for i in range(16)], every_s=0.2),
        then(OK + b"Content-Length: 100\r\n\r\n", says(*[b"x"] * 50, every_s=0.1)),
        then(OK + b"\r\n", says(*[b"x"] * 50, every_s=0.1)),
        then(OK, says(*[b"A: b\r\n"] * 50, every_s=0.1)),
        then(OK + b"Transfer-Encoding: chunked\r\n\r\n", says(*[b"1\r\nx\r\n"] * 50, every_s=0.1)),
        lambda connection: time.sleep(5),
        then(OK + b"Content-Length: 4\r\n\r\nab", lambda connection: time.sleep(5)),
    ],
    ids=["head drips", "body drips", "endless body drips", "headers drip", "chunks drip", "silent", "stops half way"],
)
def test_the_deadline_is_for_all_of_it(talk: Talk) -> None:
    before = time.monotonic()
    assert failure(talk, timeout_s=0.3) is Failure.TIMEOUT
    assert time.monotonic() - before < 2.0


def test_a_server_that_does_not_read_is_left_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(HttpError) as raised:
        fetch(Tcp(*listener.getsockname()), Request("/", "POST", body=b"x" * 50_000_000), 0.3)
    assert raised.value.failure is Failure.TIMEOUT


@pytest.mark.fault("H2")
@pytest.mark.parametrize(
    "talk",
    [
        then(OK + b"\r\n", endless(b"x" * 65536)),
        says(OK + b"Content-Length: 1001\r\n\r\n"),
        says(OK + b"Content-Length: 99999999999999999999999999\r\n\r\n"),
        says(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n"),
        says(OK + b"Transfer-Encoding: chunked\r\n\r\n3;" + b"x" * 20_000 + b"\r\nabc\r\n0\r\n\r\n"),
        then(OK + b"Transfer-Encoding: chunked\r\n\r\n", endless(b"64\r\n" + b"x" * 100 + b"\r\n")),
        then(OK, endless(b"X-Header: y\r\n")),
        then(OK + b"X: ", endless(b"y" * 65536)),
        endless(b"H" * 65536),
        then(OK + b"Transfer-Encoding: chunked\r\n\r\n", endless(b"0" * 65536)),
        then(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", endless(b"Trailer: x\r\n")),
    ],
    ids=[
        "never-ending body",
        "announced too long",
        "announced absurdly long",
        "4 GB chunk",
        "a chunk's name of 20 kB",
        "never-ending chunks",
        "never-ending headers",
        "never-ending header",
        "never-ending first line",
        "never-ending chunk size",
        "never-ending trailer",
    ],
)
def test_what_is_too_large_is_cut_off_at_once(talk: Talk) -> None:
    before = time.monotonic()
    assert failure(talk) is Failure.TOO_LARGE
    assert time.monotonic() - before < 1.9


def test_a_body_may_be_exactly_as_large_as_allowed() -> None:
    assert len(ask(says(OK + b"\r\n" + b"x" * 1000)).body) == 1000
    assert failure(says(OK + b"\r\n" + b"x" * 1001)) is Failure.TOO_LARGE


def test_endless_interim_answers_end() -> None:
    assert failure(endless(b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n")) is Failure.MALFORMED


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"garbage\r\n\r\n",
        b"<html></html>",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5",
        OK,
        OK + b"Content-Length: 5\r\n\r\nhi",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 0x5\r\n\r\nhello",
        OK + "Content-Length: ٣\r\n\r\nabc".encode(),
        OK + b"Content-Length: \xb2\r\n\r\nab",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: identity\r\n\r\nx",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab",
        OK + b"No colon here\r\n\r\n",
        OK + b"Bad name: x\r\n\r\n",
        OK + b"X: y\r\n folded\r\n\r\n",
        OK + b"X: a\x00b\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 100_000),
        OK + b"Content-Encoding: br\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_no_answer(answer: bytes) -> None:
    assert failure(says(answer)) is Failure.MALFORMED


def test_a_connection_reset_is_no_answer() -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(OK + b"Content-Length: 5\r\n\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    assert failure(talk) is Failure.UNREACHABLE


def test_an_early_answer_to_a_large_request_is_read() -> None:
    with server(says(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")) as address:
        outcome: Failure | int
        try:
            outcome = fetch(address, Request("/", "POST", body=b"x" * 300_000), 2.0).status
        except HttpError as error:
            outcome = error.failure
    assert outcome in (413, Failure.UNREACHABLE), "the second where the reset overtook the answer"


pieces = st.sampled_from(
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n",
        b"\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"3\r\n",
        b"abc",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces | st.binary(max_size=20), max_size=12))
def test_whatever_comes_is_an_answer_or_an_http_error(answer: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_client, "_open", lambda server, timeout_s: ours)
        theirs.sendall(b"".join(answer))
        theirs.shutdown(socket.SHUT_WR)
        with contextlib.suppress(HttpError):
            response = fetch(Tcp("192.0.2.1", 80), Request("/"), 2.0, body_max_bytes=100)
            assert 100 <= response.status < 600
            assert len(response.body) <= 100
    assert ours.fileno() == -1


# --- where it connects ---------------------------------------------------------------------------------------


def test_nobody_there_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Tcp(*listener.getsockname())
    with pytest.raises(HttpError, match="connection refused") as raised:
        fetch(address, Request("/"), 2.0)
    assert raised.value.failure is Failure.REFUSED
    assert raised.value.retryable


def test_names_are_not_looked_up() -> None:
    with pytest.raises(HttpError, match="not an ip address") as raised:
        fetch(Tcp("localhost", 80), Request("/"), 2.0)
    assert raised.value.failure is Failure.UNREACHABLE


def test_a_deadline_that_is_over_is_a_timeout() -> None:
    with server(says(OK + b"\r\n")) as address, pytest.raises(HttpError) as raised:
        fetch(address, Request("/"), 0.0)
    assert raised.value.failure is Failure.TIMEOUT


def test_a_connection_alone_can_be_tried() -> None:
    with server(says(b"")) as address:
        can_connect(address, 2.0)
    with pytest.raises(HttpError):
        can_connect(address, 2.0)


def test_a_unix_socket_is_asked_however_long_its_path(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / ("d" * 100) / ("e" * 100)):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "s"
        listener = socket.socket(socket.AF_UNIX)
        short = Path("/tmp") / f"swiftdeploy-test-{threading.get_ident()}-{len(str(path))}"
        listener.bind(str(short))
        short.rename(path)
        listener.listen()
        with server(says(OK + b"Content-Length: 2\r\n\r\nok"), listener):
            assert fetch(Unix(path), Request("/"), 2.0).body == b"ok"


def test_a_missing_or_dead_unix_socket_is_refused(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    for path in (tmp_path / "missing", tmp_path / "dead", tmp_path / ("x" * 120) / "far"):
        with pytest.raises(HttpError) as raised:
            fetch(Unix(path), Request("/"), 2.0)
        assert raised.value.failure is Failure.REFUSED


def test_no_connection_is_left_open() -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        with contextlib.suppress(HttpError):
            fetch(Tcp("127.0.0.1", 1), Request("/"), 1.0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 1
