"""When two worlds go on alike: their state without what nothing depends on any more (names, addresses, old moments).

Two schedules that reach the same state without further faults end alike, so that only one of them has to be followed.
Counts of requests are left out: only whether anybody ever tampered with them is in it.
"""

from __future__ import annotations

from typing import Any

from reconciler.core.backoff import wait_s
from reconciler.core.observed import Status
from reconciler.core.rollout import Phase, ServiceRollout
from tests.sim.engine import REVISION, SERVICE
from tests.sim.proxy import CONFIG, routes
from tests.sim.world import World

_TIMED = {
    Phase.WATCHING: 6,
    Phase.STARTING: 21,
    Phase.RENEWING: 21,
    Phase.UPDATING: 21,
    Phase.RETURNING: 16,
}
"""Phases whose age decides something, and up to how many seconds it does."""


def key(world: World) -> int:
    """Equal keys: the two worlds do the same from now on."""
    return hash(_state_of(world))


def _state_of(world: World) -> tuple[Any, ...]:
    names = {box.id: _who(world, box) for box in world.engine.boxes.values()}
    by_address = {
        a: names[b.id] for b in world.engine.boxes.values() for a in (*b.fixed.values(), *b.endpoints.values()) if a
    }
    memory, now = world.memory, world.clock.now()
    backoff = [wait_s(memory.backoff, target, world.clock.seconds) for target in memory.backoff]
    return (
        world.asked,
        world.in_force is world.desired,
        memory.last_good is world.desired,
        tuple(_state(state, names, now) for _, state in sorted(memory.rollout.services.items())),
        memory.rollout.torn_down,
        memory.rollout.subnet,
        memory.allow_interruption,
        world.proxy.live is not None and routes(world.proxy.live).hash in memory.shown,
        memory.rollout == world.store.saved,
        tuple(sorted(round(wait) for wait in backoff if wait > 0)),
        bool(memory.troubles),
        memory.is_unsaved,
        bool(memory.intended),
        tuple(sorted(names.values(), key=repr)),
        tuple(sorted((net.name, net.subnet) for net in world.engine.networks.values())),
        tuple(sorted(world.engine.volumes)),
        len(world.engine.images),
        _text(world.proxy.live, by_address),
        tuple(_text(text, by_address) for text, *_ in world.proxy.old),
        world.proxy._coming is not None and _text(world.proxy._coming[1], by_address),
        min(5, int(world.clock.seconds - world.proxy.retired_at())) if world.proxy._coming or world.proxy.old else 0,
        tuple(sorted(world.proxy.weights.items())),
        _text(world.files.texts.get(CONFIG), by_address),
        frozenset((path, hash(text)) for path, text in world.files.texts.items() if path.startswith("opa/")),
        bool(world.clock.jumped),
        world.pool.turn == 0,
        world.oracles.key(),
        world.most_replicas,
        world.may_blame,
        world.is_newborn,
        world.is_dirty,
        _surroundings(world),
        bool(world.ever & {"adopt", "lost"}),
    )


def _surroundings(world: World) -> tuple[Any, ...]:
    """What goes wrong at present."""
    engine, proxy, traffic = world.engine, world.proxy, world.traffic
    return (
        world.opa,
        world.sick,
        world.host_is_known,
        world.loaded.desired is None,
        (engine.is_down, engine.lag, len(engine.late)),
        (proxy.ignores, proxy.hangs, proxy.lag_s, proxy.drain_s),
        (traffic.mode, traffic.rate, tuple(sorted(traffic.errors.items())), tuple(sorted(traffic.slow.items()))),
        (world.store.disk.is_full, world.store.disk.has_reserve, world.history.is_full, world.files.is_full),
    )


def _who(world: World, box: Any) -> tuple[Any, ...]:
    """A container without its number, and without its age where that is of no more use."""
    age = 0
    if box.status is Status.EXITED and box.finished is not None:
        age = min(4, int(world.engine._moment() - box.finished))
    elif box.status is Status.RUNNING and not world.is_well(box):
        age = 1 + min(21, int(world.engine.up_s(box)))
    label = box.labels.get
    return (
        label(SERVICE),
        label(REVISION, "")[:8],
        label("io.swiftdeploy.slot"),
        label("io.swiftdeploy.mode"),
        label("io.swiftdeploy.replica"),
        box.status.value,
        age,
        box.restart_policy,
        min(box.restarts, 3),
        box.exit_code,
        box.oom_killed,
        len(box.endpoints),
    )


def _state(state: ServiceRollout, names: dict[str, Any], now: float) -> tuple[Any, ...]:
    return (
        state.service,
        state.phase,
        state.serving,
        state.stable,
        state.candidate,
        state.fresh,
        state.kept,
        state.course,
        state.step,
        round(state.step_s, 1),
        min(_TIMED.get(state.phase, 0), int(now - state.since)),
        state.unknown_since and round(now - state.unknown_since),
        state.sick_since and round(now - state.sick_since),
        state.is_suspended_by_verdict,
        state.paused is None,
        state.asked,
        state.dismissed,
        state.quarantined,
        state.last_stable,
        tuple(sorted((names.get(m.container_id) for m in state.blue), key=repr)),
        tuple(sorted((names.get(m.container_id) for m in state.green), key=repr)),
    )


def _text(text: str | None, by_address: dict[str, Any]) -> Any:
    """What a configuration says, with whoever is at its addresses instead of these."""
    if text is None or "upstream" not in text:
        return text and hash(text)
    found = routes(text)
    members = tuple(
        (name, tuple(sorted((by_address.get(a, "nobody") for a in addresses), key=repr)))
        for name, addresses in sorted(found.members.items())
    )
    return (tuple(sorted(found.default.items())), members)
