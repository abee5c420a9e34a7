"""The Runtime port over the Docker Engine API.

`observe` is a handful of short calls and remembers nothing: a list's words ("Up 3 seconds") do not tell a restarted
container from one that was not, so an inspection is never reused. `apply` is one call to the engine for each action.
What takes long (pulls, builds, graceful stops) runs beside the loop on threads that die with the process.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, assert_never

import docker
import docker.errors
import requests
import urllib3

from reconciler.adapters import docker_decode as decode
from reconciler.core.container import LABEL
from reconciler.core.desired import Mount
from reconciler.core.errors import EffectUnknown, EngineError
from reconciler.core.observed import EngineState, ObservedContainer, ObservedImage, ObservedNetwork
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
    SetTraffic,
    StartContainer,
    StopContainer,
    TestProxyConfig,
    WaitHealthy,
    WaitPolicy,
    WaitProxy,
    WriteFile,
)
from reconciler.ports import Wanted

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
LOOKS_AT_ONCE = 6
PULLS_AT_ONCE = 3
PULL_DEADLINE_S = 1800.0
PULL_SILENCE_S = 300.0
BACKOFF_FIRST_S = 10.0
BACKOFF_MAX_S = 600.0
STOP_PATIENCE_S = 0.2
LOOK_AGAIN_S = 0.5
ONE_OFF_SERVICE = "one-off"

Found = TypeVar("Found")


class LocalBuilds(Protocol):
    """Images that can be built on this machine in place of ones that cannot be pulled."""

    def substitute_for(self, reference: str) -> str | None:
        """The image that may stand in, built or not; without a tag it means the newest of that repository."""
        ...

    def build(self, reference: str) -> None:
        """The substitute for `reference` is on the engine. Raises EngineError."""
        ...


class NoLocalBuilds:
    """Nothing stands in for anything."""

    def substitute_for(self, reference: str) -> str | None:
        """Always None."""
        return None

    def build(self, reference: str) -> None:
        """Never asked for."""
        raise EngineError(f"Nothing on this machine can be built in place of {reference}.")


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What `doctor` wants to know of the engine."""

    version: str
    api_version: str
    data_root: str
    cgroup_version: str
    live_restore: bool
    storage_driver: str
    operating_system: str
    architecture: str
    cpus: int
    memory_bytes: int
    warnings: tuple[str, ...] = ()


# ── connections and what goes wrong with them ──────────────────────────────────────────────────────────────────────

Connect = Callable[[str, str, float], docker.APIClient]


def default_address(base_url: str | None) -> str:
    """The engine's address: as given, else $DOCKER_HOST, else the usual socket."""
    return base_url or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET


def connect_to(base_url: str, version: str, timeout_s: float) -> docker.APIClient:
    """One client; `version` "auto" asks the engine which API it speaks."""
    client = docker.APIClient(base_url=base_url, version=version, timeout=timeout_s)  # type: ignore[arg-type]
    client.trust_env = (
        False  # a proxy from the environment never leads to the engine, and looking costs more than a call
    )
    return client


class Connections:
    """A client for each thread; the API version is negotiated once and again after a refusal."""

    def __init__(self, base_url: str, connect: Connect, timeout_s: float) -> None:
        self.base_url = base_url
        self._connect = connect
        self._timeout_s = timeout_s
        self._kept = threading.local()
        self._version = "auto"
        self._epoch = 0

    def client(self, timeout_s: float | None = None) -> docker.APIClient:
        """This thread's client, with a deadline for each read of an answer."""
        if getattr(self._kept, "epoch", None) != self._epoch:
            self._kept.client, self._kept.epoch = self.fresh(self._timeout_s), self._epoch
        client: docker.APIClient = self._kept.client
        client.timeout = self._timeout_s if timeout_s is None else timeout_s  # type: ignore[assignment]
        return client

    def fresh(self, timeout_s: float) -> docker.APIClient:
        """A client of one's own, for answers that go on for long."""
        client = self._connect(self.base_url, self._version, timeout_s)
        self._version = client.api_version
        return client

    def negotiate_again(self) -> None:
        """The next call of every thread asks for the API version anew (the engine was replaced)."""
        self._version, self._epoch = "auto", self._epoch + 1


@dataclass(frozen=True, slots=True)
class _Failure:
    """What went wrong with a call. `sent` is false when the engine cannot have acted; `status` 0 is no answer."""

    words: str
    sent: bool
    status: int = 0
    raw: str = ""

    @property
    def result(self) -> Result:
        return Result(Outcome.UNKNOWN if self.sent and not self.status else Outcome.FAILED, self.words)

    @property
    def error(self) -> EngineError:
        if self.sent and not self.status:
            return EffectUnknown(self.words)
        return EngineError(self.words, retryable=self.status == 0 or self.status >= 500)


