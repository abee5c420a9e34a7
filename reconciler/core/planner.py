"""From wishes and a snapshot to a plan: pure, deterministic, and complete in one pass.

    images ─▶ OPA, first and alone ─▶ network, volumes ─▶ nginx ─▶ each service by its phase

A plan holds whatever can be done now and the waits that the rest hangs on; the next cycle goes on from what
it then sees. Nothing here remembers anything.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.core.addresses import holds, pick_address
from reconciler.core.container import LABEL, ContainerSpec
from reconciler.core.containers import service_container, slot_name
from reconciler.core.desired import POLICY, PROXY, DesiredState, Mode, Strategy
from reconciler.core.membership import GONE, current, in_turns, is_of, of_group, others, replaced, shown_slots, turn
from reconciler.core.observed import ObservedContainer, ObservedNetwork, ObservedState, Status
from reconciler.core.plan import (
    Action,
    ConnectContainer,
    CreateContainer,
    EnsureNetwork,
    EnsureVolume,
    Plan,
    PlannedAction,
    PreparePolicy,
    PrepareProxy,
    PullImage,
    ReloadProxy,
    RemoveContainer,
    RemoveFile,
    RemoveNetwork,
    RemoveVolume,
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
from reconciler.core.rollout import Group, Phase, Rollout, ServiceRollout
from reconciler.core.signs import CRASH_LOOP_RESTARTS, went_with_the_host
from reconciler.core.targets import PolicyTarget, Targets

PROXY_CONFIG = "nginx/live/nginx.conf"
"""The configuration that the daemon's nginx reads, under `rendered/`."""

RELOAD_SETTLES_S = 5.0
"""How long a reload may take to show before it is asked for again (measured: up to 1.4 s on a busy host)."""

BEING_HEALED = frozenset({Status.RESTARTING})


@dataclass(frozen=True, slots=True)
class Wish:
    """Everything that should be so. `files` maps paths under `rendered/` to their text.

    `proxy_hash` is the hash that nginx answers once it runs `files[PROXY_CONFIG]`. `compose_labels` are, by
    Compose service, the labels that let `docker compose` know our containers. `allow_interruption` lets
    nginx be replaced, which drops connections. `commit` is told to containers that are made, and is never a reason.
    """

    desired: DesiredState
    targets: Targets
    instance: str
    files: Mapping[str, str] = field(default_factory=dict)
    proxy_hash: str = ""
    compose_labels: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    allow_interruption: bool = False
    commit: str = ""


def kept_port(observed: ObservedState, *, allow_interruption: bool) -> int | None:
    """The port that nginx has to go on listening at, since it publishes no other; None: the one of the manifest."""
    running = next((c for c in observed.of(PROXY) if c.is_running and c.ports), None)
    return running.ports[0] if running is not None and not allow_interruption else None


def make_plan(wish: Wish, observed: ObservedState, rollout: Rollout) -> Plan:
    """The plan for one cycle; empty when `observed` is what is wished for."""
    draft = _Draft(wish, observed, rollout)
    if rollout.torn_down:
        draft.tear_down()
    else:
        draft.converge()
    return Plan(tuple(draft.steps), tuple(dict.fromkeys(draft.notes)))


