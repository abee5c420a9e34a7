"""How a schedule must end: as a fresh installation of the last manifest would look, or in a state that is documented.

Everything is read from the host: containers, networks, rendered files, nginx's live text and its flags.
"""

from __future__ import annotations

import functools
from collections import Counter
from functools import partial
from typing import Any

from reconciler.core.desired import Mode, Service
from reconciler.core.words import Deploy, Resume, Retry
from tests.sim.digest import key
from tests.sim.engine import SERVICE
from tests.sim.proxy import CONFIG, routes, shares
from tests.sim.watch import Violation
from tests.sim.world import World

LIMIT = 90
"""Cycles in which a host without further faults must come to rest; backoff, deadlines and windows are in it."""
QUIET = 3
"""Cycles at rest in which nothing may be done any more."""


def calm(world: World) -> None:
    """Nothing goes wrong from now on; what is broken stays broken until somebody mends it."""
    world.traffic.flow()
    world.faults.clear()
    world.meddlers.clear()
    world.engine.is_down, world.engine.lag = False, 0
    world.opa, world.traffic.mode, world.host_is_known = "well", "well", True
    world.traffic.errors, world.traffic.slow, world.sick = {}, {}, frozenset()
    world.traffic.rate = 200.0
    world.store.disk.is_full = world.history.is_full = world.files.is_full = False
    world.proxy.ignores, world.proxy.hangs, world.proxy.lag_s, world.proxy.drain_s = 0, False, 0.15, 0.15
    for box in world.engine.ours():
        if box.status.value == "paused":
            world.engine._start(box)
    for image in list(world.engine.registry):
        world.engine.images.setdefault(image, world.engine.registry[image])
    world.wants(world.asked)
    world.engine.happen_late()
    world.settle()


def containers(world: World, service: str) -> Counter[tuple[Any, ...]]:
    """What the service's containers are, names, slots and addresses aside."""
    found = []
    for box in world.engine.ours(service):
        spec = box.request.spec
        mode = dict(spec.environment).get("MODE", "")
        ports = tuple(p.host_port for p in spec.ports)
        found.append((*_masked(world, service, spec.image, mode), box.status.value, ports))
    return Counter(found)


def _masked(world: World, service: str, image: str, mode: str) -> tuple[str, str]:
    """What the manifest leaves open: which stable release a kept canary stands beside, and who was adopted."""
    asked = world.desired.service(service)
    is_kept = asked is not None and asked.mode.value == "canary"
    if _is_masked(world):
        return "any" if is_kept else image, "any"
    return "any" if is_kept and mode == "stable" else image, mode


def routing(world: World, service: str) -> Counter[tuple[Any, ...]]:
    """Who gets which share of the service's requests, in percent."""
    found: Counter[tuple[Any, ...]] = Counter()
    if world.proxy.live is None or service not in routes(world.proxy.live).default:
        return found
    holders = world.well_by_address()
    for address, part in shares(world.proxy.live, world.proxy.weights, service):
        box = holders.get(address)
        spec = box.request.spec if box else None
        mode = dict(spec.environment).get("MODE", "") if spec else ""
        who = _masked(world, service, spec.image, mode) if spec else ("nobody", "")
        found[(*who, round(part * 100))] += 1
    return found


@functools.cache
def fresh(words: str, is_adopting: bool) -> dict[str, Any]:
    """A fresh installation of the manifest, once it rests."""
    world = World(words)
    world.ever |= {"adopt"} if is_adopting else set()
    for _ in range(40):
        world.cycle()
    return picture(world)


def containers_by_service(world: World) -> dict[str, Counter[tuple[Any, ...]]]:
    """What every service's containers are."""
    names = {box.labels[SERVICE] for box in world.engine.ours() if SERVICE in box.labels}
    return {name: containers(world, name) for name in sorted(names)}


def _is_masked(world: World) -> bool:
    """Containers may serve in another mode than they were started for: adopted, or found after a loss."""
    return bool(world.ever & {"adopt", "lost"})


def picture(world: World) -> dict[str, Any]:
    """Everything that two hosts at rest must have in common."""
    return {
        "containers": containers_by_service(world),
        "routing": {s.name: routing(world, s.name) for s in world.desired.services if s.route},
        "networks": Counter(net.name for net in world.engine.networks.values()),
        "files": frozenset(world.files.texts),
        "is live": world.proxy.live is not None and world.proxy.live == world.files.texts.get(CONFIG),
    }


