"""Everything that goes under `state/rendered/`, from what is wanted and where the rollout is.

Two nginx configurations are rendered: the daemon's own names addresses and moves traffic by flags; the one
that the Compose file mounts names aliases and needs no daemon, for whoever leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.core.containers import (
    EVIDENCE_LOG,
    PROXY_LIVE,
    PROXY_RUN,
    KeptRevision,
    Layout,
    compose_proxy,
    service_container,
    slot_name,
)
from reconciler.core.desired import POLICY, PROXY, DesiredState, Mode, Service
from reconciler.core.membership import shown_slots, slot_groups
from reconciler.core.observed import Slot
from reconciler.core.planner import PROXY_CONFIG
from reconciler.core.rollout import Group, Member, Phase, Release, Rollout, ServiceRollout
from reconciler.core.targets import PolicyTarget, Targets
from reconciler.formats import compose, nginx
from reconciler.formats.exposition import uncounted_paths

COMPOSE_FILE = "docker-compose.yml"
COMPOSE_PROXY_CONFIG = "nginx/compose/nginx.conf"


@dataclass(frozen=True, slots=True)
class View:
    """The files by path, the hash that nginx answers once it runs them, and Compose's labels by its service.

    `policies` are the OPAs whose files lie beside them.
    """

    files: Mapping[str, str]
    proxy_hash: str
    compose_labels: Mapping[str, tuple[tuple[str, str], ...]]
    policies: tuple[PolicyTarget, ...]


_last: list[tuple[object, View]] = []


def render(
    desired: DesiredState, targets: Targets, rollout: Rollout, layout: Layout, listen: int | None = None
) -> View:
    """All files but OPA's; equal arguments give equal bytes. Raises RenderError.

    `listen` is the port of a running nginx that may not be replaced now, None for the manifest's. The last view is
    remembered: in most cycles nothing changed.
    """
    asked = (desired, targets, rollout.services, layout, listen)
    for known, view in _last[-1:]:  # looked at once: others render in threads of their own
        if known == asked:
            return view
    view = _rendered(desired, targets, rollout, layout, listen)
    _last[:] = [(asked, view)]
    return view


def _rendered(desired: DesiredState, targets: Targets, rollout: Rollout, layout: Layout, listen: int | None) -> View:
    upstreams = _live_upstreams(desired, targets, rollout)
    proxy = _proxy_view(desired, upstreams, targets.proxy_version, EVIDENCE_LOG)
    live = _config(replace(proxy, nginx=replace(proxy.nginx, port=listen or proxy.nginx.port)))
    slots = _slots(desired, targets, rollout)
    by_alias = _config(_proxy_view(desired, _alias_upstreams(desired, slots), targets.proxy_version))
    text, labels = _composed(compose_view(desired, targets, slots), layout.rendered)
    files = {PROXY_CONFIG: live, COMPOSE_PROXY_CONFIG: by_alias, COMPOSE_FILE: text}
    return View(files, nginx.config_hash(live), labels, targets.policies)


Labels = Mapping[str, tuple[tuple[str, str], ...]]
_last_composed: list[tuple[object, tuple[str, Labels]]] = []


def _composed(view: compose.ComposeView, folder: str) -> tuple[str, Labels]:
    """The Compose file and its containers' labels; the last ones are remembered: a rollout's steps change neither."""
    asked = (view, folder)
    for known, composed in _last_composed[-1:]:
        if known == asked:
            return composed
    composed = _compose(view, folder)
    _last_composed[:] = [(asked, composed)]
    return composed


def _compose(view: compose.ComposeView, folder: str) -> tuple[str, Labels]:
    hashes = compose.config_hashes(view, working_dir=folder)
    labels = {
        service.name: compose.compose_labels(
            view,
            service.name,
            number=1,
            image_id=service.spec.image_id,
            working_dir=folder,
            config_file=f"{folder}/{COMPOSE_FILE}",
            config_hash=hashes[service.name],
        )
        for service in view.services
    }
    return compose.render(view), labels


# ---------------------------------------------------------------- nginx


_CONFIGS_KEPT = 8
_configs: dict[str, str] = {}


def _config(view: nginx.ProxyView) -> str:
    """nginx's text. Each new one is parsed again and compared, which takes 30 ms: the last few are remembered."""
    key = repr(view)
    text = _configs.get(key)
    if text is None:
        text = nginx.render(view)
        if len(_configs) >= _CONFIGS_KEPT:
            _configs.clear()
        _configs[key] = text
    return text


def _proxy_view(
    desired: DesiredState,
    upstreams: tuple[nginx.Upstreams, ...],
    version: tuple[int, ...],
    evidence_log: str | None = None,
) -> nginx.ProxyView:
    return nginx.ProxyView(
        nginx=desired.nginx,
        upstreams=upstreams,
        flags_dir=f"{PROXY_LIVE}/flags",
        socket_path=f"{PROXY_RUN}/proxy.sock",
        project=desired.project,
        supports_min_timeout=not version or version >= (1, 27, 4),
        evidence_log=evidence_log,
    )