def sha256(text: str) -> str:
    """SHA-256 (hex) of `text` as it is written to disk."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class _Draft:
    """A plan being written; every `plan_…` adds steps and answers the index that others must come after."""

    def __init__(self, wish: Wish, observed: ObservedState, rollout: Rollout) -> None:
        self.wish = wish
        self.observed = observed
        self.rollout = rollout
        self.steps: list[PlannedAction] = []
        self.notes: list[str] = []
        self.services = {service.name: service for service in wish.desired.services}
        self.addresses = {m.container_id: m.address for s in rollout.services.values() for m in (*s.blue, *s.green)}
        self.taken: set[str] | None = None

    def add(self, action: Action, target: str, cause: str, *after: int | None) -> int:
        self.steps.append(PlannedAction(action, target, cause, tuple(i for i in after if i is not None)))
        return len(self.steps) - 1

    # ------------------------------------------------------------------ the whole

    def converge(self) -> None:
        self.plan_images()
        self.plan_policies()
        active = [state for state in self.rollout.services.values() if state.phase is not Phase.ABSENT]
        if not active:
            self.sweep(None)
            return
        network = self.plan_network()
        volumes = self.plan_volumes()
        self.plan_files()
        proxy = self.plan_proxy(network, active)
        for state in active:
            self.plan_service(state, (network, volumes), proxy)
        self.sweep(proxy)

    def sweep(self, proxy: int | None) -> None:
        """Remove what is left of services that are not deployed."""
        for container in self.left_over():
            self.remove(container, "left over of a service that is not deployed", 10.0, proxy)

    def left_over(self) -> list[ObservedContainer]:
        """Containers that came to be after their service had gone, as where Docker did late what it was asked for.

        Only of services that are not in the manifest, or of revisions that were rolled back; never one that nginx
        names, or may name. What an operator took down is not among them: `deploy` takes it as it stands.
        """
        named = self.observed.proxy.named if self.observed.of(PROXY) else frozenset()
        if named is None:
            return []
        return [
            container
            for state in self.rollout.services.values()
            if state.phase is Phase.ABSENT
            for container in self.observed.of(state.service)
            if (state.service not in self.services or container.revision in state.quarantined)
            and container.slot is not None
            and container.address not in named
        ]

    def plan_images(self) -> None:
        for reference in self.wish.targets.missing:
            failed = self.observed.engine.images_failed.get(reference)
            self.add(PullImage(reference), reference, f"not here; last try: {failed}" if failed else "not here")

    def plan_files(self) -> None:
        """Every rendered file but nginx's own configuration, which goes through `nginx -t` first."""
        for path, text in sorted(self.wish.files.items()):
            if path != PROXY_CONFIG:
                self.write(path, text)

    def write(self, path: str, text: str, *after: int | None) -> int | None:
        """Write `path` if its bytes differ from `text`."""
        seen = self.observed.files.get(path)
        if seen == sha256(text):
            return None
        return self.add(WriteFile(path, text), path, "missing" if seen is None else "not as rendered", *after)

    # ------------------------------------------------------------------ OPA

    def plan_policies(self) -> None:
        """Every OPA that should run, before those that should not are removed."""
        wanted = self.wish.targets.policies
        kept = [self.plan_policy(target) for target in wanted]
        if not wanted or not all(self.observed.policy(target.revision).ready for target in wanted):
            return
        for container in self.observed.of(POLICY):
            if container.id not in kept:
                self.remove(container, "another OPA answers", 2.0)
        files = {path for target in wanted for path in target.files}
        for path in sorted(self.observed.files):
            if path.startswith("opa/") and path not in files:
                self.add(RemoveFile(path), path, "of an older policy")

    def plan_policy(self, target: PolicyTarget) -> str | None:
        """See that one OPA runs and answers; the ID of its container, where there is one."""
        written = [self.write(path, text) for path, text in sorted(target.files.items())]
        containers = self.observed.of(POLICY)
        right = [c for c in containers if c.revision == target.spec.digest() and c.status not in GONE]
        if not right:
            cause = "missing" if not containers else "policies, limits or image changed"
            prepared = self.add(PreparePolicy(target.revision), POLICY, cause)
            created = self.create(POLICY, target.spec, None, cause, *written, prepared)
            started = self.add(StartContainer(self.steps[created].target), POLICY, cause, created)
            self.add(WaitPolicy(target.revision), POLICY, "starting", started)
            return None
        keep = right[-1]
        health = self.observed.policy(target.revision)
        if health.is_stuck:
            self.remove(keep, f"runs but does not answer: {health.detail}", 1.0)
            return keep.id
        if not keep.is_running and keep.status not in BEING_HEALED:
            prepared = self.add(PreparePolicy(target.revision), POLICY, f"is {keep.status}")
            started = self.add(StartContainer(keep.id), POLICY, _why_down(keep), *written, prepared)
            self.add(WaitPolicy(target.revision), POLICY, "starting", started)
        elif not health.ready:
            self.add(WaitPolicy(target.revision), POLICY, health.detail, *written)
        return keep.id

    # ------------------------------------------------------------------ network and volumes

    def network(self) -> ObservedNetwork | None:
        """The network to use: ours before others', the one with most containers, then the oldest ID."""
        named = self.observed.engine.networks
        return min(named, key=lambda n: (not n.ours, -n.attached, n.id), default=None)

    def plan_network(self) -> int | None:
        wanted, chosen = self.wish.desired.network, self.network()
        for network in self.observed.engine.networks:
            if network is not chosen and network.ours and not network.attached:
                self.add(RemoveNetwork(network.id, network.name), network.name, "a duplicate that nobody uses")
        if chosen is not None:
            return None
        labels = (
            (f"{LABEL}project", self.wish.desired.project),
            (f"{LABEL}instance", self.wish.instance),
            ("com.docker.compose.project", self.wish.desired.project),
            ("com.docker.compose.network", "default"),
        )
        action = EnsureNetwork(wanted.name, wanted.driver, self.rollout.subnet, self.rollout.ip_range, labels)
        return self.add(action, wanted.name, "missing")

    def plan_volumes(self) -> int | None:
        last = None
        for name in sorted(self.volumes()):
            if name not in self.observed.engine.volumes:
                labels = (
                    (f"{LABEL}project", self.wish.desired.project),
                    ("com.docker.compose.project", self.wish.desired.project),
                    ("com.docker.compose.volume", name),
                )
                last = self.add(EnsureVolume(name, labels), name, "missing", last)
        return last

    def volumes(self) -> set[str]:
        """The named volumes that the services in the manifest mount."""
        names = {s.log_volume for s in self.wish.desired.services if s.log_volume}
        return names | {m.source for s in self.wish.desired.services for m in s.mounts if m.kind == "volume"}

    # ------------------------------------------------------------------ nginx

    def plan_proxy(self, network: int | None, active: list[ServiceRollout]) -> int | None:
        """Bring nginx to its configuration; the index that traffic moves and removals come after."""
        spec = self.wish.targets.proxy
        containers = self.observed.of(PROXY)
        running = next((c for c in containers if c.is_running), None)
        if running is None:
            return self.start_proxy(spec, containers, network)
        if spec is not None and running.revision != spec.digest():
            if self.wish.allow_interruption:
                self.remove(running, "nginx's image, port or settings changed", running_grace(spec))
                return self.start_proxy(spec, (), network, len(self.steps) - 1)
            self.notes.append(
                "nginx's image, port or settings changed: replacing it drops connections; "
                "`deploy --allow-interruption` does it"
            )
        for extra in containers:
            if extra.id != running.id:
                self.remove(extra, "nginx runs already", 0)
        if not self.observed.proxy.sees_files:
            return self.remount_proxy(running)
        connected = self.connect(running, network, ())
        return self.configure_proxy(running, connected, active)

    def prepare_proxy(self, cause: str, *after: int | None) -> int:
        """What nginx needs in its folders beside its configuration."""
        return self.add(PrepareProxy(tuple(sorted(self.services)), self.wish.files[PROXY_CONFIG]), PROXY, cause, *after)

    def remount_proxy(self, running: ObservedContainer) -> int:
        """nginx mounted folders that were removed since: it goes on with what it knows, and only a restart helps."""
        if not self.wish.allow_interruption:
            self.notes.append(
                "nginx does not see our files any more, since their folder was replaced: it serves as before, "
                "but nothing can be changed until `deploy --allow-interruption` restarts it"
            )
            return self.add(WaitProxy(self.wish.proxy_hash, False), PROXY, "does not see our files")
        written = self.write(PROXY_CONFIG, self.wish.files[PROXY_CONFIG])
        prepared = self.prepare_proxy("its folder was replaced")
        stopped = self.add(StopContainer(running.id, 10.0), PROXY, "its folder was replaced", written, prepared)
        started = self.add(StartContainer(running.id), PROXY, "its folder was replaced", stopped)
        return self.add(WaitProxy(self.wish.proxy_hash, False), PROXY, "starting", started)

    def start_proxy(
        self, spec: ContainerSpec | None, containers: Iterable[ObservedContainer], *after: int | None
    ) -> int | None:
        if spec is None:
            return None
        here = [c for c in containers if c.revision == spec.digest() and c.status not in GONE and not _is_stuck(c)]
        for other in containers:
            if other not in here:
                self.remove(
                    other, "it fails again and again" if _is_stuck(other) else "not the nginx that is wanted", 0
                )
        text = self.wish.files[PROXY_CONFIG]
        written = None
        if self.observed.files.get(PROXY_CONFIG) != sha256(text):
            known = bool(self.observed.of(PROXY))  # a first nginx tests its configuration by starting with it
            tested = self.add(TestProxyConfig(text, spec.image_id, None), PROXY_CONFIG, "changed") if known else None
            written = self.write(PROXY_CONFIG, text, tested)
        cause = _why_down(here[-1]) if here else "missing"
        prepared = self.prepare_proxy(cause)
        if here:
            container = here[-1]
            if container.status in BEING_HEALED:
                return self.add(WaitProxy(self.wish.proxy_hash, False), PROXY, "restarting", written, prepared)
            connected = self.connect(container, after[0] if after else None, ())
            started = self.add(StartContainer(container.id), PROXY, cause, connected, written, prepared)
        else:
            created = self.create(PROXY, spec, None, cause, *after, written, prepared)
            started = self.add(StartContainer(self.steps[created].target), PROXY, cause, created)
        return self.add(WaitProxy(self.wish.proxy_hash, False), PROXY, "starting", started)

    def configure_proxy(
        self, running: ObservedContainer, connected: int | None, active: list[ServiceRollout]
    ) -> int | None:
        text, proxy = self.wish.files[PROXY_CONFIG], self.observed.proxy
        if self.observed.files.get(PROXY_CONFIG) != sha256(text):
            tested = self.add(TestProxyConfig(text, running.image_id, running.id), PROXY_CONFIG, "changed", connected)
            written = self.write(PROXY_CONFIG, text, tested)
            reloaded = self.add(ReloadProxy(running.id), PROXY, "its configuration changed", written)
            return self.add(WaitProxy(self.wish.proxy_hash, True), PROXY, "reloading", reloaded)
        if not proxy.has_includes:
            prepared = self.prepare_proxy("a file that it includes is not as it should be", connected)
            reloaded = self.add(ReloadProxy(running.id), PROXY, "a file that it includes was mended", prepared)
            return self.add(WaitProxy(self.wish.proxy_hash, True), PROXY, "reloading", reloaded)
        if proxy.live_hash != self.wish.proxy_hash:
            if proxy.live_hash is None and not proxy.retiring:
                return self.add(WaitProxy(self.wish.proxy_hash, False), PROXY, "does not answer yet", connected)
            if proxy.retiring and proxy.retiring_for_s < RELOAD_SETTLES_S:
                return self.add(WaitProxy(self.wish.proxy_hash, True), PROXY, "reloading", connected)
            reloaded = self.add(ReloadProxy(running.id), PROXY, "runs an older configuration", connected)
            return self.add(WaitProxy(self.wish.proxy_hash, True), PROXY, "reloading", reloaded)
        waits = any(state.phase not in _REST or self.unwanted(state) for state in active) or bool(self.left_over())
        if waits and proxy.retiring and proxy.retiring_for_s < self.drain_s(active):
            return self.add(WaitProxy(self.wish.proxy_hash, True), PROXY, f"{proxy.retiring} old workers still serve")
        return connected

    def drain_s(self, active: list[ServiceRollout]) -> float:
        """How long old workers may go on: the longest drain of any service on the move."""
        moving = [self.services[state.service] for state in active if state.service in self.services]
        return max((service.rollout.drain_s for service in moving), default=30.0)

    # ------------------------------------------------------------------ services

    def plan_service(self, state: ServiceRollout, needs: tuple[int | None, ...], proxy: int | None) -> None:
        if state.service not in self.services and self.has_successor:
            for container in self.observed.of(state.service):
                self.remove(container, "not in the manifest any more", 10.0, proxy)
            return
        if in_turns(state):
            self.take_turns(state, needs, proxy)
        else:
            for group in running_groups(state):
                self.plan_group(state, group, needs)
        if state.service not in self.services:
            return
        moved = self.plan_traffic(state, proxy)
        self.park(state, proxy)
        self.clear(state, proxy, moved)

    @property
    def has_successor(self) -> bool:
        """Every service of the manifest serves what it asks for: those that left it are not needed any more."""
        return all(self.is_at_wish(name) for name in self.services)

    def is_at_wish(self, name: str) -> bool:
        """The service rests at the revision that the manifest asks for, or keeps the canary that it asks for."""
        state, wanted = self.rollout.of(name), self.wish.targets.wanted.get(name)
        if state.stable is None or wanted is None:
            return False
        if wanted.mode is Mode.CANARY and state.phase in (Phase.ANALYZING, Phase.SUSPENDED):
            return True
        return state.phase is Phase.STABLE and state.stable.revision == wanted.revision

    def plan_traffic(self, state: ServiceRollout, proxy: int | None) -> int | None:
        """Move the flags. Up only behind a configuration that knows both slots; down to a proven slot at once."""
        service = self.services[state.service]
        if service.route is None:
            return None
        seen = self.observed.proxy.weights.get(state.service)
        weight = state.weight_pct
        if state.phase is Phase.ANALYZING and not self.has_ready(state, state.candidate):
            weight = 0
        if state.phase is Phase.PROMOTING and not self.has_ready(state, state.candidate):
            return None
        if state.phase is Phase.SWITCHING and not self.has_ready(state, state.fresh):
            return None
        if state.phase is Phase.RETURNING:
            return None  # wherever the requests go, they stay until the old containers are well
        if state.phase is Phase.RESTORING:
            weight = 0 if state.kept is None else 100
            old, new = (state.stable, state.candidate) if state.kept is None else (state.kept, state.stable)
            if not self.has_ready(state, old) and self.has_ready(state, new):
                return None  # it went bad again at the last moment: badly answered is better than not at all
        if seen == weight:
            return None
        at_once = seen is not None and weight < seen and state.phase in _DOWN_AT_ONCE and self.is_named(state)
        return self.add(
            SetTraffic(state.service, weight),
            f"{state.service} → {weight} %",
            state.reason or "the default slot serves",
            None if at_once else proxy,
        )

    def is_named(self, state: ServiceRollout) -> bool:
        """The configuration that nginx runs names somebody of stable who runs, as far as that is known."""
        named = self.observed.proxy.named
        return named is None or any(c.is_running and c.address in named for c in self.group(state, state.stable))

    def park(self, state: ServiceRollout, proxy: int | None) -> None:
        """Stop, and keep, what a promotion replaced."""
        parked = state.parked if state.phase is Phase.PARKING else state.kept
        if state.phase not in _PARKED or parked is None:
            return
        if not self.has_ready(state, state.candidate if state.carries_all else state.stable):
            return  # whoever carries the requests is not well: the old ones may be needed at once
        kept = self.wish.targets.kept.get(parked.revision)
        grace_s = kept.service.stop_grace_period_s if kept else 10.0
        for container in self.group(state, parked):
            if container.status in (Status.RUNNING, Status.RESTARTING, Status.PAUSED):
                self.add(StopContainer(container.id, grace_s), container.name, "kept for a roll back", proxy)

    def take_turns(self, state: ServiceRollout, needs: tuple[int | None, ...], proxy: int | None) -> None:
        """Replace replica by replica: a rolling successor is ready before the old one goes, a recreated one after."""
        groups = in_turns(state)
        assert groups is not None, "asked only where replicas take turns"
        old, new = groups
        replicas = self.replicas(state, len(self.group(state, old)))
        now = turn(state, self.observed, replicas)
        gone = {container.id for container in replaced(state, self.observed)}
        removed = [
            self.remove(c, "replaced", self.grace_s(c.revision), proxy) for c in self.group(state, old) if c.id in gone
        ]
        for replica in range(min(now + 1, replicas)):
            before = removed if state.course.strategy is Strategy.RECREATE and replica == now else []
            self.plan_replica(state, new, replica, (*needs, *before))
        for container in self.group(state, old):
            if container.id not in gone and container.status not in GONE:
                self.heal(container, needs, slot_name(state.service, old.slot))

    def group(self, state: ServiceRollout, group: Group | None) -> tuple[ObservedContainer, ...]:
        """The containers of a group that are there."""
        return of_group(self.observed, state.service, group)

    def has_ready(self, state: ServiceRollout, group: Group | None) -> bool:
        """Somebody of the group answers."""
        return any(container.is_ready for container in self.group(state, group))

    def grace_s(self, revision: str) -> float:
        """How long a container of `revision` may take to stop."""
        kept = self.wish.targets.kept.get(revision)
        return kept.service.stop_grace_period_s if kept else 10.0

    def plan_group(self, state: ServiceRollout, group: Group, needs: tuple[int | None, ...]) -> None:
        """See that every replica of `group` runs."""
        for replica in range(self.replicas(state, len(self.group(state, group)))):
            self.plan_replica(state, group, replica, needs)

    def plan_replica(self, state: ServiceRollout, group: Group, replica: int, needs: tuple[int | None, ...]) -> None:
        kept = self.wish.targets.kept.get(group.revision)
        mine = [c for c in current(self.group(state, group)) if c.replica == replica]
        if mine and is_on_trial(state, group) and self.has_ended(mine[-1]):
            return  # it counts against it, if nobody else starts it again
        if mine:
            self.heal(mine[-1], needs, slot_name(state.service, group.slot))
            if kept is not None:
                self.keep_restarting(state, mine[-1], kept.service.restart_policy)
        elif kept is None:
            self.notes.append(f"{state.service}: revision {group.revision[:12]} cannot be started again: not kept")
        else:
            spec = service_container(kept, group.release.mode)
            if is_on_trial(state, group):
                spec = dataclasses.replace(spec, restart_policy="no")
            cause = "missing" if group == state.stable else f"new release {group}"
            created = self.create(state.service, spec, (group, replica), cause, *needs)
            name = self.steps[created].target
            started = self.add(StartContainer(name), name, cause, created)
            self.add(WaitHealthy(name), name, "starting", started)

    def has_ended(self, container: ObservedContainer) -> bool:
        """It ended by itself or by somebody's hand, and not with the host."""
        return container.status is Status.EXITED and not went_with_the_host(container, self.observed)

    def keep_restarting(self, state: ServiceRollout, container: ObservedContainer, policy: str) -> None:
        """A canary that has come to carry traffic for good is healed by Docker like any other."""
        is_canary = container.mode == Mode.CANARY.value
        on_trial = any(is_on_trial(state, group) and is_of(container, group) for group in state.groups)
        if is_canary and not on_trial and container.restart_policy not in ("", policy):
            self.add(SetRestartPolicy(container.id, policy), container.name, "it carries all requests now")

    def replicas(self, state: ServiceRollout, otherwise: int) -> int:
        """How many containers the manifest wants of the service now."""
        service = self.services.get(state.service)
        return service.replicas if service else otherwise

    def heal(self, container: ObservedContainer, needs: tuple[int | None, ...], alias: str) -> None:
        """See that an existing container is attached, runs and is ready."""
        connected = self.connect(container, needs[0], (alias,))
        if container.status in (Status.EXITED, Status.CREATED):
            cause = _why_down(container)
            started = self.add(StartContainer(container.id), container.name, cause, connected, *needs)
            self.add(WaitHealthy(container.id), container.name, "starting", started)
        elif container.status is Status.PAUSED:
            self.notes.append(f"{container.name} is paused; `docker unpause` it")
        elif not container.is_ready:
            self.add(WaitHealthy(container.id), container.name, container.health_detail or str(container.status))

    def connect(self, container: ObservedContainer, network: int | None, aliases: tuple[str, ...]) -> int | None:
        """Attach a container that lost its network (or whose network was lost)."""
        chosen = self.network()
        if chosen is not None and chosen.id in container.networks:
            return None
        if chosen is None and network is None:
            return None
        ours = chosen is None or chosen.ours
        subnet = chosen.subnet if chosen else self.rollout.subnet
        had = container.address or self.addresses.get(container.id)
        address = had if ours and holds(subnet, had) else None
        if address is None and container.slot is not None:
            address = self.address(container.name)  # a dynamic one may be somebody else's after the next reboot
        action = ConnectContainer(container.id, self.wish.desired.network.name, address, aliases)
        return self.add(action, container.name, "not on the network", network)

    def clear(self, state: ServiceRollout, *after: int | None) -> None:
        """Remove what has no business in the service's slots, but for whom nginx is told of and the last one well."""
        unwanted = self.unwanted(state)
        members = {member.container_id for slot in shown_slots(state) for member in state.members(slot)}
        here = [c for group in wanted_groups(state) for c in self.group(state, group)]
        is_served = any(c.is_ready for c in here if c not in unwanted)
        for container in unwanted:
            is_spare = container.id not in members and (is_served or self.makes_room(container, state))
            if is_spare or not container.is_ready:
                self.remove(container, "not wanted any more", self.grace_s(container.revision), *after)

    def makes_room(self, container: ObservedContainer, state: ServiceRollout) -> bool:
        """A revision that is not here yet is to be started once the container is gone."""
        wanted = self.wish.targets.wanted.get(state.service)
        if wanted is None or state.stable is None:
            return wanted is not None
        here = (group.revision for group in state.groups)
        return wanted.revision not in (container.revision, *here, *state.quarantined)

    def unwanted(self, state: ServiceRollout) -> list[ObservedContainer]:
        """Old groups, dead containers, replicas too many."""
        groups = tuple(group for group in wanted_groups(state) if group)
        found = list(others(state, self.observed, *groups))
        for group in groups:
            here = self.group(state, group)
            kept = current(here)
            wanted = self.replicas(state, len(kept))
            found += [c for c in here if c not in kept or (c.replica or 0) >= wanted]
        return found

    # ------------------------------------------------------------------ containers

    def create(
        self,
        service: str,
        spec: ContainerSpec,
        place: tuple[Group, int] | None,
        cause: str,
        *after: int | None,
    ) -> int:
        """Create the next container of `service`; `place` is where it goes, None for nginx and OPA."""
        generation = 1 + max((c.generation for c in self.observed.of(service)), default=0)
        revision = place[0].revision if place else spec.digest()
        parts = [service, place[0].slot.value] if place else [service]
        tail = [revision[:8], str(place[1]), f"g{generation}"] if place else [revision[:8], f"g{generation}"]
        name = "-".join([self.wish.desired.project, *parts, *tail])
        alias = slot_name(service, place[0].slot) if place else service
        identity = {
            "project": self.wish.desired.project,
            "instance": self.wish.instance,
            "service": service,
            "revision": revision,
            "generation": str(generation),
        }
        if place:
            born = place[0]
            identity |= {"slot": born.slot.value, "replica": str(place[1]), "mode": born.release.mode.value}
        identity |= {"commit": self.wish.commit} if self.wish.commit else {}
        labels = {f"{LABEL}{key}": value for key, value in identity.items()}
        labels |= dict(self.wish.compose_labels.get(alias, ()))
        if place:
            labels["com.docker.compose.container-number"] = str(place[1] + 1)
        address = self.address(name) if place else None
        action = CreateContainer(name, spec, address, tuple(sorted(labels.items())), (alias,) if spec.network else ())
        return self.add(action, name, cause, *after)

    def address(self, name: str) -> str | None:
        """A fixed address for the container called `name`; None on a network that is somebody else's."""
        chosen = self.network()
        subnet = chosen.subnet if chosen else self.rollout.subnet
        ip_range = chosen.ip_range if chosen else self.rollout.ip_range
        if subnet is None or ip_range is None or (chosen is not None and not chosen.ours):
            return None
        if self.taken is None:
            self.taken = {*self.addresses.values()} | self.observed.engine.taken_addresses
        address = pick_address(subnet, ip_range, self.taken, name)
        if address:
            self.taken.add(address)
        return address

    def remove(self, container: ObservedContainer, cause: str, grace_s: float, *after: int | None) -> int:
        """Stop a container if it runs, then remove it."""
        stopped: int | None = None
        if container.status in (Status.RUNNING, Status.RESTARTING, Status.PAUSED):
            stopped = self.add(StopContainer(container.id, grace_s), container.name, cause, *after)
            return self.add(RemoveContainer(container.id), container.name, cause, stopped)
        return self.add(RemoveContainer(container.id), container.name, cause, *after)

    # ------------------------------------------------------------------ teardown

    def tear_down(self) -> None:
        """nginx first, then the services, then OPA, then what they stood on."""
        gone: list[int] = []
        for container in self.observed.of(PROXY):
            gone.append(self.remove(container, "torn down", 10.0))
        proxy = tuple(gone)
        for container in self.observed.engine.containers:
            if container.ours and container.service != PROXY:
                kept = self.wish.targets.kept.get(container.revision)
                grace = kept.service.stop_grace_period_s if kept else 10.0
                after = () if container.service == POLICY else proxy
                gone.append(self.remove(container, "torn down", grace, *after))
        for network in self.observed.engine.networks:
            if not network.ours:
                continue
            mine = sum(network.id in c.networks for c in self.observed.engine.containers if c.ours and c.is_running)
            if network.attached > mine:
                self.notes.append(f"network {network.name} stays: other containers use it")
            else:
                self.add(RemoveNetwork(network.id, network.name), network.name, "torn down", *gone)
        logs = {service.log_volume for service in self.wish.desired.services}
        for name in sorted(self.observed.engine.volumes):
            if name in logs or self.rollout.drop_volumes:
                self.add(RemoveVolume(name), name, "torn down", *gone)


