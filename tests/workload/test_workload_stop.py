"""A stop answers whatever has been asked, and waits for nobody who asks nothing."""

import signal
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from workload_client import GET, POST, Workload, read_reply, wait_until

LONG_S = 60
SOON_S = 3


def stop(workload: Workload) -> float:
    """Send SIGTERM and wait for a clean end; how long that took, in seconds."""
    began_at_s = time.monotonic()
    workload.terminate()
    assert workload.wait() == 0
    return time.monotonic() - began_at_s


def is_stopping(workload: Workload) -> bool:
    return workload.request("GET", "/healthz").status == 503


def converse(workload: Workload, keeps_connection: bool, seen: Counter[str]) -> None:
    """A client that never retries: it asks, half of the time with a POST, until it is refused a connection."""
    connection: socket.socket | None = None
    while True:
        try:
            connection = connection or workload.connect()
        except ConnectionRefusedError:
            return
        try:
            connection.sendall(POST if seen["asked"] % 2 else GET)
            seen["asked"] += 1
            status, head = read_reply(connection)
            seen["answered" if status == 200 else f"status {status}"] += 1
            is_over = not keeps_connection or b"connection: close" in head
        except OSError as error:
            seen[f"lost: {error}"] += 1
            is_over = True
        if is_over:
            connection.close()
            connection = None


@pytest.mark.parametrize("keeps_connection", [True, False], ids=["keep-alive", "connection per request"])
def test_clients_that_never_retry_lose_nothing(start_workload, keeps_connection: bool):
    workload = start_workload()
    seen = [Counter[str]() for _ in range(8)]
    with ThreadPoolExecutor(8) as clients:
        for counter in seen:
            clients.submit(converse, workload, keeps_connection, counter)
        wait_until(lambda: all(counter["answered"] > 50 for counter in seen))
        stop(workload)
    total = sum(seen, Counter[str]())
    assert total == {"asked": total["asked"], "answered": total["asked"]}


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_stops_soon_and_with_0(start_workload, with_signal: signal.Signals):
    workload = start_workload()
    began_at_s = time.monotonic()
    workload.terminate(with_signal)
    assert workload.wait() == 0
    assert time.monotonic() - began_at_s < SOON_S


def test_while_it_lingers_it_serves_and_health_says_that_it_stops(start_workload):
    workload = start_workload(SHUTDOWN_LINGER_MS="3000")
    workload.terminate()
    wait_until(lambda: is_stopping(workload))
    with workload.connect() as newcomer:
        newcomer.sendall(GET)
        status, head = read_reply(newcomer)
        assert (status, newcomer.recv(1)) == (200, b"")
    assert b"connection: close" in head
    assert workload.request("GET", "/healthz").json()["status"] == "stopping"
    assert workload.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels cannot be told to ignore handshakes")
def test_who_knocks_while_the_listener_closes_is_ignored_and_then_refused(start_workload):
    workload = start_workload(SHUTDOWN_LINGER_MS="0")
    with ThreadPoolExecutor(8) as clients:
        knocks = [clients.submit(knock_until_refused, workload) for _ in range(8)]
        workload.terminate()
        last_knocks_s = [knock.result() for knock in knocks]
    assert max(last_knocks_s) > 0.5, "the kernel repeats an ignored handshake after a second"
    assert workload.wait() == 0


def knock_until_refused(workload: Workload) -> float:
    """Connect and leave, again and again; how long the refusal took that ended it, in seconds."""
    while True:
        began_at_s = time.monotonic()
        try:
            workload.connect().close()
        except ConnectionRefusedError:
            return time.monotonic() - began_at_s


def test_after_traffic_until_the_end_it_stays_to_refuse_who_repeats_a_handshake(start_workload):
    workload = start_workload(SHUTDOWN_LINGER_MS="500")
    began_at_s = time.monotonic()
    workload.terminate()
    wait_until(lambda: is_stopping(workload))
    assert workload.wait() == 0
    assert time.monotonic() - began_at_s > 0.5 + 1


def test_who_is_held_back_by_chaos_is_answered_at_once(start_workload):
    canary = start_workload(MODE="canary")
    canary.inject({"mode": "slow", "duration": LONG_S})
    with canary.connect() as held_back:
        held_back.sendall(GET)
        assert canary.request("GET", "/healthz").status == 200
        assert stop(canary) < SOON_S
        status, head = read_reply(held_back)
    assert status == 200
    assert b"connection: close" in head


def test_half_a_head_may_be_completed_after_the_listener_has_closed(start_workload):
    workload = start_workload(SHUTDOWN_LINGER_MS="0")
    with workload.connect() as slow_sender:
        slow_sender.sendall(GET[:10])
        assert workload.request("GET", "/healthz").status == 200
        workload.terminate()
        wait_until(lambda: refuses_connections(workload))
        slow_sender.sendall(GET[10:])
        assert read_reply(slow_sender)[0] == 200
    assert workload.wait() == 0


def test_half_a_body_may_be_completed_even_later(start_workload):
    workload = start_workload(SHUTDOWN_LINGER_MS="0")
    with workload.connect() as slow_sender, workload.connect() as newcomer:
        slow_sender.sendall(POST[:-5])
        assert workload.request("GET", "/healthz").status == 200
        workload.terminate()
        assert newcomer.recv(1) == b"", "who has asked for nothing is turned away"
        slow_sender.sendall(POST[-5:])
        assert read_reply(slow_sender)[0] == 200
    assert workload.wait() == 0


def refuses_connections(workload: Workload) -> bool:
    with socket.socket() as probe:
        # A handshake that begins in the very last moment is ignored; the kernel would ask again after a second.
        probe.settimeout(0.1)
        try:
            return probe.connect_ex(("127.0.0.1", workload.port)) not in (0, 11, 115)
        except TimeoutError:
            return False


def test_a_silent_connection_is_closed_without_a_reset(start_workload):
    workload = start_workload()
    with workload.connect() as silent:
        silent.sendall(GET)
        read_reply(silent)
        assert stop(workload) < SOON_S
        assert silent.recv(1) == b""


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET + b"GET / HT"], ids=["nothing", "half a head", "half a second"])
def test_who_never_asks_to_the_end_is_not_waited_for(start_workload, sent: bytes):
    workload = start_workload()
    with workload.connect() as stuck:
        stuck.sendall(sent)
        assert workload.request("GET", "/healthz").status == 200
        assert stop(workload) < SOON_S


def test_many_silent_connections_delay_nothing(start_workload):
    workload = start_workload()
    connections = [workload.connect() for _ in range(200)]
    for connection in connections:
        connection.sendall(GET)
        read_reply(connection)
    assert stop(workload) < SOON_S
    for connection in connections:
        connection.close()


def test_a_second_signal_ends_the_waiting(start_workload):
    workload = start_workload(SHUTDOWN_LINGER_MS="0")
    with workload.connect() as slow_sender:
        slow_sender.sendall(POST[:-5])
        assert workload.request("GET", "/healthz").status == 200
        workload.terminate()
        wait_until(lambda: refuses_connections(workload))
        began_at_s = time.monotonic()
        workload.terminate()
        assert workload.wait() == 0
    assert time.monotonic() - began_at_s < SOON_S
