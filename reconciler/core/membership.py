"""Which containers belong to which group, which slot a group serves in, and who has shown that it can serve."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from reconciler.core.desired import Mode, Strategy
from reconciler.core.observed import ObservedContainer, ObservedState, Slot, Status
from reconciler.core.rollout import IN_PLACE, WAY_BACK, Group, Member, Paused, Phase, Release, Rollout, ServiceRollout

GONE = frozenset({Status.DEAD, Status.REMOVING})
NOT_SERVING = frozenset({Status.CREATED, Status.PAUSED, Status.EXITED, Status.DEAD, Status.REMOVING})


def is_of(container: ObservedContainer, group: Group | None) -> bool:
    """Whether `container` was born into `group`."""
    return (
        group is not None
        and container.slot is group.slot
        and container.revision == group.release.revision
        and container.mode == group.release.mode
    )


def was_well(state: ServiceRollout, container: ObservedContainer) -> bool:
    """Whether `container`, which nobody can ask any more, has shown that it can serve, as far as `state` tells.

    Whoever is stable or was kept has. Else only what was started as stable counts: as a member, or where the state
    does not know it at all, as a lost or an older one; what is still tried has to answer.
    """
    if is_of(container, state.stable) or is_of(container, state.kept):
        return True
    is_tried = is_of(container, state.candidate) or is_of(container, state.fresh)
    is_member = any(member.container_id == container.id for slot in Slot for member in state.members(slot))
    return container.mode == Mode.STABLE and (is_member or not is_tried)


def of_group(observed: ObservedState, service: str, group: Group | None) -> tuple[ObservedContainer, ...]:
    """The containers of `group` that are there, oldest generation first; none for no group."""
    return tuple(container for container in observed.of(service) if is_of(container, group))


def slot_groups(state: ServiceRollout) -> Mapping[Slot, tuple[Group, ...]]:
    """Whose containers are the members of each slot in the state's phase."""
    here, there = state.serving, state.serving.other
    in_place = state.course.strategy in IN_PLACE
    places: Mapping[Slot, tuple[Group | None, ...]]
    match state.phase:
        case Phase.STARTING if state.stable is None:
            places = {here: (state.candidate,)}
        case Phase.STARTING | Phase.ANALYZING | Phase.SUSPENDED | Phase.PROMOTING:
            places = {here: (state.stable,), there: (state.candidate,)}
        case Phase.PARKING if not state.course.is_adopted:
            places = {there: (state.candidate,)}
        case Phase.RENEWING | Phase.HALTED | Phase.SWITCHING:
            places = {here: (state.fresh,), there: (state.candidate,)}
        case Phase.RETURNING | Phase.RESTORING:
            places = {here: (state.stable,), there: (state.kept or state.candidate,)}
        case Phase.UPDATING:
            places = {here: (state.stable, state.candidate)}
        case Phase.ROLLING_BACK if in_place and state.stable:
            places = {here: (state.stable, state.candidate)}
        case _:
            places = {here: (state.stable,)}
    return {slot: tuple(group for group in groups if group) for slot, groups in places.items()}


def shown_slots(state: ServiceRollout) -> frozenset[Slot]:
    """The slots whose own members nginx lists; the other one, if there is one, repeats them."""
    here, there = state.serving, state.serving.other
    match state.phase:
        case Phase.ANALYZING | Phase.SUSPENDED | Phase.PROMOTING | Phase.SWITCHING | Phase.RESTORING:
            return frozenset({here, there})
        case Phase.RETURNING if state.carries_all and state.members(here):
            return frozenset({here, there})  # not all requests need have left them yet
        case Phase.PARKING | Phase.RENEWING | Phase.HALTED | Phase.RETURNING if state.carries_all:
            return frozenset({there})
        case Phase.STARTING | Phase.ROLLING_BACK if state.stable is None:
            return frozenset()
        case _:
            return frozenset({here})


def named(rollout: Rollout) -> frozenset[str]:
    """The addresses that nginx's configuration names."""
    return frozenset(
        member.address
        for state in rollout.services.values()
        for slot in shown_slots(state)
        for member in state.members(slot)
    )


def remember(rollout: Rollout, observed: ObservedState, replicas: Mapping[str, int]) -> Rollout:
    """The rollout with its slots' members brought up to date; `replicas` is how many each service wants.

    A container joins when it is ready, and leaves when it is gone; one that died stays while nobody else
    could serve in its stead, since it is about to be started again at the same address.
    """
    services = {name: _remember(state, observed, replicas.get(name)) for name, state in rollout.services.items()}
    return dataclasses.replace(rollout, services=services) if services != dict(rollout.services) else rollout


def _remember(state: ServiceRollout, observed: ObservedState, replicas: int | None) -> ServiceRollout:
    groups = slot_groups(state)
    leaving = {container.id for container in replaced(state, observed)}

    def staying(slot: Slot) -> Iterable[ObservedContainer]:
        for group in groups.get(slot, ()):
            yield from current(c for c in of_group(observed, state.service, group) if c.id not in leaving)

    members = {
        slot: _members(
            {member.container_id: member.address for member in state.members(slot)},
            _as_many_as(replicas, tuple(staying(slot))),
        )
        for slot in Slot
    }
    return dataclasses.replace(state, blue=members[Slot.BLUE], green=members[Slot.GREEN])


