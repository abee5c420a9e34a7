"""What the cycle needs of the world, as small protocols; adapters implement them, `wiring` chooses.

Every call is synchronous and has its own total deadline. An adapter raises its own child of
`ReconcilerError` only where its docstring here says so; all else it answers as a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.core.containers import KeptRevision
from reconciler.core.desired import DesiredState, HealthCheck, Json, Service
from reconciler.core.errors import Problem
from reconciler.core.evidence import Evidence
from reconciler.core.evidence.readings import Counted
from reconciler.core.git_status import GitStatus, Synced
from reconciler.core.observed import EngineState, Health, ObservedContainer, ObservedProxy, Slot
from reconciler.core.plan import (
    Action,
    PrepareProxy,
    ReloadProxy,
    RemoveFile,
    Result,
    SetTraffic,
    TestProxyConfig,
    WriteFile,
)
from reconciler.core.provenance import Commit
from reconciler.core.record import HostFacts, Verdict
from reconciler.core.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a source holds now.

    `desired` is None when it cannot be used; `problems` then says why, and `digest` (SHA-256 of the bytes,
    or of the reason when there are none) lets it be recorded once. `warnings` never stop anything.
    `settled` is false while a writer may still be at work: look again soon, decide nothing. `parsed` is
    false when the problems are with the text itself, not with what it says. `commit` is the one it was read from,
    where that is known; `trouble` why the source cannot be followed any further, and stops nothing.
    """

    digest: str
    desired: DesiredState | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    settled: bool = True
    parsed: bool = True
    commit: Commit | None = None
    trouble: tuple[Problem, ...] = ()


class Source(Protocol):
    """Where the manifest comes from."""

    def load(self) -> Loaded:
        """The manifest as it is now; cheap when nothing changed. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for on the engine: names this project would use, and host ports it would publish."""

    project: str
    instance: str
    network: str
    images: tuple[str, ...]
    ports: tuple[int, ...]


class Repository(Protocol):
    """A source that follows a git repository, as operators speak to it. Each may raise Refused."""

    def status(self) -> GitStatus:
        """How far it is followed, and why no further."""
        ...

    def sync(self) -> Synced:
        """Look now, and wait for it."""
        ...

    def accept(self, prefix: str, reason: str, actor: str) -> Commit:
        """Let in the one commit that is refused now, whose id begins with `prefix`."""
        ...

    @property
    def writes_back(self) -> bool:
        """Whether `write` is allowed."""
        ...

    def write(self, change: Callable[[bytes], bytes], message: str) -> Commit:
        """The manifest with `change` made is committed, pushed and in force. Raises what `change` raises, too."""
        ...

    def manifest_at(self, commit: str) -> Loaded:
        """The manifest as `commit` (an id or its beginning) has it; nothing is let in by that."""
        ...


class Runtime(Protocol):
    """A container engine."""

    def observe(self, wanted: Wanted) -> EngineState:
        """A full snapshot. Raises EngineError when the engine cannot be asked."""
        ...

    def apply(self, action: Action) -> Result:
        """Carry out one action about images, containers, networks or volumes. Never raises EngineError."""
        ...

    def forget_image_failures(self) -> None:
        """An operator asks: images that could not be had are tried again at once."""
        ...

    def logs(self, container_id: str, *, tail: int, follow: bool) -> Iterable[bytes | None]:
        """Log lines of a container, oldest first; None is "nothing new for now". Raises EngineError."""
        ...

    def facts(self) -> Sequence[tuple[str, bool, str]]:
        """What `doctor` wants to know: name, whether it is as it should be, and words. Never raises."""
        ...


class Prober(Protocol):
    """Asks containers whether they can serve, all at once, within one short deadline."""

    def probe(self, targets: Sequence[ProbeTarget]) -> Mapping[str, tuple[Health, str]]:
        """Health and a few words for each target's container ID. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """One container to be asked. `port` None: healthy means running for `min_uptime_s`."""

    container: ObservedContainer
    port: int | None
    check: HealthCheck | None
    min_uptime_s: float = 10.0


@dataclass(frozen=True, slots=True)
class MeasureTarget:
    """One container whose requests are to be counted, and the service that says how: port, path, names."""

    container: ObservedContainer
    service: Service


class Metrics(Protocol):
    """Counts what containers answered: by their own word, and by the proxy's."""

    def read(self, targets: Sequence[MeasureTarget], proxy: ObservedContainer | None) -> Mapping[str, Counted]:
        """What is counted now, by container ID, for every target, within about 2 s. Never raises."""
        ...


