"""OPA must be reachable for the daemon and nobody else: tried from every side, each try proven on a planted hole."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import docker
import pytest

from tests.e2e import opa_probes
from tests.e2e.opa_probes import PROBES, TRAITOR, Intruder, Probe
from tests.e2e.stack import IMAGE, Stack, free_port, wait_for


@pytest.fixture(scope="module")
def intruder(tmp_path_factory: pytest.TempPathFactory, engine: docker.DockerClient) -> Iterator[Intruder]:
    """A deployed project with a service that would betray it, and no daemon: OPA has nothing to read."""
    if os.geteuid():
        pytest.skip("NOT ROOT, isolation not tested: it takes a look into other users' processes")
    stack = Stack(tmp_path_factory.mktemp("isolation"), engine)
    stack.write(stack.manifest(service=f"entrypoint: {json.dumps(['python3', '-c', TRAITOR])}"))
    try:
        done = stack.run("deploy")
        assert done.returncode == 0, done.stderr
        token = (stack.folder / "state/run/opa-token").read_text().strip()
        yield Intruder(stack, token, f"marker-{secrets.token_hex(8)}")
    finally:
        stack.clean()


@pytest.mark.control("K1", "K3")
@pytest.mark.parametrize("probe", PROBES)
def test_opa_must_be_out_of_reach(intruder: Intruder, probe: Probe) -> None:
    assert probe(intruder) == []


def test_what_opa_has_read_must_tell_of_every_request(intruder: Intruder) -> None:
    """The witness of the other tests: it stands still at rest, and moves with a single request that is refused."""
    holes: list[str] = []
    with opa_probes.watched(intruder, holes):
        pass
    assert holes == []
    with opa_probes.watched(intruder, holes):
        assert opa_probes.asked(opa_probes.sockets_of(intruder)[0], "GET", f"/v1/data/{intruder.marker}", None) == 401
    assert len(holes) == 1


# ── planted holes: a probe that finds none of them proves nothing ──────────────────────────────────────────────────


@contextmanager
def second_opa(intruder: Intruder, *flags: str, **options: Any) -> Iterator[Any]:
    """Another OPA of the project with the same policies, started with `flags` and without a socket of its own."""
    (real,) = intruder.opas()
    binds = {mount["Source"]: {"bind": mount["Destination"], "mode": "ro"} for mount in real.attrs["Mounts"]}
    made = intruder.stack.engine.containers.run(
        real.attrs["Image"],
        ["run", "--server", "--log-level=error", "--skip-version-check", *flags, "/policy", "/auth"],
        name=f"{intruder.stack.project}-second",
        labels={"io.swiftdeploy.project": intruder.stack.project, "io.swiftdeploy.service": "opa"},
        user=real.attrs["Config"]["User"],
        volumes={source: bind for source, bind in binds.items() if bind["bind"] in ("/policy", "/auth")}
        | options.pop("binds", {}),
        detach=True,
        **options,
    )
    try:
        yield made
    finally:
        made.remove(force=True)


OPEN = ("--addr=0.0.0.0:8181",)
GUARDED = (*OPEN, "--authentication=token", "--authorization=basic")


def listens(opa: Any) -> bool:
    """The engine's own name server listens in the same namespace, and earlier."""
    return 8181 in {port for _, port in opa_probes.listeners(opa_probes.pid_of(opa))}


@contextmanager
def opa_on_the_network(intruder: Intruder, *flags: str) -> Iterator[str]:
    """Its address."""
    network = f"{intruder.stack.project}-net"
    with second_opa(intruder, *(flags or GUARDED), network=network) as made:
        wait_for("it listens", lambda: listens(made))
        made.reload()
        yield str(made.attrs["NetworkSettings"]["Networks"][network]["IPAddress"])


@contextmanager
def opa_published_on_the_host(intruder: Intruder) -> Iterator[None]:
    with second_opa(intruder, *GUARDED, ports={"8181/tcp": ("127.0.0.1", None)}) as made:
        wait_for("it listens", lambda: listens(made))
        yield


@contextmanager
def opa_on_the_hosts_network(intruder: Intruder) -> Iterator[None]:
    guards = ("--authentication=token", "--authorization=basic")
    with second_opa(intruder, f"--addr=127.0.0.1:{free_port()}", *guards, network_mode="host"):
        yield


@contextmanager
def nginx_edited(intruder: Intruder, edit: Callable[[str], str]) -> Iterator[None]:
    """Every worker of nginx runs an edited configuration; its own again afterwards."""
    path = intruder.stack.rendered("nginx/live/nginx.conf")
    good = path.read_text()
    (nginx,) = intruder.stack.containers("nginx")

    def workers() -> set[str]:
        table = nginx.top(ps_args="-o pid,args")
        return {pid for pid, *words in table["Processes"] if "worker process" in " ".join(words)}

    def run(text: str) -> None:
        old = workers()
        path.write_text(text)
        nginx.kill("SIGHUP")
        wait_for("nginx took it up", lambda: (now := workers()) and not now & old)

    try:
        run(edit(good))
        yield
    finally:
        run(good)