def _as_many_as(replicas: int | None, containers: tuple[ObservedContainer, ...]) -> tuple[ObservedContainer, ...]:
    """The first `replicas` of each group (None: all); those too many as well while only they are ready."""
    few = tuple(c for c in containers if replicas is None or (c.replica or 0) < replicas)
    is_enough = any(c.is_ready for c in few) or not any(c.is_ready for c in containers)
    return few if is_enough else containers


def in_turns(state: ServiceRollout) -> tuple[Group, Group] | None:
    """The group that goes and the one that comes, where replicas are replaced one by one; else None."""
    if state.course.strategy not in IN_PLACE or state.stable is None or state.candidate is None:
        return None
    if state.phase is Phase.UPDATING:
        return state.stable, state.candidate
    return (state.candidate, state.stable) if state.phase is Phase.ROLLING_BACK else None


def turn(state: ServiceRollout, observed: ObservedState, replicas: int) -> int:
    """Whose turn it is: the first replica whose successor is not ready; `replicas` when all are."""
    groups = in_turns(state)
    assert groups is not None, "nothing takes turns"
    ready = {c.replica for c in of_group(observed, state.service, groups[1]) if c.is_ready}
    return next((replica for replica in range(replicas) if replica not in ready), replicas)


def replaced(state: ServiceRollout, observed: ObservedState) -> tuple[ObservedContainer, ...]:
    """The containers that their successors have made superfluous, or must make room for them."""
    groups = in_turns(state)
    if groups is None:
        return ()
    old = of_group(observed, state.service, groups[0])
    ready = {c.replica for c in of_group(observed, state.service, groups[1]) if c.is_ready}
    gone = [c for c in old if c.replica in ready]
    if state.course.strategy is Strategy.RECREATE:
        now = turn(state, observed, 1 + max((c.replica or 0 for c in old), default=-1))
        gone += [c for c in old if c.replica == now]
    return tuple(gone)


def current(containers: Iterable[ObservedContainer]) -> tuple[ObservedContainer, ...]:
    """One of each replica of a group: the newest that is ready, else the newest that is not gone."""
    found: dict[int | None, ObservedContainer] = {}
    for container in containers:  # oldest first
        before = found.get(container.replica)
        if container.status not in GONE and (before is None or container.is_ready or not before.is_ready):
            found[container.replica] = container
    return tuple(found.values())


def _members(before: Mapping[str, str], containers: Iterable[ObservedContainer]) -> tuple[Member, ...]:
    """Who serves; `before` are the addresses of those who did, by ID: one without a network comes back to its own."""
    found = [(c, c.address or before.get(c.id)) for c in containers if c.id in before or c.is_ready]
    known = [(Member(c.id, address, c.revision), c) for c, address in found if address and c.status not in GONE]
    serving = [member for member, c in known if c.address and c.status not in NOT_SERVING]
    return tuple(sorted(serving or (member for member, _ in known), key=lambda member: member.container_id))


def others(state: ServiceRollout, observed: ObservedState, *groups: Group | None) -> tuple[ObservedContainer, ...]:
    """Our containers of the service that belong to none of `groups`."""
    return tuple(
        container
        for container in observed.of(state.service)
        if container.slot is not None and not any(is_of(container, group) for group in groups)
    )


def without_vanished(rollout: Rollout, observed: ObservedState, names: Collection[str]) -> Rollout:
    """The rollout without services that are neither in the manifest (`names`) nor on the host."""
    services = {name: state for name, state in rollout.services.items() if name in names or observed.of(name)}
    return rollout if len(services) == len(rollout.services) else dataclasses.replace(rollout, services=services)


def recall(
    rollout: Rollout,
    observed: ObservedState,
    wanted: Mapping[str, Release],
    kept: Collection[str] = (),
    *,
    is_first: bool = False,
) -> Rollout:
    """The rollout, with the state of every service that runs but is not in it rebuilt from labels.

    A teardown that never came to it leaves what was stable running: `deploy` takes it as it stands. `kept` are the
    revisions that can be started. `is_first`: the rollout was just read from disk; where it is an older one, what has
    become stable since is found again.
    """
    if rollout.torn_down:
        return rollout
    if is_first:
        rollout = _without_older(rollout, observed, wanted)
    found = {c.service for c in observed.engine.containers if c.ours and c.slot} - set(rollout.services)
    rebuilt = {name: rebuild(name, observed, wanted.get(name), kept) for name in sorted(found)}
    rebuilt |= {name: left for name, state in rollout.services.items() if (left := _left_running(state, observed))}
    late = [state for name, state in rollout.services.items() if name not in rebuilt and _may_be_rebuilt(state)]
    for state in late:
        found_again = rebuild(state.service, observed, wanted.get(state.service), kept)
        if found_again.stable is not None:
            rebuilt[state.service] = dataclasses.replace(found_again, run=state.run)
    return dataclasses.replace(rollout, services={**rollout.services, **rebuilt}) if rebuilt else rollout


