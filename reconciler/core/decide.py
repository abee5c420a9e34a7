"""What we do about each service: the only place where a rollout's next move is chosen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from reconciler.core.membership import in_slot, of_release
from reconciler.core.observed import ObservedContainer, ObservedState, Status
from reconciler.core.record import Verdict
from reconciler.core.rollout import Decision, Move, Phase, Release, Rollout, ServiceRollout
from reconciler.core.targets import Targets

ALL = 100
"""The weight that means: every request."""

CRASH_LOOP_RESTARTS = 3
"""Restarts by Docker after which a candidate counts as crash-looping."""

_CANNOT_START = frozenset({126, 127, 128})
"""Exit codes Docker gives a container that never ran: not executable, not found, could not be set up."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which service wants to move to which release."""

    service: str
    release: Release


@dataclass(frozen=True, slots=True)
class Context:
    """All a decision is made from. `gate` is the infrastructure verdict, None where nobody needs it.

    `now` is seconds since the epoch.
    """

    targets: Targets
    observed: ObservedState
    now: float
    gate: Verdict | None = None
    retry: frozenset[str] = field(default_factory=frozenset)


def wants_to_start(rollout: Rollout, targets: Targets) -> tuple[Question, ...]:
    """The services that would start something new now, if the infrastructure gate lets them."""
    if rollout.torn_down:
        return ()
    return tuple(
        Question(name, release)
        for name, release in targets.wanted.items()
        if _is_new(rollout.of(name), release) and release.revision not in rollout.of(name).quarantined
    )


def _is_new(state: ServiceRollout, release: Release) -> bool:
    return state.phase in (Phase.ABSENT, Phase.STABLE) and release != state.stable


def decide(rollout: Rollout, context: Context) -> tuple[Decision, ...]:
    """One decision for every service that is wanted or still has state; HOLD where nothing is to be done."""
    names = dict.fromkeys((*context.targets.wanted, *rollout.services))
    return tuple(_decide(rollout, rollout.of(name), context) for name in names)


def _decide(rollout: Rollout, state: ServiceRollout, context: Context) -> Decision:
    if rollout.torn_down:
        return Decision(state.service, Move.HOLD, "torn down; `deploy` brings it back")
    match state.phase:
        case Phase.ABSENT | Phase.STABLE:
            return _at_rest(state, context)
        case Phase.STARTING:
            return _starting(state, context)
        case Phase.PROMOTING:
            return _promoting(state, context)
        case Phase.DRAINING:
            return _once_empty(state, context, Move.DRAINED, state.leaving)
        case Phase.ROLLING_BACK:
            return _once_empty(state, context, Move.REMOVED, state.candidate)


def _at_rest(state: ServiceRollout, context: Context) -> Decision:
    release = context.targets.wanted.get(state.service)
    if release is None or release == state.stable:
        return Decision(state.service, Move.HOLD)
    if release.revision in state.quarantined:
        return Decision(
            state.service,
            Move.HOLD,
            f"revision {release.revision[:12]} was given up before; change the service, or `deploy` to try it again",
        )
    taken = "; ".join(f"port {port} is taken by {who}" for port, who in context.observed.engine.ports_taken.items())
    if taken and state.stable is None:
        return Decision(state.service, Move.HOLD, taken)
    if context.gate is None:
        return Decision(state.service, Move.HOLD, "waiting for the policy engine")
    if not context.gate.allow:
        word = "DENIED" if context.gate.known else "policy engine failed"
        return Decision(state.service, Move.HOLD, f"{word}: {context.gate.reason}")
    return Decision(state.service, Move.START, _start_reason(state, release), release)


def _start_reason(state: ServiceRollout, release: Release) -> str:
    if state.stable is None:
        return "first deployment"
    if state.stable.revision == release.revision:
        return f"mode {state.stable.mode} → {release.mode}"
    return f"revision {state.stable.revision[:12]} → {release.revision[:12]}"


def _starting(state: ServiceRollout, context: Context) -> Decision:
    wanted = context.targets.wanted.get(state.service)
    if wanted is not None and wanted != state.candidate:
        return Decision(state.service, Move.SUPERSEDE, "the manifest asks for something else now")
    bad = _bad_sign(state, context)
    if bad:
        return Decision(state.service, Move.GIVE_UP, bad)
    containers = _candidates(state, context)
    ready = sum(container.is_ready for container in containers)
    if ready >= _replicas(state, context):
        return Decision(state.service, Move.READY, f"{ready} of {ready} replicas ready")
    return Decision(state.service, Move.HOLD, _waiting_for(containers))


def _promoting(state: ServiceRollout, context: Context) -> Decision:
    if context.observed.proxy.weights.get(state.service) == ALL:
        return Decision(state.service, Move.SWITCHED, "all requests go to the new release")
    bad = _bad_sign(state, context)
    if bad:
        return Decision(state.service, Move.GIVE_UP, bad)
    return Decision(state.service, Move.HOLD, "waiting for nginx to take up the new release")


def _once_empty(state: ServiceRollout, context: Context, move: Move, release: Release | None) -> Decision:
    slot = state.serving.other if state.stable is not None else state.serving
    left = of_release(context.observed, state.service, slot, release)
    if not left and not in_slot(context.observed, state.service, slot):
        return Decision(state.service, move, state.reason)
    return Decision(state.service, Move.HOLD, state.reason)


def _candidates(state: ServiceRollout, context: Context) -> tuple[ObservedContainer, ...]:
    return of_release(context.observed, state.service, state.candidate_slot, state.candidate)


def _replicas(state: ServiceRollout, context: Context) -> int:
    assert state.candidate is not None, "a rollout without a candidate"
    return context.targets.kept[state.candidate.revision].service.replicas


def _bad_sign(state: ServiceRollout, context: Context) -> str:
    """Why the candidate will not do, or ""; none of these needs statistics."""
    containers = _candidates(state, context)
    for container in containers:
        sign = bad_sign(container)
        if sign:
            return sign
    assert state.candidate is not None, "a rollout without a candidate"
    deadline = context.targets.kept[state.candidate.revision].service.rollout.health_deadline_s
    if any(not c.is_ready and c.uptime_s(context.now) > deadline for c in containers):
        return f"not healthy within {deadline:g} s: {_waiting_for(containers)}"
    return ""


def bad_sign(container: ObservedContainer) -> str:
    """What alone shows that a container of a candidate cannot serve; "" where nothing does."""
    if container.oom_killed:
        return f"{container.name} was killed: out of memory"
    if container.restarts >= CRASH_LOOP_RESTARTS:
        return f"{container.name} crash-loops: {container.restarts} restarts, exit code {container.exit_code}"
    if container.status is Status.CREATED and container.exit_code in _CANNOT_START and container.error:
        return f"{container.name} cannot start: {container.error}"
    if container.status is Status.EXITED:
        return f"{container.name} exited with code {container.exit_code}"
    return ""


def _waiting_for(containers: tuple[ObservedContainer, ...]) -> str:
    sick = [f"{c.name}: {c.health_detail or c.status}" for c in containers if not c.is_ready]
    return "; ".join(sick) or "waiting for containers"


def advance(rollout: Rollout, decisions: tuple[Decision, ...], now: float) -> Rollout:
    """The rollout once all `decisions` are taken."""
    services = dict(rollout.services)
    for decision in decisions:
        state = rollout.of(decision.service).after(decision, now)
        if state.phase is not Phase.ABSENT or decision.service in services or state.reason:
            services[decision.service] = state
    return dataclasses.replace(rollout, services=services)
