"""The daemon's side of the control socket: what it grants, and above all what it refuses."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import LogCapture

from reconciler.control import MAX_REQUEST_BYTES, ControlError, ControlServer, ask, this_user
from reconciler.core.errors import EngineError, ManifestError, PolicyError, Problem, Refused, StateError
from reconciler.operations import Request

END = {"event": "end", "exit": 0, "text": "", "value": None}
Serve = Callable[..., ControlServer]


def until(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def alive(path: Path) -> bool:
    return [event["event"] for event in ask(path, "status", {})] == ["end"]


# --- answers -----------------------------------------------------------------------------------------------------


def test_a_request_is_answered_with_its_events_in_order_and_an_end(serve: Serve, socket_path: Path) -> None:
    def answer(request: Request) -> Iterator[dict[str, Any]]:
        yield {"event": "line", "text": "one\ntwo \u2028 🚀"}
        yield {"event": "tick"}
        yield {**END, "exit": 3, "text": "DENIED"}
        yield {"event": "line", "text": "never seen"}

    serve(answer)
    events = list(ask(socket_path, "deploy", {}))
    assert [event["event"] for event in events] == ["line", "end"]
    assert events[0]["text"] == "one\ntwo \u2028 🚀"
    assert events[1]["exit"] == 3


def test_arguments_arrive_as_they_were_sent(serve: Serve, socket_path: Path) -> None:
    serve()
    args = {"n": None, "on": True, "list": [1, 2.5, {"deep": "ü"}]}
    assert list(ask(socket_path, "deploy", args))[-1]["value"]["args"] == args


def test_the_actor_is_what_the_kernel_says(serve: Serve, socket_path: Path, peer: Any) -> None:
    serve()
    assert list(ask(socket_path, "status", {}))[-1]["value"]["actor"] == this_user()
    liar = peer()
    liar.send(b'{"verb":"status","actor":"root (uid 0)"}\n')
    assert liar.events()[-1]["exit"] == 64


def test_a_reason_is_an_argument_like_any_other(serve: Serve, peer: Any) -> None:
    serve()
    one = peer()
    one.send(b'{"verb":"promote","args":{"mode":"stable"},"reason":"fix"}\n')
    assert one.events()[-1]["value"]["args"] == {"mode": "stable", "reason": "fix"}


def test_requests_are_answered_side_by_side(serve: Serve, socket_path: Path) -> None:
    both = threading.Barrier(2, timeout=5)

    def answer(request: Request) -> Iterator[dict[str, Any]]:
        both.wait()
        yield dict(END)

    serve(answer)
    threads = [threading.Thread(target=lambda: list(ask(socket_path, "promote", {}))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6)
    assert not both.broken


# --- what is refused ---------------------------------------------------------------------------------------------

DEEP = b"[" * 30_000 + b"]" * 30_000
HOSTILE = {
    "nothing": b"",
    "words": b"deploy now",
    "binary": bytes(range(1, 10)) + b"\xff\xfe",
    "not utf-8": b'{"verb":"status","args":{"a":"\xff"}}',
    "utf-16": '{"verb":"status"}'.encode("utf-16"),
    "NUL": b'{"verb":"status"}\0',
    "a list": b"[]",
    "null": b"null",
    "NaN": b'{"verb":"status","args":{"n":NaN}}',
    "Infinity": b'{"verb":"status","args":{"n":-Infinity}}',
    "a number out of range": b'{"verb":"status","args":{"n":1e999}}',
    "a number of 5000 digits": b'{"verb":"status","args":{"n":' + b"9" * 5000 + b"}}",
    "a key twice": b'{"verb":"status","verb":"teardown"}',
    "a key twice below": b'{"verb":"status","args":{"a":1,"a":2}}',
    "a lone surrogate": b'{"verb":"status","args":{"a":"\\ud800"}}',
    "deep": b'{"verb":"status","args":{"a":' + DEEP + b"}}",
    "rather deep": b'{"verb":"status","args":{"a":' + b"[" * 20 + b"]" * 20 + b"}}",
    "deep objects": b'{"verb":"status","args":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}",
    "no verb": b'{"args":{}}',
    "a verb that is a path": b'{"verb":"../../etc","args":{}}',
    "a verb with an escape": b'{"verb":"\\u001b[2J","args":{}}',
    "an endless verb": b'{"verb":"' + b"a" * 60_000 + b'"}',
    "a verb that is a number": b'{"verb":1}',
    "arguments in a list": b'{"verb":"status","args":[1]}',
    "an unknown key": b'{"verb":"status","uid":0}',
    "another protocol": b'{"protocol":2,"verb":"status"}',
    "two requests": b'{"verb":"status"}\n{"verb":"teardown"}',
    "a request that is too long": b'{"verb":"status","args":{"a":"' + b"x" * MAX_REQUEST_BYTES + b'"}}',
}


@pytest.mark.parametrize("request_line", HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_a_request_is_refused_in_words(
    serve: Serve, socket_path: Path, peer: Any, request_line: bytes, log: LogCapture
) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Iterator[dict[str, Any]]:
        asked.append(request)
        yield dict(END)

    serve(answer)
    one = peer()
    one.send(request_line + b"\n")
    (end,) = one.events()
    assert (end["event"], end["exit"]) == ("end", 64)
    assert 10 < len(end["text"]) < 400
    assert asked == []
    until(lambda: [entry["event"] for entry in log.entries] == ["request.refused"])
    assert alive(socket_path)


def test_a_frame_of_64_kib_passes_and_one_byte_more_does_not(serve: Serve, peer: Any) -> None:
    serve()
    head, tail = b'{"verb":"status","args":{"a":"', b'"}}'
    for extra, code in ((0, 0), (1, 64)):
        one = peer()
        one.send(head + b"x" * (MAX_REQUEST_BYTES - len(head) - len(tail) + extra) + tail + b"\n")
        assert one.events()[-1]["exit"] == code


def test_a_flood_without_a_newline_ends_soon(serve: Serve, socket_path: Path, peer: Any) -> None:
    serve()
    one = peer()
    with pytest.raises(ConnectionError):
        one.send(b"x" * 64_000_000)
    assert alive(socket_path)


def test_a_slow_writer_is_cut_off_even_while_it_writes(serve: Serve, peer: Any) -> None:
    serve(request_s=0.3)
    one = peer()
    started = time.monotonic()
    with suppress(ConnectionError):
        while time.monotonic() - started < 3:
            one.send(b" ")
            time.sleep(0.02)
    assert time.monotonic() - started < 2
    assert "within 0.3 s" in one.events()[-1]["text"]


def test_a_client_that_leaves_before_its_request_is_complete_is_forgotten(
    serve: Serve, socket_path: Path, peer: Any
) -> None:
    serve()
    one = peer()
    one.send(b'{"verb":"tear')
    one.close()
    assert alive(socket_path)


def test_beyond_the_limit_a_client_is_told_to_come_again(serve: Serve, socket_path: Path, peer: Any) -> None:
    server = serve(connections=3)
    silent = [peer() for _ in range(3)]
    until(lambda: len(server._threads) == 3)
    (end,) = ask(socket_path, "status", {})
    assert end["exit"] == 1
    assert "already answering 3 requests" in str(end["text"])
    silent[0].close()
    until(lambda: next(iter(ask(socket_path, "status", {})))["exit"] == 0)


def test_ten_thousand_connections_leave_the_daemon_standing(serve: Serve, socket_path: Path) -> None:
    serve()
    threads_before = threading.active_count()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    most = 0
    for number in range(10_000):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(5)
        try:
            one.connect(str(socket_path))
        except (BlockingIOError, TimeoutError):
            one.close()
            continue
        held.append(one)
        if number % 100 == 0:
            most = max(most, threading.active_count() - threads_before)
        if len(held) > min(2000, soft // 4):
            held.pop(0).close()
    assert most <= 16
    for one in held:
        one.close()
    until(lambda: next(iter(ask(socket_path, "status", {})))["exit"] == 0)


@pytest.mark.fault("A11", "C10")
def test_running_out_of_descriptors_is_survived(serve: Serve, socket_path: Path, log: LogCapture) -> None:
    serve()
    client = socket.socket(socket.AF_UNIX)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(int(name) for name in os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (in_use, limits[1]))
        fillers = []
        while True:
            try:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        client.connect(str(socket_path))
        until(lambda: any(entry["event"] == "connection.refused" for entry in log.entries))
        for filler in fillers:
            os.close(filler)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        client.close()
    assert alive(socket_path)


# --- clients that go away ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [{"event": "line", "text": "x"}, {"event": "tick"}])
def test_a_client_that_goes_away_closes_the_answer(
    serve: Serve, socket_path: Path, event: dict[str, Any], log: LogCapture
) -> None:
    closed = threading.Event()

    def answer(request: Request) -> Iterator[dict[str, Any]]:
        try:
            yield {"event": "line", "text": "first"}
            while True:
                time.sleep(0.01)
                yield event
        finally:
            closed.set()

    serve(answer)
    events = ask(socket_path, "logs", {"follow": True})
    assert next(events)["text"] == "first"
    assert not closed.is_set()
    events.close()  # type: ignore[attr-defined]
    assert closed.wait(5)
    until(lambda: log.entries[-1]["event"] == "request.abandoned")


def test_a_client_that_reads_nothing_is_given_up(serve: Serve, socket_path: Path, peer: Any) -> None:
    closed = threading.Event()

    def answer(request: Request) -> Iterator[dict[str, Any]]:
        try:
            while True:
                yield {"event": "line", "text": "x" * 100_000}
        finally:
            closed.set()

    serve(answer, send_s=0.3)
    peer().send(b'{"verb":"logs"}\n')
    assert closed.wait(5)


# --- bugs and errors in answers ----------------------------------------------------------------------------------


def _raises(error: BaseException) -> Callable[[Request], Iterator[dict[str, Any]]]:
    def answer(request: Request) -> Iterator[dict[str, Any]]:
        yield {"event": "line", "text": "so far so good"}
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ManifestError([Problem("manifest.yaml", 3, 1, "no port")]), 6),
        (PolicyError("OPA is down"), 4),
        (EngineError("Docker is down"), 1),
        (Refused("not now"), 1),
    ],
)
def test_an_error_ends_the_answer_with_its_message_and_code(
    serve: Serve, socket_path: Path, error: Exception, code: int
) -> None:
    serve(_raises(error))
    end = list(ask(socket_path, "deploy", {}))[-1]
    assert (end["exit"], end["text"]) == (code, str(error))


def _endless_depth() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


BUGS: dict[str, Callable[[Request], Any]] = {
    "an exception": _raises(KeyError("secret")),
    "a recursion": _raises(RecursionError()),
    "a broken connection of its own": _raises(BrokenPipeError()),
    "an exception before the first event": lambda request: 1 / 0,
    "no end": lambda request: iter([{"event": "line", "text": "and then"}]),
    "what JSON cannot say": lambda request: iter([{**END, "value": {1, 2}}]),
    "not a number": lambda request: iter([{**END, "value": float("nan")}]),
    "a circle": lambda request: iter([{**END, "value": _endless_depth()}]),
    "no events at all": lambda request: None,
    "an event without a kind": lambda request: iter([{}]),
}


@pytest.mark.parametrize("answer", BUGS.values(), ids=BUGS)
def test_a_bug_in_an_answer_is_told_and_logged_and_survived(
    serve: Serve, socket_path: Path, answer: Any, log: LogCapture
) -> None:
    server = serve(lambda request: iter([END]) if request.verb == "status" else answer(request))
    end = list(ask(socket_path, "deploy", {}))[-1]
    assert end["exit"] == 1
    assert "bug in the daemon" in str(end["text"])
    assert "secret" not in str(end["text"])
    assert [entry for entry in log.entries if entry.get("bug") and entry["log_level"] == "error"]
    assert alive(socket_path)
    until(lambda: not server._threads)


def test_a_bug_while_an_answer_is_closed_is_survived(serve: Serve, socket_path: Path, log: LogCapture) -> None:
    def answer(request: Request) -> Iterator[dict[str, Any]]:
        try:
            yield dict(END)
        finally:
            raise ValueError

    serve(answer)
    assert list(ask(socket_path, "deploy", {}))[-1]["exit"] == 0
    until(lambda: any(entry["event"] == "request.broken" for entry in log.entries))
    assert alive(socket_path)


# --- the path ----------------------------------------------------------------------------------------------------


def test_only_user_and_group_may_connect(serve: Serve, socket_path: Path) -> None:
    old = os.umask(0)
    try:
        serve()
    finally:
        os.umask(old)
    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_socket_belongs_to_the_group_that_was_named(serve: Serve, socket_path: Path) -> None:
    import grp

    serve(group="daemon")
    assert socket_path.stat().st_gid == grp.getgrnam("daemon").gr_gid


def test_a_group_that_does_not_exist_is_named(serve: Serve, socket_path: Path) -> None:
    with pytest.raises(StateError, match=r"no group 'nobody-has-this'.*groupadd"):
        serve(group="nobody-has-this")


@pytest.mark.fault("A1")
def test_the_socket_of_a_dead_daemon_is_replaced(serve: Serve, socket_path: Path) -> None:
    socket_path.parent.mkdir()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(socket_path))
    dead.close()
    serve()
    assert alive(socket_path)


def test_the_socket_of_a_living_daemon_is_not(serve: Serve, socket_path: Path) -> None:
    serve()
    with pytest.raises(StateError, match="Another daemon answers"):
        serve()
    assert alive(socket_path)


def test_the_socket_of_a_daemon_that_is_only_busy_is_not(serve: Serve, socket_path: Path) -> None:
    socket_path.parent.mkdir()
    busy = socket.socket(socket.AF_UNIX)
    busy.bind(str(socket_path))
    busy.listen(0)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(str(socket_path))
    with pytest.raises(StateError, match=r"answers at|Cannot tell"):
        serve()
    assert socket_path.is_socket()
    for one in (busy, *waiting):
        one.close()


@pytest.mark.parametrize("kind", ["file", "link to a file", "dangling link", "folder", "fifo", "link to a socket"])
def test_nothing_but_a_socket_is_ever_replaced(serve: Serve, socket_path: Path, tmp_path: Path, kind: str) -> None:
    socket_path.parent.mkdir()
    precious = tmp_path / "precious"
    match kind:
        case "file":
            socket_path.write_text("mine")
        case "link to a file":
            precious.write_text("mine")
            socket_path.symlink_to(precious)
        case "dangling link":
            socket_path.symlink_to(precious)
        case "folder":
            socket_path.mkdir()
        case "fifo":
            os.mkfifo(socket_path)
        case "link to a socket":
            other = socket.socket(socket.AF_UNIX)
            other.bind(str(precious))
            other.close()
            socket_path.symlink_to(precious)
    before = os.lstat(socket_path)
    with pytest.raises(StateError, match="is in the way"):
        serve()
    assert os.lstat(socket_path).st_ino == before.st_ino
    assert precious.exists() == (kind in ("link to a file", "link to a socket"))


def test_a_path_too_long_for_a_socket_address_works(log: LogCapture, tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "run" / "control.sock"
    assert len(str(path)) > 120
    server = ControlServer(path, lambda request: iter([END]))
    server.start()
    assert alive(path)
    server.stop()
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_an_error_in_words(log: LogCapture) -> None:
    server = ControlServer(Path("/proc/nowhere/control.sock"), lambda request: iter([END]))
    with pytest.raises(StateError, match="Cannot listen on the control socket /proc/nowhere"):
        server.start()


# --- stopping ----------------------------------------------------------------------------------------------------


def test_after_stop_the_socket_is_gone(serve: Serve, socket_path: Path) -> None:
    server = serve()
    server.stop()
    server.stop()
    assert not socket_path.exists()


def test_stop_leaves_the_socket_of_a_successor_alone(serve: Serve, socket_path: Path) -> None:
    first = serve()
    socket_path.unlink()
    serve()
    first.stop()
    assert alive(socket_path)


def test_stop_lets_an_answer_under_way_end(serve: Serve, socket_path: Path) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def answer(request: Request) -> Iterator[dict[str, Any]]:
        begun.set()
        assert may_end.wait(5)
        yield dict(END)

    server = serve(answer)
    ends: list[Any] = []
    client = threading.Thread(target=lambda: ends.extend(ask(socket_path, "deploy", {})))
    client.start()
    assert begun.wait(5)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    until(lambda: not socket_path.exists())
    may_end.set()
    client.join(5)
    stopping.join(5)
    assert ends == [END]


def test_stop_does_not_wait_for_ever(serve: Serve, socket_path: Path, peer: Any) -> None:
    server = serve(lambda request: iter(lambda: time.sleep(0.05) or {"event": "tick"}, None))
    peer().send(b'{"verb":"logs"}\n')
    until(lambda: len(server._threads) == 1)
    started = time.monotonic()
    server.stop(wait_s=0.2)
    assert time.monotonic() - started < 2


def test_connecting_while_it_stops_is_never_a_hang(serve: Serve, socket_path: Path) -> None:
    server = serve()
    outcomes: list[str] = []

    def knock() -> None:
        for _ in range(200):
            try:
                outcomes.append("end" if alive(socket_path) else "odd")
            except ControlError:
                outcomes.append("error")

    threads = [threading.Thread(target=knock) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(outcomes) > 50)
    server.stop()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert set(outcomes) == {"end", "error"}


def test_lines_on_the_wire_are_ascii_json(serve: Serve, peer: Any) -> None:
    serve(lambda request: iter([{**END, "text": "\u2028\x1b[2J\n\ud800"}]))
    one = peer()
    one.send(b'{"verb":"status"}\n')
    received = b""
    while chunk := one.socket.recv(65536):
        received += chunk
    assert received.isascii()
    assert b"\x1b" not in received
    assert [json.loads(line)["event"] for line in received.split(b"\n")[:-1]] == ["hello", "end"]