# What docker-py and the libraries below it raise for an engine that refuses, stalls, vanishes or babbles.
TROUBLE = (
    docker.errors.DockerException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
)


def _failure(trouble: Exception, where: str) -> _Failure:
    if isinstance(trouble, docker.errors.APIError):
        said = str(trouble.explanation or trouble)
        return _Failure(decode.meaning(said), sent=True, status=trouble.status_code or 500, raw=said)
    before_sending = _never_sent(trouble)
    if before_sending is not None:
        return _Failure(_unreachable(before_sending, where), sent=False)
    if isinstance(trouble, requests.Timeout | TimeoutError | urllib3.exceptions.TimeoutError):
        return _Failure("The engine did not answer in time; it may still do what was asked.", sent=True)
    if isinstance(trouble, ValueError | KeyError | TypeError) and not isinstance(trouble, requests.RequestException):
        return _Failure(f"The engine's answer cannot be read ({type(trouble).__name__}).", sent=True)
    return _Failure("The connection to the engine broke; it may still do what was asked.", sent=True)


def _never_sent(trouble: BaseException) -> BaseException | None:
    """The reason why no connection came about, or None when one did."""
    for cause in _causes(trouble):
        if isinstance(cause, FileNotFoundError | ConnectionRefusedError | PermissionError):
            return cause
    is_setting_up = isinstance(trouble, docker.errors.DockerException)
    return trouble if is_setting_up or isinstance(trouble, requests.ConnectTimeout) else None


def _causes(trouble: BaseException) -> Iterator[BaseException]:
    """An exception and all that it wraps: as cause, as context, or (urllib3's way) among its arguments."""
    pending, seen = [trouble], set[int]()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        wrapped = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
        pending.extend(one for one in wrapped if isinstance(one, BaseException))


def _unreachable(reason: BaseException, where: str) -> str:
    path = where.removeprefix("unix://")
    if isinstance(reason, PermissionError):
        return f"Permission denied on {path}. Add this user to the group `docker` and sign in again, or run as root."
    if isinstance(reason, FileNotFoundError):
        return f"There is no {path}. Is the Docker Engine installed and running? (`systemctl start docker`)"
    if isinstance(reason, ConnectionRefusedError):
        return f"Nobody listens on {path}. Start the Docker Engine (`systemctl start docker`)."
    return f"The engine at {where} cannot be reached: {reason}"


# ── work beside the loop ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Errand:
    """One piece of work on its own thread: what it is doing, and how it ended."""

    words: str = ""
    done: threading.Event = field(default_factory=threading.Event)
    result: Result = OK


