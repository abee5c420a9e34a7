"""The simulated engine against a real one: the same things are done to both, and both must look alike after each.

What our adapter asks for, and what people do behind its back (`docker stop`, `kill`, `pause`, `rm`, `disconnect`):
the faults of the simulated world are worth as much as they are true.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from reconciler.core.observed import ObservedContainer, Status
from reconciler.core.plan import (
    ConnectContainer,
    Outcome,
    RemoveContainer,
    SetRestartPolicy,
    StartContainer,
    StopContainer,
)
from tests.contract.contract_worlds import (
    TEST_IMAGE,
    DockerWorld,
    MemoryWorld,
    Stage,
    engine_client,
    import_busybox,
)
from tests.sim.clock import SimClock
from tests.sim.engine import SimEngine

NAMES = ("a", "b")
STEPS = 24
LIMIT_S = 20.0

Step = tuple[str, str]


class SimulatedWorld(MemoryWorld):
    """The engine of the simulated world, in the words of the contract."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SimClock()
        self.engine = SimEngine(self.clock)
        self.engine._instance = self.instance
        self.runtime = self.engine
        self.image_id = self.engine.add_image(TEST_IMAGE).id

    def passes(self, seconds: float) -> None:
        self.clock.seconds += seconds

    def by_hand(self, stage: Stage, verb: str, name: str) -> None:
        box = self.engine.box(stage.name(name))
        match verb:
            case "docker kill":
                self.engine.stop_by_hand(box)
            case "docker start":
                self.engine.start_by_hand(box)
            case "docker pause":
                box.status = Status.PAUSED
            case "docker unpause":
                box.status = Status.RUNNING
            case "docker rm":
                self.engine.destroy(box.id)
            case "docker disconnect":
                box.endpoints, box.fixed = {}, {}


class RealWorld(DockerWorld):
    """A real engine, in the same words."""

    def by_hand(self, stage: Stage, verb: str, name: str) -> None:
        full = stage.name(name)
        match verb:
            case "docker kill":
                self.client.kill(full)
            case "docker start":
                self.client.start(full)
            case "docker pause":
                self.client.pause(full)
            case "docker unpause":
                self.client.unpause(full)
            case "docker rm":
                self.client.remove_container(full, force=True)
            case "docker disconnect":
                self.client.disconnect_container_from_network(full, stage.network)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Stage, Stage]]:
    """The simulated and the real one, each with our network on it."""
    client = engine_client()
    with contextlib.closing(client):
        try:
            image = str(client.inspect_image(TEST_IMAGE)["Id"])
        except docker.errors.ImageNotFound:
            image = import_busybox(client, tmp_path)
    octets = secrets.token_bytes(2)
    subnet = f"10.{200 + octets[0] % 50}.{octets[1]}.0/24"
    world = RealWorld(engine_client(), image)
    try:
        stages = Stage(SimulatedWorld(), subnet), Stage(world, subnet)
        for stage in stages:
            stage.observe()
            stage.must(stage.ensure_network())
        yield stages
    finally:
        world.clean()


@pytest.mark.engine
@pytest.mark.parametrize("seed", range(4))
def test_what_is_done_to_both_engines_leaves_them_alike(both: tuple[Stage, Stage], seed: int) -> None:
    simulated, real = both
    for step in drawn(seed):
        outcomes = [do(stage, step) for stage in both]
        assert outcomes[0] == outcomes[1], f"{step}: simulated {outcomes[0]}, real {outcomes[1]}"
        alike(lambda: (picture(simulated), picture(real)), step)


def drawn(seed: int) -> list[Step]:
    """What is done, one after another; the simulated engine says what can be done at all."""
    chance, model = random.Random(seed), Stage(SimulatedWorld(), "10.9.9.0/24")
    model.observe()
    model.must(model.ensure_network())
    steps: list[Step] = []
    while len(steps) < STEPS:
        name = chance.choice(NAMES)
        step = (chance.choice(_possible(model, name)), name)
        do(model, step)
        steps.append(step)
    return steps


def _possible(stage: Stage, name: str) -> list[str]:
    box = next((each for each in stage.world.engine.boxes.values() if each.name == stage.name(name)), None)  # type: ignore[attr-defined]
    if box is None:
        return ["create"]
    if not box.endpoints and not box.fixed:
        return ["connect"]
    match box.status:
        case Status.RUNNING:
            cut = ["docker disconnect"] * 3
            return ["docker kill", "docker pause", "start", "policy", "die", "stop", "remove", "create", *cut]
        case Status.PAUSED:
            return ["docker unpause", "remove", "stop", "docker disconnect"]
        case _:
            return ["start", "docker start", "start", "docker rm", "remove", "create", "docker disconnect"]


def do(stage: Stage, step: Step) -> Outcome | None:
    """Do it; what the adapter answered, None for what people do."""
    verb, name = step
    full, number = stage.name(name), NAMES.index(name)
    ref = next((c.id for c in stage.observe().containers if c.name == full), "gone")
    acts: dict[str, Callable[[], Any]] = {
        "create": lambda: stage.creation(name, address=stage.address(20 + number), replica=str(number)),
        "start": lambda: StartContainer(full),
        "stop": lambda: StopContainer(ref, 5.0),
        "remove": lambda: RemoveContainer(ref),
        "connect": lambda: ConnectContainer(ref, stage.network, stage.address(20 + number), (name,)),
        "policy": lambda: SetRestartPolicy(ref, "unless-stopped"),
    }
    if verb in acts:
        return _ended(stage, acts[verb]())
    if verb == "die":
        stage.world.kill(full)
    else:
        stage.world.by_hand(stage, verb, name)  # type: ignore[attr-defined]
    return None


def _ended(stage: Stage, action: Any) -> Outcome:
    """How it ended: a busy engine may take longer than the adapter waits."""
    outcomes = [stage.apply(action).outcome]

    def is_over() -> bool:
        if outcomes[-1] is Outcome.PENDING:
            outcomes.append(stage.apply(action).outcome)
        return outcomes[-1] is not Outcome.PENDING

    stage.until(is_over)
    return outcomes[-1]


def picture(stage: Stage) -> list[tuple[Any, ...]]:
    """What our adapter sees of the containers, without what is each engine's own."""
    stage.world.passes(0.0)
    return [_seen(stage, c) for c in sorted(stage.observe().containers, key=lambda c: c.name)]


def _seen(stage: Stage, c: ObservedContainer) -> tuple[Any, ...]:
    own = (c.name.removeprefix(stage.world.project), c.service, c.revision, c.slot, c.replica, c.generation, c.mode)
    exit_code = c.exit_code if c.status is Status.EXITED else None
    return (*own, c.ours, c.status, exit_code, c.pid > 0, len(c.networks), _host(c.address), c.restart_policy)


def _host(address: str | None) -> str | None:
    return address and address.rpartition(".")[2]


def alike(pictures: Callable[[], tuple[object, object]], step: Step) -> None:
    """Both look alike within LIMIT_S: a real one takes its time."""
    give_up = time.monotonic() + LIMIT_S
    while True:
        simulated, real = pictures()
        if simulated == real:
            return
        assert time.monotonic() < give_up, f"after {step}:\nsimulated {simulated}\nreal      {real}"
        time.sleep(0.05)
