"""An engine, a proxy and a folder in dictionaries: as strict as the real ones, and thousands of times faster.

What Docker refuses is refused here: a name twice, an image that is not here, an address or a port that somebody holds,
a network that is gone or in use. The same contract suite runs against both (tests/contract). Beside the ports there are
words for what happens to a machine: `crash`, `destroy`, `reboot`, `prune`; and `fault`, asked before every act.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import assert_never

from reconciler.adapters import docker_decode as decode
from reconciler.core.errors import EngineError, ReconcilerError
from reconciler.core.observed import (
    EngineState,
    ObservedContainer,
    ObservedImage,
    ObservedNetwork,
    ObservedProxy,
    Slot,
    Status,
)
from reconciler.core.plan import (
    OK,
    Action,
    ConnectContainer,
    CreateContainer,
    EnsureNetwork,
    EnsureVolume,
    Outcome,
    PreparePolicy,
    PrepareProxy,
    PullImage,
    ReloadProxy,
    RemoveContainer,
    RemoveFile,
    RemoveNetwork,
    RemoveVolume,
    Result,
    SetRestartPolicy,
    SetTraffic,
    StartContainer,
    StopContainer,
    TestProxyConfig,
    WaitHealthy,
    WaitPolicy,
    WaitProxy,
    WriteFile,
)
from reconciler.formats.nginx import config_hash
from reconciler.ports import Wanted

LOOK_AGAIN_S = 0.5
PULL_AGAIN_S = 10.0


def _never() -> float:
    """A clock that stands still."""
    return 0.0


def _no_fault(_action: Action) -> Result | None:
    return None


@dataclass(slots=True)
class Box:
    """One container. `endpoints` maps network IDs to addresses; `fixed` are those it was given for good."""

    id: str
    name: str
    labels: dict[str, str]
    request: CreateContainer
    status: Status = Status.CREATED
    endpoints: dict[str, str | None] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    restarts: int = 0
    started: float | None = None
    finished: float | None = None
    docker_health: str | None = None
    stopped_by_us: bool = False
    restart_policy: str = ""
    log: list[bytes] = field(default_factory=list)

    @property
    def holds_things(self) -> bool:
        """It runs (or is frozen), so its ports and addresses are taken."""
        return self.status in (Status.RUNNING, Status.PAUSED)


@dataclass(slots=True)
class Net:
    """One network; several may have one name."""

    id: str
    name: str
    labels: dict[str, str]
    driver: str = "bridge"
    subnet: str | None = None
    ip_range: str | None = None


class MemoryEngine:
    """Runtime in dictionaries. `registry` is what a pull would bring, `broken_images` why an image does not start.

    `pull_s` and `stop_s` are how long a pull and a graceful stop take on the clock given.
    """

    def __init__(
        self,
        *,
        instance: str,
        monotonic: Callable[[], float] = _never,
        fault: Callable[[Action], Result | None] = _no_fault,
    ) -> None:
        self.images: dict[str, ObservedImage] = {}
        self.registry: dict[str, ObservedImage] = {}
        self.broken_images: dict[str, str] = {}
        self.boxes: dict[str, Box] = {}
        self.networks: dict[str, Net] = {}
        self.volumes: dict[str, dict[str, str]] = {}
        self.ports_of_others: dict[int, str] = {}
        self.pull_s = 0.0
        self.stop_s = 0.0
        self.is_down = False
        self.fault = fault
        self._instance = instance
        self._monotonic = monotonic
        self._project = ""
        self._count = 0
        self._pulls: dict[str, float] = {}
        self._pull_failures: dict[str, str] = {}
        self._pull_again_at_s: dict[str, float] = {}
        self._stops: dict[str, float] = {}

    # The port

    def observe(self, wanted: Wanted) -> EngineState:
        """A full snapshot. Raises EngineError while the engine is down."""
        self._ask()
        self._project = wanted.project
        self._finish_pulls()
        self._finish_stops()
        ours = [box for box in self.boxes.values() if box.labels.get(decode.PROJECT) == wanted.project]
        alike = [net for net in self.networks.values() if net.name == wanted.network]
        found = sorted((self._observed_network(net, wanted.project) for net in alike), key=decode.preference)
        mounted = {mount.source for box in ours for mount in box.request.spec.mounts if mount.kind == "volume"}
        labelled = {name for name, labels in self.volumes.items() if labels.get(decode.PROJECT) == wanted.project}
        return EngineState(
            containers=tuple(sorted((self._observed(box, found) for box in ours), key=lambda c: c.name)),
            networks=tuple(found),
            volumes=frozenset(labelled | (mounted & self.volumes.keys())),
            images=self._asked_images(wanted.images),
            images_failed={name: self._pull_failures[name] for name in wanted.images if name in self._pull_failures},
            ports_taken=self._ports_taken(wanted),
            taken_addresses=frozenset(
                address for box in self.boxes.values() for net in alike if (address := box.endpoints.get(net.id))
            ),
            taken_subnets=frozenset(net.subnet for net in self.networks.values() if net.subnet is not None),
        )

    def apply(self, action: Action) -> Result:
        """Carry out one action. Never raises."""
        faulty = self.fault(action)
        if faulty is not None:
            return faulty
        try:
            self._ask()
            return self._carry_out(action)
        except EngineError as refused:
            return Result(Outcome.FAILED, str(refused))

    def facts(self) -> tuple[tuple[str, bool, str], ...]:
        """That this is no engine. Never raises."""
        return (("engine", not self.is_down, "in memory"),)

    def logs(self, container_id: str, *, tail: int, follow: bool) -> Iterable[bytes | None]:
        """What was put into `Box.log`; following ends at its end. Raises EngineError."""
        self._ask()
        lines = self._box(container_id).log
        return list(lines if tail < 0 else lines[len(lines) - min(tail, len(lines)) :])

    def _carry_out(self, action: Action) -> Result:
        match action:
            case PullImage():
                return self._pull(action.reference)
            case EnsureNetwork():
                return self._ensure_network(action)
            case RemoveNetwork():
                return self._remove_network(action)
            case EnsureVolume():
                self.volumes.setdefault(action.name, dict(action.labels))
                return OK
            case RemoveVolume():
                return self._remove_volume(action.name)
            case CreateContainer():
                return self._create(action)
            case StartContainer():
                return self._start(self._box(action.container))
            case ConnectContainer():
                return self._connect(action)
            case StopContainer():
                return self._stop(action)
            case RemoveContainer():
                return self._remove(action.container_id)
            case SetRestartPolicy():
                self._box(action.container_id).restart_policy = action.policy
                return OK
            case (
                WriteFile()
                | RemoveFile()
                | PrepareProxy()
                | PreparePolicy()
                | TestProxyConfig()
                | ReloadProxy()
                | SetTraffic()
                | WaitHealthy()
                | WaitProxy()
                | WaitPolicy()
            ):
                return Result(Outcome.FAILED, f"{type(action).__name__} is not for the container engine.")
            case _:
                assert_never(action)

    # What happens to a machine

    def add_image(self, reference: str, *, user: str = "1000") -> ObservedImage:
        """An image is here."""
        image = ObservedImage(reference=reference, id=f"sha256:{self._new_id(reference)}", used=reference, user=user)
        self.images[reference] = image
        return image

    def offer_image(self, reference: str) -> ObservedImage:
        """A registry has an image that is not here."""
        image = self.add_image(reference)
        del self.images[reference]
        self.registry[reference] = image
        return image

    def box(self, name: str) -> Box:
        """The container called `name`, or with that ID."""
        return self._box(name)

    def crash(self, name: str, exit_code: int = 1, *, oom: bool = False) -> None:
        """The main process ends by itself; the restart policy does what it says."""
        box = self._box(name)
        self._exited(box, exit_code)
        box.oom_killed = oom
        policy, _, most = box.restart_policy.partition(":")
        again = policy in ("always", "unless-stopped") or (policy == "on-failure" and exit_code != 0)
        if again and not (most and box.restarts >= int(most)):
            box.restarts += 1
            self._start(box)

    def destroy(self, name: str) -> None:
        """Somebody removes a container behind our back."""
        del self.boxes[self._box(name).id]

    def reboot(self) -> None:
        """Everything stops; what its restart policy says comes back, where it can."""
        running = [box for box in self.boxes.values() if box.status in (Status.RUNNING, Status.PAUSED)]
        for box in running:
            self._exited(box, 137)
        for box in running:
            if box.restart_policy in ("always", "unless-stopped"):
                self._start(box)

    def prune(self) -> None:
        """`docker system prune -a`: stopped containers, networks and images that nothing uses."""
        self.boxes = {box.id: box for box in self.boxes.values() if box.holds_things}
        used = {net for box in self.boxes.values() for net in box.endpoints}
        self.networks = {net.id: net for net in self.networks.values() if net.id in used}
        images = {box.request.spec.image_id for box in self.boxes.values()}
        self.images = {name: image for name, image in self.images.items() if image.id in images}

    # Images

    def _pull(self, reference: str) -> Result:
        self._finish_pulls()
        if reference in self._pull_failures and self._monotonic() < self._pull_again_at_s[reference]:
            return Result(Outcome.FAILED, self._pull_failures[reference])
        self._pulls.setdefault(reference, self._monotonic() + self.pull_s)
        return Result(Outcome.PENDING, f"pulling {reference}", LOOK_AGAIN_S)

    def forget_image_failures(self) -> None:
        """An operator asks: images that could not be had are tried again at once."""
        self._pull_failures.clear()

    def _finish_pulls(self) -> None:
        for reference in [name for name, at in self._pulls.items() if self._monotonic() >= at]:
            del self._pulls[reference]
            if reference in self.registry:
                self.images[reference] = self.registry[reference]
                self._pull_failures.pop(reference, None)
            else:
                self._pull_failures[reference] = f"{reference} cannot be pulled: no registry has it."
                self._pull_again_at_s[reference] = self._monotonic() + PULL_AGAIN_S

    # Networks and volumes

    def _ensure_network(self, action: EnsureNetwork) -> Result:
        if any(net.name == action.name for net in self.networks.values()):
            return Result(Outcome.OK, "exists")
        self.add_network(action)
        return OK

    def add_network(self, action: EnsureNetwork) -> Net:
        """One more network, whether or not another has its name. EngineError where subnets overlap."""
        if action.subnet is not None:
            wanted = ipaddress.ip_network(action.subnet)
            subnets = [ipaddress.ip_network(net.subnet) for net in self.networks.values() if net.subnet]
            if any(wanted.overlaps(subnet) for subnet in subnets):
                raise EngineError("The subnet overlaps with another network of this host. Another one is needed.")
        net = Net(
            self._new_id(action.name), action.name, dict(action.labels), action.driver, action.subnet, action.ip_range
        )
        self.networks[net.id] = net
        return net

    def _remove_network(self, action: RemoveNetwork) -> Result:
        net = self.networks.get(action.network_id)
        if net is None:
            return Result(Outcome.OK, "was gone already")
        if not decode.may_be_ours(net.labels, self._project, self._instance):
            return Result(Outcome.FAILED, f"The network {net.name} is not ours; it stays.")
        attached = sorted(box.name for box in self.boxes.values() if box.holds_things and net.id in box.endpoints)
        if attached:
            return Result(Outcome.FAILED, f"The network {net.name} is still used by {', '.join(attached)}.")
        del self.networks[net.id]
        return OK

    def _remove_volume(self, name: str) -> Result:
        if name not in self.volumes:
            return Result(Outcome.OK, "was gone already")
        if not decode.may_be_ours(self.volumes[name], self._project, self._instance):
            return Result(Outcome.FAILED, f"The volume {name} is not ours; it stays.")
        mounted = [box.name for box in self.boxes.values() for mount in box.request.spec.mounts if mount.source == name]
        if mounted:
            return Result(Outcome.FAILED, f"The volume {name} is in use by {', '.join(sorted(mounted))}.")
        del self.volumes[name]
        return OK

    # Containers

    def _create(self, action: CreateContainer) -> Result:
        labels = decode.all_labels(action)
        holder = next((box for box in self.boxes.values() if box.name == action.name), None)
        if holder is not None:
            same = holder.labels == labels and holder.request.spec.image_id == action.spec.image_id
            if same and labels.get(decode.INSTANCE) == self._instance:
                return Result(Outcome.OK, "adopted: it was created before")
            return Result(Outcome.FAILED, f"The name {action.name} is held by container {holder.id[:12]}.")
        self._refuse_creation(action)
        box = Box(self._new_id(action.name), action.name, labels, action)
        box.restart_policy = action.spec.restart_policy
        if action.spec.network is not None:
            net = self._network(action.spec.network)
            box.endpoints = {net.id: action.address}
            box.fixed = {net.id: action.address} if action.address is not None else {}
        self.boxes[box.id] = box
        return OK

    def _refuse_creation(self, action: CreateContainer) -> None:
        if action.spec.image_id not in {image.id for image in self.images.values()}:
            raise EngineError(f"The image {action.spec.image_id} is not here. It must be pulled or built first.")
        if action.spec.network is not None:
            self._refuse_address(self._network(action.spec.network), action.address)

    def _refuse_address(self, net: Net, address: str | None) -> None:
        if address is None:
            return
        if net.subnet is None:
            raise EngineError("Fixed addresses need a network with a subnet of our choosing.")
        if ipaddress.ip_address(address) not in ipaddress.ip_network(net.subnet):
            raise EngineError(f"The address {address} is not in {net.subnet}.")

    def _start(self, box: Box) -> Result:
        if box.status is Status.RUNNING:
            return OK
        refused = self._start_refusal(box)
        if refused is not None:
            box.error, box.exit_code = refused, 128
            return Result(Outcome.FAILED, refused)
        for net_id in box.endpoints:
            box.endpoints[net_id] = box.fixed.get(net_id) or self._free_address(self.networks[net_id])
        self._count += 1
        box.status, box.pid, box.error, box.exit_code = Status.RUNNING, 1000 + self._count, "", None
        box.oom_killed, box.stopped_by_us, box.started = False, False, self._moment()
        return OK

    def _start_refusal(self, box: Box) -> str | None:
        spec = box.request.spec
        gone = [net_id for net_id in box.endpoints if net_id not in self.networks]
        if gone:
            return f"The network is gone: {gone[0][:12]}."
        if spec.image_id in self.broken_images:
            return self.broken_images[spec.image_id]
        others = [other for other in self.boxes.values() if other is not box and other.holds_things]
        for net_id, address in box.fixed.items():
            sitting = next((other.name for other in others if other.endpoints.get(net_id) == address), None)
            if sitting is not None:
                return f"Another container holds the fixed address. {address} is with {sitting}."
        held = {port.host_port: f"container {other.name}" for other in others for port in other.request.spec.ports}
        held |= self.ports_of_others
        taken = next((port.host_port for port in spec.ports if port.host_port in held), None)
        return None if taken is None else f"Host port {taken} is taken by {held[taken]}. Free it."

    def _free_address(self, net: Net) -> str:
        """As Docker does: the lowest one of its part that nobody holds now, so that a freed one passes on at once."""
        held = {box.endpoints.get(net.id) for box in self.boxes.values() if box.holds_things}
        hosts = ipaddress.ip_network(net.ip_range or net.subnet or "172.31.0.0/16").hosts()
        next(hosts)
        return next(address for address in map(str, hosts) if address not in held)

    def _connect(self, action: ConnectContainer) -> Result:
        box, net = self._box(action.container_id), self._network(action.network)
        if net.id in box.endpoints and action.address in (None, box.endpoints[net.id]):
            return Result(Outcome.OK, "was connected already")
        self._refuse_address(net, action.address)
        box.endpoints = {known: address for known, address in box.endpoints.items() if known in self.networks}
        box.fixed = {known: address for known, address in box.fixed.items() if known in self.networks}
        if action.address is not None:
            box.fixed[net.id] = action.address
        box.endpoints[net.id] = action.address or (self._free_address(net) if box.holds_things else None)
        return OK

    def _stop(self, action: StopContainer) -> Result:
        guarded = self._guard(action.container_id)
        if guarded is not None:
            return guarded
        box = self.boxes[action.container_id]
        if not box.holds_things and box.status is not Status.RESTARTING:
            return OK
        self._stops.setdefault(box.id, self._monotonic() + min(self.stop_s, action.grace_s))
        self._finish_stops()
        if box.id in self._stops:
            return Result(Outcome.PENDING, f"stopping, up to {action.grace_s:g} s", LOOK_AGAIN_S)
        return OK

    def _finish_stops(self) -> None:
        for box_id in [box_id for box_id, at in self._stops.items() if self._monotonic() >= at]:
            del self._stops[box_id]
            if box_id in self.boxes:
                self._exited(self.boxes[box_id], 0)
                self.boxes[box_id].stopped_by_us = True

    def _exited(self, box: Box, exit_code: int) -> None:
        box.status, box.pid, box.exit_code, box.finished = Status.EXITED, 0, exit_code, self._moment()
        box.endpoints = {net_id: box.fixed.get(net_id) for net_id in box.endpoints}

    def _remove(self, container_id: str) -> Result:
        guarded = self._guard(container_id)
        if guarded is not None:
            return guarded
        del self.boxes[container_id]
        return OK

    def _guard(self, container_id: str) -> Result | None:
        box = self.boxes.get(container_id)
        if box is None:
            return Result(Outcome.OK, "was gone already")
        if not decode.is_ours(box.labels, self._project, self._instance):
            return Result(Outcome.FAILED, f"Container {container_id[:12]} is not ours; it stays.")
        return None

    # Looking

    def _ask(self) -> None:
        if self.is_down:
            raise EngineError("Nobody listens on the engine's socket. Start the Docker Engine.", retryable=True)

    def _box(self, name: str) -> Box:
        found = self.boxes.get(name) or next((box for box in self.boxes.values() if box.name == name), None)
        if found is None:
            raise EngineError(f"{name} is gone.")
        return found

    def _network(self, name: str) -> Net:
        alike = [net for net in self.networks.values() if net.name == name]
        best = decode.best_network(self._observed_network(net, net.labels.get(decode.PROJECT, "")) for net in alike)
        if best is None:
            raise EngineError(f"The network {name} does not exist yet.", retryable=True)
        return self.networks[best.id]

    def _observed_network(self, net: Net, project: str) -> ObservedNetwork:
        attached = sum(net.id in box.endpoints for box in self.boxes.values() if box.holds_things)
        ours = bool(project) and net.labels.get(decode.PROJECT) == project
        return ObservedNetwork(net.id, net.name, ours, net.subnet, net.ip_range, attached, net.driver)

    def _observed(self, box: Box, networks: Sequence[ObservedNetwork]) -> ObservedContainer:
        label = {key.removeprefix("io.swiftdeploy."): value for key, value in box.labels.items()}
        address = next((box.endpoints[net.id] for net in networks if net.id in box.endpoints), None)
        return ObservedContainer(
            id=box.id,
            name=box.name,
            service=label.get("service", ""),
            revision=label.get("revision", ""),
            status=box.status,
            slot=Slot(label["slot"]) if label.get("slot") in set(Slot) else None,
            replica=int(label["replica"]) if label.get("replica", "").isdigit() else None,
            mode=label.get("mode") or "stable",
            generation=int(label["generation"]) if label.get("generation", "").isdigit() else 0,
            ours=decode.is_ours(box.labels, self._project, self._instance),
            image_id=box.request.spec.image_id,
            address=address or next(filter(None, box.endpoints.values()), None),
            networks=tuple(box.endpoints),
            pid=box.pid,
            exit_code=box.exit_code,
            oom_killed=box.oom_killed,
            error=box.error,
            restarts=box.restarts,
            started_at=_stamp(box.started),
            finished_at=_stamp(box.finished),
            restart_policy=box.restart_policy,
            docker_health=box.docker_health if box.status is Status.RUNNING else None,
            ports=tuple(port.host_port for port in box.request.spec.ports) if box.status is Status.RUNNING else (),
        )

    def _asked_images(self, asked: Iterable[str]) -> dict[str, ObservedImage]:
        """By name or by ID, as it was asked."""
        by_id = {image.id: image for image in self.images.values()}
        return {name: self.images.get(name) or by_id[name] for name in asked if name in self.images or name in by_id}

    def _ports_taken(self, wanted: Wanted) -> dict[int, str]:
        held = dict(self.ports_of_others)
        for box in self.boxes.values():
            if box.holds_things and not decode.is_ours(box.labels, wanted.project, self._instance):
                held |= {port.host_port: f"container {box.name}" for port in box.request.spec.ports}
        return {port: held[port] for port in wanted.ports if port in held}

    def _moment(self) -> float:
        """Now; never the same twice."""
        return self._monotonic() + self._count * 1e-6

    def _new_id(self, seed: str) -> str:
        self._count += 1
        return hashlib.sha256(f"{self._count} {seed}".encode()).hexdigest()


def _stamp(seconds: float | None) -> str:
    """Seconds since the machine began as Docker would write them."""
    return "" if seconds is None else datetime.fromtimestamp(_EPOCH + seconds, UTC).isoformat()


_EPOCH = datetime(2000, 1, 1, tzinfo=UTC).timestamp()


class MemoryFiles:
    """Files in a dictionary. `is_full`: there is no room for another byte."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.is_full = False
        self._known: dict[str, tuple[str, str]] = {}

    def digests(self) -> Mapping[str, str]:
        """SHA-256 (hex) of every file by its path."""
        for path, text in self.texts.items():
            known = self._known.get(path)
            if known is None or known[0] is not text:
                self._known[path] = text, hashlib.sha256(text.encode("utf-8")).hexdigest()
        return {path: self._known[path][1] for path in self.texts}

    def apply(self, action: WriteFile | RemoveFile) -> Result:
        """Replace or remove one file. Never raises."""
        parts = action.path.split("/")
        if "\0" in action.path or any(part in ("", ".", "..") for part in parts):
            return Result(Outcome.FAILED, f"{action.path}: this is not a path inside the folder of rendered files.")
        if isinstance(action, RemoveFile):
            self.texts.pop(action.path, None)
            return OK
        parents = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if parents & self.texts.keys() or any(path.startswith(f"{action.path}/") for path in self.texts):
            return Result(
                Outcome.FAILED, f"{action.path}: a file is where a folder should be, or a folder in its place."
            )
        if self.is_full:
            return Result(Outcome.FAILED, f"The disk is full: {action.path} could not be written. The old file stays.")
        self.texts[action.path] = action.content
        return OK


