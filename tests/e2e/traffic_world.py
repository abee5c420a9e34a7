"""nginx as the planner makes it, before two replicas of the sample service in each slot; nobody else moves anything."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import docker
import docker.errors

from reconciler.adapters.clock import monotonic
from reconciler.adapters.docker_engine import DockerEngine
from reconciler.adapters.image_recipes import cache_directory
from reconciler.adapters.local_images import LocalImages
from reconciler.adapters.nginx_proxy import NginxProxy
from reconciler.adapters.rendered_files import RenderedFiles
from reconciler.core.container import LABEL
from reconciler.core.containers import (
    EVIDENCE_LOG,
    PROXY_LIVE,
    PROXY_RUN,
    KeptRevision,
    Layout,
    proxy_container,
    service_container,
)
from reconciler.core.desired import DesiredState, Mode, Network, Nginx, Route, Service
from reconciler.core.observed import ObservedImage, Slot
from reconciler.core.plan import (
    Action,
    CreateContainer,
    EnsureNetwork,
    Outcome,
    PrepareProxy,
    SetTraffic,
    StartContainer,
    WriteFile,
)
from reconciler.formats import tester
from reconciler.formats.nginx import ProxyView, Upstreams, config_hash, render
from reconciler.ports import Wanted
from tests.e2e.stack import IMAGE, free_port, wait_for

SWARM = Path(__file__).with_name("swarm.py")
CONFIG = "nginx/live/nginx.conf"
USER = "65534:65534"
PORT = 3000
REPLICAS = 2
MODES = {Slot.BLUE: Mode.STABLE, Slot.GREEN: Mode.CANARY}
PLAIN, STICKY, CLOSED, TESTED = "plain", "sticky", "closed", "tested"
"""Services, each a host of its own name, before the same containers: chaos allowed, sticky, neither; the last one has
a tester's header."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer through nginx. `slot` and `mode` are who answered, as nginx and as the service itself say it."""

    status: int
    slot: str
    mode: str
    body: bytes
    cookie: str | None