_REST = frozenset({Phase.STARTING, Phase.WATCHING, Phase.SUSPENDED, Phase.HALTED})
"""Phases in which nothing waits for nginx's old workers to go."""

_DOWN_AT_ONCE = frozenset({Phase.ANALYZING, Phase.SUSPENDED, Phase.ROLLING_BACK})
"""Phases in which less weight means more for a stable slot that the running configuration knows."""

_PARKED = frozenset({Phase.PARKING, Phase.SETTLING, Phase.WATCHING})


def running_groups(state: ServiceRollout) -> tuple[Group, ...]:
    """The groups whose containers should run, where replicas do not take turns."""
    found: tuple[Group | None, ...]
    match state.phase:
        case Phase.STARTING | Phase.ANALYZING | Phase.SUSPENDED | Phase.PROMOTING:
            found = (state.stable, state.candidate)
        case Phase.PARKING if not state.course.is_adopted:
            found = (state.candidate,)
        case Phase.RENEWING | Phase.SWITCHING:
            found = (state.candidate, state.fresh)
        case Phase.HALTED:
            found = (state.candidate,)
        case Phase.RETURNING | Phase.RESTORING:
            found = (state.stable, state.kept or state.candidate)
        case _:
            found = (state.stable,)
    return tuple(group for group in found if group)