def location(matcher: str, address: str, more: str = "") -> Callable[[str], str]:
    block = f"location {matcher} {{ {more} proxy_pass http://{address}:8181; }}\n        location / {{"
    return lambda text: text.replace("location / {", block, 1)


@contextmanager
def a_location_that_leads_to_opa(intruder: Intruder) -> Iterator[None]:
    with opa_on_the_network(intruder) as address, nginx_edited(intruder, location("/v1/policies", address)):
        yield


@contextmanager
def a_location_that_only_a_backend_can_reach(intruder: Intruder) -> Iterator[None]:
    with opa_on_the_network(intruder) as address:
        edit = location("/v1/data", address, "internal;")
        with nginx_edited(
            intruder,
            lambda text: edit(text).replace("proxy_ignore_headers X-Accel-Redirect", "proxy_ignore_headers", 1),
        ):
            yield


@contextmanager
def a_name_only(intruder: Intruder) -> Iterator[None]:
    """Somebody answers to `opa`, on no port at all."""
    network = intruder.stack.engine.networks.list(names=[f"{intruder.stack.project}-net"])[0]
    made = intruder.stack.engine.containers.create(
        IMAGE, ["sleep", "60"], entrypoint=[], name=f"{intruder.stack.project}-x"
    )
    try:
        network.connect(made, aliases=["opa"])
        made.start()
        yield
    finally:
        made.remove(force=True)


@contextmanager
def a_container_that_mounts_the_socket(intruder: Intruder) -> Iterator[None]:
    made = intruder.stack.engine.containers.create(
        IMAGE,
        labels={"io.swiftdeploy.project": intruder.stack.project},
        volumes={str(intruder.stack.folder / "state/run"): {"bind": "/x", "mode": "ro"}},
    )
    try:
        yield
    finally:
        made.remove(force=True)


@contextmanager
def a_socket_open_to_all(intruder: Intruder) -> Iterator[None]:
    (socket,) = opa_probes.sockets_of(intruder)
    try:
        socket.chmod(0o666)
        socket.parent.chmod(0o711)
        yield
    finally:
        socket.chmod(0o600)
        socket.parent.chmod(0o700)


@contextmanager
def an_opa_without_authorization(intruder: Intruder) -> Iterator[None]:
    """It listens beside the real one, with the same policies."""
    (real,) = opa_probes.sockets_of(intruder)
    user = intruder.opas()[0].attrs["Config"]["User"]
    hidden = real.with_name("hidden.sock")
    flags = ("--addr=unix:///run/opa/opa.sock.2", "--authentication=token")
    binds = {str(real.parent): {"bind": "/run/opa", "mode": "rw"}}
    with second_opa(intruder, *flags, binds=binds, network_mode="none", stop_signal="SIGKILL"):
        other = real.with_name("opa.sock.2")
        wait_for(f"a socket of {user}", other.exists)
        real.rename(hidden)
        other.rename(real)
        try:
            yield
        finally:
            hidden.replace(real)


REFUSED = "401 Unauthorized"
"""What even a guarded OPA says: enough to know that it was reached."""

Hole = Callable[[Intruder], AbstractContextManager[Any]]


@pytest.mark.parametrize(
    ("probe", "hole", "words"),
    [
        (opa_probes.through_nginx, a_location_that_leads_to_opa, ("/v1/policies HTTP", REFUSED, "was sent")),
        (opa_probes.through_a_backend, a_location_that_only_a_backend_can_reach, ("to /v1/data,", REFUSED, "was sent")),
        (opa_probes.from_every_container, opa_on_the_network, (":8181: ", REFUSED, "was sent")),
        (opa_probes.from_every_container, a_name_only, ("knows opa as",)),
        (opa_probes.wires, opa_published_on_the_host, ("publishes", "'eth0'", "listens on", "has internet sockets")),
        (opa_probes.wires, opa_on_the_hosts_network, ("shares the host's network",)),
        (opa_probes.mounts, a_container_that_mounts_the_socket, ("mounts",)),
        (opa_probes.permissions, a_socket_open_to_all, ("has mode 711", "has mode 666", "user 12345 connects")),
        (opa_probes.questions, an_opa_without_authorization, ("GET /v1/data with token: 200", "without token: 200")),
    ],
    ids=lambda value: getattr(value, "__name__", "found"),
)
def test_a_planted_hole_must_be_found(intruder: Intruder, probe: Probe, hole: Hole, words: tuple[str, ...]) -> None:
    with hole(intruder):
        found = "\n".join(probe(intruder))
    assert [word for word in words if word not in found] == [], found
