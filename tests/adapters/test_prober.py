"""Probes against real sockets: who is ready, who is not, and how long it takes to know."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from reconciler.adapters.prober import AddressProber
from reconciler.core.desired import HealthCheck
from reconciler.core.observed import Health, ObservedContainer, Status
from reconciler.ports import ProbeTarget

NOW = 1_800_000_000.0
STARTED = "2027-01-15T08:00:00.123456789Z"  # 0.12 s after NOW


@pytest.fixture
def prober() -> Iterator[AddressProber]:
    prober = AddressProber(now=lambda: NOW)
    yield prober
    prober.close()


@contextlib.contextmanager
def app(answer: bytes, after_s: float = 0.0) -> Iterator[int]:
    """Answers every request the same; its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)

    def serve() -> None:
        with contextlib.suppress(OSError):  # the test is over
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            asked.append(connection.recv(65536))
            time.sleep(after_s)
            connection.sendall(answer)

    asked: list[bytes] = []
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def container(
    status: Status = Status.RUNNING,
    address: str | None = "127.0.0.1",
    docker_health: str | None = None,
    started_at: str = STARTED,
    number: int = 1,
) -> ObservedContainer:
    return ObservedContainer(
        id=f"c{number}",
        name="api",
        service="api",
        revision="r",
        status=status,
        address=address,
        docker_health=docker_health,
        started_at=started_at,
    )


def answer(prober: AddressProber, target: ProbeTarget) -> tuple[Health, str]:
    return prober.probe([target])[target.container.id]


def http(status: str, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: 2\r\n\r\nok".encode()


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "301 Moved", "399 Odd"])
def test_a_2xx_or_3xx_is_ready(prober: AddressProber, status: str) -> None:
    with app(http(status, "Location: http://127.0.0.1:1/\r\n")) as port:
        assert answer(prober, ProbeTarget(container(), port, HealthCheck())) == (Health.READY, f"HTTP {status[:3]}")


@pytest.mark.parametrize("status", ["400 Bad", "404 Not Found", "500 Error", "503 Busy"])
def test_any_other_answer_is_sick(prober: AddressProber, status: str) -> None:
    with app(http(status)) as port:
        assert answer(prober, ProbeTarget(container(), port, HealthCheck())) == (Health.SICK, f"HTTP {status[:3]}")


def test_a_closed_port_is_sick(prober: AddressProber) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for check in (HealthCheck(), HealthCheck(path=None)):
        assert answer(prober, ProbeTarget(container(), port, check)) == (Health.SICK, "connection refused")


def test_garbage_is_sick(prober: AddressProber) -> None:
    with app(b"SSH-2.0-OpenSSH\r\n") as port:
        assert answer(prober, ProbeTarget(container(), port, HealthCheck())) == (
            Health.SICK,
            "the answer is not HTTP/1.1",
        )


def test_a_slow_one_is_sick_once_its_own_timeout_is_over(prober: AddressProber) -> None:
    with app(http("200 OK"), after_s=5) as port:
        before = time.monotonic()
        check = HealthCheck(timeout_s=0.2)
        assert answer(prober, ProbeTarget(container(), port, check)) == (Health.SICK, "no answer within 0.2 s")
        assert time.monotonic() - before < 0.9


def test_a_page_without_end_is_sick(prober: AddressProber) -> None:
    with app(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000) as port:
        health, words = answer(prober, ProbeTarget(container(), port, HealthCheck()))
    assert health is Health.SICK
    assert "larger" in words


def test_a_check_without_a_path_is_a_connection(prober: AddressProber) -> None:
    with app(b"") as port:
        target = ProbeTarget(container(), port, HealthCheck(path=None))
        assert answer(prober, target) == (Health.READY, "accepts connections")


@pytest.mark.parametrize(
    ("said", "health"),
    [(None, Health.SICK), ("starting", Health.SICK), ("unhealthy", Health.SICK), ("healthy", Health.READY)],
)
def test_a_check_of_the_containers_own_has_the_word(prober: AddressProber, said: str | None, health: Health) -> None:
    with app(b"") as port:
        check = HealthCheck(path=None, test=("CMD", "true"))
        assert answer(prober, ProbeTarget(container(docker_health=said), port, check))[0] is health


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.RUNNING])
def test_one_that_does_not_run_is_not_asked(prober: AddressProber, status: Status) -> None:
    health, words = answer(prober, ProbeTarget(container(status), 1, HealthCheck()))
    assert (health, words) == (Health.UNKNOWN, f"is {status}")


def test_one_without_an_address_is_sick(prober: AddressProber) -> None:
    assert answer(prober, ProbeTarget(container(address=None), 80, HealthCheck())) == (Health.SICK, "has no address")


@pytest.mark.parametrize(
    ("port", "check"), [(None, HealthCheck()), (3000, None), (None, None)], ids=["worker", "no check", "neither"]
)
@pytest.mark.parametrize(
    ("started_at", "health"),
    [
        ("2027-01-15T07:59:49Z", Health.READY),
        ("2027-01-15T08:59:49.999999999+01:00", Health.READY),
        ("2027-01-15T07:59:51Z", Health.SICK),
        (STARTED, Health.SICK),
        ("0001-01-01T00:00:00Z", Health.UNKNOWN),
        ("2027-01-15T07:59:49", Health.UNKNOWN),
        ("", Health.UNKNOWN),
        ("yesterday", Health.UNKNOWN),
    ],
)
def test_what_cannot_be_asked_is_ready_once_it_has_run_for_a_while(
    prober: AddressProber, port: int | None, check: HealthCheck | None, started_at: str, health: Health
) -> None:
    assert answer(prober, ProbeTarget(container(started_at=started_at), port, check))[0] is health


def test_nobody_to_ask_is_no_trouble(prober: AddressProber) -> None:
    assert prober.probe([]) == {}


def test_many_that_hang_cost_one_deadline(prober: AddressProber) -> None:
    with app(b"", after_s=5) as port:
        targets = [ProbeTarget(container(number=n), port, HealthCheck()) for n in range(100)]
        before = time.monotonic()
        answers = prober.probe(targets)
        assert time.monotonic() - before < 2.5
    assert len(answers) == 100
    assert {health for health, _ in answers.values()} == {Health.SICK, Health.UNKNOWN}
    assert "not asked: the other probes took too long" in {words for _, words in answers.values()}


def test_one_that_hangs_does_not_spoil_the_others(prober: AddressProber) -> None:
    with app(b"", after_s=5) as slow, app(http("200 OK")) as fast:
        ports = [slow, fast, fast]
        answers = prober.probe([ProbeTarget(container(number=n), port, HealthCheck()) for n, port in enumerate(ports)])
    assert [health for health, _ in answers.values()] == [Health.SICK, Health.READY, Health.READY]
