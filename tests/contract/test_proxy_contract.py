"""What every Proxy refuses, and then what it does. Runs in memory and against a real nginx in a container."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import docker.errors
import pytest
from contract_worlds import DockerWorld, MemoryWorld, Stage, engine_client

from reconciler.adapters.clock import monotonic
from reconciler.adapters.image_recipes import cache_directory
from reconciler.adapters.local_images import LocalImages
from reconciler.adapters.memory import MemoryFiles, MemoryProxy
from reconciler.adapters.nginx_proxy import RELOAD_SETTLES_S, NginxProxy
from reconciler.adapters.rendered_files import RenderedFiles
from reconciler.core.containers import PROXY_LIVE, PROXY_RUN, Layout, proxy_container
from reconciler.core.desired import DesiredState, Network, Nginx, Route
from reconciler.core.observed import ObservedImage, ObservedProxy, Slot
from reconciler.core.plan import (
    CreateContainer,
    Outcome,
    PrepareProxy,
    ReloadProxy,
    RemoveContainer,
    Result,
    SetTraffic,
    StartContainer,
    WriteFile,
)
from reconciler.core.plan import TestProxyConfig as TryConfig
from reconciler.formats.nginx import ProxyView, Upstreams, config_hash, render
from reconciler.ports import Files, Proxy

CONFIG = "nginx/live/nginx.conf"
USER = "65534:65534"


def config(port: int, blue: str, green: str, contact: str = "ops@localhost", timeout_s: float = 30.0) -> str:
    members = {Slot.BLUE: (blue,), Slot.GREEN: (green,)}
    upstreams = Upstreams("app", Slot.BLUE, members, Route(), chaos=False, sticky=False)
    return render(
        ProxyView(
            nginx=Nginx("nginx", port, proxy_timeout_s=timeout_s, contact=contact),
            upstreams=(upstreams,),
            flags_dir=f"{PROXY_LIVE}/flags",
            socket_path=f"{PROXY_RUN}/proxy.sock",
            project="contract",
        )
    )


class ProxyWorld(Protocol):
    """A proxy under test, its files, and what happens to nginx without its knowledge."""

    stage: Stage
    proxy: Proxy
    files: Files
    port: int
    nginx_image_id: str

    def create(self) -> None:
        """nginx's container is there; it does not run yet."""
        ...

    def kill(self) -> None:
        """nginx is killed, as by the kernel."""
        ...

    def begin_slow_request(self) -> None:
        """A client waits for an answer through nginx."""
        ...

    def end_slow_request(self) -> None:
        """The answer comes."""
        ...

    def members(self) -> tuple[str, str]:
        """What is in blue and in green."""
        ...


class ProxyStage:
    """A proxy world, and the words in which the tests speak about it."""

    def __init__(self, world: ProxyWorld) -> None:
        self.world = world

    @property
    def stage(self) -> Stage:
        return self.world.stage

    def text(self, contact: str = "ops@localhost") -> str:
        return config(self.world.port, *self.world.members(), contact)

    def write(self, text: str) -> None:
        assert self.world.files.apply(WriteFile(CONFIG, text)).outcome is Outcome.OK

    def apply(self, action: PrepareProxy | TryConfig | ReloadProxy | SetTraffic) -> Result:
        return self.world.proxy.apply(action)

    def must(self, action: PrepareProxy | TryConfig | ReloadProxy | SetTraffic) -> None:
        result = self.apply(action)
        assert result.outcome is Outcome.OK, (action, result)

    def observe(self) -> ObservedProxy:
        found = [one for one in self.stage.observe().containers if one.name == self.stage.name("nginx")]
        return self.world.proxy.observe(found[0] if found else None, ("app", "other"))

    @property
    def container_id(self) -> str:
        return self.stage.container("nginx").id

    def start(self, text: str) -> None:
        self.write(text)
        self.must(PrepareProxy(("app",)))
        self.world.create()
        self.stage.must(StartContainer(self.stage.name("nginx")))
        self.until(lambda: self.observe().live_hash == config_hash(text))

    def until(self, condition: Callable[[], bool]) -> None:
        self.stage.until(condition)

    def switch(self, text: str) -> None:
        """Write, reload, and see it run."""
        self.write(text)
        self.must(ReloadProxy(self.container_id))
        self.until(lambda: self.observe().live_hash == config_hash(text))