def may_be_older(rollout: Rollout, observed: ObservedState) -> tuple[str, ...]:
    """The services of which the state, just read from disk, may be an older one: who seems to be stable now is ill."""
    states = () if rollout.torn_down else rollout.services.values()
    found = {state.service: _heirs(state, observed) for state in states}
    return tuple(name for name, heirs in found.items() if heirs and not any(c.is_ready for c in heirs))


def _heirs(state: ServiceRollout, observed: ObservedState) -> tuple[ObservedContainer, ...]:
    """Who must have become stable after `state` was written down: started as stable, and nothing of its own is there.

    What was rolled back is no heir, nor is what a way back is about to remove.
    """
    if state.stable is None or state.phase in WAY_BACK or of_group(observed, state.service, state.stable):
        return ()
    found = [c for c in others(state, observed, *state.groups) if c.is_running or c.has_run_on]
    return tuple(c for c in found if c.mode == Mode.STABLE and c.revision not in state.quarantined)


def _without_older(rollout: Rollout, observed: ObservedState, wanted: Mapping[str, Release]) -> Rollout:
    """The rollout, rebuilt where nothing of its stable group is there and another one serves as stable.

    What was learned, and a wish to wait, still count; a word about what was tried then does not.
    """
    services = dict(rollout.services)
    for name, state in rollout.services.items():
        heir = next((c for c in _heirs(state, observed) if c.is_ready), None)
        if heir is not None:
            found = _at_rest_with(heir, wanted.get(name))
            services[name] = dataclasses.replace(
                found,
                run=state.run,
                paused=found.paused or state.paused,
                dismissed=state.dismissed,
                quarantined=state.quarantined,
                why_rolled_back=state.why_rolled_back,
            )
    return dataclasses.replace(rollout, services=services)


def _may_be_rebuilt(state: ServiceRollout) -> bool:
    """Nothing is known of the service: when its state was lost, nobody of it was ready yet, as after a reboot."""
    return state.phase is Phase.ABSENT and not (state.last_stable or state.quarantined or state.dismissed or state.run)


def _left_running(state: ServiceRollout, observed: ObservedState) -> ServiceRollout | None:
    """The state with what was stable before, or was about to be, where that still serves; None where nothing does."""
    if state.phase is not Phase.ABSENT or not state.last_stable:
        return None
    serving = [c for c in observed.of(state.service) if c.is_ready and c.mode == Mode.STABLE]
    serving = [c for c in serving if c.revision not in state.quarantined]
    found = next((c for c in serving if c.revision == state.last_stable), serving[-1] if serving else None)
    if found is None or found.slot is None:
        return None
    stable = Group(Release(found.revision, Mode.STABLE), found.slot)
    return dataclasses.replace(state, phase=Phase.STABLE, serving=found.slot, stable=stable, reason="still running")


LOST = "the rollout's state was lost and rebuilt from what runs"


def rebuild(
    service: str, observed: ObservedState, wanted: Release | None, kept: Collection[str] = ()
) -> ServiceRollout:
    """The state of a service whose rollout was lost, from the labels of what runs.

    What serves is what was started as stable and is ready, oldest first; where nothing was, whatever is ready; and
    where nothing is, what was started as stable and can be healed, since its revision is in `kept`. Of that what runs
    comes first: what was kept for a roll back is stopped. What is wanted anyway is deployed as ever.
    What was tried beside it is forgotten, and nothing is tried again before an operator has looked: a revision
    that was rolled back may be among it. Where only what is wanted runs, as it is wanted, there is nothing to look at.
    """
    ours = [container for container in observed.of(service) if container.slot]
    ready = [container for container in ours if container.is_ready]
    first = next((c for c in ready if c.mode == Mode.STABLE), next(iter(ready), None)) or _ill(ours, kept)
    if first is None or (not ready and wanted is not None and wanted.revision == first.revision):
        return ServiceRollout(service)
    return _at_rest_with(first, wanted)


def _ill(containers: Iterable[ObservedContainer], kept: Collection[str]) -> ObservedContainer | None:
    """The one that was stable and can be healed: the oldest that runs, else the newest that does not."""
    found = [c for c in containers if c.status not in GONE and c.mode == Mode.STABLE and c.revision in kept]
    running = [c for c in found if c.is_running or c.has_run_on]
    return next(iter(running or reversed(found)), None)


def _at_rest_with(first: ObservedContainer, wanted: Release | None) -> ServiceRollout:
    """The state of a service of which all that is known is that the group of `first` serves."""
    assert first.slot is not None, "only what has a slot serves"
    group = Group(Release(first.revision, Mode(first.mode)), first.slot)
    is_all = group.release == wanted and wanted.mode is Mode.STABLE
    return ServiceRollout(
        first.service,
        phase=Phase.STABLE,
        serving=first.slot,
        stable=group,
        last_stable=first.revision,
        paused=None if is_all else Paused("swiftdeploy", f"{LOST}; `resume` goes on"),
        reason=LOST,
    )
