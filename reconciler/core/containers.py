"""From what a manifest asks for to the containers that would give it: one function per kind."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reconciler.core.container import ContainerSpec, PublishedPort
from reconciler.core.desired import DesiredState, Mode, Mount, Service
from reconciler.core.observed import ObservedImage, Slot

NOBODY = "65534:65534"
PROXY_LIVE = "/etc/nginx/live"
PROXY_RUN = "/run/swiftdeploy"
PROXY_TMP = "/tmp:rw,nosuid,nodev,noexec,size=1g,mode=1777"
"""nginx keeps request bodies of up to 64 MB there; memory is used as they come."""
PROXY_LOG = "/var/log/swiftdeploy"
EVIDENCE_LOG = f"{PROXY_LOG}/evidence.log"


def proxy_log_tmpfs(user: str) -> str:
    """Where nginx, running as `user` (`uid:gid`), counts what it did, for the daemon to read.

    Full while nobody reads it, and then lines are left out. It belongs to nginx: a mode alone is lost when the
    container is started again, since runc then gives the mount that of the folder it made the first time.
    """
    uid, _, gid = user.partition(":")
    return f"{PROXY_LOG}:rw,nosuid,nodev,noexec,size=64m,mode=0755,uid={uid},gid={gid or uid}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie on the host (absolute paths), and the user that nginx and OPA run as (`uid:gid`)."""

    rendered: str
    run: str
    user: str


@dataclass(frozen=True, slots=True)
class KeptRevision:
    """Everything needed to start a revision again when the manifest no longer holds it."""

    revision: str
    service: Service
    image: ObservedImage
    network: str


def service_container(kept: KeptRevision, mode: Mode) -> ContainerSpec:
    """The container of one replica of a service, started for `mode`."""
    service, image = kept.service, kept.image
    ours = {"MODE": mode.value, "APP_VERSION": service.version}
    if service.port is not None:
        ours["APP_PORT"] = str(service.port)
    log = (Mount("volume", service.log_volume, service.log_path),) if service.log_volume else ()
    return ContainerSpec(
        image=image.used,
        image_id=image.id,
        command=service.command,
        entrypoint=service.entrypoint,
        environment=tuple(sorted((dict(service.environment) | ours).items())),
        user=service.user or _own_user(image),
        working_dir=service.working_dir,
        hostname=service.hostname,
        network=kept.network,
        mounts=service.mounts + log,
        tmpfs=service.tmpfs,
        read_only=service.read_only,
        cap_add=service.cap_add,
        init=service.init,
        healthcheck=service.healthcheck,
        restart_policy=service.restart_policy,
        stop_signal=service.stop_signal,
        stop_grace_period_s=service.stop_grace_period_s,
        memory_bytes=service.resources.memory_bytes,
        cpus=service.resources.cpus,
        pids=service.resources.pids,
        labels=service.labels,
    )


def proxy_container(desired: DesiredState, image: ObservedImage, layout: Layout) -> ContainerSpec:
    """nginx: the only container that publishes a port; its configuration is a mounted folder."""
    return ContainerSpec(
        image=image.used,
        image_id=image.id,
        entrypoint=("nginx",),
        command=("-c", f"{PROXY_LIVE}/nginx.conf", "-e", "stderr"),
        user=layout.user,
        network=desired.network.name,
        ports=(PublishedPort(desired.nginx.port, desired.nginx.port),),
        mounts=(
            Mount("bind", f"{layout.rendered}/nginx/live", PROXY_LIVE, read_only=True),
            Mount("bind", f"{layout.run}/nginx", PROXY_RUN),
        ),
        tmpfs=(PROXY_TMP, proxy_log_tmpfs(layout.user)),
        stop_signal="SIGQUIT",
        stop_grace_period_s=desired.nginx.proxy_timeout_s,
    )


def compose_proxy(live: ContainerSpec) -> ContainerSpec:
    """The same nginx for people who leave: it reads the configuration that needs no daemon."""
    return dataclasses.replace(
        live,
        mounts=(Mount("bind", "./nginx/compose", PROXY_LIVE, read_only=True),),
        tmpfs=(*live.tmpfs, f"{PROXY_RUN}:mode=1777"),
    )


def slot_name(service: str, slot: Slot) -> str:
    """The Compose service, network alias and nginx upstream of one slot."""
    return f"{service}-{slot}"


def _own_user(image: ObservedImage) -> str:
    """The image's user unless that is root."""
    name = image.user.split(":", 1)[0]
    return NOBODY if name in ("", "0", "root") else image.user
