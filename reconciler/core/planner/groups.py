"""Which groups of a service should run, and which may stay, by its phase."""

from __future__ import annotations

from reconciler.core.desired import Mode
from reconciler.core.membership import in_turns
from reconciler.core.rollout import Group, Phase, ServiceRollout


def running_groups(state: ServiceRollout) -> tuple[Group, ...]:
    """The groups whose containers should run, where replicas do not take turns."""
    found: tuple[Group | None, ...]
    match state.phase:
        case Phase.STARTING | Phase.ANALYZING | Phase.SUSPENDED | Phase.PROMOTING:
            found = (state.stable, state.candidate)
        case Phase.PARKING if not state.course.is_adopted:
            found = (state.candidate,)
        case Phase.RENEWING | Phase.SWITCHING:
            found = (state.candidate, state.fresh)
        case Phase.HALTED:
            found = (state.candidate,)
        case Phase.RETURNING | Phase.RESTORING:
            found = (state.stable, state.kept or state.candidate)
        case _:
            found = (state.stable,)
    return tuple(group for group in found if group)


def way_back(state: ServiceRollout) -> tuple[Group | None, Group | None]:
    """Whom a return brings back, and whom it leaves."""
    return (state.stable, state.candidate) if state.kept is None else (state.kept, state.stable)


def wanted_groups(state: ServiceRollout) -> tuple[Group, ...]:
    """The groups whose containers are not to be removed."""
    found: tuple[Group | None, ...]
    match state.phase:
        case Phase.ROLLING_BACK if in_turns(state):
            found = (state.stable, state.candidate)
        case Phase.RETURNING | Phase.RESTORING:
            found = (state.stable, state.candidate, state.kept)
        case Phase.STABLE | Phase.ABSENT | Phase.ROLLING_BACK:
            found = (state.stable,)
        case Phase.HALTED:  # what failed has no part in the next try
            found = (state.stable, state.candidate)
        case _:
            found = (state.stable, state.candidate, state.fresh, state.kept)
    return tuple(group for group in found if group)


def is_on_trial(state: ServiceRollout, group: Group) -> bool:
    """A canary that was not promoted yet: Docker does not restart it, an exit is a bad sign."""
    return group == state.candidate and group.release.mode is Mode.CANARY and state.phase in _ON_TRIAL


_ON_TRIAL = frozenset({Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED, Phase.ROLLING_BACK})
