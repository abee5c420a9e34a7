"""Every contract test runs in memory and against a real engine."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator

import docker.errors
import pytest
from contract_worlds import TEST_IMAGE, DockerWorld, MemoryWorld, Stage, engine_client, import_busybox

from reconciler.ports import Wanted


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> str:
    """ID of an image with busybox and nothing else, built from the distribution's package when it is not here."""
    client = engine_client()
    with contextlib.closing(client):
        try:
            return str(client.inspect_image(TEST_IMAGE)["Id"])
        except docker.errors.ImageNotFound:
            return import_busybox(client, tmp_path_factory.mktemp("busybox"))


@pytest.fixture(params=["memory", pytest.param("docker", marks=pytest.mark.engine)])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Each test once in memory and once on the engine, with a network of its own wanted but not made."""
    octets = secrets.token_bytes(2)
    subnet = f"10.{200 + octets[0] % 50}.{octets[1]}.0/24"
    if request.param == "memory":
        yield Stage(MemoryWorld(), subnet)
        return
    world = DockerWorld(engine_client(), request.getfixturevalue("busybox"))
    try:
        world.engine.observe(Wanted(world.project, world.instance, "none-yet", (), ()))
        yield Stage(world, subnet)
    finally:
        world.clean()


@pytest.fixture
def free_port() -> int:
    """A TCP port nobody has now."""
    with socket.socket() as trial:
        trial.bind(("", 0))
        return int(trial.getsockname()[1])
