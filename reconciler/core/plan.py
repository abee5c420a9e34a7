"""What is to be done: a closed union of actions, and a plan that prints itself.

One action is one call to the world. Waiting is an action too, and never blocks. A plan is a graph: `after`
names the steps that must have answered *ok* first; steps that do not depend on each other run side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reconciler.core.container import ContainerSpec


@dataclass(frozen=True, slots=True)
class PullImage:
    """Get `reference` from its registry, or what stands in for it; runs beside the loop."""

    reference: str


@dataclass(frozen=True, slots=True)
class EnsureNetwork:
    """Create the network with `subnet`, of which Docker may give away `ip_range` only."""

    name: str
    driver: str
    subnet: str | None
    ip_range: str | None
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RemoveNetwork:
    """Remove a network of ours."""

    network_id: str
    name: str


@dataclass(frozen=True, slots=True)
class EnsureVolume:
    """Create a named volume with our labels."""

    name: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RemoveVolume:
    """Remove a named volume of ours, with what is in it."""

    name: str


@dataclass(frozen=True, slots=True)
class CreateContainer:
    """Create (not start) a container; `name` is unique on the engine, so this is also a claim."""

    name: str
    spec: ContainerSpec
    address: str | None
    labels: tuple[tuple[str, str], ...]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Start a container by name (one created in this plan) or by ID."""

    container: str


@dataclass(frozen=True, slots=True)
class WaitHealthy:
    """Pending until our probe of the container likes it."""

    container: str


@dataclass(frozen=True, slots=True)
class ConnectContainer:
    """Attach a container to the network again, at its address."""

    container_id: str
    network: str
    address: str | None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StopContainer:
    """Send the stop signal and wait for the exit up to `grace_s`, then kill."""

    container_id: str
    grace_s: float


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Remove a container by ID; one that runs is killed first."""

    container_id: str


@dataclass(frozen=True, slots=True)
class SetRestartPolicy:
    """Let Docker heal a container by `policy` (Compose's words) from now on; it is not restarted for that."""

    container_id: str
    policy: str


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Put `content` at `path` under `rendered/`, atomically."""

    path: str
    content: str


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Remove `path` under `rendered/`."""

    path: str


@dataclass(frozen=True, slots=True)
class PrepareProxy:
    """Clear nginx's stale private socket away and make the flags that are missing, before it starts.

    The files that `config` includes are put in place.
    """

    services: tuple[str, ...]
    config: str = ""


@dataclass(frozen=True, slots=True)
class PreparePolicy:
    """Make the folder for OPA's socket of `revision`, and its token, before it starts."""

    revision: str


@dataclass(frozen=True, slots=True)
class TestProxyConfig:
    """Let nginx itself check a configuration (`nginx -t`) before it is put in place."""

    content: str
    image_id: str
    container_id: str | None


@dataclass(frozen=True, slots=True)
class ReloadProxy:
    """Note nginx's workers, then tell the master to load what is on disk."""

    container_id: str


@dataclass(frozen=True, slots=True)
class WaitProxy:
    """Pending until nginx says that it runs `config_hash`, and (if `drained`) no older worker is left."""

    config_hash: str
    drained: bool


@dataclass(frozen=True, slots=True)
class SetTraffic:
    """Give the slot that is not the default one `weight_pct` of a service's requests, without a reload."""

    service: str
    weight_pct: int


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """Pending until OPA answers for `revision`."""

    revision: str


Action = (
    PullImage
    | EnsureNetwork
    | RemoveNetwork
    | EnsureVolume
    | RemoveVolume
    | CreateContainer
    | StartContainer
    | WaitHealthy
    | ConnectContainer
    | StopContainer
    | RemoveContainer
    | SetRestartPolicy
    | WriteFile
    | RemoveFile
    | PrepareProxy
    | PreparePolicy
    | TestProxyConfig
    | ReloadProxy
    | WaitProxy
    | SetTraffic
    | WaitPolicy
)
WAITING = (WaitHealthy, WaitProxy, WaitPolicy)
HARMLESS = (*WAITING, PrepareProxy, PreparePolicy)
"""Actions after which the world is no other than before, as far as anybody could tell."""

_VERBS: dict[type, str] = {
    PullImage: "pull",
    EnsureNetwork: "create network",
    RemoveNetwork: "remove network",
    EnsureVolume: "create volume",
    RemoveVolume: "remove volume",
    CreateContainer: "create",
    StartContainer: "start",
    WaitHealthy: "wait for",
    ConnectContainer: "connect",
    StopContainer: "stop",
    RemoveContainer: "remove",
    SetRestartPolicy: "set restart policy of",
    WriteFile: "write",
    RemoveFile: "delete",
    PrepareProxy: "prepare",
    PreparePolicy: "prepare",
    TestProxyConfig: "test",
    ReloadProxy: "reload",
    WaitProxy: "wait for",
    SetTraffic: "set traffic",
    WaitPolicy: "wait for",
}


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """An action, the thing it is about, why, and the indices of the steps it must come after."""

    action: Action
    target: str
    cause: str
    after: tuple[int, ...] = ()

    @property
    def verb(self) -> str:
        """What an operator would call it."""
        return _VERBS[type(self.action)]

    def __str__(self) -> str:
        return f"{self.verb} {self.target}: {self.cause}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in an order that respects `after`; empty means converged.

    `notes` say what the plan leaves undone on purpose, and what would let it be done.
    """

    steps: tuple[PlannedAction, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "".join(f"{step}\n" for step in self.steps)

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def acts(self) -> bool:
        """Something in it can change the world now: a step that is no wait, and comes after none."""
        waiting: set[int] = set()
        for index, step in enumerate(self.steps):
            if isinstance(step.action, WAITING) or not waiting.isdisjoint(step.after):
                waiting.add(index)
        return len(waiting) < len(self.steps)


class Outcome(StrEnum):
    """How an action ended. UNKNOWN: it may have happened; PENDING: not yet, nothing wrong."""

    OK = "ok"
    PENDING = "pending"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"

    @property
    def moves_on(self) -> bool:
        """The world is not as it was: look at once what follows from it."""
        return self is Outcome.OK


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one action; `look_again_s` is set on PENDING: when another look is worth it."""

    outcome: Outcome
    detail: str = ""
    look_again_s: float | None = None


OK = Result(Outcome.OK)
