"""Nothing of ours is left: nginx goes first, then the services and OPA, then what they stood on."""

from __future__ import annotations

from reconciler.core.desired import POLICY, PROXY
from reconciler.core.plan import RemoveNetwork, RemoveVolume
from reconciler.core.planner.containers import remove
from reconciler.core.planner.draft import GRACE_S, Draft


def tear_down(draft: Draft) -> None:
    """Remove every container of ours, then networks that nobody else uses, the logs, and volumes if so asked."""
    gone = _remove_containers(draft)
    _remove_networks(draft, *gone)
    logs = {service.log_volume for service in draft.wish.desired.services}
    for name in sorted(draft.observed.engine.volumes):
        if name in logs or draft.rollout.drop_volumes:
            draft.add(RemoveVolume(name), name, "torn down", *gone)


def _remove_containers(draft: Draft) -> list[int]:
    """The removals; those of services come after nginx's."""
    proxy = [remove(draft, container, "torn down", GRACE_S) for container in draft.observed.of(PROXY)]
    rest = []
    for container in draft.observed.engine.containers:
        if container.ours and container.service != PROXY:
            after = () if container.service == POLICY else proxy
            rest.append(remove(draft, container, "torn down", draft.grace_s(container.revision), *after))
    return [*proxy, *rest]


def _remove_networks(draft: Draft, *gone: int) -> None:
    engine = draft.observed.engine
    for network in engine.networks:
        if not network.ours:
            continue
        mine = sum(network.id in c.networks for c in engine.containers if c.ours and c.is_running)
        if network.attached > mine:
            draft.note(f"network {network.name} stays: other containers use it")
        else:
            draft.add(RemoveNetwork(network.id, network.name), network.name, "torn down", *gone)