class TrafficWorld:
    """Its containers and network carry a project of its own and are removed by `close`."""

    def __init__(self, client: docker.DockerClient, project: str, subnet: str) -> None:
        self.client = client
        self.project = project
        self.network = f"{project}-net"
        self.subnet = subnet
        self.instance = f"{project}-i"
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="sd-"))  # pytest's own is too long for a unix socket
        self.secret = secrets.token_hex(32)
        self.digest = tester.digest(TESTED, self.secret)
        self.engine = DockerEngine(instance=self.instance, monotonic=monotonic)
        self.proxy = NginxProxy(
            live_dir=self.folder / "rendered/nginx/live",
            run_dir=self.folder / "run/nginx",
            boxes=self.engine.boxes,
            monotonic=monotonic,
            user=USER,
            secret={self.digest: self.secret}.get,
        )

    # ── the beginning ──────────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> None:
        """Everything runs, every slot answers, all weights are 0."""
        self.engine.observe(Wanted(self.project, self.instance, self.network, (), ()))
        labels = ((f"{LABEL}instance", self.instance), (f"{LABEL}project", self.project))
        self._engine_must(EnsureNetwork(self.network, "bridge", f"{self.subnet}.0/24", f"{self.subnet}.128/25", labels))
        for slot in Slot:
            for replica in range(REPLICAS):
                self._start_member(slot, replica)
        self._start_nginx()
        for slot in Slot:
            for replica in range(REPLICAS):
                wait_for(f"{slot} {replica} answers", partial(self.answers, slot, replica))

    def _start_member(self, slot: Slot, replica: int) -> None:
        service = Service("app", IMAGE, PORT, version=f"{slot}-{replica}")
        spec = service_container(KeptRevision("r", service, self._image(IMAGE), self.network), MODES[slot])
        self._start(self.member(slot, replica), spec, self.address(slot, replica), (), "app")

    def _start_nginx(self) -> None:
        image = self._image(LocalImages(self.client.api, cache_directory(os.environ, Path.home())).nginx())
        layout = Layout(str(self.folder / "rendered"), str(self.folder / "run"), USER)
        desired = DesiredState(self.project, "r", (), Nginx(image.reference, self.port), Network(self.network))
        text = self.text()
        written = RenderedFiles(self.folder / "rendered").apply(WriteFile(CONFIG, text))
        assert written.outcome is Outcome.OK, written
        self.prepare()
        self._start("nginx", proxy_container(desired, image, layout), None, ("nginx",), "nginx")
        wanted = config_hash(text)
        wait_for("nginx runs this", lambda: self._seen_hash() == wanted)

    def text(self) -> str:
        members = {slot: tuple(f"{self.address(slot, replica)}:{PORT}" for replica in range(REPLICAS)) for slot in Slot}
        services = (
            Upstreams(PLAIN, Slot.BLUE, members, Route(PLAIN), chaos=True, sticky=False),
            Upstreams(STICKY, Slot.BLUE, members, Route(STICKY, sticky=True), chaos=True, sticky=True),
            Upstreams(CLOSED, Slot.BLUE, members, Route(CLOSED), chaos=False, sticky=False),
            Upstreams(TESTED, Slot.BLUE, members, Route(TESTED), chaos=False, sticky=False, tester=self.digest),
        )
        view = ProxyView(
            Nginx("nginx", self.port),
            services,
            f"{PROXY_LIVE}/flags",
            f"{PROXY_RUN}/proxy.sock",
            self.project,
            evidence_log=EVIDENCE_LOG,
        )
        return render(view)

    def _start(self, short: str, spec: Any, address: str | None, aliases: tuple[str, ...], service: str) -> None:
        pairs = {"project": self.project, "instance": self.instance, "service": service, "slot": "", "replica": short}
        labels = tuple(sorted((f"{LABEL}{key}", value) for key, value in pairs.items()))
        self._engine_must(CreateContainer(f"{self.project}-{short}", spec, address, labels, aliases))
        self._engine_must(StartContainer(f"{self.project}-{short}"))

    def _seen_hash(self) -> str | None:
        seen = self.engine.observe(Wanted(self.project, self.instance, self.network, (), ()))
        (nginx,) = [one for one in seen.containers if one.name == f"{self.project}-nginx"]
        return self.proxy.observe(nginx, ()).live_hash

    def _image(self, reference: str) -> ObservedImage:
        return ObservedImage(reference, str(self.client.images.get(reference).id), reference)

    def _engine_must(self, action: Action) -> None:
        result = self.engine.apply(action)
        assert result.outcome is Outcome.OK, (action, result)

    def _proxy_must(self, action: PrepareProxy | SetTraffic) -> None:
        result = self.proxy.apply(action)
        assert result.outcome is Outcome.OK, (action, result)

    # ── what happens ───────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """All that nginx needs to start is in its folders; weights stay."""
        self._proxy_must(PrepareProxy((PLAIN, STICKY, CLOSED, TESTED), self.text()))

    def set_weight(self, service: str, weight: int) -> None:
        """The canary's share, in percent, of every request that starts from now on."""
        self._proxy_must(SetTraffic(service, weight))

    def container(self, slot: Slot, replica: int) -> Any:
        return self.client.containers.get(f"{self.project}-{self.member(slot, replica)}")

    def member(self, slot: Slot, replica: int) -> str:
        return f"{slot}-{replica}"

    def address(self, slot: Slot, replica: int) -> str:
        return f"{self.subnet}.{10 * (1 + list(Slot).index(slot)) + replica}"

    def kill(self, slot: Slot, replica: int) -> None:
        """As the kernel kills: `docker kill` would be taken as somebody's wish, and nothing would be restarted."""
        pid = self.container(slot, replica).attrs["State"]["Pid"]
        subprocess.run(("kill", "-9", str(pid)), check=True)

    def answers(self, slot: Slot, replica: int) -> bool:
        """Whether the container itself, asked without nginx, serves."""
        return self.ask_member(slot, replica).status == 200

    # ── clients ────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as made:
            yield made

    def ask(
        self,
        service: str,
        path: str = "/",
        method: str = "GET",
        body: object = None,
        cookie: str | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request through nginx on a connection of its own."""
        with self.connection() as connection:
            return asked(connection, service, path, method, body, cookie, more)

    def ask_member(self, slot: Slot, replica: int, path: str = "/", method: str = "GET", body: object = None) -> Answer:
        """One request to a container, past nginx."""
        made = http.client.HTTPConnection(self.address(slot, replica), PORT, timeout=5)
        with contextlib.closing(made) as connection:
            return asked(connection, "member", path, method, body)

    def swarm(self, service: str, requests: int, clients: int = 16, methods: str = "GET") -> dict[str, int]:
        """How often each answer came, by `STATUS SLOT MODE`."""
        command = self._swarm(service, clients, methods, str(requests))
        return dict(json.loads(subprocess.check_output(command, stdin=subprocess.DEVNULL)))

    @contextmanager
    def swarming(self, service: str, clients: int = 16, methods: str = "GET,POST") -> Iterator[dict[str, int]]:
        """Clients ask as long as the block lasts; the counts are there after it."""
        counts: dict[str, int] = {}
        command = self._swarm(service, clients, methods)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
            try:
                yield counts
                counts.update(json.loads(running.communicate(timeout=120)[0]))
            finally:
                running.kill()

    def _swarm(self, service: str, clients: int, methods: str, *rest: str) -> tuple[str, ...]:
        return (sys.executable, str(SWARM), str(self.port), service, str(clients), methods, *rest)

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        mine: dict[str, str | list[str] | bool] = {"label": f"{LABEL}project={self.project}"}
        for container in self.client.containers.list(all=True, filters=mine):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
        for network in self.client.networks.list(filters=mine):
            network.remove()
        self.engine.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def asked(
    connection: http.client.HTTPConnection,
    service: str,
    path: str = "/",
    method: str = "GET",
    body: object = None,
    cookie: str | None = None,
    more: Mapping[str, str] | None = None,
) -> Answer:
    """One request; `body` goes as JSON, `more` are headers of its own."""
    headers = {"Host": service} | ({"Cookie": cookie} if cookie is not None else {}) | dict(more or {})
    content = None if body is None else json.dumps(body)
    if content is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, path, content, headers)
    answer = connection.getresponse()
    slot, mode = answer.getheader("X-Served-By") or "", answer.getheader("X-Mode") or ""
    return Answer(answer.status, slot, mode, answer.read(), answer.getheader("Set-Cookie"))
