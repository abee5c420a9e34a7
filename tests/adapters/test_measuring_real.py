"""nginx's count beside the service's own: the real nginx and the real service in containers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from reconciler.adapters import clock
from reconciler.adapters.app_metrics import AppMetrics
from reconciler.adapters.ingress_metrics import IngressMetrics
from reconciler.adapters.local_images import LocalImages
from reconciler.adapters.metrics import CountedTwice
from reconciler.adapters.probe_traffic import ProbeTraffic
from reconciler.adapters.prometheus import PrometheusMetrics
from reconciler.core.containers import EVIDENCE_LOG, PROXY_LIVE, PROXY_RUN, PROXY_TMP, proxy_log_tmpfs
from reconciler.core.desired import Nginx, RolloutSpec, Route, Service
from reconciler.core.evidence.readings import Counted, Reading
from reconciler.core.observed import ObservedContainer, Slot, Status
from reconciler.formats.nginx import ProxyView, Upstreams, probe_path, render
from reconciler.ports import MeasureTarget
from tests.e2e.stack import IMAGE, wait_for

pytestmark = pytest.mark.engine
USER = "65534:65534"


class Site:
    """One service in two slots behind nginx, without a daemon."""

    def __init__(self, folder: Path, client: docker.DockerClient, image: str, log_size: str) -> None:
        self.client = client
        self.folder = folder
        self.made: list[Any] = []
        self.weight = folder / "live/flags/app"
        for name in ("live/flags/app", "run"):
            (folder / name).mkdir(parents=True)
            (folder / name).chmod(0o777)
        self.targets = [MeasureTarget(self.app(slot), Service("app", IMAGE, 3000)) for slot in Slot]
        self.write()
        options = {"user": USER, "read_only": True, "entrypoint": ["nginx"]}
        self.nginx = self.run(
            image,
            ["-c", f"{PROXY_LIVE}/nginx.conf", "-e", "stderr"],
            volumes={str(folder / "live"): {"bind": PROXY_LIVE}, str(folder / "run"): {"bind": PROXY_RUN}},
            tmpfs=dict(
                entry.split(":", 1)
                for entry in (PROXY_TMP, proxy_log_tmpfs("65534:65534").replace("size=64m", f"size={log_size}"))
            ),
            **options,
        )
        self.address = self.observed(self.nginx).address
        wait_for("nginx answers", lambda: self.get("/healthz") == 200)

    def run(self, image: str, command: list[str] | None = None, **options: Any) -> Any:
        container = self.client.containers.run(image, command, detach=True, **options)
        self.made.append(container)
        return container

    def app(self, slot: Slot) -> ObservedContainer:
        container = self.run(IMAGE, environment={"MODE": "stable" if slot is Slot.BLUE else "canary"})
        observed = self.observed(container, slot)
        wait_for("the service answers", lambda: ask(observed.address or "", 3000, "/healthz") == 200)
        return observed

    def observed(self, container: Any, slot: Slot | None = None) -> ObservedContainer:
        container.reload()
        state, networks = container.attrs["State"], container.attrs["NetworkSettings"]["Networks"]
        return ObservedContainer(
            container.id,
            container.name,
            "app",
            "r",
            Status(state["Status"]),
            slot=slot,
            replica=0,
            address=networks["bridge"]["IPAddress"],
            pid=state["Pid"],
            started_at=state["StartedAt"],
        )

    def write(self, contact: str = "ops@localhost") -> None:
        members = {target.container.slot: (f"{target.container.address}:3000",) for target in self.targets}
        view = ProxyView(
            Nginx("nginx", 8080, 2.0, contact),
            (Upstreams("app", Slot.BLUE, members, Route(), False, False, ("/metrics", "/healthz"), "/"),),  # type: ignore[arg-type]
            f"{PROXY_LIVE}/flags",
            f"{PROXY_RUN}/proxy.sock",
            "prov",
            evidence_log=EVIDENCE_LOG,
        )
        new = self.folder / "live/.new"
        new.write_text(render(view))
        new.rename(self.folder / "live/nginx.conf")

    def get(self, path: str = "/", method: str = "GET") -> int:
        return ask(self.address or "", 8080, path, method)

    def probe(self, slot: Slot) -> int:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.folder / "run/proxy.sock"))
            line.sendall(f"GET {probe_path('app', slot)} HTTP/1.0\r\n\r\n".encode())
            return int(line.recv(65536).split()[1])

    def reload(self) -> None:
        self.write("other@localhost")
        os.kill(self.observed(self.nginx).pid, signal.SIGHUP)

    def clean(self) -> None:
        for container in self.made:
            container.remove(force=True)


def ask(address: str, port: int, path: str, method: str = "GET") -> int:
    connection = http.client.HTTPConnection(address, port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        return answer.status


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    client = docker.from_env()
    sites: list[Site] = []
    with tempfile.TemporaryDirectory(prefix="sd-") as folder:
        Path(folder).chmod(0o755)
        image = LocalImages(client.api, Path(folder)).nginx()

        def started(log_size: str = "64m") -> Site:
            made = object.__new__(Site)
            made.made = []
            sites.append(made)
            made.__init__(Path(folder), client, image, log_size)  # type: ignore[misc]
            return made

        try:
            yield started
        finally:
            for each in sites:
                each.clean()
            client.close()


@pytest.fixture
def metrics() -> Iterator[CountedTwice]:
    made = CountedTwice(AppMetrics(), IngressMetrics(), PrometheusMetrics(), monotonic=clock.monotonic)
    yield made
    made.close()


def by_proxy(site: Site, metrics: CountedTwice) -> list[Reading]:
    """nginx's count of stable and canary."""
    found = metrics.read(site.targets, site.observed(site.nginx))
    readings = [found[target.container.id].proxy for target in site.targets]
    assert all(isinstance(reading, Reading) for reading in readings), readings
    return readings  # type: ignore[return-value]


