"""Metrics pages over real sockets, from servers that mean well and servers that do not."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from reconciler.adapters.app_metrics import PAGE_MAX_BYTES, AppMetrics
from reconciler.adapters.metrics import CountedTwice
from reconciler.adapters.prometheus import PrometheusMetrics
from reconciler.core.desired import HealthCheck, Metrics, Service
from reconciler.core.evidence.readings import Reading, Unread
from reconciler.core.observed import ObservedContainer, Status
from reconciler.ports import MeasureTarget
from workload.metrics import Metrics as Workload

NOW = 1_800_000_000.0
STARTED = "2027-01-15T07:59:00.5Z"
BEGAN = 1_799_999_940.5


def page() -> bytes:
    served = Workload()
    served.record("GET", "/", 200, 0.02)
    served.record("GET", "/", 500, 0.3)
    return served.exposition(12.5, True, 1).encode()


def answer(body: bytes = b"", status: str = "200 OK", kind: str = "text/plain; version=0.0.4", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(serve: Serve | bytes, asked: list[bytes] | None = None) -> Iterator[int]:
    """Its port; every connection gets the same, and what it asked goes to `asked`."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            received = connection.recv(65536)
            if asked is not None:
                asked.append(received)
            connection.sendall(serve) if isinstance(serve, bytes) else serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def target(
    port: int | None, number: int = 1, service: Mapping[str, Any] | None = None, **changes: Any
) -> MeasureTarget:
    container = ObservedContainer(
        f"c{number}", "x", "app", "r", Status.RUNNING, address="127.0.0.1", started_at=STARTED
    )
    changed = dataclasses.replace(container, **changes)
    return MeasureTarget(changed, Service("app", "demo:1", port, **(service or {})))


class NoProxy:
    def read(self, targets: Sequence[MeasureTarget], proxy: ObservedContainer | None) -> Mapping[str, Unread]:
        return {target.container.id: Unread("nginx does not run") for target in targets}


@pytest.fixture
def metrics() -> Iterator[CountedTwice]:
    made = CountedTwice(AppMetrics(now=lambda: NOW), NoProxy(), PrometheusMetrics(), timeout_s=1.0)
    yield made
    made.close()


def read(metrics: CountedTwice, one: MeasureTarget) -> Reading | Unread:
    counted = metrics.read([one], None)[one.container.id]
    assert counted.proxy == Unread("nginx does not run")
    return counted.service


def test_a_page_is_a_reading(metrics):
    with server(answer(page())) as port:
        found = read(metrics, target(port))
    assert isinstance(found, Reading)
    assert (found.at, found.began, found.uptime_s) == (NOW, BEGAN, 12.5)
    assert (found.requests, found.errors, found.mode, found.chaos) == ({"/": 2}, {"/": 1}, "canary", "slow")
    assert found.buckets[-1][1] == 2


def test_a_page_without_an_uptime_leaves_the_containers_age(metrics):
    with server(answer(page().replace(b"app_uptime_seconds 12.5", b""))) as port:
        found = read(metrics, target(port))
    assert isinstance(found, Reading)
    assert found.uptime_s == NOW - BEGAN


def test_path_names_and_what_does_not_count_are_the_services(metrics):
    asked: list[bytes] = []
    lines = 'hits{status="200",route="/up"} 9\nhits{status="200",route="/"} 1\n' + page().decode()
    names = (("requests", "hits"), ("path", "route"))
    changes = {"metrics": Metrics("app", "/internal/prom", names), "healthcheck": HealthCheck("/up")}
    with server(answer(lines.encode()), asked) as port:
        found = read(metrics, target(port, service=changes))
    assert isinstance(found, Reading)
    assert found.requests == {"/": 1}
    assert [request.split(b"\r\n")[0] for request in asked] == [b"GET /internal/prom HTTP/1.1"]


@pytest.mark.fault("H2", "H7")
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "401 No", "404 Not Found", "405 No", "501 No"])
def test_an_answer_that_there_is_no_page_is_absence(metrics, status):
    with server(answer(page(), status, more="Location: http://127.0.0.1:1/\r\n")) as port:
        found = read(metrics, target(port))
    assert found == Unread(f"/metrics answers {status[:3]}", is_absent=True)


