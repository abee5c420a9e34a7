"""Two worlds with one vocabulary: the memory engine, and a real one."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import docker
import docker.errors
import pytest
import requests

from reconciler.adapters.clock import monotonic
from reconciler.adapters.docker_engine import DockerEngine
from reconciler.adapters.memory import MemoryEngine
from reconciler.core.container import LABEL, ContainerSpec, PublishedPort
from reconciler.core.observed import EngineState, ObservedContainer
from reconciler.core.plan import CreateContainer, EnsureNetwork, Outcome, Result, StartContainer
from reconciler.ports import Runtime, Wanted

TEST_IMAGE = "swiftdeploy-test/busybox"
APPLETS = ("sh", "sleep", "cat", "nc", "wget", "ls", "id", "httpd", "echo", "true")
LIVES = ("sh", "-c", "trap 'exit 0' TERM; echo started; while :; do sleep 0.05; done")


class World(Protocol):
    """A runtime under test, and what happens around it without its knowledge."""

    project: str
    instance: str
    runtime: Runtime
    image_id: str
    broken_image_id: str

    def add_foreign(self, name: str, *, labels: dict[str, str] | None = None, port: int | None = None) -> str:
        """Somebody else's container runs; its ID."""
        ...

    def exists(self, container_id: str) -> bool:
        """The container is there, whoever asks."""
        ...

    def kill(self, name: str) -> None:
        """The main process dies with code 137, as after SIGKILL or a crash."""
        ...

    def add_network(self, action: EnsureNetwork) -> str:
        """One more network, of a name that may exist; its ID."""
        ...

    def lose_network(self, network_id: str) -> None:
        """Somebody disconnects everything and removes the network."""
        ...

    def add_volume(self, name: str) -> None:
        """Somebody else's volume."""
        ...

    def has_volume(self, name: str) -> bool:
        """The volume is there."""
        ...

    def passes(self, seconds: float) -> None:
        """Time passes, where it does not by itself."""
        ...


@dataclasses.dataclass
class Stage:
    """A world, and the words in which the tests speak about it."""

    world: World
    subnet: str

    @property
    def runtime(self) -> Runtime:
        return self.world.runtime

    @property
    def network(self) -> str:
        return f"{self.world.project}-net"

    def address(self, host: int) -> str:
        return f"{self.subnet.rpartition('.')[0]}.{host}"

    def wanted(self, *, images: tuple[str, ...] = (), ports: tuple[int, ...] = ()) -> Wanted:
        return Wanted(self.world.project, self.world.instance, self.network, images, ports)

    def observe(self, *, images: tuple[str, ...] = (), ports: tuple[int, ...] = ()) -> EngineState:
        return self.runtime.observe(self.wanted(images=images, ports=ports))

    def container(self, name: str) -> ObservedContainer:
        found = [one for one in self.observe().containers if one.name == self.name(name)]
        assert found, f"{name} is not there"
        return found[0]

    def name(self, short: str) -> str:
        return f"{self.world.project}-{short}"

    def ensure_network(self, *, ours: bool = True) -> EnsureNetwork:
        base = self.subnet.rpartition(".")[0]
        project = self.world.project if ours else "somebody-else"
        labels = ((f"{LABEL}project", project), (f"{LABEL}instance", self.world.instance))
        return EnsureNetwork(self.network, "bridge", self.subnet, f"{base}.128/25", labels)

    def spec(self, **changes: object) -> ContainerSpec:
        fields: dict[str, object] = {
            "image": TEST_IMAGE,
            "image_id": self.world.image_id,
            "command": LIVES,
            "restart_policy": "no",
            "network": self.network,
        }
        return ContainerSpec(**{**fields, **changes})  # type: ignore[arg-type]

    def creation(
        self, short: str, spec: ContainerSpec | None = None, *, address: str | None = None, **labels: str
    ) -> CreateContainer:
        identity = {
            "project": self.world.project,
            "instance": self.world.instance,
            "service": "app",
            "revision": "r1",
            "slot": "blue",
            "replica": "0",
            "generation": "1",
            "mode": "stable",
        }
        pairs = tuple(sorted((f"{LABEL}{key}", value) for key, value in {**identity, **labels}.items()))
        return CreateContainer(self.name(short), spec or self.spec(), address, pairs, ("app-blue",))

    def apply(self, action: object) -> Result:
        return self.runtime.apply(action)  # type: ignore[arg-type]

    def must(self, action: object) -> Result:
        result = self.apply(action)
        assert result.outcome is Outcome.OK, (action, result)
        return result

    def until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
        """Wait for a condition, with a limit."""
        give_up = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < give_up, "it did not come true in time"
            self.world.passes(1.0)
            time.sleep(0.01)