class Errands:
    """Work that takes long, at most one of a kind. What failed waits to be read, what went well is forgotten."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._running: dict[str, Errand] = {}
        self._lock = threading.Lock()

    def running(self, key: str) -> Errand | None:
        """The errand of that kind that has not ended."""
        with self._lock:
            errand = self._running.get(key)
        return errand if errand is not None and not errand.done.is_set() else None

    def take_failed(self, key: str) -> Errand | None:
        """One that failed since anybody looked; read once."""
        with self._lock:
            errand = self._running.get(key)
            if errand is None or not errand.done.is_set():
                return None
            return self._running.pop(key)

    def start(self, key: str, work: Callable[[Errand], Result]) -> Errand:
        """Start `work` unless it runs already."""
        with self._lock:
            present = self._running.get(key)
            if present is not None and not present.done.is_set():
                return present
            errand = self._running[key] = Errand()
        threading.Thread(target=self._run, args=(key, errand, work), name=key, daemon=True).start()
        return errand

    def _run(self, key: str, errand: Errand, work: Callable[[Errand], Result]) -> None:
        errand.result = Result(Outcome.UNKNOWN, f"{key}: ended by a bug of ours")
        try:
            errand.result = work(errand)
        finally:
            with self._lock:
                if errand.result.outcome is Outcome.OK:
                    self._running.pop(key, None)
                errand.done.set()
            self._wake(key)


@dataclass(slots=True)
class _PullFailure:
    reason: str
    times: int
    not_before: float


# ── the engine ─────────────────────────────────────────────────────────────────────────────────────────────────────


class DockerEngine:
    """Runtime over one Docker Engine.

    `base_url` None is $DOCKER_HOST or the usual socket. `wake` is called with a few words, from another thread, when
    work beside the loop has ended. `timeout_s` bounds a question, `effect_timeout_s` an act.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        instance: str,
        monotonic: Callable[[], float],
        images: LocalBuilds | None = None,
        wake: Callable[[str], None] = lambda _words: None,
        connect: Connect = connect_to,
        timeout_s: float = 10.0,
        effect_timeout_s: float = 30.0,
        proc: Path = Path("/proc"),
    ) -> None:
        self._where = default_address(base_url)
        self._instance = instance
        self._monotonic = monotonic
        self._images = images or NoLocalBuilds()
        self._connections = Connections(self._where, connect, timeout_s)
        self._effect_timeout_s = effect_timeout_s
        self._proc = proc
        self._project = ""  # the one last observed: nothing of any other is ever removed
        self._looks = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="engine-look")
        self._errands = Errands(wake)
        self._pull_slots = threading.Semaphore(PULLS_AT_ONCE)
        self._pull_failures: dict[str, _PullFailure] = {}

    def close(self) -> None:
        """No more questions; work beside the loop ends with the process."""
        self._looks.shutdown(wait=False, cancel_futures=True)

    # Questions

    def observe(self, wanted: Wanted) -> EngineState:
        """A full snapshot. Raises EngineError when the engine cannot be asked."""
        self._project = wanted.project
        with self._translated():
            volumes = self._beside(self._labelled_volumes, wanted.project)
            images = [self._beside(self._image, reference) for reference in dict.fromkeys(wanted.images)]
            listed = decode.rows(self._client().networks())
            networks = self._alike(wanted.network, listed)
            inspected = self._inspected_containers(wanted.project)
            observed = self._decoded(wanted, networks, inspected)
            here = {image.reference: image for image in (future.result() for future in images) if image is not None}
            return EngineState(
                containers=observed,
                networks=tuple(_best_first(decode.network(one, wanted.project) for one in networks)),
                volumes=volumes.result().union(*map(decode.mounted_volumes, inspected)),
                images=here,
                images_failed=self._failed_images(wanted.images, here),
                ports_taken=self._ports_taken(wanted, inspected),
                taken_addresses=_taken_addresses(networks, inspected),
                taken_subnets=frozenset().union(*map(decode.subnets, listed)),
            )

    def logs(self, container_id: str, *, tail: int, follow: bool) -> Iterable[bytes]:
        """Log lines of a container, oldest first; a negative `tail` is all of them. Raises EngineError."""
        with self._translated():
            client = self._connections.fresh(None if follow else self._effect_timeout_s)  # type: ignore[arg-type]
            chunks = client.logs(container_id, stream=True, follow=follow, tail=tail if tail >= 0 else "all")
        return self._lines(client, chunks)

    def engine_info(self) -> EngineInfo:
        """Facts about the engine, for `doctor`. Raises EngineError."""
        with self._translated():
            client = self._client()
            facts, version = decode.table(client.info()), decode.table(client.version())
        warnings = facts.get("Warnings")
        return EngineInfo(
            version=decode.text(version.get("Version")),
            api_version=decode.text(version.get("ApiVersion")),
            data_root=decode.text(facts.get("DockerRootDir")),
            cgroup_version=decode.text(facts.get("CgroupVersion")),
            live_restore=facts.get("LiveRestoreEnabled") is True,
            storage_driver=decode.text(facts.get("Driver")),
            operating_system=decode.text(facts.get("OperatingSystem")),
            architecture=decode.text(facts.get("Architecture")),
            cpus=decode.whole(facts.get("NCPU")),
            memory_bytes=decode.whole(facts.get("MemTotal")),
            warnings=tuple(map(str, warnings)) if isinstance(warnings, list) else (),
        )

    def facts(self) -> tuple[tuple[str, bool, str], ...]:
        """What `doctor` wants to know: name, whether it is as it should be, and words. Never raises."""
        try:
            info = self.engine_info()
        except EngineError as error:
            return (("docker engine", False, str(error)),)
        return (
            ("docker engine", True, f"{info.version}, API {info.api_version}, {info.operating_system}"),
            ("storage", True, f"{info.storage_driver} at {info.data_root}, cgroup v{info.cgroup_version}"),
            ("live restore", True, "on" if info.live_restore else "off: a restart of the engine stops all containers"),
            *(("engine warning", True, warning) for warning in info.warnings),
        )

    def forget_image_failures(self) -> None:
        """An operator asks: images that could not be had are tried again at once."""
        self._pull_failures.clear()

    # Acts

    def apply(self, action: Action) -> Result:
        """Carry out one action about images, containers, networks or volumes. Never raises."""
        try:
            return self._carry_out(action)
        except TROUBLE as trouble:
            return self._noted(trouble).result
        except EngineError as refused:
            return Result(Outcome.FAILED, str(refused))

    def _carry_out(self, action: Action) -> Result:
        match action:
            case PullImage():
                return self._pull(action.reference)
            case EnsureNetwork():
                return self._ensure_network(action)
            case RemoveNetwork():
                return self._remove_network(action)
            case EnsureVolume():
                return self._ensure_volume(action)
            case RemoveVolume():
                return self._remove_volume(action.name)
            case CreateContainer():
                return self._create(action)
            case StartContainer():
                return self._start(action.container)
            case ConnectContainer():
                return self._connect(action)
            case StopContainer():
                return self._stop(action)
            case RemoveContainer():
                return self._remove(action.container_id)
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

    # Looking

    def _client(self, timeout_s: float | None = None) -> docker.APIClient:
        return self._connections.client(timeout_s)

    def _acting(self) -> docker.APIClient:
        return self._connections.client(self._effect_timeout_s)

    def _beside(self, look: Callable[..., Found], *arguments: object) -> Future[Found]:
        return self._looks.submit(look, *arguments)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TROUBLE as trouble:
            raise self._noted(trouble).error from trouble

    def _noted(self, trouble: Exception) -> _Failure:
        failure = _failure(trouble, self._where)
        if "client version" in failure.raw:
            self._connections.negotiate_again()
        return failure

    def _labelled_volumes(self, project: str) -> frozenset[str]:
        answer = decode.table(self._client().volumes(filters={"label": f"{decode.PROJECT}={project}"}))
        return frozenset(decode.text(volume.get("Name")) for volume in decode.rows(answer.get("Volumes")))

    def _alike(self, name: str, listed: Iterable[decode.Answer]) -> list[decode.Answer]:
        """Every network of this name, inspected: a list does not say who is attached."""
        alike = [decode.identifier(one) for one in listed if one.get("Name") == name]
        return [one for one in map(self._inspect_network, alike) if one is not None]

    def _inspect_network(self, network_id: str) -> decode.Answer | None:
        return _or_none(lambda: decode.table(self._client().inspect_network(network_id)))

    def _inspected_containers(self, project: str) -> list[decode.Answer]:
        listed = self._client().containers(all=True, filters={"label": f"{decode.PROJECT}={project}"})
        looks = [self._beside(self._inspect, decode.identifier(one)) for one in decode.rows(listed)]
        return [one for one in (look.result() for look in looks) if one is not None]

    def _inspect(self, container: str) -> decode.Answer | None:
        return _or_none(lambda: decode.table(self._client().inspect_container(container)))

    def _decoded(
        self, wanted: Wanted, networks: Sequence[decode.Answer], inspected: Iterable[decode.Answer]
    ) -> tuple[ObservedContainer, ...]:
        best = decode.best_network(decode.network(one, wanted.project) for one in networks)
        ids = {best.name: best.id} if best is not None else {}
        decoded = (
            decode.container(
                one, project=wanted.project, instance=self._instance, network=wanted.network, network_ids=ids
            )
            for one in inspected
        )
        return tuple(sorted(decoded, key=lambda container: container.name))

    def _image(self, reference: str) -> ObservedImage | None:
        """The image itself, else what stands in for it."""
        found = self._inspect_image(reference)
        if found is not None:
            return decode.image(found, reference, reference)
        substitute = self._images.substitute_for(reference)
        used = self._newest_of(substitute) if substitute is not None else None
        found = self._inspect_image(used) if used is not None else None
        return decode.image(found, reference, used) if found is not None and used is not None else None

    def _inspect_image(self, reference: str) -> decode.Answer | None:
        return _or_none(lambda: decode.table(self._client().inspect_image(reference)))  # type: ignore[no-untyped-call]

    def _newest_of(self, substitute: str) -> str | None:
        """`substitute` itself where it has a tag, else the newest tag of that repository."""
        if ":" in substitute.rpartition("/")[2]:
            return substitute
        listed = decode.rows(self._client().images(name=substitute))
        newest_first = sorted(listed, key=lambda image: decode.whole(image.get("Created")), reverse=True)
        tags = (tag for image in newest_first for tag in image.get("RepoTags") or () if isinstance(tag, str))
        return next((tag for tag in tags if tag.startswith(f"{substitute}:")), None)

    def _failed_images(self, wanted: Iterable[str], here: Mapping[str, ObservedImage]) -> dict[str, str]:
        for reference in here:
            self._pull_failures.pop(reference, None)
        return {name: failure.reason for name in wanted if (failure := self._pull_failures.get(name)) is not None}

    def _ports_taken(self, wanted: Wanted, inspected: Iterable[decode.Answer]) -> dict[int, str]:
        """Ports that we want and do not have, and who has them. Nobody is asked when we have them all."""
        own = [one for one in inspected if decode.is_ours(decode.labels_of(one), self._project, self._instance)]
        missing = set(wanted.ports).difference(*map(decode.bound_ports, own))
        return self._port_holders(missing) if missing else {}

    def _port_holders(self, ports: Iterable[int]) -> dict[int, str]:
        holders: dict[int, str] = {}
        running = decode.rows(self._client().containers())
        for port in ports:
            containers = (decode.listed_name(one) for one in running if port in decode.listed_ports(one))
            holder = next(containers, None) or (listener(port, self._proc) if self._is_local else None)
            if holder is not None:
                holders[port] = holder
        return holders

    @property
    def _is_local(self) -> bool:
        return self._where.startswith("unix://")

    def _lines(self, client: docker.APIClient, chunks: Iterable[bytes]) -> Iterator[bytes]:
        rest = b""
        try:
            with self._translated():
                for chunk in chunks:
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from whole
            if rest:
                yield rest
        finally:
            client.close()

    # Images

    def _pull(self, reference: str) -> Result:
        key = f"pull {reference}"
        errand = self._errands.running(key)
        if errand is None:
            failure = self._pull_failures.get(reference)
            wait_s = failure.not_before - self._monotonic() if failure is not None else 0.0
            if failure is not None and wait_s > 0:
                return Result(Outcome.FAILED, f"{failure.reason} Tried again in {wait_s:.0f} s.")
            errand = self._errands.start(key, lambda own: self._obtain(reference, own))
        return Result(Outcome.PENDING, errand.words or f"pulling {reference}", LOOK_AGAIN_S)

    def _obtain(self, reference: str, errand: Errand) -> Result:
        """Runs beside the loop: pull, and where that fails build what may stand in."""
        try:
            with self._pull_slots:
                reason = self._pull_now(reference, errand)
                if reason is not None and self._images.substitute_for(reference) is not None:
                    errand.words = f"{reference} cannot be pulled; building a substitute here"
                    reason = self._build_now(reference, reason)
        except Exception:
            self._remember_failure(reference, f"{reference}: a bug of ours stopped the pull.")
            raise
        if reason is None:
            self._pull_failures.pop(reference, None)
            return OK
        self._remember_failure(reference, reason)
        return Result(Outcome.FAILED, reason)

    def _pull_now(self, reference: str, errand: Errand) -> str | None:
        """Why it could not be pulled, or None."""
        errand.words = f"pulling {reference}"
        give_up = self._monotonic() + PULL_DEADLINE_S
        layers: dict[str, str] = {}
        try:
            client = self._connections.fresh(PULL_SILENCE_S)
            with _closing(client):
                for event in map(decode.table, client.pull(reference, stream=True, decode=True)):
                    reason = decode.pull_failure(event)
                    if reason is not None:
                        return f"{reference} cannot be pulled: {' '.join(reason.split())[: decode.MAX_WORDS]}"
                    if self._monotonic() > give_up:
                        return f"{reference} cannot be pulled: not finished after {PULL_DEADLINE_S:.0f} s."
                    if event.get("id") and "Pulling from" not in decode.text(event.get("status")):
                        layers[decode.text(event.get("id"))] = decode.text(event.get("status"))
                    errand.words = f"pulling {reference}: {decode.layers_done(layers)}"
        except TROUBLE as trouble:
            return f"{reference} cannot be pulled: {self._noted(trouble).words}"
        return None

    def _build_now(self, reference: str, pull_reason: str) -> str | None:
        try:
            self._images.build(reference)
        except EngineError as failed:
            return f"{pull_reason} The build in its stead failed too: {failed}"
        return None

    def _remember_failure(self, reference: str, reason: str) -> None:
        before = self._pull_failures.get(reference)
        times = before.times + 1 if before is not None else 1
        wait_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(times - 1, 16))
        self._pull_failures[reference] = _PullFailure(reason, times, self._monotonic() + wait_s)

    # Networks and volumes

    def _ensure_network(self, action: EnsureNetwork) -> Result:
        if self._best_network(action.name) is not None:
            return Result(Outcome.OK, "exists")
        self._acting().create_network(
            action.name,
            driver=action.driver,
            ipam=decode.ipam_request(action.subnet, action.ip_range),  # type: ignore[arg-type]
            labels=dict(action.labels),
            check_duplicate=True,
        )
        return OK

    def _best_network(self, name: str) -> ObservedNetwork | None:
        """The network of that name (or ID) to use now: looked up each time, since names are not unique."""
        listed = decode.rows(self._client().networks())
        found = [one for one in listed if name in (one.get("Name"), one.get("Id"))]
        if len(found) > 1:
            found = [one for one in map(self._inspect_network, map(decode.identifier, found)) if one is not None]
        project = next((decode.text(decode.table(one.get("Labels")).get(decode.PROJECT)) for one in found), "")
        return decode.best_network(decode.network(one, project) for one in found)

    def _network_id(self, name: str) -> str:
        found = self._best_network(name)
        if found is None:
            raise EngineError(f"The network {name} does not exist yet.", retryable=True)
        return found.id

    def _remove_network(self, action: RemoveNetwork) -> Result:
        inspected = self._inspect_network(action.network_id)
        if inspected is None:
            return Result(Outcome.OK, "was gone already")
        if not decode.may_be_ours(decode.table(inspected.get("Labels")), self._project, self._instance):
            return Result(Outcome.FAILED, f"The network {action.name} is not ours; it stays.")
        attached = decode.table(inspected.get("Containers")).values()
        names = sorted(decode.text(decode.table(one).get("Name")) for one in attached)
        if names:
            return Result(Outcome.FAILED, f"The network {action.name} is still used by {', '.join(names)}.")
        _or_none(lambda: self._acting().remove_network(action.network_id))
        return OK

    def _ensure_volume(self, action: EnsureVolume) -> Result:
        self._acting().create_volume(action.name, labels=dict(action.labels))
        return OK

    def _remove_volume(self, name: str) -> Result:
        inspected = _or_none(lambda: decode.table(self._client().inspect_volume(name)))
        if inspected is None:
            return Result(Outcome.OK, "was gone already")
        if not decode.may_be_ours(decode.table(inspected.get("Labels")), self._project, self._instance):
            return Result(Outcome.FAILED, f"The volume {name} is not ours; it stays.")
        _or_none(lambda: self._acting().remove_volume(name))
        return OK

    # Containers

    def _create(self, action: CreateContainer) -> Result:
        network_id = self._network_id(action.spec.network) if action.spec.network is not None else None
        request = decode.container_request(action, network_id)
        try:
            self._acting().create_container_from_config(request, action.name)  # type: ignore[no-untyped-call]
        except docker.errors.APIError as refused:
            if refused.status_code != 409:
                raise
            return self._name_conflict(action, str(refused.explanation))
        return OK

    def _name_conflict(self, action: CreateContainer, said: str) -> Result:
        """A name is a claim: whoever has it already is either the very container that we want, or in our way."""
        if decode.is_going_away(said):
            return Result(Outcome.PENDING, f"{action.name} is being removed", LOOK_AGAIN_S)
        holder = self._inspect(decode.name_holder(said) or action.name)
        if holder is None:
            return Result(Outcome.PENDING, f"the holder of the name {action.name} just went", LOOK_AGAIN_S)
        labels = decode.labels_of(holder)
        wanted = decode.all_labels(action)
        alike = all(labels.get(key) == value for key, value in wanted.items())
        is_mine = labels.get(decode.INSTANCE) == self._instance
        if alike and is_mine and holder.get("Image") == action.spec.image_id:
            return Result(Outcome.OK, "adopted: it was created before")
        whose = "another one of ours" if decode.is_ours(labels, self._project, self._instance) else "not ours"
        short = decode.identifier(holder)[:12]
        return Result(
            Outcome.FAILED, f"The name {action.name} is held by container {short}, {whose}. Rename or remove it."
        )

    def _start(self, container: str) -> Result:
        try:
            self._acting().start(container)
        except docker.errors.APIError as refused:
            said = str(refused.explanation)
            if decode.is_going_away(said):
                return Result(Outcome.FAILED, f"{container} is being removed.")
            return Result(Outcome.FAILED, self._start_refusal(container, said))
        return OK

    def _start_refusal(self, container: str, said: str) -> str:
        port = decode.refused_port(said)
        if port is not None:
            holder = self._port_holders([port]).get(port)
            return f"Host port {port} is taken by {holder}. Free it." if holder else decode.meaning(said)
        if "ddress already in use" in said:
            return f"{decode.meaning(said)} {self._address_holder(container)}".strip()
        if said.startswith("No such container"):
            return f"{container} is gone."
        return decode.meaning(said)

    def _address_holder(self, container: str) -> str:
        """Which container sits on an address that this one was created with."""
        wanted = decode.endpoints_of(self._inspect(container) or {}, {})
        for name, address in wanted.items():
            attached = decode.table((self._inspect_network(name) or {}).get("Containers"))
            for other in map(decode.table, attached.values()):
                if address is not None and decode.text(other.get("IPv4Address")).partition("/")[0] == address:
                    return f"{address} is with {decode.text(other.get('Name'))}."
        return ""

    def _connect(self, action: ConnectContainer) -> Result:
        network_id = self._network_id(action.network)
        inspected = self._inspect(action.container_id)
        if inspected is None:
            return Result(Outcome.FAILED, f"{action.container_id[:12]} is gone.")
        present = decode.endpoints_of(inspected, {action.network: network_id})
        if network_id in present and action.address in (None, present[network_id]):
            return Result(Outcome.OK, "was connected already")
        self._acting().connect_container_to_network(
            action.container_id, network_id, ipv4_address=action.address, aliases=list(action.aliases)
        )
        return OK

    def _stop(self, action: StopContainer) -> Result:
        key = f"stop {action.container_id}"
        failed = self._errands.take_failed(key)
        if failed is not None:
            return failed.result
        if self._errands.running(key) is None:
            guarded = self._guard(action.container_id)
            if guarded is not None:
                return guarded
        errand = self._errands.start(key, lambda _own: self._stop_now(action))
        if errand.done.wait(STOP_PATIENCE_S):
            self._errands.take_failed(key)
            return errand.result
        return Result(Outcome.PENDING, f"stopping, up to {action.grace_s:g} s", LOOK_AGAIN_S)

    def _stop_now(self, action: StopContainer) -> Result:
        """Runs beside the loop: the engine answers when the container has exited."""
        grace_s = max(0, round(action.grace_s))
        try:
            client = self._connections.fresh(grace_s + self._effect_timeout_s)
            with _closing(client):
                _or_none(lambda: client.stop(action.container_id, timeout=grace_s))
        except TROUBLE as trouble:
            return self._noted(trouble).result
        return OK

    def _remove(self, container_id: str) -> Result:
        guarded = self._guard(container_id)
        if guarded is not None:
            return guarded
        try:
            _or_none(lambda: self._acting().remove_container(container_id, force=True, v=True))
        except docker.errors.APIError as refused:
            if not decode.is_going_away(str(refused.explanation)):
                raise
            return Result(Outcome.PENDING, "is being removed", LOOK_AGAIN_S)
        return OK

    def _guard(self, container_id: str) -> Result | None:
        """Before anything that destroys: OK where it is gone, FAILED where it is not ours, None to go on."""
        inspected = self._inspect(container_id)
        if inspected is None:
            return Result(Outcome.OK, "was gone already")
        if not decode.is_ours(decode.labels_of(inspected), self._project, self._instance):
            return Result(Outcome.FAILED, f"Container {container_id[:12]} is not ours; it stays.")
        return None

    # For the proxy beside us

    def main_pid(self, container_id: str) -> int:
        """The main process on the host; 0 when there is none. Raises EngineError."""
        with self._translated():
            return decode.whole(decode.table((self._inspect(container_id) or {}).get("State")).get("Pid"))

    def signal(self, container_id: str, name: str) -> None:
        """The main process has been sent a signal. Raises EngineError."""
        with self._translated():
            self._acting().kill(container_id, name)

    def processes(self, container_id: str) -> list[tuple[int, int, str]]:
        """Process ID, parent and command line, as the engine sees them. Raises EngineError."""
        with self._translated():
            answer = decode.table(self._client().top(container_id, "-eo pid,ppid,args"))
        found = answer.get("Processes")
        return [
            (int(row[0]), int(row[1]), " ".join(map(str, row[2:])))
            for row in (found if isinstance(found, list) else [])
            if isinstance(row, list) and len(row) > 2 and str(row[0]).isdigit() and str(row[1]).isdigit()
        ]

    def execute(self, container_id: str, command: Sequence[str]) -> tuple[int, str] | None:
        """Exit code and output of a command in a running container; None when it does not run. Raises EngineError."""
        with self._translated():
            client = self._acting()
            try:
                created = client.exec_create(container_id, list(command))
            except docker.errors.APIError as refused:
                if refused.status_code in (404, 409):
                    return None
                raise
            said = client.exec_start(created["Id"])
            code = decode.whole(decode.table(client.exec_inspect(created["Id"])).get("ExitCode"))
        return code, said.decode("utf-8", "replace") if isinstance(said, bytes) else ""

    def run_once(
        self, image_id: str, command: Sequence[str], mounts: Sequence[Mount], tmpfs: Sequence[str], user: str
    ) -> tuple[int, str]:
        """Exit code and output of a command in a container without network, gone afterwards. Raises EngineError."""
        name = f"swiftdeploy-{ONE_OFF_SERVICE}-{self._instance[:12] or 'x'}"
        request = decode.one_off_request(image_id, command, mounts, tmpfs, user, self._one_off_labels)
        with self._translated():
            self._clear_one_off(name)
            client = self._acting()
            answer = client.create_container_from_config(request, name)  # type: ignore[no-untyped-call]
            created = decode.identifier(answer)
            try:
                client.start(created)
                code = decode.whole(decode.table(client.wait(created)).get("StatusCode"))
                said = client.logs(created)
            finally:
                with suppress(*TROUBLE):
                    client.remove_container(created, force=True, v=True)
        return code, said.decode("utf-8", "replace")

    @property
    def _one_off_labels(self) -> dict[str, str]:
        """No project label: a one-off must not look like a part of the project."""
        return {decode.INSTANCE: self._instance, f"{LABEL}service": ONE_OFF_SERVICE}

    def _clear_one_off(self, name: str) -> None:
        """One that a crash of ours left behind."""
        left = self._inspect(name)
        if left is not None and self._one_off_labels.items() <= decode.labels_of(left).items():
            self._acting().remove_container(decode.identifier(left), force=True, v=True)