@pytest.mark.fault("H1")
@pytest.mark.parametrize("status", ["500 Error", "503 Busy", "429 Slow", "204 None", "206 Part"])
def test_any_other_answer_is_unknown(metrics, status):
    with server(answer(page(), status)) as port:
        assert read(metrics, target(port)) == Unread(f"/metrics answers {status[:3]}")


@pytest.mark.parametrize("kind", ["text/html", "application/json", "application/vnd.google.protobuf; proto=x"])
def test_a_page_of_another_kind_is_absence(metrics, kind):
    with server(answer(page(), kind=kind)) as port:
        found = read(metrics, target(port))
    assert isinstance(found, Unread)
    assert found.is_absent


@pytest.mark.fault("H7")
def test_a_page_without_the_families_is_absence(metrics):
    with server(answer(b"go_goroutines 7\n")) as port:
        found = read(metrics, target(port))
    assert found == Unread("the metrics page has no http_requests_total", is_absent=True)


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        connection.sendall(b"#")
        time.sleep(0.05)


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


HOSTILE: dict[str, Serve | bytes] = {
    "a drip": drip,
    "a page without end": endless,
    "a page that says how large it is": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PAGE_MAX_BYTES + 1),
    "gzip that was not asked for": answer(gzip.compress(page()), more="Content-Encoding: gzip\r\n"),
    "not HTTP": b"SSH-2.0-OpenSSH\r\n",
    "half a page": answer(page())[:-200],
    "nothing": b"",
    "NaN": answer(page().replace(b"} 1\n", b"} NaN\n")),
    "no text": answer(b"\xff" + page()),
}  # fmt: skip


@pytest.mark.fault("H2", "H3")
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_page_is_unknown_in_time_and_never_absent(metrics, what):
    with server(HOSTILE[what]) as port:
        found = read(metrics, target(port))
    assert isinstance(found, Unread), found
    assert not found.is_absent
    assert found.why


@pytest.mark.fault("H2")
def test_one_that_drips_does_not_keep_the_others_waiting(metrics):
    with server(drip) as slow, server(answer(page())) as good:
        targets = [target(slow, number) for number in range(1, 15)] + [target(good, 15)]
        found = metrics.read(targets, None)
    assert list(found) == [f"c{number}" for number in range(1, 16)]
    assert isinstance(found["c15"].service, Reading)
    assert all(isinstance(found[f"c{number}"].service, Unread) for number in range(1, 15))


def test_those_that_drip_are_let_go_of_in_time(metrics):
    with server(drip) as slow, server(answer(page())) as good:
        metrics.read([target(slow, number) for number in range(1, 17)], None)
        assert isinstance(read(metrics, target(good, 20)), Reading)


def test_who_gets_no_turn_in_time_is_unknown(metrics):
    with server(drip) as slow:
        found = metrics.read([target(slow, number) for number in range(1, 60)], None)
    assert len(found) == 59
    assert all(isinstance(each.service, Unread) and not each.service.is_absent for each in found.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": Status.EXITED}, "it is exited"),
        ({"address": None}, "it has no address or no age"),
        ({"started_at": "0001-01-01T00:00:00Z"}, "it has no address or no age"),
        ({"started_at": ""}, "it has no address or no age"),
    ],
)
def test_a_container_that_cannot_be_asked_is_unknown(metrics, changes, words):
    assert read(metrics, target(3000, **changes)) == Unread(words)


@pytest.mark.fault("H1")
def test_a_closed_port_is_unknown(metrics):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = read(metrics, target(port))
    assert isinstance(found, Unread)
    assert "connection refused" in found.why
    assert not found.is_absent


def test_a_worker_and_a_service_counted_by_nginx_alone_are_not_asked(metrics):
    assert read(metrics, target(None)) == Unread("it has no port", is_absent=True)
    found = read(metrics, target(1, service={"metrics": Metrics("ingress")}))
    assert isinstance(found, Unread)
    assert found.is_absent
