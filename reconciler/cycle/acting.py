"""What is done: the rollout on disk, the plan carried out, and what is remembered of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from reconciler.core.addresses import overlaps
from reconciler.core.backoff import Backoff, strike, wait_s
from reconciler.core.containers import KeptRevision
from reconciler.core.decide import Context, advance
from reconciler.core.desired import DesiredState
from reconciler.core.errors import StateError
from reconciler.core.membership import remember
from reconciler.core.observed import ObservedState
from reconciler.core.plan import Action, CreateContainer, Outcome, Plan, PlannedAction, Result, StartContainer
from reconciler.core.rollout import Decision, Move, Phase, Rollout, put_off
from reconciler.core.unrecorded import needs_record
from reconciler.cycle.memory import Memory, Setting
from reconciler.cycle.notes import Notes
from reconciler.executor import apply_plan, performer
from reconciler.ports import Ports

RECORD_AGAIN_S = 5.0
"""When an intent that could not be written is tried again."""

_STRIKES = (CreateContainer, StartContainer)


def save_decided(
    ports: Ports,
    before: Rollout,
    decisions: tuple[Decision, ...],
    context: Context,
    desired: DesiredState,
    notes: Notes,
) -> Rollout:
    """The rollout once `decisions` are taken and on disk.

    Where it could not be put there, nothing new is begun; what takes requests away from a canary is done all the same.
    """
    replicas = {service.name: service.replicas for service in desired.services}
    after = advance(before, decisions, context.now)
    if any(decision.move is Move.START for decision in decisions):
        after = dataclasses.replace(after, glass=None)
    after = remember(with_subnet(ports, after, context.observed), context.observed, replicas)
    try:
        for kept in _wanted_kept(context):
            ports.rollouts.keep(kept)
        ports.rollouts.save(after)
    except StateError as error:
        notes.errors.append(str(error))
        safe = tuple(put_off(decision, before.of(decision.service)) for decision in decisions)
        return remember(advance(before, safe, context.now), context.observed, replicas)
    try:
        ports.rollouts.forget_all_but(_needed(after, context))
    except StateError as error:
        notes.errors.append(str(error))
    return after


def save_trace(ports: Ports, memory: Memory, notes: Notes) -> None:
    """Afterwards another process knows too from which commit the manifest in force came; nothing depends on it."""
    if memory.last_good is None:
        return
    try:
        ports.rollouts.trace(memory.last_good, memory.commit)
    except StateError as error:
        notes.errors.append(str(error))


def _needed(rollout: Rollout, context: Context) -> set[str]:
    """The revisions that run, are on their way, or are wanted; those of containers that are still to be removed too."""
    running = {group.revision for state in rollout.services.values() for group in state.groups}
    back = {state.last_stable for state in rollout.services.values()}
    there = {container.revision for container in context.observed.engine.containers}
    return running | back | there | {release.revision for release in context.targets.wanted.values()}


def _wanted_kept(context: Context) -> list[KeptRevision]:
    return [context.targets.kept[release.revision] for release in context.targets.wanted.values()]


def with_subnet(ports: Ports, rollout: Rollout, observed: ObservedState) -> Rollout:
    """The rollout with a subnet for our network: chosen once, and again where another network took it meanwhile."""
    active = any(state.phase is not Phase.ABSENT for state in rollout.services.values())
    if observed.engine.networks or not active:
        return rollout
    taken = sorted(observed.engine.taken_subnets)
    if rollout.subnet and not overlaps(rollout.subnet, taken):
        return rollout
    found = ports.host.free_subnet(taken)
    return dataclasses.replace(rollout, subnet=found[0], ip_range=found[1]) if found else rollout


def left_unrecorded(notes: Notes, rollout: Rollout, observed: ObservedState) -> Callable[[Action], bool]:
    """What has to be left undone in this cycle, because its intent is not on disk."""
    return lambda action: not notes.is_recorded and needs_record(action, rollout, observed)


def carry_out(
    ports: Ports, setting: Setting, backoff: Backoff, plan: Plan, is_left: Callable[[Action], bool]
) -> tuple[Result, ...]:
    """Apply the plan; what keeps going wrong is left alone for a while, and what `is_left` for this cycle."""
    if not plan:
        return ()
    now = ports.clock.monotonic()

    def held_back(step: PlannedAction) -> float:
        if is_left(step.action):
            return RECORD_AGAIN_S
        return wait_s(backoff, step.target, now) if isinstance(step.action, _STRIKES) else 0.0

    return apply_plan(plan, performer(ports), setting.pool, held_back)


def remembered(memory: Memory, rollout: Rollout, now: float, notes: Notes) -> Memory:
    """The memory after a pass; `now` in monotonic seconds, from which what went wrong is left alone for a while."""
    tried = frozenset(
        step.target
        for step, result in zip(notes.plan.steps, notes.results, strict=True)
        if isinstance(step.action, _STRIKES) and result.outcome is not Outcome.SKIPPED
    )
    backoff = strike(memory.backoff, tried, now) if tried else memory.backoff
    is_waited_for = bool(notes.plan) or notes.waits_for_the_manifest or memory.in_doubt_since is not None
    permission = memory.permission if is_waited_for else None
    return dataclasses.replace(
        memory,
        rollout=rollout,
        backoff=backoff,
        permission=permission,
        awaited=notes.awaited,
        evidence={**memory.evidence, **notes.measured.evidence},
        troubles=_troubles(memory, notes),
        answered={container: at for container, at in notes.answered.items() if container in notes.engines},
        shown=notes.shown,
        ran=notes.ran,
    )


def _troubles(memory: Memory, notes: Notes) -> Mapping[str, str]:
    """What the engine refuses, until it does not, or nobody asks any more."""
    found = {}
    for step, result in zip(notes.plan.steps, notes.results, strict=True):
        if not isinstance(step.action, _STRIKES):
            continue
        if result.outcome in (Outcome.FAILED, Outcome.UNKNOWN):
            found[step.target] = result.detail
        elif result.outcome is Outcome.SKIPPED and step.target in memory.troubles:
            found[step.target] = memory.troubles[step.target]
    return found