def _live_upstreams(desired: DesiredState, targets: Targets, rollout: Rollout) -> tuple[nginx.Upstreams, ...]:
    """Every routed service with the addresses of its slots' members."""
    found = []
    for wanted in desired.services:
        service = _serving_for(wanted, desired, targets, rollout)
        if service.route is None or service.port is None:
            continue
        state = rollout.of(service.name)
        found += _upstreams(service, state.serving, _live_members(state, targets, service))
    return tuple(found)


def _live_members(state: ServiceRollout, targets: Targets, service: Service) -> Mapping[Slot, tuple[str, ...]]:
    """`address:port` of each slot's members; the slot that nobody is sent to repeats the other's."""
    groups, shown = slot_groups(state), shown_slots(state)
    members: dict[Slot, tuple[str, ...]] = {
        slot: tuple(f"{m.address}:{_port(targets, m, groups.get(slot, ()), service)}" for m in state.members(slot))
        for slot in shown
    }
    if shown == {state.serving.other}:
        members[state.serving] = members[state.serving.other]
    return {slot: members.get(slot, ()) for slot in Slot}


def _serving_for(wanted: Service, desired: DesiredState, targets: Targets, rollout: Rollout) -> Service:
    """The service that serves `wanted`'s route: itself, or until it has shown that it can, one that it replaces."""
    if rollout.of(wanted.name).stable is not None:
        return wanted
    names = {service.name for service in desired.services}
    vanished = [state.stable for name, state in rollout.services.items() if name not in names and state.stable]
    services = [targets.kept[group.revision].service for group in vanished if group.revision in targets.kept]
    return next((old for old in services if old.route == wanted.route), wanted)


def _upstreams(service: Service, default: Slot, members: Mapping[Slot, tuple[str, ...]]) -> list[nginx.Upstreams]:
    if service.route is None or service.port is None:
        return []
    return [
        nginx.Upstreams(
            service.name,
            default,
            members,
            service.route,
            service.chaos,
            service.route.sticky,
            uncounted=tuple(sorted(uncounted_paths(service))),
            probe=service.rollout.probe_path,
            tester=service.tester_digest,
        )
    ]


def _port(targets: Targets, member: Member, groups: tuple[Group, ...], service: Service) -> int:
    """The port that a member listens on: an older revision may have had another."""
    kept = targets.kept.get(member.revision or (groups[0].revision if groups else ""))
    port = (kept.service if kept else service).port
    assert port is not None, "a routed service without a port"
    return port


def _alias_upstreams(desired: DesiredState, slots: Mapping[str, _Slots]) -> tuple[nginx.Upstreams, ...]:
    """Every routed service by its slots' aliases, without testers: their secrets stay here."""
    found = []
    for service in desired.services:
        default = slots[service.name].default
        members = {default: (f"{slot_name(service.name, default)}:{service.port}",), default.other: ()}
        found += [replace(each, tester=None) for each in _upstreams(service, default, members)]
    return tuple(found)


# ---------------------------------------------------------------- Compose


@dataclass(frozen=True, slots=True)
class _Slots:
    """What a service's slots hold, for people who start it with Compose."""

    default: Slot
    held: Mapping[Slot, tuple[KeptRevision, Mode]]


def _slots(desired: DesiredState, targets: Targets, rollout: Rollout) -> Mapping[str, _Slots]:
    """What runs in each slot now, or would with nothing deployed; what only waits for a roll back is left out."""
    found = {}
    for service in desired.services:
        state = rollout.of(service.name)
        releases: dict[Slot, Release | None] = {}
        if state.phase is not Phase.ABSENT:
            releases = {slot: groups[-1].release for slot, groups in slot_groups(state).items() if groups}
        if not releases:
            wanted = targets.wanted.get(service.name)
            releases = {state.serving: Release(wanted.revision, Mode.STABLE) if wanted else None}
        held = {
            slot: (targets.kept[release.revision], release.mode)
            for slot, release in releases.items()
            if release is not None and release.revision in targets.kept
        }
        default = state.serving if state.serving in held else state.serving.other
        found[service.name] = _Slots(default if held else state.serving, held)
    return found


def compose_view(desired: DesiredState, targets: Targets, slots: Mapping[str, _Slots]) -> compose.ComposeView:
    """The Compose project: nginx waits for what it names, OPA stands alone."""
    services = []
    for name, places in slots.items():
        for slot, (kept, mode) in sorted(places.held.items()):
            alias = slot_name(name, slot)
            container = service_container(kept, mode)
            replicas = kept.service.replicas
            services.append(compose.ComposeService(alias, container, (alias,), (), replicas))
    if targets.proxy:
        needs = tuple(
            (slot_name(name, places.default), "service_started") for name, places in slots.items() if places.held
        )
        services.append(compose.ComposeService(PROXY, compose_proxy(targets.proxy), (PROXY,), needs))
    if targets.policies:
        services.append(compose.ComposeService(POLICY, targets.policies[0].spec, (), ()))
    volumes = {mount.source for s in services for mount in s.spec.mounts if mount.kind == "volume"}
    return compose.ComposeView(
        project=desired.project,
        services=tuple(services),
        network_name=desired.network.name,
        network_driver=desired.network.driver,
        volumes=tuple((name, name) for name in sorted(volumes)),
    )
