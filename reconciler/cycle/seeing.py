"""What is seen: the snapshot that everything else is decided on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from reconciler.core.containers import KeptRevision, Layout
from reconciler.core.desired import POLICY, PROXY, DesiredState
from reconciler.core.errors import EngineError, Problem, RenderError
from reconciler.core.membership import was_well
from reconciler.core.observed import EngineState, Health, ObservedContainer, ObservedImage, ObservedState, PolicyHealth
from reconciler.core.rollout import Rollout
from reconciler.core.targets import PolicyTarget, make_targets
from reconciler.cycle.memory import Asked
from reconciler.cycle.notes import Notes
from reconciler.formats import policy as policies
from reconciler.ports import Ports, ProbeTarget

POLICY_PATIENCE_S = 15.0
"""How long a running OPA may leave us without an answer before its container is replaced (it starts in 0.6 s)."""


Engines = tuple[tuple[DesiredState, PolicyTarget], ...]


def engines_of(asked: Asked, engine: EngineState, layout: Layout, notes: Notes) -> Engines:
    """Which policy engine each manifest needs; one whose policies cannot be loaded is a problem of its manifest."""
    found = []
    for desired in asked.both:
        image = engine.images.get(desired.opa.image)
        try:
            if image is not None:
                found.append((desired, policies.target(desired, image, layout)))
            elif (running := _running_engine(desired, engine, layout)) is not None:
                found.append((desired, running))
        except RenderError as error:
            notes.problems += (Problem("policies", 0, 0, str(error)),)
    return tuple(found)


def _running_engine(desired: DesiredState, engine: EngineState, layout: Layout) -> PolicyTarget | None:
    """The engine that runs for this manifest though its image is gone from the host: what it was made of is known."""
    for container in engine.containers:
        if container.ours and container.service == POLICY and container.is_running and container.image_id:
            image = ObservedImage(desired.opa.image, container.image_id, desired.opa.image)
            target = policies.target(desired, image, layout)
            if target.spec.digest() == container.revision:
                return target
    return None


def answering_of(engines: Engines, asked: Asked) -> tuple[PolicyTarget, ...]:
    """The policy engines of the manifests that still count, that in force first, each once."""
    return tuple({t.revision: t for desired, t in engines if any(desired is one for one in asked.both)}.values())


def known_revisions(asked: Asked, engine: EngineState, stored: Sequence[KeptRevision]) -> tuple[KeptRevision, ...]:
    """Every revision that could be started: those on disk and those the manifests ask for."""
    known = {kept.revision: kept for kept in stored}
    for desired in asked.both:
        known |= make_targets(desired, engine.images, (), Layout("", "", ""), ()).kept
    return tuple(known.values())


def observe(
    ports: Ports,
    asked: Asked,
    engine: EngineState,
    answering: Sequence[PolicyTarget],
    kept: Sequence[KeptRevision],
    rollout: Rollout,
    notes: Notes,
) -> ObservedState:
    """The rest of the snapshot: who is healthy, what nginx and OPA say, which files are there.

    Who cannot be asked any more counts as well where it was, as far as `rollout` tells, and as unknown elsewhere.
    """
    services = {revision.revision: revision.service for revision in kept}
    asking = [
        ProbeTarget(container, services[container.revision].port, services[container.revision].healthcheck)
        for container in engine.containers
        if container.ours and container.is_running and container.revision in services
    ]
    running = [c for c in engine.containers if c.ours and c.is_running and c.slot is not None]
    lost = [c for c in running if c.revision not in services]
    health = {c.id: (Health.READY if was_well(rollout.of(c.service), c) else Health.UNKNOWN, _LOST) for c in lost}
    health |= ports.prober.probe(asking)
    notes.awaited = tuple(t for t in asking if health.get(t.container.id, (Health.READY, ""))[0] is not Health.READY)
    containers = tuple(
        dataclasses.replace(c, health=health[c.id][0], health_detail=health[c.id][1]) if c.id in health else c
        for c in engine.containers
    )
    state = ObservedState(dataclasses.replace(engine, containers=containers), files=ports.files.digests())
    proxy = next((c for c in state.of(PROXY) if c.is_running), None)
    notes.engines = frozenset(container.id for container in state.of(POLICY))
    names = sorted({s.name for desired in asked.both for s in desired.services} | notes.services)
    return dataclasses.replace(
        state,
        proxy=notes.named(ports.proxy.observe(proxy, names)),
        policies={target.revision: _policy_health(ports, target, state, notes) for target in answering},
    )


_STOPPED = frozenset({0, 128 + 9, 128 + 15})
"""Exit codes of what was told to end: by us, or by somebody else; no word on what it was given to load. OPA 1.19 ends
with 0 where it is asked to, and with 1 or 2 where it cannot load its policies."""

_LOST = "runs; its revision's file is lost, so nobody knows how to ask it"


def with_port_of(desired: DesiredState, observed: ObservedState) -> ObservedState:
    """The snapshot without who holds the port of another manifest than the one in force."""
    taken = {port: who for port, who in observed.engine.ports_taken.items() if port == desired.nginx.port}
    return dataclasses.replace(observed, engine=dataclasses.replace(observed.engine, ports_taken=taken))


def _policy_health(ports: Ports, target: PolicyTarget, state: ObservedState, notes: Notes) -> PolicyHealth:
    ready, detail = ports.policy.ready(target.revision)
    container = next((c for c in state.of(POLICY) if c.revision == target.spec.digest()), None)
    if container is None:
        return PolicyHealth(ready, detail)
    if ready:
        notes.answered[container.id] = notes.at
        return PolicyHealth(ready, detail)
    if container.is_running:
        silent_s = notes.at - notes.answered.setdefault(container.id, notes.at)
        runs_s = max(0.0, container.uptime_s(ports.clock.now()))  # one that was started again has the time of a new one
        return PolicyHealth(ready, detail, is_stuck=min(silent_s, runs_s) > POLICY_PATIENCE_S)
    is_sent_away = container.exit_code in _STOPPED and not container.oom_killed
    return PolicyHealth(False, _last_words(ports, container), has_failed=container.has_run and not is_sent_away)


def _last_words(ports: Ports, container: ObservedContainer) -> str:
    """What a container that stopped said last."""
    try:
        said = [line or b"" for line in ports.runtime.logs(container.id, tail=5, follow=False)]
    except EngineError as error:
        return str(error)
    words = b" ".join(said).decode("utf-8", "replace").split()
    return " ".join(words)[:1000] or f"exited with code {container.exit_code}"