# ── small things ───────────────────────────────────────────────────────────────────────────────────────────────────


def _or_none(ask: Callable[[], Found]) -> Found | None:
    """The answer, or None when the engine knows no such thing."""
    try:
        return ask()
    except docker.errors.NotFound:
        return None


def _best_first(found: Iterable[ObservedNetwork]) -> list[ObservedNetwork]:
    return sorted(found, key=decode.preference)


def _taken_addresses(networks: Sequence[decode.Answer], inspected: Iterable[decode.Answer]) -> frozenset[str]:
    """Every address in our network that is held now, or will be once a stopped container starts again."""
    ids = {decode.text(one.get("Name")): decode.identifier(one) for one in networks}
    taken: set[str] = set().union(*map(decode.addresses_in, networks))
    for one in inspected:
        endpoints = decode.endpoints_of(one, ids)
        taken |= {address for network, address in endpoints.items() if address and network in ids.values()}
    return frozenset(taken)


@contextmanager
def _closing(client: docker.APIClient) -> Iterator[None]:
    try:
        yield
    finally:
        client.close()


# ── who listens on a port of this host ─────────────────────────────────────────────────────────────────────────────

_LISTENING = "0A"


def listener(port: int, proc: Path) -> str | None:
    """Who holds a TCP port of this machine, in words; None when nobody does.

    The process table is read only to name a holder: on a busy host its list of sockets takes half a second.
    """
    if can_bind(port):
        return None
    tables = [table for table in (proc / "net/tcp", proc / "net/tcp6") if table.exists()]
    inodes = {inode for table in tables for inode in _listening_sockets(table, port)}
    return _process_with(inodes, proc) if inodes else "another process"


def can_bind(port: int) -> bool:
    """Whether a listener could have the port. True also where only the right is lacking: the engine has it.

    With SO_REUSEADDR connections in TIME_WAIT do not count but listeners do, and a listener that comes while we try is
    not disturbed: its own SO_REUSEADDR (Docker's has it) lets it bind beside a socket that does not listen.
    """
    return all(_can_bind(family, host, port) for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")))


def _can_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            trial.bind((host, port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _listening_sockets(table: Path, port: int) -> Iterator[str]:
    for line in table.read_text(encoding="ascii", errors="replace").splitlines()[1:]:
        columns = line.split()
        if len(columns) > 9 and columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
            yield columns[9]


def _process_with(inodes: set[str], proc: Path) -> str:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in proc.glob("[0-9]*/fd"):
        with suppress(OSError):
            if any(os.readlink(entry.path) in wanted for entry in os.scandir(folder)):
                name = (folder.parent / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"process {name} (pid {folder.parent.name})"
    return "another process"
