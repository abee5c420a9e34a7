"""The way to the engine loses, cuts, delays and garbles: every update arrives once, and no request is lost."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import docker
import pytest

from tests.e2e.faults.crash_stack import CrashStack, traffic
from tests.e2e.faults.engine_proxy import ALL, EngineProxy, Fault, garble, hang, lose, refuse
from tests.e2e.stack import wait_for

LIMIT_S = 120.0
SEED = 4
CALLS = (
    ("POST", r"/containers/create"),
    ("POST", r"/containers/[^/]+/start"),
    ("POST", r"/containers/[^/]+/stop"),
    ("POST", r"/containers/[^/]+/kill"),
    ("POST", r"/containers/[^/]+/exec"),
    ("POST", r"/exec/[^/]+/start"),
    ("DELETE", r"/containers/"),
    ("GET", r"/containers/json"),
    ("GET", r"/containers/[0-9a-f]+/json"),
    ("GET", r"/networks"),
    ("GET", r"/images/"),
    ("GET", r"/volumes"),
)


@pytest.fixture
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProxy]:
    with EngineProxy(tmp_path_factory.mktemp("s") / "e.sock") as made:
        yield made


@pytest.fixture
def stack(tmp_path: Path, engine: docker.DockerClient, proxy: EngineProxy) -> Iterator[CrashStack]:
    """A deployed service whose daemon reaches the engine through the proxy."""
    made = CrashStack(tmp_path, engine, {"DOCKER_HOST": f"unix://{proxy.server_address!s}"})
    try:
        made.start()
        wait_for("deployed", lambda: made.rests("1.0.0"), LIMIT_S)
        yield made
    finally:
        proxy.heal()
        made.clean()


@pytest.mark.fault("B1", "B2", "B3", "B4", "B15", "B30", "B31", "B32")
def test_a_faulty_way_to_the_engine_must_delay_updates_and_do_no_more(stack: CrashStack, proxy: EngineProxy) -> None:
    """Each call goes wrong once, in a way that a seed draws; one hangs; events never come; then nothing answers."""
    kinds = itertools.cycle(random.Random(SEED).sample(ALL, len(ALL)))
    faults = [proxy.harm(harm, *call) for harm, call in zip(kinds, CALLS, strict=False)]
    proxy.harm(lose, "GET", "/events", None)
    hanging = proxy.harm(hang, "GET", "/containers/json")
    updated(stack, proxy, "2.0.0")
    assert sum(fault.struck for fault in faults) >= len(CALLS) - 2, "most of them were met"
    assert hanging.struck == 1
    for harm in (refuse, garble):
        away = proxy.harm(harm, "", "", None)
        stack.write(stack.manifest(service=f'version: "{harm.__name__}"'))
        wait_for("it was asked several times", partial(asked_often, away), LIMIT_S)
        assert stack.answers("2.0.0"), "what serves is left alone"
        proxy.heal()
    updated(stack, proxy, "3.0.0")


def asked_often(fault: Fault) -> bool:
    return fault.struck > 3


def updated(stack: CrashStack, proxy: EngineProxy, version: str) -> None:
    """`version` arrives under traffic, and nothing else changed; what was harmed meanwhile is healed."""
    untouched = ids(stack)
    with traffic(stack.port, 30) as client:
        stack.write(stack.manifest(service=f'version: "{version}"'))
        wait_for(f"version {version}", lambda: stack.rests(version), LIMIT_S)
    proxy.heal()
    assert client.failed == {}
    assert len(stack.containers("app")) == 1
    assert ids(stack) == untouched
    assert stack.deaths == []
    assert stack.history_is_whole() == ""


def ids(stack: CrashStack) -> set[str]:
    return {str(container.id) for name in ("nginx", "opa") for container in stack.containers(name)}
