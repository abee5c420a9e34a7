"""Requests of our own: who gets them, and that they never pile up."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.adapters.probe_traffic import IN_FLIGHT_MAX, ProbeTraffic
from reconciler.core.desired import RolloutSpec, Route, Service
from reconciler.core.observed import Slot

LIMIT_S = 10.0


def eventually(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.005)


class Listener:
    """nginx's private listener: what was asked, and how many wait at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[str] = []
        self.waiting = 0
        self.most = 0
        self.hangs = False
        self.go_on = threading.Event()
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(100)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._one, args=(self._socket.accept()[0],), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = connection.recv(65536).decode()
            with self._lock:
                self.asked.append(request)
                self.waiting += 1
                self.most = max(self.most, self.waiting)
            if self.hangs:
                self.go_on.wait(LIMIT_S)
            with self._lock:
                self.waiting -= 1
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def paths(self) -> Counter[str]:
        return Counter(request.split()[1] for request in self.asked)

    def close(self) -> None:
        self.go_on.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with tempfile.TemporaryDirectory() as folder:
        made = Listener(Path(folder) / "proxy.sock")
        yield made
        made.close()


@pytest.fixture
def traffic(listener: Listener) -> Iterator[ProbeTraffic]:
    made = ProbeTraffic(listener.path)
    yield made
    made.close()


def target(slot: Slot = Slot.BLUE, rate: float = 50.0, path: str | None = "/ping") -> tuple[Service, Slot]:
    spec = RolloutSpec(probe_path=path, probe_rate_per_s=rate)
    return Service("app", "demo:1", 3000, rollout=spec, route=Route("app.example.com")), slot


def test_every_slot_is_asked_by_the_name_the_service_goes_by(listener, traffic):
    traffic.set([target(Slot.BLUE), target(Slot.GREEN)])
    eventually(lambda: min(listener.paths().values(), default=0) >= 5 and len(listener.paths()) == 2, "both are asked")
    assert set(listener.paths()) == {"/slot/app-blue", "/slot/app-green"}
    assert all(request.startswith("GET ") and "\r\nHost: app.example.com\r\n" in request for request in listener.asked)


def test_the_rate_is_no_more_than_was_wanted(listener, traffic):
    began = time.monotonic()
    traffic.set([target(rate=20)])
    eventually(lambda: len(listener.asked) >= 10, "it is asked")
    assert len(listener.asked) <= (time.monotonic() - began) * 20 + 1


def test_setting_the_same_again_changes_nothing(listener, traffic):
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        traffic.set([target(rate=10)])
    assert len(listener.asked) <= (time.monotonic() - began) * 10 + 1


def test_who_is_no_longer_wanted_is_no_longer_asked(listener, traffic):
    traffic.set([target(Slot.BLUE), target(Slot.GREEN)])
    eventually(lambda: len(listener.paths()) == 2, "both are asked")
    traffic.set([target(Slot.BLUE)])
    eventually(lambda: listener.waiting == 0, "none is under way")
    before = listener.paths()
    eventually(lambda: listener.paths()["/slot/app-blue"] > before["/slot/app-blue"] + 5, "blue is asked on")
    assert listener.paths()["/slot/app-green"] <= before["/slot/app-green"] + IN_FLIGHT_MAX  # at most those under way
    traffic.set([])
    traffic.close()
    assert listener.paths()["/slot/app-blue"] > 0


def test_a_service_without_a_probe_is_not_asked(listener, traffic):
    traffic.set([target(path=None), target(Slot.GREEN)])
    eventually(lambda: len(listener.asked) >= 5, "the other one is asked")
    assert set(listener.paths()) == {"/slot/app-green"}


def test_requests_that_hang_do_not_pile_up_and_hold_up_nobody_else(listener, traffic):
    listener.hangs = True
    traffic.set([target(Slot.BLUE, 100)])
    eventually(lambda: listener.waiting == IN_FLIGHT_MAX, "as many as may be are under way")
    listener.hangs = False
    traffic.set([target(Slot.BLUE, 100), target(Slot.GREEN, 100)])
    eventually(lambda: listener.paths()["/slot/app-green"] >= 50, "the other slot is asked")
    assert listener.paths()["/slot/app-blue"] == IN_FLIGHT_MAX
    listener.go_on.set()
    eventually(lambda: listener.paths()["/slot/app-blue"] > IN_FLIGHT_MAX + 5, "it is asked again")


def test_an_nginx_that_is_not_there_is_nobodys_trouble(tmp_path):
    lonely = ProbeTraffic(tmp_path / "none.sock")
    lonely.set([target()])
    with contextlib.closing(lonely), listening(tmp_path / "none.sock") as late:
        eventually(lambda: len(late.asked) >= 3, "it is asked once it is there")


@contextlib.contextmanager
def listening(path: Path) -> Iterator[Listener]:
    made = Listener(path)
    try:
        yield made
    finally:
        made.close()


def test_after_the_end_nothing_is_sent(listener):
    traffic = ProbeTraffic(listener.path)
    traffic.close()
    traffic.set([target()])
    traffic.close()
    assert listener.asked == []