class MemoryProxyWorld:
    """The memory proxy over the memory engine."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.port = 8080
        assert isinstance(stage.world, MemoryWorld)
        self.memory = stage.world
        self.files: Files = MemoryFiles()
        assert isinstance(self.files, MemoryFiles)
        self.mine = MemoryProxy(self.files, monotonic=lambda: self.memory.now)
        self.proxy: Proxy = self.mine
        self.nginx_image_id = stage.world.image_id

    def create(self) -> None:
        self.stage.must(self.stage.creation("nginx", service="nginx"))

    def kill(self) -> None:
        self.memory.kill(self.stage.name("nginx"))
        self.mine.stale_socket = True

    def begin_slow_request(self) -> None:
        self.mine.holds_on = 1

    def end_slow_request(self) -> None:
        self.mine.old_workers = 0

    def members(self) -> tuple[str, str]:
        return "10.0.0.1:80", "10.0.0.2:80"


class Application(http.server.ThreadingHTTPServer):
    """Answers with its name; `/slow` waits until it is let go."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("0.0.0.0", 0), Answer)
        self.name = name
        self.waiting = threading.Event()
        self.go_on = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    server: Application

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.server.waiting.set()
            self.server.go_on.wait(30)
        body = self.server.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


class NginxWorld:
    """The very container that the planner would create, between two applications on this host."""

    def __init__(self, stage: Stage, folder: Path, image: ObservedImage, port: int) -> None:
        assert isinstance(stage.world, DockerWorld)
        self.stage = stage
        self.engine = stage.world.engine
        self.client = stage.world.client
        self.port = port
        self.nginx_image_id = image.id
        self.folder = folder
        self.rendered, self.run = folder / "rendered", folder / "run"
        self.nginx = self.make_proxy()
        self.proxy: Proxy = self.nginx
        self.files: Files = RenderedFiles(self.rendered)
        self.applications = {slot: Application(slot.value) for slot in Slot}
        self._image = image
        self._client_thread: threading.Thread | None = None
        self.slow_answer: list[bytes] = []
        stage.must(stage.ensure_network())

    def make_proxy(self, proc: Path = Path("/proc"), now: Callable[[], float] = monotonic) -> NginxProxy:
        return NginxProxy(
            live_dir=self.rendered / "nginx/live",
            run_dir=self.run / "nginx",
            boxes=self.engine.boxes,
            monotonic=now,
            user=USER,
            proc=proc,
        )

    def create(self) -> None:
        desired = DesiredState(
            "contract", "r", (), Nginx(self._image.reference, self.port), Network(self.stage.network)
        )
        spec = proxy_container(desired, self._image, Layout(str(self.rendered), str(self.run), USER))
        action = self.stage.creation("nginx", spec, service="nginx", slot="")
        self.stage.must(CreateContainer(action.name, spec, None, action.labels, ("nginx",)))

    def kill(self) -> None:
        pid = self.stage.container("nginx").pid
        subprocess.run(("kill", "-9", str(pid)), check=True)
        self.stage.until(lambda: self.stage.container("nginx").pid != pid)

    def begin_slow_request(self) -> None:
        def ask() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.slow_answer.append(self.get("/slow"))

        blue = self.applications[Slot.BLUE]
        blue.waiting.clear()
        blue.go_on.clear()
        self._client_thread = threading.Thread(target=ask, daemon=True)
        self._client_thread.start()
        assert self.applications[Slot.BLUE].waiting.wait(10)

    def end_slow_request(self) -> None:
        self.applications[Slot.BLUE].go_on.set()
        if self._client_thread is not None:
            self._client_thread.join(10)

    def members(self) -> tuple[str, str]:
        [network] = self.client.networks(names=[self.stage.network])
        config = self.client.inspect_network(network["Id"])["IPAM"]["Config"][0]
        gateway = config.get("Gateway") or self.stage.address(128)
        blue, green = (f"{gateway}:{self.applications[slot].server_port}" for slot in Slot)
        return blue, green

    def get(self, path: str = "/") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read()

    def close(self) -> None:
        for application in self.applications.values():
            application.go_on.set()
            application.shutdown()
            application.server_close()


