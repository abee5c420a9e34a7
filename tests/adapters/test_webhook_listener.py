"""The webhook's listener over real sockets: what strangers send costs little, and only a hint comes through."""

from __future__ import annotations

import hmac
import json
import queue
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from reconciler.adapters import webhook_server
from reconciler.adapters.webhook import MAX_BODY_BYTES, WebhookListener, read_secret
from reconciler.adapters.webhook_server import Bounds
from reconciler.core.errors import StateError
from reconciler.formats.daemon_config import WebhookConfig
from reconciler.formats.webhook import HookKind

pytestmark = [pytest.mark.fault("GT15")]

SECRET = b"0123456789abcdef0123456789abcdef"
BODY = json.dumps({"ref": "refs/heads/main", "marker": "MARKER-IN-THE-BODY"}).encode()
LIMIT_S = 10.0
PATIENT = Bounds(
    connections=200, connection_s=LIMIT_S, last_words_s=LIMIT_S, burst=10_000, rate_per_s=10_000.0, hint_every_s=0.0
)


class World:
    """A listener, what it hinted, and clients."""

    def __init__(self, folder: Path) -> None:
        self.secret_file = folder / "secret"
        self.secret_file.write_bytes(SECRET + b"\n")
        self.secret_file.chmod(0o600)
        self.hints: queue.Queue[str] = queue.Queue()
        self.open: list[WebhookListener] = []

    def listener(self, bounds: Bounds = PATIENT, hint: Callable[[str], None] | None = None, **given: Any) -> int:
        config = replace(WebhookConfig(str(self.secret_file), port=0), **given)
        listener = WebhookListener(config, "refs/heads/main", hint or self.hints.put, bounds)
        listener.start()
        self.open.append(listener)
        return listener.port


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for listener in made.open:
        listener.stop()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def signed(body: bytes = BODY, secret: bytes = SECRET) -> str:
    return "X-Hub-Signature-256: sha256=" + hmac.new(secret, body, "sha256").hexdigest()


def request(*headers: str, body: bytes = BODY, first: str = "POST /hooks HTTP/1.1", length: int | None = None) -> bytes:
    lines = (first, "Host: x", f"Content-Length: {len(body) if length is None else length}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), LIMIT_S)


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def sent(port: int, data: bytes) -> bytes:
    with closing(connected(port)) as connection:
        connection.sendall(data)
        return received(connection)


def answered(port: int, data: bytes) -> tuple[int, str]:
    """The one answer to what was sent: status and words."""
    answer = sent(port, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Content-Type: application/json" in head
    assert b"Connection: close" in head
    assert b"Python" not in answer
    return int(head.split()[1]), json.loads(body)["detail"]


# --- what is heard


@pytest.mark.parametrize(
    "headers",
    [
        (signed(), "X-GitHub-Event: push"),
        (signed().replace("X-Hub-Signature-256: sha256=", "X-Gitea-Signature: "), "X-Gitea-Event: push"),
        (f"X-Gitlab-Token: {SECRET.decode()}", "X-Gitlab-Event: Push Hook"),
        (signed().replace("X-Hub-Signature-256: sha256=", "x-signature:"),),
        (signed(), "Expect: 100-continue"),
    ],
)
def test_a_signed_push_is_a_hint(world: World, headers: tuple[str, ...]) -> None:
    answer = sent(world.listener(), request(*headers))
    assert b"HTTP/1.1 202 Accepted\r\n" in answer
    assert b"heard: looking now" in answer
    assert "webhook, refs/heads/main" in world.hints.get(timeout=LIMIT_S)


def test_a_push_to_another_branch_is_told_and_ignored(world: World) -> None:
    port, body = world.listener(), b'{"ref": "refs/heads/other"}'
    assert answered(port, request(signed(body), body=body)) == (202, "ignored: another branch or tag is followed")
    assert answered(port, request(signed(), "X-GitHub-Event: ping"))[0] == 202
    assert answered(port, request(signed()))[0] == 202
    world.hints.get(timeout=LIMIT_S)
    assert world.hints.empty()


def test_the_secret_may_change_while_it_listens(world: World) -> None:
    port, new = world.listener(), b"f" * 32
    world.secret_file.write_bytes(new)
    assert answered(port, request(signed()))[0] == 401
    assert answered(port, request(signed(secret=new)))[0] == 202
    world.secret_file.unlink()
    assert answered(port, request(signed(secret=new)))[0] == 503


def test_it_listens_on_ipv6_too(world: World) -> None:
    try:
        port = world.listener(host="::1")
    except StateError:
        pytest.skip("this host has no IPv6")
    with closing(socket.create_connection(("::1", port), LIMIT_S)) as connection:
        connection.sendall(request(signed()))
        assert b" 202 " in received(connection)


# --- what is not


NOT_SIGNED = "no usable signature"
NOT_FITTING = "the signature does not fit"


@pytest.mark.control("K11")
@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ((), NOT_SIGNED),
        (("X-GitHub-Event: push",), NOT_SIGNED),
        ((signed(secret=b"0123456789abcdee0123456789abcdef"),), NOT_FITTING),
        ((signed(BODY + b" "),), NOT_FITTING),
        (("X-Hub-Signature-256: sha256=" + "0" * 64,), NOT_FITTING),
        (("X-Hub-Signature-256: sha256=",), NOT_SIGNED),
        (("X-Hub-Signature-256: sha1=" + hmac.new(SECRET, BODY, "sha1").hexdigest(),), NOT_SIGNED),
        (("X-Hub-Signature: sha1=" + hmac.new(SECRET, BODY, "sha1").hexdigest(),), NOT_SIGNED),
        ((signed(), signed(BODY + b" ")), NOT_SIGNED),
        (("X-Gitlab-Token: wrong", "X-Gitlab-Event: Push Hook"), NOT_FITTING),
        ((f"Authorization: Bearer {SECRET.decode()}",), NOT_SIGNED),
    ],
)
def test_what_is_forged_or_missing_is_401_and_no_hint(world: World, headers: tuple[str, ...], words: str) -> None:
    port = world.listener()
    status, said = answered(port, request(*headers))
    assert (status, said.startswith(words)) == (401, True)
    assert answered(port, request(signed()))[0] == 202
    world.hints.get(timeout=LIMIT_S)
    assert world.hints.empty()


