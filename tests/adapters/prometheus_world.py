"""A real Prometheus server as a process, and the real sample service for it to scrape."""

from __future__ import annotations

import http.client
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from reconciler.adapters import clock
from reconciler.core.desired import Metrics, Service
from reconciler.core.observed import ObservedContainer, Status
from reconciler.ports import MeasureTarget

PATIENCE_S = 30.0
"""Prometheus alone takes five seconds before it scrapes for the first time."""

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".cache" / "prometheus" / "prometheus"


def program() -> Path:
    """Prometheus, from the distribution's package; a loud skip where it cannot be had."""
    if not PROGRAM.exists():
        fetched = subprocess.run(
            [str(ROOT / "scripts" / "prometheus")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if fetched.returncode:
            pytest.skip(f"NO PROMETHEUS to test with: {fetched.stderr.strip()}")
    return PROGRAM


def fixed(address: str, labels: Mapping[str, str] = MappingProxyType({})) -> str:
    """How a job finds the service at an address, with labels of its own."""
    return f"static_configs: [{{targets: [{address}:3000], labels: {dict(labels)}}}]"


def wait_until(is_true: Callable[[], bool]) -> None:
    give_up_at_s = clock.monotonic() + PATIENCE_S
    while not is_true():
        assert clock.monotonic() < give_up_at_s, "waited too long"
        time.sleep(0.02)


def own_address() -> str:
    """An address of the loopback that nobody else uses: nobody can take a port of it between two processes."""
    return f"127.{101 + secrets.randbelow(100)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(250)}"


class Server:
    """Scrapes every half second, by `jobs`: the name of each, and how it finds its targets."""

    def __init__(self, folder: Path, jobs: Mapping[str, str]) -> None:
        self.address = own_address()
        self.url = f"http://{self.address}:9090"
        self._folder = folder
        lines = ["global: {scrape_interval: 500ms, scrape_timeout: 500ms}", "scrape_configs:"]
        lines += (f"- job_name: {job}\n  {targets}" for job, targets in jobs.items())
        (folder / "prometheus.yml").write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Afterwards it answers; it scrapes for the first time within five seconds more."""
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(program()), f"--config.file={self._folder}/prometheus.yml"),
                    *(f"--storage.tsdb.path={self._folder}/data", f"--web.listen-address={self.address}:9090"),
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready)
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self._folder / "log").read_text()
        try:
            return asked(self.address, 9090, "GET", "/-/ready") == 200
        except OSError:
            return False


class Shop:
    """The sample service at an address of its own, as a container that starts when it does."""

    def __init__(self, mode: str = "canary") -> None:
        self.address = own_address()
        self.mode = mode
        self.number = 1
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = ""

    def start(self, number: int = 1) -> Shop:
        """Afterwards it answers; as another container than before, where `number` is another."""
        self.number = number
        self.started_at = datetime.fromtimestamp(clock.now(), UTC).isoformat()
        environment = {"APP_HOST": self.address, "APP_PORT": "3000", "MODE": self.mode, "LOG_DIR": "/absent"}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "workload" / "app.py")],
            env={"PATH": os.environ["PATH"], **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers)
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str = "/", method: str = "GET", body: bytes | None = None) -> int:
        return asked(self.address, 3000, method, path, body)

    def target(self, server: str, **metrics: Any) -> MeasureTarget:
        """The container as the daemon sees it now, measured by `server`."""
        container = ObservedContainer(
            *(f"c{self.number}", f"shop-{self.number}", "app", "r", Status.RUNNING),
            address=self.address,
            started_at=self.started_at,
        )
        return MeasureTarget(
            container, Service("app", "i", 3000, metrics=Metrics("prometheus", server=server, **metrics))
        )

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None
        try:
            return self.ask("/healthz") == 200
        except OSError:
            return False


def asked(address: str, port: int, method: str, path: str, body: bytes | None = None) -> int:
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