class MemoryWorld:
    """The memory engine, on a clock of its own."""

    def __init__(self) -> None:
        self.project = "contract"
        self.instance = "i1"
        self.now = 0.0
        self.engine = MemoryEngine(instance=self.instance, monotonic=lambda: self.now)
        self.runtime: Runtime = self.engine
        self.image_id = self.engine.add_image(TEST_IMAGE).id
        self.broken_image_id = self.engine.add_image("broken").id
        self.engine.broken_images[self.broken_image_id] = "The image has no program /no/such. Check the command."

    def add_foreign(self, name: str, *, labels: dict[str, str] | None = None, port: int | None = None) -> str:
        ports = (PublishedPort(port, 80),) if port else ()
        spec = ContainerSpec(image=TEST_IMAGE, image_id=self.image_id, ports=ports)
        creation = CreateContainer(name, spec, None, tuple(sorted((labels or {}).items())))
        assert self.engine.apply(creation).outcome is Outcome.OK
        assert self.engine.apply(StartContainer(name)).outcome is Outcome.OK
        return self.engine.box(name).id

    def exists(self, container_id: str) -> bool:
        return container_id in self.engine.boxes

    def kill(self, name: str) -> None:
        self.engine.crash(name, 137)

    def add_network(self, action: EnsureNetwork) -> str:
        return self.engine.add_network(dataclasses.replace(action, subnet=None, ip_range=None)).id

    def lose_network(self, network_id: str) -> None:
        for box in self.engine.boxes.values():
            box.endpoints.pop(network_id, None)
            box.fixed.pop(network_id, None)
        del self.engine.networks[network_id]

    def add_volume(self, name: str) -> None:
        self.engine.volumes[name] = {}

    def has_volume(self, name: str) -> bool:
        return name in self.engine.volumes

    def passes(self, seconds: float) -> None:
        self.now += seconds


class DockerWorld:
    """A real engine; everything made here carries a project of its own and is removed at the end."""

    def __init__(self, client: docker.APIClient, image_id: str) -> None:
        self.project = f"contract-{secrets.token_hex(4)}"
        self.instance = secrets.token_hex(8)
        self.client = client
        self.image_id = self.broken_image_id = image_id
        self.engine = DockerEngine(instance=self.instance, monotonic=monotonic)
        self.runtime: Runtime = self.engine
        self._foreign: list[str] = []

    def add_foreign(
        self,
        name: str,
        *,
        labels: dict[str, str] | None = None,
        port: int | None = None,
        command: tuple[str, ...] = LIVES,
        network: str | None = None,
    ) -> str:
        host = self.client.create_host_config(port_bindings={80: port} if port else None, network_mode=network)
        ports = [80] if port else None
        created = self.client.create_container(
            self.image_id, command=list(command), name=name, labels=labels, host_config=host, ports=ports
        )
        self._foreign.append(created["Id"])
        self.client.start(created["Id"])
        return str(created["Id"])

    def exists(self, container_id: str) -> bool:
        return any(one["Id"] == container_id for one in self.client.containers(all=True))

    def kill(self, name: str) -> None:
        # Not `docker kill`: the engine takes that as somebody's wish and does not restart.
        pid = self.client.inspect_container(name)["State"]["Pid"]
        subprocess.run(("kill", "-9", str(pid)), check=True)

    def add_network(self, action: EnsureNetwork) -> str:
        made = self.client.create_network(action.name, driver=action.driver, labels=dict(action.labels))
        return str(made["Id"])

    def lose_network(self, network_id: str) -> None:
        for attached in self.client.containers(all=True, filters={"network": network_id}):
            self.client.disconnect_container_from_network(attached["Id"], network_id, force=True)
        self.client.remove_network(network_id)

    def add_volume(self, name: str) -> None:
        self.client.create_volume(name)

    def has_volume(self, name: str) -> bool:
        return any(volume["Name"] == name for volume in self.client.volumes()["Volumes"] or ())

    def passes(self, seconds: float) -> None:
        """It does."""

    def clean(self) -> None:
        mine = self.client.containers(all=True, filters={"label": f"{LABEL}project={self.project}"})
        for container in (*self._foreign, *(one["Id"] for one in mine)):
            with contextlib.suppress(docker.errors.APIError):
                self.client.remove_container(container, force=True, v=True)
        for network in self.client.networks(names=[self.project]):
            with contextlib.suppress(docker.errors.APIError):
                self.client.remove_network(network["Id"])
        for volume in self.client.volumes(filters={"name": self.project})["Volumes"] or ():
            with contextlib.suppress(docker.errors.APIError):
                self.client.remove_volume(volume["Name"])
        self.engine.close()
        self.client.close()


def engine_client() -> docker.APIClient:
    """A client of the machine's engine; the test is skipped, loudly, where there is none."""
    try:
        return docker.APIClient(version="auto")
    except (docker.errors.DockerException, requests.RequestException) as missing:
        pytest.skip(f"NO DOCKER ENGINE, not tested against a real one: {missing}")


def import_busybox(client: docker.APIClient, work: Path) -> str:
    if shutil.which("apt-get") is None:
        pytest.skip("the test image needs busybox-static, which is fetched with apt-get")
    run = {"cwd": work, "check": True, "capture_output": True}
    subprocess.run(("apt-get", "download", "busybox-static"), **run)  # type: ignore[call-overload]
    package = next(work.glob("*.deb"))
    subprocess.run(("dpkg-deb", "-x", package.name, "root"), **run)  # type: ignore[call-overload]
    for applet in APPLETS:
        (work / "root/bin" / applet).symlink_to("busybox")
    for folder in ("tmp", "etc", "proc", "sys", "dev"):
        (work / "root" / folder).mkdir(exist_ok=True)
    (work / "root/tmp").chmod(0o1777)  # a tmpfs takes the mode of what it covers
    subprocess.run(("tar", "-C", "root", "-cf", "root.tar", "."), **run)  # type: ignore[call-overload]
    with (work / "root.tar").open("rb") as root:
        client.import_image_from_data(root, repository=TEST_IMAGE)  # type: ignore[arg-type]
    return str(client.inspect_image(TEST_IMAGE)["Id"])