class MemoryProxy:
    """nginx as a hash and weights. It reads its configuration from `files` when it starts and when it is reloaded.

    `old_workers` is how many go on serving after a reload until the test sets it to 0; `holds_on` is how many each
    reload leaves behind. `stale_socket` keeps the next nginx from answering until it is cleared.
    """

    def __init__(
        self,
        files: MemoryFiles,
        *,
        config: str = "nginx/live/nginx.conf",
        monotonic: Callable[[], float] = _never,
        hash_of: Callable[[str], str] = config_hash,
    ) -> None:
        self.weights: dict[str, int] = {}
        self.holds_on = 0
        self.old_workers = 0
        self.stale_socket = False
        self.reloads = 0
        self._files = files
        self._config = config
        self._monotonic = monotonic
        self._hash_of = hash_of
        self._run: tuple[str, int] | None = None
        self._live: str | None = None
        self._reloaded_at_s = 0.0

    def observe(self, container: ObservedContainer | None, services: Sequence[str]) -> ObservedProxy:
        """What runs and which weights the flags say. Never raises."""
        weights = {name: self.weights[name] for name in services if name in self.weights}
        if container is None or not container.is_running:
            return ObservedProxy(weights=weights)
        if self._run != (container.id, container.pid):
            self._run, self.old_workers = (container.id, container.pid), 0
            self._live = None if self.stale_socket else self._on_disk()
        for_s = self._monotonic() - self._reloaded_at_s if self.old_workers else 0.0
        return ObservedProxy(self._live, self.old_workers, for_s, weights)

    def apply(self, action: PrepareProxy | TestProxyConfig | ReloadProxy | SetTraffic) -> Result:
        """Prepare for a start, test a configuration, reload, or move weights. Never raises."""
        match action:
            case PrepareProxy():
                self.stale_socket = False
                for service in action.services:
                    self.weights.setdefault(service, 0)
                return OK
            case TestProxyConfig():
                refused = self._refusal(action.content)
                return Result(Outcome.FAILED, f"nginx refuses the configuration: {refused}") if refused else OK
            case ReloadProxy():
                return self._reload(action.container_id)
            case SetTraffic():
                if not 0 <= action.weight_pct <= 100:
                    return Result(Outcome.FAILED, f"{action.service} cannot have {action.weight_pct} % of anything.")
                self.weights[action.service] = action.weight_pct
                return OK
            case _:
                assert_never(action)

    def _reload(self, container_id: str) -> Result:
        if self._run is None or self._run[0] != container_id:
            return Result(Outcome.FAILED, "nginx does not run; there is nothing to reload.")
        self.reloads += 1
        loaded = self._on_disk()
        if loaded is not None:
            self._live, self.old_workers, self._reloaded_at_s = loaded, self.holds_on, self._monotonic()
        return OK

    def _on_disk(self) -> str | None:
        text = self._files.texts.get(self._config)
        return None if text is None or self._refusal(text) else self._hash_of(text)

    def _refusal(self, text: str) -> str | None:
        try:
            self._hash_of(text)
        except ReconcilerError as refused:
            return str(refused)
        return None
