"""The Runtime port over the Docker Engine API.

`observe` is a handful of short calls and remembers nothing: a list's words ("Up 3 seconds") do not tell a restarted
container from one that was not, so an inspection is never reused. `apply` is one call to the engine for each action.
What takes long (pulls, builds, graceful stops) runs beside the loop on threads that die with the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import assert_never

import docker.errors

from reconciler.adapters import docker_decode as decode
from reconciler.adapters import engine_facts, engine_logs
from reconciler.adapters.engine_boxes import EngineBoxes
from reconciler.adapters.engine_connection import (
    TROUBLE,
    Connect,
    Connections,
    connect_to,
    default_address,
    or_none,
)
from reconciler.adapters.engine_lookups import Lookups
from reconciler.adapters.errands import Errands
from reconciler.adapters.image_pulls import ImagePulls, LocalBuilds, NoLocalBuilds
from reconciler.core.errors import EngineError
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
from reconciler.ports import Wanted

STOP_PATIENCE_S = 0.2
LOOK_AGAIN_S = 0.5


class DockerEngine:
    """Runtime over one Docker Engine.

    `base_url` None is $DOCKER_HOST or the usual socket. `wake` is called with a few words, from another thread, when
    work beside the loop has ended. `timeout_s` bounds a question, `effect_timeout_s` an act. `boxes` is for the proxy.
    `mount_trouble` says why a path of the host must not be mounted into a service's container now, "" if it may.
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
        mount_trouble: Callable[[str], str] = lambda _source: "",
    ) -> None:
        self._mount_trouble = mount_trouble
        self._instance = instance
        self._project = ""  # the one last observed: nothing of any other is ever removed
        self._builds = images or NoLocalBuilds()
        self._connections = Connections(default_address(base_url), connect, timeout_s, effect_timeout_s)
        self._lookups = Lookups(self._connections, proc)
        self._errands = Errands(wake)
        self._pulls = ImagePulls(self._connections, self._errands, self._builds, monotonic)
        self.boxes = EngineBoxes(self._connections, self._lookups, instance)

    def close(self) -> None:
        """No more questions; work beside the loop ends with the process."""
        self._lookups.close()

    # Questions

    def observe(self, wanted: Wanted) -> EngineState:
        """A full snapshot. Raises EngineError when the engine cannot be asked."""
        self._project, look = wanted.project, self._lookups
        with self._connections.translated():
            volumes = look.beside(look.volumes, wanted.project)
            images = [look.beside(self._image, reference) for reference in dict.fromkeys(wanted.images)]
            listed = look.networks()
            networks = look.alike(wanted.network, listed)
            inspected = look.containers(wanted.project)
            observed = self._decoded(wanted, networks, inspected)
            here = {image.reference: image for image in (future.result() for future in images) if image is not None}
            return EngineState(
                containers=observed,
                networks=tuple(_best_first(decode.network(one, wanted.project) for one in networks)),
                volumes=volumes.result().union(*map(decode.mounted_volumes, inspected)),
                images=here,
                images_failed=self._pulls.failures(wanted.images, here),
                ports_taken=self._ports_taken(wanted, inspected),
                taken_addresses=_taken_addresses(networks, inspected),
                taken_subnets=frozenset().union(*map(decode.subnets, listed)),
            )

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
        found = self._lookups.image(reference)
        if found is not None:
            return decode.image(found, reference, reference)
        substitute = self._builds.substitute_for(reference)
        used = self._lookups.newest_of(substitute) if substitute is not None else None
        found = self._lookups.image(used) if used is not None else None
        return decode.image(found, reference, used) if found is not None and used is not None else None

    def _ports_taken(self, wanted: Wanted, inspected: Iterable[decode.Answer]) -> dict[int, str]:
        """Ports that we want and do not have, and who has them. Nobody is asked when we have them all."""
        own = [one for one in inspected if decode.is_ours(decode.labels_of(one), self._project, self._instance)]
        missing = set(wanted.ports).difference(*map(decode.bound_ports, own))
        return self._lookups.port_holders(missing) if missing else {}

    def logs(self, container_id: str, *, tail: int, follow: bool) -> Iterable[bytes | None]:
        """Log lines of a container, oldest first; a negative `tail` is all of them. Raises EngineError."""
        return engine_logs.lines(self._connections, container_id, tail=tail, follow=follow)

    def engine_info(self) -> engine_facts.EngineInfo:
        """Facts about the engine, for `doctor`. Raises EngineError."""
        return engine_facts.engine_info(self._connections)

    def facts(self) -> tuple[tuple[str, bool, str], ...]:
        """What `doctor` wants to know: name, whether it is as it should be, and words. Never raises."""
        return engine_facts.facts(self._connections)

    def forget_image_failures(self) -> None:
        """An operator asks: images that could not be had are tried again at once."""
        self._pulls.forget_failures()

    # Acts

    def apply(self, action: Action) -> Result:
        """Carry out one action about images, containers, networks or volumes. Never raises."""
        try:
            return self._carry_out(action)
        except TROUBLE as trouble:
            return self._connections.noted(trouble).result
        except EngineError as refused:
            return Result(Outcome.FAILED, str(refused))

    def _carry_out(self, action: Action) -> Result:
        match action:
            case PullImage():
                return self._pulls.pull(action.reference)
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
            case SetRestartPolicy():
                return self._set_restart_policy(action)
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

    # Networks and volumes

    def _ensure_network(self, action: EnsureNetwork) -> Result:
        if self._lookups.best_network(action.name) is not None:
            return Result(Outcome.OK, "exists")
        self._connections.acting().create_network(
            action.name,
            driver=action.driver,
            ipam=decode.ipam_request(action.subnet, action.ip_range),  # type: ignore[arg-type]
            labels=dict(action.labels),
            check_duplicate=True,
        )
        return OK

    def _remove_network(self, action: RemoveNetwork) -> Result:
        inspected = self._lookups.network(action.network_id)
        if inspected is None:
            return Result(Outcome.OK, "was gone already")
        if not decode.may_be_ours(decode.table(inspected.get("Labels")), self._project, self._instance):
            return Result(Outcome.FAILED, f"The network {action.name} is not ours; it stays.")
        attached = decode.table(inspected.get("Containers")).values()
        names = sorted(decode.text(decode.table(one).get("Name")) for one in attached)
        if names:
            return Result(Outcome.FAILED, f"The network {action.name} is still used by {', '.join(names)}.")
        or_none(lambda: self._connections.acting().remove_network(action.network_id))
        return OK

    def _ensure_volume(self, action: EnsureVolume) -> Result:
        self._connections.acting().create_volume(action.name, labels=dict(action.labels))
        return OK

    def _remove_volume(self, name: str) -> Result:
        inspected = or_none(lambda: decode.table(self._connections.asking().inspect_volume(name)))
        if inspected is None:
            return Result(Outcome.OK, "was gone already")
        if not decode.may_be_ours(decode.table(inspected.get("Labels")), self._project, self._instance):
            return Result(Outcome.FAILED, f"The volume {name} is not ours; it stays.")
        or_none(lambda: self._connections.acting().remove_volume(name))
        return OK

    # Containers

    def _create(self, action: CreateContainer) -> Result:
        sources = [mount.source for mount in action.spec.mounts if mount.kind == "bind"]
        if trouble := self._untrusted(decode.all_labels(action), sources):
            return Result(Outcome.FAILED, trouble)
        network_id = self._lookups.network_id(action.spec.network) if action.spec.network is not None else None
        request = decode.container_request(action, network_id)
        try:
            self._connections.acting().create_container_from_config(request, action.name)  # type: ignore[no-untyped-call]
        except docker.errors.APIError as refused:
            if refused.status_code != 409:
                raise
            return self._name_conflict(action, str(refused.explanation))
        return OK

    def _name_conflict(self, action: CreateContainer, said: str) -> Result:
        """A name is a claim: whoever has it already is either the very container that we want, or in our way."""
        if decode.is_going_away(said):
            return Result(Outcome.PENDING, f"{action.name} is being removed", LOOK_AGAIN_S)
        holder = self._lookups.container(decode.name_holder(said) or action.name)
        if holder is None:
            return Result(Outcome.PENDING, f"the holder of the name {action.name} just went", LOOK_AGAIN_S)
        labels = decode.labels_of(holder)
        wanted = decode.all_labels(action)
        alike = all(labels.get(key) == value for key, value in wanted.items() if key != decode.COMMIT)
        is_mine = labels.get(decode.INSTANCE) == self._instance
        if alike and is_mine and holder.get("Image") == action.spec.image_id:
            return Result(Outcome.OK, "adopted: it was created before")
        whose = "another one of ours" if decode.is_ours(labels, self._project, self._instance) else "not ours"
        short = decode.identifier(holder)[:12]
        return Result(
            Outcome.FAILED, f"The name {action.name} is held by container {short}, {whose}. Rename or remove it."
        )

    def _start(self, container: str) -> Result:
        inspected = self._lookups.container(container) or {}
        if trouble := self._untrusted(decode.labels_of(inspected), decode.bound_paths(inspected)):
            return Result(Outcome.FAILED, trouble)
        try:
            self._connections.acting().start(container)
        except docker.errors.APIError as refused:
            said = str(refused.explanation)
            if decode.is_going_away(said):
                return Result(Outcome.FAILED, f"{container} is being removed.")
            return Result(Outcome.FAILED, self._start_refusal(container, said))
        return OK

    def _untrusted(self, labels: Mapping[str, object], sources: Iterable[str]) -> str:
        """Why a service's container must not see these paths now. nginx and OPA see only what is ours."""
        if decode.SLOT not in labels:
            return ""
        return next(filter(None, map(self._mount_trouble, sources)), "")

    def _start_refusal(self, container: str, said: str) -> str:
        port = decode.refused_port(said)
        if port is not None:
            holder = self._lookups.port_holders([port]).get(port)
            return f"Host port {port} is taken by {holder}. Free it." if holder else decode.meaning(said)
        if "ddress already in use" in said:
            return f"{decode.meaning(said)} {self._address_holder(container)}".strip()
        if said.startswith("No such container"):
            return f"{container} is gone."
        return decode.meaning(said)

    def _address_holder(self, container: str) -> str:
        """Which container sits on an address that this one was created with."""
        wanted = decode.endpoints_of(self._lookups.container(container) or {}, {})
        for name, address in wanted.items():
            attached = decode.table((self._lookups.network(name) or {}).get("Containers"))
            for other in map(decode.table, attached.values()):
                if address is not None and decode.text(other.get("IPv4Address")).partition("/")[0] == address:
                    return f"{address} is with {decode.text(other.get('Name'))}."
        return ""

    def _connect(self, action: ConnectContainer) -> Result:
        network_id = self._lookups.network_id(action.network)
        inspected = self._lookups.container(action.container_id)
        if inspected is None:
            return Result(Outcome.FAILED, f"{action.container_id[:12]} is gone.")
        present = decode.endpoints_of(inspected, {action.network: network_id})
        if network_id in present and action.address in (None, present[network_id]):
            return Result(Outcome.OK, "was connected already")
        self._connections.acting().connect_container_to_network(
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
            client = self._connections.fresh(grace_s + self._connections.effect_timeout_s)
            with closing(client):
                or_none(lambda: client.stop(action.container_id, timeout=grace_s))
        except TROUBLE as trouble:
            return self._connections.noted(trouble).result
        return OK

    def _remove(self, container_id: str) -> Result:
        guarded = self._guard(container_id)
        if guarded is not None:
            return guarded
        try:
            or_none(lambda: self._connections.acting().remove_container(container_id, force=True, v=True))
        except docker.errors.APIError as refused:
            if not decode.is_going_away(str(refused.explanation)):
                raise
            return Result(Outcome.PENDING, "is being removed", LOOK_AGAIN_S)
        return OK

    def _set_restart_policy(self, action: SetRestartPolicy) -> Result:
        policy = decode.restart_policy_request(action.policy)
        engine = self._connections.acting()
        updated = or_none(lambda: engine.update_container(action.container_id, restart_policy=policy))  # type: ignore[arg-type]
        return OK if updated is not None else Result(Outcome.FAILED, f"{action.container_id[:12]} is gone.")

    def _guard(self, container_id: str) -> Result | None:
        """Before anything that destroys: OK where it is gone, FAILED where it is not ours, None to go on."""
        inspected = self._lookups.container(container_id)
        if inspected is None:
            return Result(Outcome.OK, "was gone already")
        if not decode.is_ours(decode.labels_of(inspected), self._project, self._instance):
            return Result(Outcome.FAILED, f"Container {container_id[:12]} is not ours; it stays.")
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