def test_a_kind_that_is_fixed_takes_no_other(world: World) -> None:
    port = world.listener(kind=HookKind.GITHUB)
    assert answered(port, request(f"X-Gitlab-Token: {SECRET.decode()}"))[0] == 401
    assert answered(port, request(signed()))[0] == 202


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(first="GET /hooks HTTP/1.1"), 405),
        (request(signed(), first="PUT /hooks HTTP/1.1"), 405),
        (request(signed(), first="HEAD /hooks HTTP/1.0"), 405),
        (request(signed(), first="POST / HTTP/1.1"), 404),
        (request(signed(), first="POST /hooks/ HTTP/1.1"), 404),
        (request(signed(), first="POST /hooks/../hooks HTTP/1.1"), 404),
        (request(signed(), first="POST /hooks?a=b HTTP/1.1"), 202),
        (request(signed(), first="POST http://x/hooks HTTP/1.1"), 404),
        (request(signed(), length=MAX_BODY_BYTES + 1), 413),
        (request(signed(), length=10**30), 413),
        (request(signed(), body=b"x" * (MAX_BODY_BYTES + 1)), 413),
        (request(body=b"x" * MAX_BODY_BYTES), 401),
        (request(signed(), length=-1), 400),
        (request(signed(), "Content-Length: 5"), 400),
        (b"POST /hooks HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", 400),
        (b"POST /hooks HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        (b"POST /hooks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 411),
        (request(signed(), "Transfer-Encoding: chunked"), 411),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"\0" * 1000 + b"\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET /hooks\r\n\r\n", 405),
        (b"POST /hooks HTTP/9.9\r\n\r\n", 505),
        (b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"POST /hooks HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"POST /hooks HTTP/1.1\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
def test_what_is_not_a_webhook_gets_its_answer(world: World, data: bytes, status: int) -> None:
    port = world.listener()
    assert answered(port, data)[0] == status
    assert answered(port, request(signed()))[0] == 202


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(world: World) -> None:
    with closing(connected(world.listener())) as connection:
        head = request(signed(), "Expect: 100-continue", body=b"", length=2**31)
        connection.sendall(head)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


def test_a_body_without_a_signature_is_not_waited_for(world: World) -> None:
    with closing(connected(world.listener())) as connection:
        connection.sendall(request(body=b"", length=1000))
        assert received(connection).startswith(b"HTTP/1.1 401 ")


def test_a_huge_body_that_is_sent_all_the_same_costs_a_bounded_amount(world: World) -> None:
    port = world.listener()
    with closing(connected(port)) as connection:
        connection.sendall(request(signed(), body=b"", length=10**9))
        count = 0
        with suppress(OSError):  # the other side has closed: a reset or a broken pipe
            while count < 64 * 2**20:
                count += connection.send(b"x" * 65536)
    assert count < 64 * 2**20
    assert answered(port, request(signed()))[0] == 202


def test_a_client_that_sends_all_before_it_listens_hears_why_it_was_refused(world: World) -> None:
    port = world.listener()
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # so that it cannot all lie in buffers
        connection.settimeout(LIMIT_S)
        connection.connect(("127.0.0.1", port))
        connection.sendall(request(body=b"x" * (MAX_BODY_BYTES - 1)))
        assert received(connection).startswith(b"HTTP/1.1 401 ")


def test_of_a_pipeline_only_the_first_is_read(world: World) -> None:
    port = world.listener()
    assert answered(port, request(signed()) * 5)[0] == 202
    assert answered(port, request(signed()) + b"garbage" * 10_000)[0] == 202
    smuggled = request(signed(), body=b"", length=0) + request(signed())
    assert answered(port, smuggled)[0] == 401


# --- bounds


def test_a_slow_request_ends_at_one_deadline_however_it_drips(world: World) -> None:
    port = world.listener(replace(PATIENT, connection_s=0.6, last_words_s=0.2))
    for start in (b"", b"POST /hooks HTTP/1.1\r\n", request(signed(), body=b"", length=1000)):
        begun = time.monotonic()
        with closing(connected(port)) as connection:
            connection.sendall(start)
            connection.settimeout(0.05)
            answer, is_open = b"", True
            while is_open:
                assert time.monotonic() - begun < LIMIT_S
                try:
                    connection.send(b"X")
                    part = connection.recv(65536)
                    answer, is_open = answer + part, bool(part)
                except TimeoutError:
                    continue
                except OSError:
                    is_open = False
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    assert answered(port, request(signed()))[0] == 202


@pytest.mark.parametrize("length", [0, 10, 30, 300])
def test_a_request_that_stops_half_way_is_told_that_it_took_too_long(world: World, length: int) -> None:
    port = world.listener(replace(PATIENT, connection_s=0.2))
    assert answered(port, request(signed(), body=b"x" * 500)[:length])[0] == 408
    assert world.hints.empty()


def test_a_request_that_ends_half_way_is_told_so(world: World) -> None:
    with closing(connected(world.listener())) as connection:
        connection.sendall(request(signed(), body=b"short", length=500))
        connection.shutdown(socket.SHUT_WR)
        assert received(connection).startswith(b"HTTP/1.1 400 ")


def test_more_connections_than_bearable_are_turned_away_and_come_in_later(world: World) -> None:
    port = world.listener(replace(PATIENT, connections=2))
    slow = [connected(port) for _ in range(2)]
    for connection in slow:
        connection.sendall(b"POST /hooks HTTP/1.1\r\n")
    deadline = time.monotonic() + LIMIT_S
    while (status := answered(port, request(signed()))[0]) != 429:  # until both slow ones have been let in
        assert time.monotonic() < deadline
    assert status == 429
    for connection in slow:
        connection.close()
    while answered(port, request(signed()))[0] == 429:
        assert time.monotonic() < deadline


def test_a_storm_costs_one_hint_and_nobody_is_left_without_an_answer(world: World) -> None:
    bounds = Bounds(connections=4, burst=100, rate_per_s=10_000.0, hint_every_s=3600.0)
    port = world.listener(bounds)
    good, forged = request(signed()), request(signed(secret=b"x" * 32))

    def push(number: int) -> int:
        try:
            return answered(port, good if number % 2 else forged)[0]
        except (OSError, AssertionError):  # turned away before it had said what it wanted
            return 429

    with ThreadPoolExecutor(20) as pool:
        told = Counter(pool.map(push, range(1000)))
    assert set(told) <= {202, 401, 429}
    assert told[202]
    assert told[401]
    world.hints.get(timeout=LIMIT_S)
    assert world.hints.empty()
    deadline = time.monotonic() + LIMIT_S
    while answered(port, good)[0] != 202:
        assert time.monotonic() < deadline


def test_hints_that_come_too_soon_are_said_as_one_later(world: World) -> None:
    goes_on = threading.Event()

    def slow(words: str) -> None:
        world.hints.put(words)
        goes_on.wait(LIMIT_S)

    port = world.listener(hint=slow)
    assert answered(port, request(signed()))[0] == 202
    world.hints.get(timeout=LIMIT_S)
    for number in range(5):
        body = b'{"repository": {"name": "%d"}}' % number
        assert answered(port, request(signed(body), body=body))[0] == 202
    goes_on.set()
    assert world.hints.get(timeout=LIMIT_S).endswith(", 4")
    assert answered(port, request(signed()))[0] == 202
    assert world.hints.get(timeout=LIMIT_S).endswith("refs/heads/main")


def test_a_storm_beyond_the_rate_is_turned_away(world: World, logged: list[Any]) -> None:
    port = world.listener(replace(PATIENT, burst=20, rate_per_s=0.001))
    told = [answered(port, request())[0] for _ in range(100)]
    assert (told.count(401), told.count(429)) == (20, 80)
    refusals = [line for line in logged if line["event"] == "webhook.refused"]
    assert len(refusals) == 1, "a storm must not fill the log"


def test_an_ear_that_fails_does_not_end_the_listener(world: World, logged: list[Any]) -> None:
    heard: queue.Queue[str] = queue.Queue()

    def failing(words: str) -> None:
        heard.put(words)
        raise RuntimeError("no ear")

    port = world.listener(hint=failing)
    for _ in range(2):
        assert answered(port, request(signed()))[0] == 202
        heard.get(timeout=LIMIT_S)
    assert logged[0]["error"].startswith("RuntimeError at test_webhook_listener.py:")


def test_a_bug_is_told_and_the_next_request_is_answered(
    world: World, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = world.listener()
    with monkeypatch.context() as patch:
        patch.setattr("reconciler.formats.webhook.heard", lambda _, body, *rest: int(body))
        assert sent(port, request(signed())) == b""
    failures = [line for line in logged if line["event"] == "webhook.failed"]
    assert [line["error"].partition(":")[0] for line in failures] == ["ValueError at test_webhook_listener.py"]
    assert "MARKER" not in str(logged)
    assert answered(port, request(signed()))[0] == 202


def test_without_a_thread_to_spare_it_is_429(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    port = world.listener(replace(PATIENT, connections=2))

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        for _ in range(20):
            assert answered(port, request(signed()))[0] == 429
    assert answered(port, request(signed()))[0] == 202
    assert world.hints.get(timeout=LIMIT_S)


def test_nothing_of_a_request_is_logged(world: World, logged: list[Any], capfd: pytest.CaptureFixture[str]) -> None:
    port = world.listener()
    for data in (request(signed()), request(), request(signed(), first="POST /MARKER HTTP/1.1"), b"MARKER\r\n\r\n"):
        answered(port, data)
    assert "MARKER" not in str(logged)
    assert SECRET.decode() not in str(logged)
    assert capfd.readouterr() == ("", "")


# --- start and stop


def test_a_taken_port_is_told(world: World) -> None:
    port = world.listener()
    with pytest.raises(StateError, match=f"cannot listen on 127.0.0.1:{port}"):
        world.listener(port=port)


def test_after_stop_nobody_answers(world: World) -> None:
    port = world.listener()
    world.open[0].stop()
    world.open[0].stop()
    with pytest.raises(ConnectionRefusedError):
        connected(port)


@pytest.mark.parametrize(
    ("data", "mode", "words"),
    [
        (SECRET, 0o644, "is open to every user"),
        (SECRET, 0o602, "is open to every user"),
        (b"short\n", 0o600, "holds a secret of 5 characters"),
        (b"", 0o600, "holds a secret of 0 characters"),
        (SECRET + b"\n" + SECRET, 0o600, "holds more than one line"),
        (b"x" * 5000, 0o600, "more than 1024 characters"),
    ],
)
def test_it_does_not_start_without_a_usable_secret(world: World, data: bytes, mode: int, words: str) -> None:
    world.secret_file.write_bytes(data)
    world.secret_file.chmod(mode)
    with pytest.raises(StateError, match=words):
        world.listener()


def test_a_secret_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "missing"):
        with pytest.raises(StateError):
            read_secret(path)


def test_every_status_has_its_words() -> None:
    assert set(webhook_server._REASONS) >= {202, 400, 401, 404, 405, 408, 411, 413, 429, 503}
