"""A project of its own on the real engine, with the real nginx, OPA, daemon and command line."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker

BIN = Path(sys.executable).parent
IMAGE = "swift-deploy-1-node:latest"
LIMIT_S = 60.0


def wait_for(what: str, check: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """What `check` answers once it is true; fails saying `what` when it never was."""
    end = time.monotonic() + limit_s
    last: object = None
    while time.monotonic() < end:
        try:
            last = check()
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError) as error:
            last = error
        if last and not isinstance(last, Exception):
            return last
        time.sleep(0.02)
    raise AssertionError(f"not within {limit_s:g} s: {what}; last seen: {last!r}")


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("", 0))
        return int(trial.getsockname()[1])


class Stack:
    """One project in a folder of its own."""

    def __init__(self, folder: Path, engine: docker.DockerClient) -> None:
        self.folder = folder
        self.engine = engine
        self.project = f"t{secrets.token_hex(4)}"
        self.port = free_port()
        self.daemon: subprocess.Popen[bytes] | None = None
        self.log = folder / "daemon.log"
        self.write(self.manifest())

    # -------------------------------------------------------- the manifest

    def manifest(self, extra: str = "", *, service: str = "", infrastructure: str = "") -> str:
        """A manifest with short limits; `service` is put among the service's keys.

        Unless it says how to roll out, a new revision is promoted as soon as it is healthy, and not watched.
        """
        if "rollout:" not in service:
            service = f"{service}\nrollout: {{steps: [], watch: 0s}}".strip()
        lines = "".join(f"  {line}\n" for line in service.splitlines())
        limits = "".join(f"    {line}\n" for line in infrastructure.splitlines())
        return (
            f"project:\n  name: {self.project}\n"
            f"services:\n  image: {IMAGE}\n  port: 3000\n{lines}"
            f"nginx:\n  image: nginx:latest\n  port: {self.port}\n"
            f"network:\n  name: {self.project}-net\n  driver_type: bridge\n"
            f"policy:\n  infrastructure:\n    max_cpu_load: 49\n    min_disk_free_gb: 0.1\n{limits}{extra}"
        )

    @property
    def path(self) -> Path:
        return self.folder / "manifest.yaml"

    def write(self, text: str) -> None:
        """Rename the manifest into place, as a careful editor does."""
        new = self.folder / ".manifest.new"
        new.write_text(text, encoding="utf-8")
        os.replace(new, self.path)

    # -------------------------------------------------------- programs

    def run(self, *args: str, timeout_s: float = 180.0) -> subprocess.CompletedProcess[str]:
        """The command line, in the project's folder."""
        return subprocess.run(
            [str(BIN / "swiftdeploy"), *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *words: str) -> None:
        """Start the daemon, with `words` on its command line, and wait until it answers."""
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [str(BIN / "reconcilerd"), "--state-dir", "state", "--metrics-port", "0", *words],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_for("the daemon answers", lambda: (self.folder / "state/run/control.sock").exists())

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the daemon; its exit code."""
        assert self.daemon is not None
        self.daemon.send_signal(how)
        code = self.daemon.wait(30)
        self.daemon = None
        return code

    # -------------------------------------------------------- looking

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--once", "-o", "json")
        return dict(json.loads(done.stdout))

    def service(self) -> dict[str, Any]:
        return dict(self.status()["services"][0])

    def wait_converged(self, limit_s: float = LIMIT_S) -> dict[str, Any]:
        def converged() -> dict[str, Any] | None:
            value = self.status()
            return value if value["state"] == "converged" else None

        found: dict[str, Any] = wait_for("converged", converged, limit_s)
        return found

    def get(self, path: str = "/", method: str = "GET", body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """One request through nginx."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def answers(self, version: str | None = None) -> bool:
        status, _, body = self.get()
        return status == 200 and (version is None or json.loads(body)["version"] == version)

    def containers(self, service: str | None = None) -> list[Any]:
        labels = [f"io.swiftdeploy.project={self.project}"]
        if service:
            labels.append(f"io.swiftdeploy.service={service}")
        return list(self.engine.containers.list(all=True, filters={"label": labels}))

    def history(self) -> list[dict[str, Any]]:
        text = (self.folder / "state/history.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def rendered(self, path: str) -> Path:
        return self.folder / "state" / "rendered" / path

    # -------------------------------------------------------- the end

    def clean(self) -> None:
        if self.daemon is not None and self.daemon.poll() is None:
            self.stop()
        for container in self.containers():
            container.remove(force=True, v=True)
        for network in self.engine.networks.list(names=[f"{self.project}-net"]):
            network.remove()
        for volume in self.engine.volumes.list(filters={"label": f"io.swiftdeploy.project={self.project}"}):
            volume.remove(force=True)
