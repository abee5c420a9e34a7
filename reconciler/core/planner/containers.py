"""One container, whatever it is for: made, healed, attached, removed."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.container import LABEL, ContainerSpec
from reconciler.core.containers import slot_name
from reconciler.core.observed import ObservedContainer, Status
from reconciler.core.plan import (
    ConnectContainer,
    CreateContainer,
    RemoveContainer,
    StartContainer,
    StopContainer,
    WaitHealthy,
)
from reconciler.core.planner.draft import Draft
from reconciler.core.planner.ground import Ground
from reconciler.core.rollout import Group

BEING_HEALED = frozenset({Status.RESTARTING})
"""Docker starts it again by itself."""

HAS_PROCESS = frozenset({Status.RUNNING, Status.RESTARTING, Status.PAUSED})
"""It runs, or may from one moment to the next: it is stopped before it is removed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service's container is born: which replica of which group."""

    group: Group
    replica: int


def create(
    draft: Draft, service: str, spec: ContainerSpec, place: Place | None, cause: str, *after: int | None
) -> tuple[str, int]:
    """Create the next container of `service`: its name, and the step. `place` is None for nginx and OPA."""
    generation = 1 + max((c.generation for c in draft.observed.of(service)), default=0)
    revision = place.group.revision if place else spec.digest()
    alias = slot_name(service, place.group.slot) if place else service
    name = _name(draft.wish.desired.project, service, place, revision, generation)
    labels = _identity(draft, service, place, revision, generation) | dict(draft.wish.compose_labels.get(alias, ()))
    if place:
        labels["com.docker.compose.container-number"] = str(place.replica + 1)
    address = draft.addresses.new(name) if place else None
    action = CreateContainer(name, spec, address, tuple(sorted(labels.items())), (alias,) if spec.network else ())
    return name, draft.add(action, name, cause, *after)


def _name(project: str, service: str, place: Place | None, revision: str, generation: int) -> str:
    """A name that no container of the service had before: the generation grows with each."""
    if place is None:
        return f"{project}-{service}-{revision[:8]}-g{generation}"
    return f"{project}-{service}-{place.group.slot.value}-{revision[:8]}-{place.replica}-g{generation}"


def _identity(draft: Draft, service: str, place: Place | None, revision: str, generation: int) -> dict[str, str]:
    """The labels by which a container is known again."""
    identity = {
        "project": draft.wish.desired.project,
        "instance": draft.wish.instance,
        "service": service,
        "revision": revision,
        "generation": str(generation),
    }
    if place:
        mode = place.group.release.mode
        identity |= {"slot": place.group.slot.value, "replica": str(place.replica), "mode": mode.value}
    if draft.wish.commit:
        identity["commit"] = draft.wish.commit
    return {f"{LABEL}{key}": value for key, value in identity.items()}


def heal(draft: Draft, container: ObservedContainer, alias: str, ground: Ground, *before: int | None) -> None:
    """See that an existing container is attached, runs and is ready."""
    connected = connect(draft, container, ground.network, (alias,))
    if container.status in (Status.EXITED, Status.CREATED):
        after = (connected, *ground, *before)
        started = draft.add(StartContainer(container.id), container.name, why_down(container), *after)
        draft.add(WaitHealthy(container.id), container.name, "starting", started)
    elif container.status is Status.PAUSED:
        draft.note(f"{container.name} is paused: `docker unpause {container.name}` lets it go on")
    elif not container.is_ready:
        draft.add(WaitHealthy(container.id), container.name, container.health_detail or str(container.status))


def why_down(container: ObservedContainer) -> str:
    """Why a container that does not run has to be started."""
    if container.status is Status.EXITED:
        return "out of memory" if container.oom_killed else f"exited with code {container.exit_code}"
    return f"is {container.status}"


def connect(
    draft: Draft, container: ObservedContainer, network: int | None, aliases: tuple[str, ...] = ()
) -> int | None:
    """Attach a container that lost its network, or whose network was lost; `network` is the step that makes it."""
    if draft.network is not None and draft.network.id in container.networks:
        return None
    name, address = draft.wish.desired.network.name, draft.addresses.again(container)
    return draft.add(
        ConnectContainer(container.id, name, address, aliases), container.name, "not on the network", network
    )


def remove(draft: Draft, container: ObservedContainer, cause: str, grace_s: float, *after: int | None) -> int:
    """Stop a container if it runs, then remove it."""
    if container.status in HAS_PROCESS:
        after = (draft.add(StopContainer(container.id, grace_s), container.name, cause, *after),)
    return draft.add(RemoveContainer(container.id), container.name, cause, *after)