def totals(readings: list[Reading]) -> list[tuple[int, int]]:
    return [(sum(one.requests.values()), sum(one.errors.values())) for one in readings]


def test_both_count_the_same_and_neither_what_is_no_traffic(site, metrics):
    running = site()
    by_proxy(running, metrics)
    for path in ("/", "/metrics", "/healthz", "/metrics?x=1", "/chaos", "/CHAOS/x", "/", "/elsewhere"):
        running.get(path)
    running.get("/", "POST")
    for _ in range(3):
        assert running.probe(Slot.GREEN) == 200
    wait_for("the log is written", lambda: totals(by_proxy(running, metrics)) == [(4, 0), (3, 0)])
    found = metrics.read(running.targets, running.observed(running.nginx))
    for target, mode, count in zip(running.targets, ("stable", "canary"), (4, 3), strict=True):
        counted = found[target.container.id]
        assert isinstance(counted, Counted)
        assert isinstance(counted.service, Reading)
        assert isinstance(counted.proxy, Reading)
        assert sum(counted.service.requests.values()) == count
        assert counted.service.mode == mode
        assert counted.proxy.buckets[-1] == (float("inf"), count)


def test_what_nginx_answers_for_a_dead_container_is_that_containers_error(site, metrics):
    running = site()
    by_proxy(running, metrics)
    running.made[0].kill()
    for path, method in (("/", "GET"), ("/", "POST"), ("/healthz", "GET")):
        assert running.get(path, method) in (502, 504)
    wait_for("both are errors of it", lambda: totals(by_proxy(running, metrics)) == [(2, 2), (0, 0)])


def test_requests_of_our_own_reach_either_slot_and_both_counts(site, metrics):
    running = site()
    by_proxy(running, metrics)
    spec = RolloutSpec(probe_path="/", probe_rate_per_s=20.0)
    wanted = [MeasureTarget(each.container, replace(each.service, rollout=spec)) for each in running.targets]
    with contextlib.closing(ProbeTraffic(running.folder / "run/proxy.sock")) as traffic:
        traffic.set([(each.service, slot) for each, slot in zip(wanted[:1] * 2, Slot, strict=True)])
        wait_for("both are asked", lambda: min(totals(by_proxy(running, metrics)))[0] >= 10)
        traffic.set([])

    def counts() -> list[tuple[int, ...]]:
        found = metrics.read(running.targets, running.observed(running.nginx)).values()
        return [tuple(sum(one.requests.values()) for one in (each.service, each.proxy)) for each in found]  # type: ignore[union-attr]

    wait_for("both counts are the same", lambda: all(service == proxy >= 10 for service, proxy in counts()))


def test_no_line_is_lost_where_the_log_is_read_and_nginx_reloads_under_load(site, metrics):
    running = site()
    by_proxy(running, metrics)
    sent: Counter[int] = Counter()
    stop = threading.Event()

    def load() -> None:
        connection = http.client.HTTPConnection(running.address or "", 8080, timeout=5)
        while not stop.is_set():
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            sent[answer.status] += 1

    client = threading.Thread(target=load)
    client.start()
    end = time.monotonic() + 6
    reloaded = False
    while time.monotonic() < end:
        by_proxy(running, metrics)
        time.sleep(0.1)
        if not reloaded and sent[200] > 500:
            running.reload()
            reloaded = True
    stop.set()
    client.join()
    assert reloaded
    wait_for("every request is counted", lambda: totals(by_proxy(running, metrics)) == [(sent[200], 0), (0, 0)])
    assert set(sent) == {200}


@pytest.mark.fault("I12")
def test_a_full_log_costs_no_request_and_is_read_again_afterwards(site, metrics):
    running = site(log_size="64k")
    log = Path(f"/proc/{running.observed(running.nginx).pid}/root{EVIDENCE_LOG}")
    by_proxy(running, metrics)
    connection = http.client.HTTPConnection(running.address or "", 8080, timeout=5)
    answers: Counter[int] = Counter()
    for _ in range(4000):
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        answers[answer.status] += 1
    assert answers == {200: 4000}
    assert b"was incomplete" in running.nginx.logs() or b"No space left" in running.nginx.logs()
    (before, errors), _ = totals(by_proxy(running, metrics))
    assert 0 < before < 4000
    assert errors == 0
    wait_for(
        "it counts again", lambda: running.get("/") == 200 and totals(by_proxy(running, metrics))[0][0] > before + 100
    )
    assert log.stat().st_blocks * 512 <= 16 * 1024
    assert json.loads((log.parent / "counts.json").read_text())["log"] == log.stat().st_ino
