"""Which containers of a service belong to which release, and which have shown that they can serve."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from reconciler.core.desired import Mode
from reconciler.core.observed import ObservedContainer, ObservedState, Slot, Status
from reconciler.core.rollout import Member, Phase, Release, Rollout, ServiceRollout

GONE = frozenset({Status.DEAD, Status.REMOVING})
NOT_SERVING = frozenset({Status.CREATED, Status.EXITED, Status.DEAD, Status.REMOVING})


def in_slot(observed: ObservedState, service: str, slot: Slot) -> tuple[ObservedContainer, ...]:
    """Our containers of `service` that live in `slot`."""
    return tuple(container for container in observed.of(service) if container.slot is slot)


def of_release(
    observed: ObservedState, service: str, slot: Slot, release: Release | None
) -> tuple[ObservedContainer, ...]:
    """Those of them that were started for `release`; none for no release."""
    if release is None:
        return ()
    return tuple(
        container
        for container in in_slot(observed, service, slot)
        if container.revision == release.revision and container.mode == release.mode
    )


def remember(rollout: Rollout, observed: ObservedState, replicas: Mapping[str, int]) -> Rollout:
    """The rollout with its slots' members brought up to date; `replicas` is how many each service wants.

    A container joins when it is ready, and leaves when it is gone; one that died stays while nobody else
    could serve in its stead, since it is about to be started again at the same address.
    """
    services = {name: _remember(state, observed, replicas.get(name)) for name, state in rollout.services.items()}
    return dataclasses.replace(rollout, services=services) if services != dict(rollout.services) else rollout


def _remember(state: ServiceRollout, observed: ObservedState, replicas: int | None) -> ServiceRollout:
    releases = slot_releases(state)

    def wanted(container: ObservedContainer) -> bool:
        return replicas is None or (container.replica or 0) < replicas

    members = {
        slot: _members(
            {member.container_id for member in state.members(slot)},
            filter(wanted, of_release(observed, state.service, slot, releases.get(slot))),
        )
        for slot in Slot
    }
    return dataclasses.replace(state, blue=members[Slot.BLUE], green=members[Slot.GREEN])


def slot_releases(state: ServiceRollout) -> Mapping[Slot, Release | None]:
    """Which release each slot holds in the state's phase."""
    if state.phase is Phase.DRAINING:
        return {state.serving: state.stable, state.serving.other: state.leaving}
    if state.stable is None:
        return {state.serving: state.candidate}
    return {state.serving: state.stable, state.serving.other: state.candidate}


def _members(before: set[str], containers: Iterable[ObservedContainer]) -> tuple[Member, ...]:
    known = [c for c in containers if c.address and c.status not in GONE and (c.id in before or c.is_ready)]
    serving = [container for container in known if container.status not in NOT_SERVING]
    return tuple(sorted((Member(c.id, c.address or "") for c in serving or known), key=lambda m: m.container_id))


def without_vanished(rollout: Rollout, observed: ObservedState, names: Collection[str]) -> Rollout:
    """The rollout without services that are neither in the manifest (`names`) nor on the host."""
    services = {name: state for name, state in rollout.services.items() if name in names or observed.of(name)}
    return rollout if len(services) == len(rollout.services) else dataclasses.replace(rollout, services=services)


def recall(rollout: Rollout, observed: ObservedState, wanted: Mapping[str, Release]) -> Rollout:
    """The rollout, with the state of every service that runs but is not in it rebuilt from labels."""
    if rollout.torn_down:
        return rollout
    found = {c.service for c in observed.engine.containers if c.ours and c.slot} - set(rollout.services)
    rebuilt = {name: rebuild(name, observed, wanted.get(name)) for name in sorted(found)}
    return dataclasses.replace(rollout, services={**rollout.services, **rebuilt}) if rebuilt else rollout


def rebuild(service: str, observed: ObservedState, wanted: Release | None) -> ServiceRollout:
    """The state of a service whose rollout was lost, from the labels of what runs.

    What serves is what the wanted release has ready, else whatever is ready, oldest first: a release that
    has been there longer is likelier to be the proven one.
    """
    ready = [container for container in observed.of(service) if container.slot and container.is_ready]
    if not ready:
        return ServiceRollout(service)
    first = next((c for c in ready if wanted and _release(c) == wanted), ready[0])
    assert first.slot is not None
    return ServiceRollout(
        service,
        phase=Phase.STABLE,
        serving=first.slot,
        stable=_release(first),
        reason="rebuilt from what runs: the rollout's state was lost",
    )


def _release(container: ObservedContainer) -> Release:
    return Release(container.revision, Mode(container.mode))
