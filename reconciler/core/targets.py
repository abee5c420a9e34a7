"""Desired state joined with the images that are here: the exact containers that would satisfy it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.core.container import ContainerSpec
from reconciler.core.containers import KeptRevision, Layout, proxy_container
from reconciler.core.desired import DesiredState, spec_hash
from reconciler.core.observed import ObservedImage
from reconciler.core.rollout import Release


@dataclass(frozen=True, slots=True)
class PolicyTarget:
    """One OPA: the revision of its policies and limits, its container, and the files it loads (under `rendered/`)."""

    revision: str
    spec: ContainerSpec
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Targets:
    """`wanted` is each service's release; a service whose image is not here yet is absent from it.

    `kept` holds, by revision, all that can be started: the wanted revisions and those kept for going back.
    `missing` are image references that must be fetched first. `policies` are the OPAs that should run: that
    of the manifest in force first, then that of one waiting to be admitted, if its policies differ.
    `proxy_version` is nginx's, () where the image does not tell.
    """

    wanted: Mapping[str, Release] = field(default_factory=dict)
    kept: Mapping[str, KeptRevision] = field(default_factory=dict)
    proxy: ContainerSpec | None = None
    proxy_version: tuple[int, ...] = ()
    policies: tuple[PolicyTarget, ...] = ()
    missing: tuple[str, ...] = ()


def wanted_images(desired: DesiredState) -> tuple[str, ...]:
    """Every image reference that the manifest names, OPA's first because it is needed first."""
    services = tuple(service.image for service in desired.services)
    return tuple(dict.fromkeys((desired.opa.image, *services, desired.nginx.image)))


def make_targets(
    desired: DesiredState,
    images: Mapping[str, ObservedImage],
    stored: Iterable[KeptRevision],
    layout: Layout,
    policies: tuple[PolicyTarget, ...],
) -> Targets:
    """The targets of `desired`; `stored` are the revisions kept on disk."""
    kept = {revision.revision: revision for revision in stored}
    wanted = {}
    for service in desired.services:
        image = images.get(service.image)
        if image is None:
            continue
        revision = spec_hash(service, image.id, desired.network.name)
        kept[revision] = KeptRevision(revision, service, image, desired.network.name)
        wanted[service.name] = Release(revision, service.mode)
    nginx = images.get(desired.nginx.image)
    return Targets(
        wanted=wanted,
        kept=kept,
        proxy=proxy_container(desired, nginx, layout) if nginx else None,
        proxy_version=_version(nginx.version) if nginx else (),
        policies=policies,
        missing=tuple(reference for reference in wanted_images(desired) if reference not in images),
    )


def _version(text: str) -> tuple[int, ...]:
    """`1.30.6` as (1, 30, 6); () for what does not look like a version."""
    parts = text.split("-", 1)[0].split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
