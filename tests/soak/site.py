"""The stack under soak: its daemon, its clients, who had which address, and the manifest as it stands."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
import docker.errors

from reconciler.control import ask
from reconciler.core.errors import ReconcilerError
from tests.e2e.stack import IMAGE, Stack
from tests.soak.causes import Answer, Backend, Failure, answers, explanation
from tests.soak.samples import Sample, look

SAMPLE_S = 10.0
LOOK_S = 0.4
ROLLOUT = "rollout: {steps: [{weight: 25, duration: 3s}, {weight: 50, duration: 3s}], watch: 6s, health_deadline: 15s}"
EVIDENCE = "  canary: {warmup_seconds: 2, min_evidence_seconds: 4, max_p99_latency_ms: %d}\n"


def until(what: str, check: Callable[[], Any], limit_s: float = 60.0) -> Any:
    """What `check` answers once it is true; fails saying `what`. Asks rarely: each question wakes the daemon."""
    end, last = time.monotonic() + limit_s, None
    while time.monotonic() < end:
        try:
            last = check()
        except (OSError, http.client.HTTPException) as error:
            last = error
        if last and not isinstance(last, Exception):
            return last
        time.sleep(LOOK_S)
    raise AssertionError(f"not within {limit_s:g} s: {what}; last seen: {last!r}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the manifest asks for."""

    version: int = 1
    image: str = IMAGE
    word: int = 0
    replicas: int = 1
    memory_mb: int = 128
    p99_ms: int = 500
    comment: int = 0


class Site(Stack):
    """A project whose daemon is killed and started again, and that remembers what it has seen."""

    def __init__(self, folder: Path, engine: docker.DockerClient) -> None:
        super().__init__(folder, engine)
        self.wish = Wish()
        self.started_at = 0.0
        self.deaths = 0
        self.recoveries_s: list[float] = []
        self.backends: dict[str, list[Backend]] = {}

    # -------------------------------------------------------- the manifest

    def wanted(self, **changes: Any) -> None:
        """Change the wish, and the manifest with it."""
        self.wish = replace(self.wish, **changes)
        self.write(self.text())

    def text(self) -> str:
        wish = self.wish
        service = (
            f'version: "{wish.version}.0.0"\nenv: {{WORD: "{wish.word}"}}\n'
            f"deploy: {{replicas: {wish.replicas}, resources: {{limits: {{memory: {wish.memory_mb}m}}}}}}\n{ROLLOUT}"
        )
        text = self.manifest(EVIDENCE % wish.p99_ms, service=service).replace(IMAGE, wish.image)
        return f"# edited {wish.comment} times\n{text}"

    # -------------------------------------------------------- the daemon

    def begin(self) -> None:
        """Start the daemon, and wait for the end of its first cycle."""
        began = time.monotonic()
        self.start()
        self.started_at = began
        until("the first cycle", lambda: (self.status()["last_cycle"] or {}).get("number"))
        self.recoveries_s.append(time.monotonic() - began)

    def die(self) -> None:
        """SIGKILL; nobody starts another one yet."""
        self.stop(signal.SIGKILL)

    def status(self) -> dict[str, Any]:
        """As the daemon tells it. Raises ConnectionError while there is none."""
        try:
            *_, end = ask(self.folder / "state/run/control.sock", "status", {}, silence_s=10)
        except ReconcilerError as error:
            raise ConnectionError(str(error)) from error
        return dict(end["value"])  # type: ignore[arg-type]

    # -------------------------------------------------------- who had which address

    def meet(self, container_id: str) -> None:
        """Remember a container that has started. None of ours is no matter, nor one that is gone already."""
        with suppress(docker.errors.NotFound, KeyError):
            attrs = self.engine.api.inspect_container(container_id)
            labels = attrs["Config"]["Labels"]
            address = attrs["NetworkSettings"]["Networks"][f"{self.project}-net"]["IPAddress"]
            kind = labels.get("io.swiftdeploy.test.kind", "healthy")
            backend = Backend(attrs["Name"].lstrip("/"), kind, labels.get("io.swiftdeploy.mode", ""))
            known = self.backends.setdefault(address, [])
            if all(one.name != backend.name for one in known):
                known.append(backend)

    def take_away(self, container: Any) -> None:
        """Remove it by force, and remember that."""
        self.meet(container.id)
        now = time.time()
        for known in self.backends.values():
            known[:] = [replace(one, removed_at=now) if one.name == container.name else one for one in known]
        container.remove(force=True, v=True)

    def nginx_says(self, failures: list[Failure]) -> dict[str, Answer]:
        since = int(min(f.at for f in failures)) - 30
        log: list[str] = []
        for container in self.containers("nginx"):
            log += container.logs(since=since, stderr=False).decode(errors="replace").splitlines()
        return answers(log, frozenset(f.number for f in failures))


@dataclass
class Clients:
    """The traffic: every failure with its cause, as soon as `judge` was called."""

    site: Site
    rate: float
    total: int = 0
    slowest_s: float = 0.0
    explained: Counter[str] = field(default_factory=Counter)
    unexplained: list[tuple[Failure, Answer | None]] = field(default_factory=list)
    waiting: list[Failure] = field(default_factory=list)

    @contextmanager
    def asking(self) -> Iterator[None]:
        command = [sys.executable, "-m", "tests.soak.traffic", str(self.site.port), str(self.rate)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            reader = threading.Thread(target=self._read, args=(process,))
            reader.start()
            try:
                yield
            finally:
                assert process.stdin is not None
                process.stdin.close()
                reader.join(30)
                if reader.is_alive():
                    process.kill()
        self.judge()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "total" in told:
                self.total, self.slowest_s = told["total"], told["slowest_s"]
            else:
                self.waiting.append(Failure(told["n"], told["at"], told["took_s"], told["what"], told["mode"]))

    def judge(self) -> list[tuple[Failure, Answer | None]]:
        """Find the causes of what failed since the last time; those without one."""
        failures, self.waiting = self.waiting, []
        if not failures:
            return []
        said = self.site.nginx_says(failures)
        strange = []
        for failure in failures:
            why = explanation(failure, said.get(failure.number), self.site.backends)
            if why:
                self.explained[why] += 1
            else:
                strange.append((failure, said.get(failure.number)))
        self.unexplained += strange
        return strange


class Watcher:
    """Two threads: one hears which containers start, one samples the daemon."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.samples: list[Sample] = []
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        events = self.site.engine.events(
            decode=True,
            filters={"type": "container", "event": "start", "label": f"io.swiftdeploy.project={self.site.project}"},
        )
        threads = [
            threading.Thread(target=self._hear, args=(events,), daemon=True),
            threading.Thread(target=self._sample, daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            events.close()
            for thread in threads:
                thread.join(15)

    def _hear(self, events: Any) -> None:
        with suppress(OSError, ValueError, AttributeError):  # closed while it waited
            for event in events:
                self.site.meet(event["id"])

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            daemon, began = self.site.daemon, self.site.started_at
            if daemon is None:
                continue
            with suppress(OSError):  # killed in this moment
                containers = len(self.site.containers())
                age_s = time.monotonic() - began
                self.samples.append(look(daemon.pid, age_s, self.site.folder / "state", containers))