def differences(world: World) -> list[str]:
    """What is not as a fresh installation of what people ask for would be; empty where all is."""
    found, wanted = picture(world), fresh(world.asked, _is_masked(world))
    if any(map(partial(_is_under_way, world), world.desired.services)):
        found, wanted = ({**each, "routing": "as it began"} for each in (found, wanted))
    return [f"{key}: {found[key]} instead of {wanted[key]}" for key in wanted if found[key] != wanted[key]]


def _is_under_way(world: World, asked: Service) -> bool:
    """The canary that is asked for was begun under another manifest: its steps are those it began with."""
    began = world.oracles.courses.get((asked.name, asked.image))
    is_other = began is not None and began != [(step.weight_pct, step.duration_s) for step in asked.rollout.steps]
    return asked.mode is Mode.CANARY and is_other


def is_down(world: World) -> bool:
    """Nothing of ours is left."""
    return not world.engine.ours() and not any(
        net.labels.get("io.swiftdeploy.project") == "demo" for net in world.engine.networks.values()
    )


def is_kept_back(world: World) -> bool:
    """Every service is as asked for, or what was asked for was rolled back or waits for a human, on record.

    A service that is kept back is served by one well release alone.
    """
    found, wanted = containers_by_service(world), fresh(world.asked, _is_masked(world))["containers"]
    return all(found.get(s.name) == wanted.get(s.name) or _waits(world, s.name) for s in world.desired.services)


def _waits(world: World, service: str) -> bool:
    state, asked = world.memory.rollout.of(service), world.desired.service(service)
    if state.phase.value == "halted":
        return True
    if state.paused is not None:  # a canary that stopped is still to be judged
        wanted = asked.image if asked is not None else ""
        return all(status == "running" for image, _, status, _ in containers(world, service) if image == wanted)
    if state.phase.value == "suspended":  # after silence it has to go on by itself
        return world.is_dirty or world.oracles.watch.has_condemned
    if not (state.quarantined or state.dismissed) or state.phase.value not in ("stable", "absent"):
        return False
    here = containers(world, service)
    images = {image for image, *_ in here}
    is_alone = len(images) == 1 and all(status == "running" for _, _, status, _ in here)
    is_other = asked is not None and images != {asked.image}
    is_none = asked is not None and asked.mode.value == "canary"  # what was dismissed is a canary of what is stable
    return not here or (is_alone and (is_other or is_none))


def _only_nginx_is_old(world: World) -> bool:
    found, wanted = picture(world), fresh(world.asked, _is_masked(world))
    ports = {p for *_, ps in found["containers"].get("nginx", {}) for p in ps}
    if ports == {world.desired.nginx.port}:
        return False
    strip = [{k: v for k, v in each["containers"].items() if k != "nginx"} for each in (found, wanted)]
    return strip[0] == strip[1] and found["routing"] == wanted["routing"]


def comes_to_rest(world: World, known: set[Any] | None, *, strict: bool) -> list[Any] | None:
    """L1: within LIMIT cycles as it must be, and then at rest (S18). None where it is `known` how this goes on.

    Answers the keys of the states on the way.
    """
    keys = []
    quiet = 0
    for number in range(LIMIT):
        if known is not None:
            now = (strict, key(world))
            if now in known:
                return None
            keys.append(now)
        before = world.acts
        world.cycle(tick_s=1.0 if number < 50 else 7.0)
        quiet = quiet + 1 if world.acts == before and is_final(world, strict=strict) else 0
        is_as_before = known is not None and quiet and (strict, key(world)) == keys[-1]
        if quiet >= QUIET or is_as_before:
            return keys
    raise Violation("L1", "; ".join(differences(world))[:1500] or "it never rests")


def is_final(world: World, *, strict: bool) -> bool:
    """It may stay like that."""
    if world.oracles.torn_down:
        return is_down(world)
    return (
        not differences(world)
        or (not strict and world.may_blame and is_kept_back(world))
        or (not strict and _only_nginx_is_old(world))
    )


def ends_well(world: World, known: set[Any] | None = None) -> None:
    """The faults are over: the host comes to rest, and after an operator's words it is as a fresh one."""
    calm(world)
    keys = comes_to_rest(world, known, strict=False)
    if keys is None:
        return
    if world.oracles.torn_down or differences(world):
        world.cycle(Deploy(allow_interruption=world.desired.nginx.port != 8080 or _port(world) != 8080))
        for service in world.desired.services:
            world.cycle(Retry(service.name, "ada", "all is well again"))
            world.cycle(Resume(service.name, "ada"))
        keys += comes_to_rest(world, known, strict=True) or []
    if known is not None:
        known.update(keys)


def _port(world: World) -> int:
    ports = [p.host_port for box in world.engine.ours("nginx") for p in box.request.spec.ports]
    return ports[0] if ports else 8080
