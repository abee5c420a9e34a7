"""One snapshot of the world, taken once a cycle: the only thing a plan is made from besides wishes.

Absence is a value here ("no such container", "nginx does not answer"), never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Slot(StrEnum):
    """The two fixed places behind nginx that a service's containers can be in."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Slot:
        """The slot that this one is not."""
        return Slot.GREEN if self is Slot.BLUE else Slot.BLUE


class Status(StrEnum):
    """Docker's word for a container's state; UNKNOWN is a word we have not heard of."""

    CREATED = "created"
    RUNNING = "running"
    RESTARTING = "restarting"
    PAUSED = "paused"
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Health(StrEnum):
    """What our own probe of a container's address said in this cycle.

    READY answered well (or has nothing to be probed and has run long enough), SICK answered badly or not at
    all, UNKNOWN was not asked.
    """

    READY = "ready"
    SICK = "sick"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ObservedContainer:
    """A container with our project's label. `ours` is false when it carries another instance's.

    `mode` and `generation` come from labels; `slot` and `replica` are None for nginx and OPA. `address` is
    the fixed IPv4 it was created with where there is one, else the one it has now. `networks` are IDs.
    `pid` is the main process on the host, 0 when not running. `docker_health` is Docker's own word
    (`starting`, `healthy`, `unhealthy`) or None where the container has no health check. `restart_policy` is in
    Compose's words, "" where it is not known. `ports` are those of the host that it publishes while it runs.
    """

    id: str
    name: str
    service: str
    revision: str
    status: Status
    slot: Slot | None = None
    replica: int | None = None
    mode: str = "stable"
    generation: int = 0
    ours: bool = True
    image_id: str = ""
    address: str | None = None
    networks: tuple[str, ...] = ()
    pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    restarts: int = 0
    started_at: str = ""
    finished_at: str = ""
    restart_policy: str = ""
    docker_health: str | None = None
    ports: tuple[int, ...] = ()
    health: Health = Health.UNKNOWN
    health_detail: str = ""

    @property
    def is_running(self) -> bool:
        """The main process runs and is not frozen."""
        return self.status is Status.RUNNING

    def uptime_s(self, now: float) -> float:
        """Seconds since it was last started; 0.0 where that is not known. `now` is seconds since the epoch."""
        try:
            return max(0.0, now - datetime.fromisoformat(self.started_at).timestamp())
        except ValueError:
            return 0.0

    @property
    def has_run_on(self) -> bool:
        """It may still be serving somebody: it is paused, or between two starts."""
        return self.status in (Status.PAUSED, Status.RESTARTING)

    @property
    def has_run(self) -> bool:
        """It ran and ended, or is between two starts."""
        return self.status in (Status.EXITED, Status.RESTARTING)

    @property
    def is_ready(self) -> bool:
        """It runs, our probe likes it, and Docker's own check (where it has spoken) does not disagree."""
        return self.is_running and self.health is Health.READY and self.docker_health != "unhealthy"


@dataclass(frozen=True, slots=True)
class ObservedNetwork:
    """A network by the name we want. `ours` is true when it carries our project's label."""

    id: str
    name: str
    ours: bool
    subnet: str | None = None
    ip_range: str | None = None
    attached: int = 0
    driver: str = "bridge"


@dataclass(frozen=True, slots=True)
class ObservedImage:
    """An image that is here: the reference it was asked for, and the one that serves in its stead if another.

    `user` is the image's configured user ("" is root); `version` is what its NGINX_VERSION variable says.
    """

    reference: str
    id: str
    used: str
    user: str = ""
    stop_signal: str | None = None
    size_bytes: int = 0
    version: str = ""

    @property
    def is_substitute(self) -> bool:
        """A local build of ours stands in for what the manifest names."""
        return self.used != self.reference


@dataclass(frozen=True, slots=True)
class EngineState:
    """What the container engine has of this project, and what it has of others in our way.

    `images` is keyed by the reference as the manifest writes it; one that is absent is not in it.
    `images_failed` says why a pull (or the build in its stead) did not bring one. `ports_taken` maps a host
    port we want to who holds it, in words, when that is not us. `taken_addresses` are all addresses in our
    network that any container holds; `taken_subnets` those of all networks of the engine.
    """

    containers: tuple[ObservedContainer, ...] = ()
    networks: tuple[ObservedNetwork, ...] = ()
    volumes: frozenset[str] = frozenset()
    images: Mapping[str, ObservedImage] = field(default_factory=dict)
    images_failed: Mapping[str, str] = field(default_factory=dict)
    ports_taken: Mapping[int, str] = field(default_factory=dict)
    taken_addresses: frozenset[str] = frozenset()
    taken_subnets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ObservedProxy:
    """What nginx says it runs.

    `live_hash` is the answer of its private listener (None: no answer). `retiring` counts worker processes
    of an older configuration that still serve, `retiring_for_s` is how long ago the reload that retired them
    was. `weights` is each service's share of the slot that is *not* its default one, read from the flags on
    disk; a service that is absent there has lost its flags. `sees_files` is false when the folders it mounted
    are no longer those at their paths. `has_includes` is false when a file that its configuration includes is not as
    it should be. `named` are the addresses in the configuration that it runs; None where nobody remembers that one.
    `may_name`: where it does not answer, those in each configuration that it may be running, as far as remembered.
    """

    live_hash: str | None = None
    retiring: int = 0
    retiring_for_s: float = 0.0
    weights: Mapping[str, int] = field(default_factory=dict)
    sees_files: bool = True
    has_includes: bool = True
    named: frozenset[str] | None = None
    may_name: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyHealth:
    """Whether an OPA answers for its policy revision; `detail` says why not.

    `has_failed`: it ran and stopped by itself, so its policies (or its image) will not do. `is_stuck`: it has
    run for long and still does not answer, as when its socket or its token was taken away.
    """

    ready: bool
    detail: str = ""
    has_failed: bool = False
    is_stuck: bool = False


_NOT_ASKED = PolicyHealth(False, "not asked yet")


@dataclass(frozen=True, slots=True)
class ObservedState:
    """The snapshot. `files` maps a path under `rendered/` to the SHA-256 (hex) of its bytes; `policies` is
    keyed by policy revision.
    """

    engine: EngineState
    files: Mapping[str, str] = field(default_factory=dict)
    proxy: ObservedProxy = field(default_factory=ObservedProxy)
    policies: Mapping[str, PolicyHealth] = field(default_factory=dict)
    _by_service: Mapping[str, tuple[ObservedContainer, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index: dict[str, list[ObservedContainer]] = {}
        for container in self.engine.containers:
            if container.ours:
                index.setdefault(container.service, []).append(container)
        ordered = {
            service: tuple(sorted(containers, key=lambda c: (c.generation, c.replica or 0, c.name)))
            for service, containers in index.items()
        }
        object.__setattr__(self, "_by_service", ordered)

    def of(self, service: str) -> tuple[ObservedContainer, ...]:
        """Our containers of one service (or of nginx, or of OPA), oldest generation first."""
        return self._by_service.get(service, ())

    def policy(self, revision: str) -> PolicyHealth:
        """What is known of the OPA that answers for `revision`."""
        return self.policies.get(revision, _NOT_ASKED)
