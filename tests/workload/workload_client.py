"""The sample service as a process, and the small client the tests speak to it with."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

APP = Path(__file__).resolve().parents[2] / "workload" / "app.py"
PATIENCE_S = 10.0

GET = b"GET / HTTP/1.1\r\nHost: workload\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: workload\r\nContent-Length: 10\r\n\r\n0123456789"


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_s: float

    def json(self) -> Any:
        return json.loads(self.body)


class Workload:
    def __init__(self, **environment: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, str(APP)],
            env={"PATH": os.environ["PATH"], "APP_HOST": "127.0.0.1", "APP_PORT": str(self.port), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        try:
            return self.request("GET", "/healthz").status == 200
        except OSError:
            return False

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        began_at_s = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, dict(headers or {}))  # type: ignore[arg-type]
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, names, response.read(), time.monotonic() - began_at_s)
        finally:
            connection.close()

    def inject(self, chaos: object) -> Reply:
        return self.request("POST", "/chaos", json.dumps(chaos), {"Content-Type": "application/json"})

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of /metrics, as Prometheus's own parser reads it."""
        text = self.request("GET", "/metrics").body.decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def sample(self, name: str, **labels: str) -> float:
        return self.samples()[name, frozenset(labels.items())]

    def terminate(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(with_signal)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def printed(self) -> list[dict[str, Any]]:
        """The events on standard output; only after the end of the process."""
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        return [json.loads(line) for line in output.splitlines()]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def read_reply(connection: socket.socket) -> tuple[int, bytes]:
    """Status and head of the next answer on a connection, its body read as well; raises when it is cut off."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < int(lengths[0]):
        body += _more(connection)
    return int(head.split()[1]), head.lower()


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ConnectionError("closed before the answer was complete")
    return received


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(is_true: Callable[[], bool]) -> None:
    give_up_at_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < give_up_at_s, "waited too long"
        time.sleep(0.01)
