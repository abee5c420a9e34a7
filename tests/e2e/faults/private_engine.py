"""A Docker Engine of our own is killed and started again in the middle of canaries. Run as a program, prints JSON.

    unshare --net --mount --pid --fork --kill-child --mount-proc python -m tests.e2e.faults.private_engine FOLDER

It stands beside the machine's engine and touches nothing of it: its own network, mounts and processes, which end with
this program; the images come from the machine's engine.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker

from reconciler.adapters.image_recipes import cache_directory
from reconciler.adapters.local_images import LocalImages
from tests.e2e.faults.crash_stack import CrashStack
from tests.e2e.stack import IMAGE, wait_for

HOST = "10.99.0.1"
"""An address that is not loopback: there the engine's own proxy process, which dies with it, is not in the way."""
LIMIT_S = 120.0
ROLLOUT = "rollout: {steps: [{weight: 80, duration: 1s}], watch: 1s, health_deadline: 30s}"
EVIDENCE = "  canary: {warmup_seconds: 1, min_evidence_seconds: 2, min_requests: 20}\n"
CLIENTS = 3


class PrivateEngine:
    """dockerd, in this program's own namespaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/engine.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = ["dockerd", "--host", self.address, "--bridge=none", "--ip6tables=false", *options]
        for name in ("data-root", "exec-root", "pidfile"):
            command += [f"--{name}", str(self.folder / name)]
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for("the engine answers", lambda: self._answers(), 60)

    def _answers(self) -> bool:
        try:
            client = docker.DockerClient(base_url=self.address)
            client.close()
        except docker.errors.DockerException:
            return False
        return True

    def die(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def load(self, images: Sequence[str]) -> None:
        """The machine's engine gives them."""
        theirs, ours = docker.from_env(), docker.DockerClient(base_url=self.address)
        for image in images:
            ours.images.load(theirs.api.get_image(image))
        ours.close()


class Clients:
    """Keep-alive clients that never retry, through nginx's published port."""

    def __init__(self, port: int) -> None:
        self.counts: Counter[str] = Counter()
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(CLIENTS)]

    def _work(self) -> None:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=15)
        while not self._stop.wait(0.02):
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
                self.counts[str(answer.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.counts[type(error).__name__] += 1
                connection.close()
        connection.close()

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def deployed(engine: PrivateEngine, folder: Path) -> Iterator[CrashStack]:
    client = docker.DockerClient(base_url=engine.address)
    stack = CrashStack(folder, client, {"DOCKER_HOST": engine.address})
    try:
        stack.write(stack.manifest(EVIDENCE, service=ROLLOUT))
        stack.start()
        wait_for("deployed", lambda: stack.rests("1.0.0"), LIMIT_S)
        yield stack
    finally:
        if stack.daemon is not None:
            stack.stop()
        client.close()


def killed_mid_canary(engine: PrivateEngine, stack: CrashStack, version: str, *options: str) -> dict[str, Any]:
    """A new version; the engine dies at its step, and starts again with those options. What came of it."""
    with Clients(stack.port) as clients:
        stack.write(stack.manifest(EVIDENCE, service=f'version: "{version}"\n{ROLLOUT}'))
        wait_for("the canary's step", lambda: stack.last_cycle().get("weight") == [80], LIMIT_S)
        engine.die()
        cycles = stack.cycles()
        wait_for("a cycle without an engine", lambda: stack.cycles() > cycles, LIMIT_S)
        engine.start(*options)
        wait_for(f"version {version}", lambda: stack.rests(version), LIMIT_S)
        counts = dict(clients.counts)
    services = sorted(container.labels["io.swiftdeploy.service"] for container in stack.containers())
    return {
        "failed": {what: count for what, count in counts.items() if what != "200"},
        "answered": counts.get("200", 0),
        "services": services,
        "quarantined": stack.last_cycle()["quarantined"],
        "daemon_deaths": len(stack.deaths),
        "history": stack.history_is_whole(),
    }


def main() -> int:
    folder = Path(sys.argv[1])
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "link", "add", "outside", "type", "bridge"),
        ("ip", "address", "add", f"{HOST}/24", "dev", "outside"),
        ("ip", "link", "set", "outside", "up"),
        ("mount", "-t", "tmpfs", "none", "/run/containerd"),
    ):
        subprocess.run(command, check=True)
    images = LocalImages(docker.from_env().api, cache_directory(os.environ, Path.home()))
    engine = PrivateEngine(folder)
    engine.start("--live-restore")
    engine.load((IMAGE, images.nginx(), images.opa()))
    with deployed(engine, folder) as stack:
        found = {
            "live_restore": killed_mid_canary(engine, stack, "2.0.0", "--live-restore"),
            "all_stopped": killed_mid_canary(engine, stack, "3.0.0"),
        }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