class Probes(Protocol):
    """Requests of our own, so that an idle service gathers evidence; they go through nginx's private listener."""

    def set(self, slots: Iterable[tuple[Service, Slot]]) -> None:
        """From now on these slots are asked, each at its service's rate, and nobody else. Never raises."""
        ...


class Proxy(Protocol):
    """nginx, seen from beside it: its private listener, its worker processes, the flags on disk."""

    def observe(self, container: ObservedContainer | None, services: Sequence[str]) -> ObservedProxy:
        """What runs and which weights the flags say. Never raises."""
        ...

    def apply(self, action: PrepareProxy | TestProxyConfig | ReloadProxy | SetTraffic) -> Result:
        """Prepare for a start, test a configuration, reload, or move weights. Never raises."""
        ...


class Files(Protocol):
    """The `rendered/` folder."""

    def digests(self) -> Mapping[str, str]:
        """SHA-256 (hex) of every regular file by its path relative to `rendered/`."""
        ...

    def apply(self, action: WriteFile | RemoveFile) -> Result:
        """Replace or remove one file atomically. Never raises."""
        ...


class Policy(Protocol):
    """OPA."""

    def prepare(self, revision: str) -> Result:
        """Make what its container mounts: the socket's folder for `revision`, the token. Never raises."""
        ...

    def ready(self, revision: str) -> tuple[bool, str]:
        """Whether it answers for `revision` and denies an empty question in every domain; else why not."""
        ...

    def evaluate(self, domain: str, question: Mapping[str, Json], revision: str) -> Verdict:
        """Its answer; `known` false for whatever is not exactly an answer. Never raises."""
        ...


class Host(Protocol):
    """The machine."""

    def facts(self, disk_path: str | None) -> HostFacts:
        """Free disk, load and memory now; `disk_path` None is the engine's data root."""
        ...

    def free_subnet(self, taken: Sequence[str]) -> tuple[str, str] | None:
        """A private /22 that no route, address or `taken` network overlaps, and the part Docker may use."""
        ...


class RolloutStore(Protocol):
    """`rollout.json` and `revisions/`."""

    def load(self) -> Rollout:
        """The last saved state; an empty one when there is none or it cannot be read."""
        ...

    def save(self, rollout: Rollout) -> None:
        """Durable when it returns. Raises StateError."""
        ...

    def kept(self) -> tuple[KeptRevision, ...]:
        """All revisions that can be started again; unreadable ones are left out."""
        ...

    def keep(self, revision: KeptRevision) -> None:
        """Durable when it returns; a revision is written once. Raises StateError."""
        ...

    def last_good(self) -> DesiredState | None:
        """The manifest that was last admitted, or None."""
        ...

    def admit(self, desired: DesiredState) -> None:
        """Make `desired` the last good one; durable when it returns. Raises StateError."""
        ...

    def commit_of(self, desired: DesiredState | None) -> Commit | None:
        """The commit that `desired`, the last good one, was read from; None where nobody remembers."""
        ...

    def trace(self, desired: DesiredState, commit: Commit | None) -> None:
        """Remember that; durable when it returns. Raises StateError."""
        ...

    def evidence(self) -> Mapping[str, Evidence]:
        """What is known about each service's trial, by service; empty where it was lost."""
        ...

    def save_evidence(self, services: Mapping[str, Evidence]) -> None:
        """Durable when it returns. Raises StateError."""
        ...

    def forget_all_but(self, revisions: Iterable[str]) -> None:
        """Remove the specs that nobody can go back to."""
        ...


class History(Protocol):
    """`history.jsonl`."""

    def append(self, record: Mapping[str, Json]) -> object:
        """Durable when it returns. Raises StateError."""
        ...


class Clock(Protocol):
    """Time, in one place."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def timestamp(self) -> str:
        """RFC 3339, UTC, milliseconds, `Z`."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything a cycle may touch."""

    source: Source
    runtime: Runtime
    prober: Prober
    proxy: Proxy
    files: Files
    policy: Policy
    host: Host
    rollouts: RolloutStore
    history: History
    clock: Clock
    metrics: Metrics
    probes: Probes
    instance: str = field(default="")
