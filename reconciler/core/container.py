"""A container as we would create it: engine-neutral, hardened, and the source of the Compose file too.

`ContainerSpec` is what a container *is*; its name, address and identity labels come with `CreateContainer`.
Both the engine adapter and `reconciler.formats.compose` read the same value, so what Compose would start and
what we start cannot differ.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from reconciler.core.desired import HealthCheck, Mount, digest

LABEL = "io.swiftdeploy."


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """`host_port` of the host, on all its addresses unless `host_ip` says otherwise."""

    host_port: int
    container_port: int
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All that creates a container but its name, address and identity.

    `image` is what Compose and people read, `image_id` what the engine starts. `network` None is no network
    at all. Capabilities are always dropped first, no-new-privileges is always on.
    """

    image: str
    image_id: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    working_dir: str | None = None
    hostname: str | None = None
    network: str | None = None
    ports: tuple[PublishedPort, ...] = ()
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[str, ...] = ()
    read_only: bool = True
    cap_add: tuple[str, ...] = ()
    init: bool = False
    healthcheck: HealthCheck | None = None
    restart_policy: str = "unless-stopped"
    stop_signal: str | None = None
    stop_grace_period_s: float = 10.0
    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int = 256
    log_max_size: str = "10m"
    log_max_files: int = 3
    labels: tuple[tuple[str, str], ...] = ()

    def digest(self) -> str:
        """SHA-256 (hex) of the whole spec: two containers with the same one are interchangeable."""
        return _digest(self)


@functools.lru_cache(maxsize=4096)
def _digest(spec: ContainerSpec) -> str:
    return digest(dataclasses.asdict(spec))