def nginx_image() -> ObservedImage:
    """Our local build of nginx; made when it is not here."""
    client = engine_client()
    with contextlib.closing(client):
        reference = LocalImages(client, cache_directory(os.environ, Path.home())).nginx()
        inspected = client.inspect_image(reference)
    return ObservedImage(reference, str(inspected["Id"]), reference)


@pytest.fixture
def world(stage: Stage, free_port: int) -> Iterator[ProxyWorld]:
    if isinstance(stage.world, MemoryWorld):
        stage.must(stage.ensure_network())
        stage.observe()
        yield MemoryProxyWorld(stage)
        return
    # Not pytest's folder: its path is too long for a unix socket on some machines.
    folder = Path(tempfile.mkdtemp(prefix="sd-"))
    real = NginxWorld(stage, folder, nginx_image(), free_port)
    try:
        yield real
    finally:
        real.close()
        with contextlib.suppress(docker.errors.APIError):
            real.client.remove_container(stage.name("nginx"), force=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def proxied(world: ProxyWorld) -> ProxyStage:
    return ProxyStage(world)


@pytest.fixture
def real(world: ProxyWorld) -> NginxWorld:
    assert isinstance(world, NginxWorld)
    return world


with_nginx = pytest.mark.parametrize("stage", [pytest.param("docker", marks=pytest.mark.engine)], indirect=True)


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_nginx_nothing_is_live_and_nothing_breaks(proxied: ProxyStage) -> None:
    assert proxied.observe() == ObservedProxy()
    assert proxied.apply(ReloadProxy("f" * 64)).outcome is Outcome.FAILED


@pytest.mark.fault("I1")
def test_a_bad_configuration_is_refused_in_words_and_the_good_one_stays(proxied: ProxyStage) -> None:
    good = proxied.text()
    proxied.start(good)
    bad = good.replace("listen", "lisen", 1) if isinstance(proxied.world, NginxWorld) else "not ours"
    refused = proxied.apply(TryConfig(bad, proxied.world.nginx_image_id, proxied.container_id))
    assert refused.outcome is Outcome.FAILED
    assert refused.detail.startswith("nginx refuses the configuration: ")
    assert proxied.observe().live_hash == config_hash(good)
    proxied.must(TryConfig(good, proxied.world.nginx_image_id, proxied.container_id))


@pytest.mark.parametrize("weight", [-1, 101])
def test_no_weight_is_below_nothing_or_above_everything(proxied: ProxyStage, weight: int) -> None:
    proxied.must(PrepareProxy(("app",)))
    assert proxied.apply(SetTraffic("app", weight)).outcome is Outcome.FAILED
    assert proxied.observe().weights == {"app": 0}


@pytest.mark.fault("I4", "I15")
def test_after_a_kill_nginx_does_not_answer_until_its_socket_is_cleared(proxied: ProxyStage) -> None:
    text = proxied.text()
    proxied.start(text)
    proxied.world.kill()
    if isinstance(proxied.world, NginxWorld):
        assert (proxied.world.run / "nginx/proxy.sock").is_socket()
        proxied.until(lambda: proxied.stage.container("nginx").restarts > 0)
    else:
        proxied.stage.must(StartContainer(proxied.stage.name("nginx")))
    assert proxied.observe().live_hash is None
    proxied.must(PrepareProxy(("app",)))
    if not isinstance(proxied.world, NginxWorld):
        proxied.world.stage.world.kill(proxied.stage.name("nginx"))
        proxied.stage.must(StartContainer(proxied.stage.name("nginx")))
    proxied.until(lambda: proxied.observe().live_hash == config_hash(text))


# ── what it does ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("I11")
def test_lost_flags_are_seen_and_prepared_ones_keep_their_weight(proxied: ProxyStage) -> None:
    assert proxied.observe().weights == {}
    proxied.must(PrepareProxy(("app",)))
    assert proxied.observe().weights == {"app": 0}
    proxied.must(SetTraffic("app", 25))
    proxied.must(PrepareProxy(("app", "other")))
    assert proxied.observe().weights == {"app": 25, "other": 0}


def test_every_weight_can_be_set_and_is_seen(proxied: ProxyStage) -> None:
    proxied.must(PrepareProxy(("app",)))
    for weight in (5, 25, 50, 99, 100, 1, 0, 0, 100):
        proxied.must(SetTraffic("app", weight))
        assert proxied.observe().weights == {"app": weight}


@pytest.mark.fault("I5")
def test_a_file_that_changed_is_not_live_before_a_reload(proxied: ProxyStage) -> None:
    first, second = proxied.text(), proxied.text("second@localhost")
    proxied.start(first)
    proxied.write(second)
    assert proxied.observe().live_hash == config_hash(first)
    proxied.must(ReloadProxy(proxied.container_id))
    proxied.until(lambda: proxied.observe().live_hash == config_hash(second))
    proxied.until(lambda: proxied.observe().retiring == 0)


@pytest.mark.fault("I3")
def test_old_workers_are_counted_until_their_last_request_ends(proxied: ProxyStage) -> None:
    proxied.start(proxied.text())
    assert proxied.observe().retiring == 0
    proxied.world.begin_slow_request()
    proxied.switch(proxied.text("second@localhost"))
    for _ in range(5):
        seen = proxied.observe()
        assert seen.retiring == 1 or isinstance(proxied.world, NginxWorld)
        assert seen.retiring >= 1
    proxied.until(lambda: proxied.observe().retiring == 1)
    assert proxied.observe().retiring_for_s > 0 or isinstance(proxied.world, MemoryProxyWorld)
    proxied.world.end_slow_request()
    proxied.until(lambda: proxied.observe().retiring == 0)
    assert proxied.observe().retiring_for_s == 0


# ── only a real nginx can show this ────────────────────────────────────────────────────────────────────────────────


@with_nginx
def test_traffic_follows_the_flags(proxied: ProxyStage, real: NginxWorld) -> None:
    proxied.start(proxied.text())
    for weight in (0, 100, 0):
        proxied.must(SetTraffic("app", weight))
        expected = b"green" if weight else b"blue"
        assert {real.get() for _ in range(20)} == {expected}
    proxied.must(SetTraffic("app", 50))
    shares = Counter(real.get() for _ in range(200))
    assert 60 < shares[b"green"] < 140


@pytest.mark.fault("I14")
@with_nginx
def test_a_slow_request_survives_the_reload(proxied: ProxyStage, real: NginxWorld) -> None:
    proxied.start(proxied.text())
    real.begin_slow_request()
    proxied.switch(proxied.text("second@localhost"))
    real.end_slow_request()
    assert real.slow_answer == [b"blue"]


@pytest.mark.fault("I3")
@with_nginx
def test_from_the_first_moment_of_a_reload_every_old_worker_is_counted(proxied: ProxyStage, real: NginxWorld) -> None:
    """New workers answer some 100 ms before old ones are titled; until then only our note knows them.

    One of the two is kept busy, so that it is there however late we look.
    """
    proxied.start(proxied.text())
    for number in range(5):
        text = proxied.text(f"n{number}@localhost")
        proxied.write(text)
        real.begin_slow_request()
        proxied.must(ReloadProxy(proxied.container_id))
        assert proxied.observe().retiring in (1, 2)
        real.end_slow_request()
        proxied.until(lambda text=text: proxied.observe().live_hash == config_hash(text))  # type: ignore[misc]
        proxied.until(lambda: proxied.observe().retiring == 0)


@with_nginx
def test_a_configuration_is_tested_without_a_running_nginx_and_nothing_is_left(
    proxied: ProxyStage, real: NginxWorld
) -> None:
    good = proxied.text()
    real.engine.observe(proxied.stage.wanted())
    before = {one["Id"] for one in real.client.containers(all=True)}
    proxied.must(TryConfig(good, real.nginx_image_id, None))
    refused = proxied.apply(
        TryConfig(good.replace("upstream app-blue", "upsteam app-blue", 1), real.nginx_image_id, None)
    )
    assert refused.outcome is Outcome.FAILED
    assert 'unknown directive "upsteam" in nginx.conf:' in refused.detail
    mine = [one for one in real.client.containers(all=True) if one["Id"] not in before]
    assert not [one for one in mine if one["Labels"].get("io.swiftdeploy.instance") == proxied.stage.world.instance]


@with_nginx
def test_a_stopped_nginx_is_no_obstacle_to_a_test(proxied: ProxyStage, real: NginxWorld) -> None:
    proxied.must(PrepareProxy(()))
    real.create()
    proxied.must(TryConfig(proxied.text(), real.nginx_image_id, proxied.container_id))


@with_nginx
def test_a_test_touches_neither_the_live_file_nor_the_private_socket(proxied: ProxyStage, real: NginxWorld) -> None:
    text = proxied.text()
    proxied.start(text)
    socket_before = (real.run / "nginx/proxy.sock").stat().st_ino
    proxied.must(TryConfig(proxied.text("x@localhost"), real.nginx_image_id, proxied.container_id))
    assert (real.run / "nginx/proxy.sock").stat().st_ino == socket_before
    assert proxied.observe().live_hash == config_hash(text)
    assert set(real.files.digests()) == {CONFIG}


@pytest.mark.fault("I2")
@with_nginx
def test_a_reload_that_nginx_quietly_does_not_do_is_not_live_and_retires_nobody(
    proxied: ProxyStage, real: NginxWorld
) -> None:
    text = proxied.text()
    proxied.start(text)
    # Somebody in nginx's own network has the port that the new configuration wants: `-t` likes it, the reload does not.
    real.stage.world.add_foreign(
        proxied.stage.name("busy"), command=("nc", "-l", "-p", "9999"), network=f"container:{proxied.container_id}"
    )
    wanted = proxied.text("busy@localhost").replace("listen ", "listen 9999; listen ", 1)
    proxied.until(lambda: b"0A" in _sockets_of(proxied.stage.container("nginx").pid, 9999))
    proxied.must(TryConfig(wanted, real.nginx_image_id, proxied.container_id))
    proxied.write(wanted)
    proxied.must(ReloadProxy(proxied.container_id))
    time.sleep(1.5)
    seen = proxied.observe()
    assert seen.live_hash == config_hash(text)
    assert seen.retiring == 2
    later = real.make_proxy(now=lambda: monotonic() + RELOAD_SETTLES_S)
    found = proxied.stage.container("nginx")
    assert later.observe(found, ()).retiring == 0


def _sockets_of(pid: int, port: int) -> bytes:
    lines = (
        Path(f"/proc/{pid}/net/tcp").read_bytes().splitlines() + Path(f"/proc/{pid}/net/tcp6").read_bytes().splitlines()
    )
    return b" ".join(line.split()[3] for line in lines if line.split()[1].endswith(f":{port:04X}".encode()))


@with_nginx
def test_where_the_process_table_is_another_machines_the_engine_is_asked(
    proxied: ProxyStage, real: NginxWorld, tmp_path: Path
) -> None:
    proxied.start(proxied.text())
    real.nginx = real.proxy = real.make_proxy(proc=tmp_path)
    real.begin_slow_request()
    proxied.switch(proxied.text("second@localhost"))
    proxied.until(lambda: proxied.observe().retiring == 1)
    assert proxied.observe().retiring == 1
    real.end_slow_request()
    proxied.until(lambda: proxied.observe().retiring == 0)


@with_nginx
def test_a_restart_forgets_who_was_retiring(proxied: ProxyStage, real: NginxWorld) -> None:
    proxied.start(proxied.text())
    real.begin_slow_request()
    proxied.switch(proxied.text("second@localhost"))
    assert proxied.observe().retiring >= 1
    proxied.stage.must(RemoveContainer(proxied.container_id))
    real.end_slow_request()
    proxied.start(proxied.text("third@localhost"))
    assert proxied.observe().retiring == 0


@pytest.mark.fault("A17")
@with_nginx
def test_nginx_starts_with_a_umask_that_hides_everything(proxied: ProxyStage, real: NginxWorld) -> None:
    before = os.umask(0o077)
    try:
        proxied.start(proxied.text())
        proxied.must(SetTraffic("app", 7))
        proxied.must(SetTraffic("app", 100))
        assert real.get() == b"green"
    finally:
        os.umask(before)
