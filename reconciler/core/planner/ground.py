"""What everybody stands on: images, the network, volumes."""

from __future__ import annotations

from typing import NamedTuple

from reconciler.core.container import LABEL
from reconciler.core.plan import EnsureNetwork, EnsureVolume, PullImage, RemoveNetwork
from reconciler.core.planner.draft import Draft


class Ground(NamedTuple):
    """The steps that make the network and the last of the volumes; None for what is there."""

    network: int | None
    volumes: int | None


def plan_images(draft: Draft) -> None:
    """Every image that the manifest names is here."""
    for reference in draft.wish.targets.missing:
        failed = draft.observed.engine.images_failed.get(reference)
        draft.add(PullImage(reference), reference, f"not here; last try: {failed}" if failed else "not here")


def plan_ground(draft: Draft) -> Ground:
    """There is one network of ours, and every volume that is mounted."""
    return Ground(_plan_network(draft), _plan_volumes(draft))


def _plan_network(draft: Draft) -> int | None:
    for network in draft.observed.engine.networks:
        if network is not draft.network and network.ours and not network.attached:
            draft.add(RemoveNetwork(network.id, network.name), network.name, "a duplicate that nobody uses")
    if draft.network is not None:
        return None
    project, wanted = draft.wish.desired.project, draft.wish.desired.network
    labels = (
        (f"{LABEL}project", project),
        (f"{LABEL}instance", draft.wish.instance),
        ("com.docker.compose.project", project),
        ("com.docker.compose.network", "default"),
    )
    action = EnsureNetwork(wanted.name, wanted.driver, draft.rollout.subnet, draft.rollout.ip_range, labels)
    return draft.add(action, wanted.name, "missing")


def _plan_volumes(draft: Draft) -> int | None:
    """One after the other: whoever comes after the last comes after all."""
    project, last = draft.wish.desired.project, None
    for name in sorted(_mounted(draft) - draft.observed.engine.volumes):
        labels = (
            (f"{LABEL}project", project),
            ("com.docker.compose.project", project),
            ("com.docker.compose.volume", name),
        )
        last = draft.add(EnsureVolume(name, labels), name, "missing", last)
    return last


def _mounted(draft: Draft) -> set[str]:
    """The named volumes that the services in the manifest mount."""
    services = draft.wish.desired.services
    logs = {service.log_volume for service in services if service.log_volume}
    return logs | {mount.source for service in services for mount in service.mounts if mount.kind == "volume"}
