"""Who goes, and when: never before nginx has let go of them, and the last one well not at all."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.core.desired import PROXY
from reconciler.core.membership import current, others, shown_slots
from reconciler.core.observed import ObservedContainer
from reconciler.core.plan import StopContainer
from reconciler.core.planner.containers import HAS_PROCESS, remove
from reconciler.core.planner.draft import GRACE_S, Draft
from reconciler.core.planner.groups import wanted_groups
from reconciler.core.rollout import Phase, ServiceRollout

_REST = frozenset({Phase.STARTING, Phase.WATCHING, Phase.SUSPENDED, Phase.HALTED})
"""Phases in which nothing waits for nginx's old workers to go."""

_PARKED = frozenset({Phase.PARKING, Phase.SETTLING, Phase.WATCHING})

DRAIN_S = 30.0
"""How long old workers may go on where no service says otherwise."""


def is_somebody_leaving(draft: Draft, active: Iterable[ServiceRollout]) -> bool:
    """Somebody whom nginx's old workers may know is to be stopped or removed."""
    return any(state.phase not in _REST or _unwanted(draft, state) for state in active) or bool(_left_over(draft))


def drain_s(draft: Draft, active: Iterable[ServiceRollout]) -> float:
    """How long old workers may go on: the longest drain of any service on the move."""
    moving = [draft.services[state.service] for state in active if state.service in draft.services]
    return max((service.rollout.drain_s for service in moving), default=DRAIN_S)


# ---------------------------------------------------------------- of a service that is deployed


def park(draft: Draft, state: ServiceRollout, proxy: int | None) -> None:
    """Stop, and keep, what a promotion replaced."""
    parked = state.parked if state.phase is Phase.PARKING else state.kept
    if state.phase not in _PARKED or parked is None:
        return
    if not draft.has_ready(state, state.candidate if state.carries_all else state.stable):
        return  # whoever carries the requests is not well: the old ones may be needed at once
    grace_s = draft.grace_s(parked.revision)
    for container in draft.here(state, parked):
        if container.status in HAS_PROCESS:
            draft.add(StopContainer(container.id, grace_s), container.name, "kept for a roll back", proxy)


def clear(draft: Draft, state: ServiceRollout, *after: int | None) -> None:
    """Remove what has no business in the service's slots, but for whom nginx is told of and the last one well."""
    unwanted = _unwanted(draft, state)
    members = {member.container_id for slot in shown_slots(state) for member in state.members(slot)}
    here = [c for group in wanted_groups(state) for c in draft.here(state, group)]
    is_served = any(c.is_ready for c in here if c not in unwanted)
    for container in unwanted:
        is_spare = container.id not in members and (is_served or _makes_room(draft, container, state))
        if is_spare or not container.is_ready:
            remove(draft, container, "not wanted any more", draft.grace_s(container.revision), *after)


def _unwanted(draft: Draft, state: ServiceRollout) -> list[ObservedContainer]:
    """Old groups, dead containers, replicas too many."""
    groups = wanted_groups(state)
    found = list(others(state, draft.observed, *groups))
    for group in groups:
        here = draft.here(state, group)
        kept = current(here)
        wanted = draft.replicas(state, len(kept))
        found += [c for c in here if c not in kept or (c.replica or 0) >= wanted]
    return found


def _makes_room(draft: Draft, container: ObservedContainer, state: ServiceRollout) -> bool:
    """A revision that is not here yet is to be started once the container is gone."""
    wanted = draft.wish.targets.wanted.get(state.service)
    if wanted is None or state.stable is None:
        return wanted is not None
    here = (group.revision for group in state.groups)
    return wanted.revision not in (container.revision, *here, *state.quarantined)


# ---------------------------------------------------------------- of services that are not


def sweep(draft: Draft, proxy: int | None) -> None:
    """Remove what is left of services that are not deployed."""
    for container in _left_over(draft):
        remove(draft, container, "left over of a service that is not deployed", GRACE_S, proxy)


def _left_over(draft: Draft) -> list[ObservedContainer]:
    """Containers that came to be after their service had gone, as where Docker did late what it was asked for.

    Only of services that are not in the manifest, or of revisions that were rolled back; never one that nginx
    names, or may name. What an operator took down is not among them: `deploy` takes it as it stands.
    """
    named = draft.observed.proxy.named if draft.observed.of(PROXY) else frozenset()
    if named is None:
        return []
    return [
        container
        for state in draft.rollout.services.values()
        if state.phase is Phase.ABSENT
        for container in draft.observed.of(state.service)
        if (state.service not in draft.services or container.revision in state.quarantined)
        and container.slot is not None
        and container.address not in named
    ]