def wanted_groups(state: ServiceRollout) -> tuple[Group | None, ...]:
    """The groups whose containers are not to be removed."""
    match state.phase:
        case Phase.ROLLING_BACK if in_turns(state):
            return (state.stable, state.candidate)
        case Phase.ROLLING_BACK:
            return (state.stable,)
        case Phase.RETURNING | Phase.RESTORING:
            return (state.stable, state.candidate, state.kept)
        case Phase.STABLE | Phase.ABSENT:
            return (state.stable,)
        case Phase.HALTED:  # what failed has no part in the next try
            return (state.stable, state.candidate)
        case _:
            return (state.stable, state.candidate, state.fresh, state.kept)


def is_on_trial(state: ServiceRollout, group: Group) -> bool:
    """A canary that was not promoted yet: Docker does not restart it, an exit is a bad sign."""
    return group == state.candidate and group.release.mode is Mode.CANARY and state.phase in _ON_TRIAL


_ON_TRIAL = frozenset({Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED, Phase.ROLLING_BACK})


def _is_stuck(container: ObservedContainer) -> bool:
    """Docker restarts it again and again: what it is started with does not change by that, a new container may."""
    return container.status in BEING_HEALED and container.restarts >= CRASH_LOOP_RESTARTS


def running_grace(spec: ContainerSpec) -> float:
    """How long nginx may finish what it is doing before it is replaced, in seconds."""
    return spec.stop_grace_period_s


def _why_down(container: ObservedContainer) -> str:
    if container.status is Status.EXITED:
        return "out of memory" if container.oom_killed else f"exited with code {container.exit_code}"
    return f"is {container.status}"
