"""What the manifest asks for, normalised: defaults filled in, spellings mapped, units fixed.

Everything here is parsed once at the edge (`reconciler.formats.manifest`) and trusted afterwards.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from reconciler.core.windows import Window

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

PROXY = "nginx"
POLICY = "opa"
RESERVED_NAMES = frozenset({PROXY, POLICY})


class Mode(StrEnum):
    """The track a container is started for; it reads it as `MODE`."""

    STABLE = "stable"
    CANARY = "canary"


class Strategy(StrEnum):
    """How a service moves from one revision to the next."""

    CANARY = "canary"
    BLUE_GREEN = "blue_green"
    ROLLING = "rolling"
    RECREATE = "recreate"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a container shows that it can serve.

    `path` is probed by ourselves over HTTP on the service's port (any 2xx or 3xx is healthy); `test` is
    the command that Docker runs inside the container, in Compose's list form. Either may be absent.
    """

    path: str | None = "/healthz"
    test: tuple[str, ...] | None = None
    interval_s: float = 5.0
    timeout_s: float = 3.0
    retries: int = 3
    start_period_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount; `kind` is `volume`, `bind` or `tmpfs`; `source` is empty for tmpfs.

    A volume's source is its real name. A bind's is absolute, or `./…` below the manifest's folder where that
    folder was not known as a whole path.
    """

    kind: str
    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of one container; None is no limit of that kind."""

    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int = 256


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests of nginx go to the service; `host` None is any host."""

    host: str | None = None
    path: str = "/"
    sticky: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a canary: its share of the traffic and how long it stays at least."""

    weight_pct: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """`services.*.rollout`, defaults from the behaviour design §1; durations in seconds."""

    strategy: Strategy = Strategy.CANARY
    steps: tuple[Step, ...] = (Step(5, 60.0), Step(25, 60.0), Step(50, 60.0))
    min_requests: int = 20
    max_wait_s: float = 600.0
    on_timeout: str = "promote"
    promotion: str = "fresh"
    probe_path: str | None = None
    probe_rate_per_s: float = 1.0
    drain_s: float = 30.0
    watch_s: float = 120.0
    health_deadline_s: float = 60.0
    unknown_budget_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where a service's evidence comes from.

    `server` is a Prometheus server's address and `match` the labels of a container's series in it, as sorted pairs;
    `{address}`, `{port}`, `{name}` and `{id}` stand for the container's own.
    """

    provider: str = "auto"
    path: str = "/metrics"
    names: tuple[tuple[str, str], ...] = ()
    server: str = ""
    match: tuple[tuple[str, str], ...] = (("instance", "{address}:{port}"),)


@dataclass(frozen=True, slots=True)
class Service:
    """One service as the manifest wants it. `image` is the reference as written.

    `environment` and `labels` are sorted pairs. `user` None means the image's own user where that is not
    root, else 65534. `port` None is a worker that nobody connects to. `tester_secret` says where the secret is
    (`file:NAME`), `tester_digest` is what stands for it: None where it was not looked up.
    """

    name: str
    image: str
    port: int | None
    mode: Mode = Mode.STABLE
    version: str = "1.0.0"
    restart_policy: str = "unless-stopped"
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    log_volume: str = ""
    log_path: str = "/var/log/app"
    healthcheck: HealthCheck | None = field(default_factory=HealthCheck)
    replicas: int = 1
    resources: Resources = field(default_factory=Resources)
    user: str | None = None
    read_only: bool = True
    cap_add: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ("/tmp",)
    working_dir: str | None = None
    hostname: str | None = None
    init: bool = False
    stop_signal: str | None = None
    stop_grace_period_s: float = 10.0
    labels: tuple[tuple[str, str], ...] = ()
    route: Route | None = field(default_factory=Route)
    rollout: RolloutSpec = field(default_factory=RolloutSpec)
    metrics: Metrics = field(default_factory=Metrics)
    chaos: bool = False
    tester_secret: str | None = None
    tester_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Nginx:
    """The proxy. `port` is published on the host; `proxy_timeout_s` bounds connect, send and read."""

    image: str
    port: int
    proxy_timeout_s: float = 30.0
    contact: str = "ops@localhost"
    service_name: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """The one network that nginx and the services share."""

    name: str
    driver: str = "bridge"


@dataclass(frozen=True, slots=True)
class Opa:
    """The policy engine. `policies_dir` is beside the manifest; its `*.rego` are loaded with ours."""

    image: str = "openpolicyagent/opa:1.19.0-static"
    decision_timeout_s: float = 5.0
    policies_dir: str = "policies"


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The whole manifest. `revision` is the SHA-256 (hex) of the file's bytes: which text asked for this."""

    project: str
    revision: str
    services: tuple[Service, ...]
    nginx: Nginx
    network: Network
    opa: Opa = field(default_factory=Opa)
    limits: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    health_timeout_s: float = 60.0
    user_policies: tuple[tuple[str, str], ...] = ()
    windows: tuple[Window, ...] = ()

    def service(self, name: str) -> Service | None:
        """The service called `name`, or None."""
        return next((service for service in self.services if service.name == name), None)


_NOT_IN_A_REVISION = frozenset(
    {"mode", "rollout", "route", "metrics", "chaos", "tester_secret", "tester_digest", "replicas", "image"}
)


@functools.lru_cache(maxsize=4096)
def spec_hash(service: Service, image_id: str, network: str) -> str:
    """The revision of a service: 64 hex digits over all that changes its containers.

    The image enters as its resolved ID, so a rebuilt `:latest` is a new revision. Not in it: `mode`,
    `rollout`, `route`, `metrics`, the number of replicas, and everything outside the service.
    """
    values = {key: value for key, value in dataclasses.asdict(service).items() if key not in _NOT_IN_A_REVISION}
    return digest({"service": values, "image_id": image_id, "network": network})


def digest(value: object) -> str:
    """SHA-256 (hex) of `value` as canonical JSON; equal values give equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
