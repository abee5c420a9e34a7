"""One service by its phase: who should run does, requests go where they should, and who is left over goes."""

from __future__ import annotations

import dataclasses

from reconciler.core.containers import service_container, slot_name
from reconciler.core.desired import Mode, Strategy
from reconciler.core.membership import GONE, current, in_turns, is_of, replaced, turn
from reconciler.core.observed import ObservedContainer, Status
from reconciler.core.plan import SetRestartPolicy, StartContainer, WaitHealthy
from reconciler.core.planner.containers import Place, create, heal, remove
from reconciler.core.planner.draft import GRACE_S, Draft
from reconciler.core.planner.ground import Ground
from reconciler.core.planner.groups import is_on_trial, running_groups, way_back
from reconciler.core.planner.leaving import clear, park
from reconciler.core.planner.traffic import plan_traffic
from reconciler.core.rollout import Group, Phase, ServiceRollout
from reconciler.core.signs import went_with_the_host


def plan_service(draft: Draft, state: ServiceRollout, ground: Ground, proxy: int | None) -> None:
    """Who should run comes first, on its `ground`; traffic and whoever goes come after `proxy`."""
    is_in_manifest = state.service in draft.services
    if not is_in_manifest and _has_successor(draft):
        for container in draft.observed.of(state.service):
            remove(draft, container, "not in the manifest any more", GRACE_S, proxy)
        return
    if in_turns(state):
        _take_turns(draft, state, ground, proxy)
    else:
        for group in running_groups(state):
            if not _is_left_behind(draft, state, group):
                _plan_group(draft, state, group, ground)
    if is_in_manifest:
        moved = plan_traffic(draft, state, proxy)
        park(draft, state, proxy)
        clear(draft, state, proxy, moved)


def _has_successor(draft: Draft) -> bool:
    """Every service of the manifest serves what it asks for: those that left it are not needed any more."""
    return all(_is_at_wish(draft, name) for name in draft.services)


def _is_at_wish(draft: Draft, name: str) -> bool:
    """The service rests at the revision that the manifest asks for, or keeps the canary that it asks for."""
    state, wanted = draft.rollout.of(name), draft.wish.targets.wanted.get(name)
    if state.stable is None or wanted is None:
        return False
    if wanted.mode is Mode.CANARY and state.phase in (Phase.ANALYZING, Phase.SUSPENDED):
        return True
    return state.phase is Phase.STABLE and state.stable.revision == wanted.revision


# ---------------------------------------------------------------- groups


def _is_left_behind(draft: Draft, state: ServiceRollout, group: Group) -> bool:
    """What is condemned is not healed any more once those who take its place are well."""
    old, new = way_back(state)
    return state.phase is Phase.RESTORING and group == new and draft.has_ready(state, old)


def _take_turns(draft: Draft, state: ServiceRollout, ground: Ground, proxy: int | None) -> None:
    """Replace replica by replica: a rolling successor is ready before the old one goes, a recreated one after."""
    groups = in_turns(state)
    assert groups is not None, "asked only where replicas take turns"
    old, new = groups
    replicas = draft.replicas(state, len(draft.here(state, old)))
    now = turn(state, draft.observed, replicas)
    gone = {container.id for container in replaced(state, draft.observed)}
    going = [c for c in draft.here(state, old) if c.id in gone]
    removed = [remove(draft, c, "replaced", draft.grace_s(c.revision), proxy) for c in going]
    for replica in range(min(now + 1, replicas)):
        before = removed if state.course.strategy is Strategy.RECREATE and replica == now else []
        _plan_replica(draft, state, Place(new, replica), ground, *before)
    for container in draft.here(state, old):
        if container.id not in gone and container.status not in GONE:
            heal(draft, container, slot_name(state.service, old.slot), ground)


def _plan_group(draft: Draft, state: ServiceRollout, group: Group, ground: Ground) -> None:
    """See that every replica of `group` runs."""
    for replica in range(draft.replicas(state, len(draft.here(state, group)))):
        _plan_replica(draft, state, Place(group, replica), ground)


# ---------------------------------------------------------------- replicas


def _plan_replica(draft: Draft, state: ServiceRollout, place: Place, ground: Ground, *before: int | None) -> None:
    """See that the replica of `place` runs, once what is `before` it is done."""
    mine = next((c for c in current(draft.here(state, place.group)) if c.replica == place.replica), None)
    if mine is None:
        _start_replica(draft, state, place, *ground, *before)
    elif is_on_trial(state, place.group) and _has_ended(draft, mine):
        return  # it counts against it, if nobody else starts it again
    else:
        heal(draft, mine, slot_name(state.service, place.group.slot), ground, *before)
        _keep_restarting(draft, state, mine)


def _start_replica(draft: Draft, state: ServiceRollout, place: Place, *after: int | None) -> None:
    group, kept = place.group, draft.wish.targets.kept.get(place.group.revision)
    if kept is None:
        draft.note(f"{state.service}: revision {group.revision[:12]} cannot be started again: not kept")
        return
    spec = service_container(kept, group.release.mode)
    if is_on_trial(state, group):
        spec = dataclasses.replace(spec, restart_policy="no")
    cause = "missing" if group == state.stable else f"new release {group}"
    name, created = create(draft, state.service, spec, place, cause, *after)
    started = draft.add(StartContainer(name), name, cause, created)
    draft.add(WaitHealthy(name), name, "starting", started)


def _has_ended(draft: Draft, container: ObservedContainer) -> bool:
    """It ended by itself or by somebody's hand, and not with the host."""
    return container.status is Status.EXITED and not went_with_the_host(container, draft.observed)


def _keep_restarting(draft: Draft, state: ServiceRollout, container: ObservedContainer) -> None:
    """A canary that has come to carry traffic for good is healed by Docker like any other."""
    kept = draft.wish.targets.kept.get(container.revision)
    if kept is None or container.mode != Mode.CANARY:
        return
    policy = kept.service.restart_policy
    on_trial = any(is_on_trial(state, group) and is_of(container, group) for group in state.groups)
    if not on_trial and container.restart_policy not in ("", policy):
        draft.add(SetRestartPolicy(container.id, policy), container.name, "it carries all requests now")
