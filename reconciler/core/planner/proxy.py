"""nginx: the right one runs, sees its files, and has its configuration."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.core.container import ContainerSpec
from reconciler.core.desired import PROXY
from reconciler.core.membership import GONE
from reconciler.core.observed import ObservedContainer, ObservedState
from reconciler.core.plan import (
    PrepareProxy,
    ReloadProxy,
    StartContainer,
    StopContainer,
    TestProxyConfig,
    WaitProxy,
)
from reconciler.core.planner.containers import BEING_HEALED, connect, create, remove, why_down
from reconciler.core.planner.draft import GRACE_S, Draft
from reconciler.core.planner.files import is_written, write
from reconciler.core.planner.leaving import drain_s, is_somebody_leaving
from reconciler.core.planner.wish import PROXY_CONFIG
from reconciler.core.rollout import ServiceRollout
from reconciler.core.signs import CRASH_LOOP_RESTARTS

RELOAD_SETTLES_S = 5.0
"""How long a reload may take to show before it is asked for again (measured: up to 1.4 s on a busy host)."""


def kept_port(observed: ObservedState, *, allow_interruption: bool) -> int | None:
    """The port that nginx has to go on listening at, since it publishes no other; None: the one of the manifest."""
    running = next((c for c in observed.of(PROXY) if c.is_running and c.ports), None)
    if running is None:
        return None
    is_taken = any(port not in running.ports for port in observed.engine.ports_taken)  # then nginx is not replaced
    return running.ports[0] if is_taken or not allow_interruption else None


def plan_proxy(draft: Draft, network: int | None, active: list[ServiceRollout]) -> int | None:
    """Bring nginx to its configuration; the index that traffic moves and removals come after."""
    spec = draft.wish.targets.proxy
    containers = draft.observed.of(PROXY)
    running = next((c for c in containers if c.is_running), None)
    if running is None:
        return _start(draft, spec, containers, network)
    if spec is not None and running.revision != spec.digest():
        if (holder := _holder(draft, running)) is not None:
            draft.note(holder)
        elif draft.wish.allow_interruption:
            cause = "nginx's image, port or settings changed"
            return _start(draft, spec, (), network, remove(draft, running, cause, spec.stop_grace_period_s))
        else:
            draft.note(
                "nginx's image, port or settings changed: replacing it drops connections; "
                "`deploy --allow-interruption` does it"
            )
    for extra in containers:
        if extra.id != running.id:
            remove(draft, extra, "nginx runs already", 0)
    if not draft.observed.proxy.sees_files:
        return _remount(draft, running)
    return _configure(draft, running, connect(draft, running, network), active)


def _holder(draft: Draft, running: ObservedContainer) -> str | None:
    """Why another nginx could not listen where it is to; None where it could. The one that serves stays then."""
    port = draft.wish.desired.nginx.port
    taken = draft.observed.engine.ports_taken.get(port)
    if taken is None or port in running.ports:
        return None
    return f"nginx cannot move to port {port}: it is taken by {taken}; free it, or change nginx.port"


# ---------------------------------------------------------------- none runs


def _start(
    draft: Draft,
    spec: ContainerSpec | None,
    containers: Iterable[ObservedContainer],
    network: int | None,
    removed: int | None = None,
) -> int | None:
    """Start the newest of `containers` that is as wanted, else a new one once the old one is `removed`."""
    if spec is None:
        return None
    found = _newest_right(draft, spec, containers)
    cause = why_down(found) if found else "missing"
    written = _write_for_start(draft, spec)
    prepared = _prepare(draft, cause)
    if found is None:
        name, created = create(draft, PROXY, spec, None, cause, network, removed, written, prepared)
        started = draft.add(StartContainer(name), PROXY, cause, created)
    elif found.status in BEING_HEALED:
        return _wait(draft, "restarting", written, prepared)
    else:
        connected = connect(draft, found, network)
        started = draft.add(StartContainer(found.id), PROXY, cause, connected, written, prepared)
    return _wait(draft, "starting", started)


def _newest_right(
    draft: Draft, spec: ContainerSpec, containers: Iterable[ObservedContainer]
) -> ObservedContainer | None:
    """The newest container that will do; those that will not are removed."""
    found = None
    for container in containers:
        if _is_stuck(container):
            remove(draft, container, "it fails again and again", 0)
        elif container.revision != spec.digest() or container.status in GONE:
            remove(draft, container, "not the nginx that is wanted", 0)
        else:
            found = container
    return found


def _is_stuck(container: ObservedContainer) -> bool:
    """Docker restarts it again and again: what it is started with does not change by that, a new container may."""
    return container.status in BEING_HEALED and container.restarts >= CRASH_LOOP_RESTARTS


def _write_for_start(draft: Draft, spec: ContainerSpec) -> int | None:
    text, tested = draft.wish.files[PROXY_CONFIG], None
    is_first = not draft.observed.of(PROXY)  # it tests its configuration by starting with it
    if not is_first and not is_written(draft, PROXY_CONFIG, text):
        tested = draft.add(TestProxyConfig(text, spec.image_id, None), PROXY_CONFIG, "changed")
    return write(draft, PROXY_CONFIG, text, tested)


# ---------------------------------------------------------------- one runs


def _remount(draft: Draft, running: ObservedContainer) -> int:
    """nginx mounted folders that were removed since: it goes on with what it knows, and only a restart helps."""
    if not draft.wish.allow_interruption:
        draft.note(
            "nginx does not see our files any more, since their folder was replaced: it serves as before, "
            "but nothing can be changed until `deploy --allow-interruption` restarts it"
        )
        return _wait(draft, "does not see our files")
    cause = "its folder was replaced"
    written = write(draft, PROXY_CONFIG, draft.wish.files[PROXY_CONFIG])
    prepared = _prepare(draft, cause)
    stopped = draft.add(StopContainer(running.id, GRACE_S), PROXY, cause, written, prepared)
    started = draft.add(StartContainer(running.id), PROXY, cause, stopped)
    return _wait(draft, "starting", started)


def _configure(
    draft: Draft, running: ObservedContainer, connected: int | None, active: list[ServiceRollout]
) -> int | None:
    """nginx runs its configuration, and no older worker serves while somebody whom it may know is to go."""
    text, proxy = draft.wish.files[PROXY_CONFIG], draft.observed.proxy
    if not is_written(draft, PROXY_CONFIG, text):
        tested = draft.add(TestProxyConfig(text, running.image_id, running.id), PROXY_CONFIG, "changed", connected)
        written = write(draft, PROXY_CONFIG, text, tested)
        return _reload(draft, running, "its configuration changed", written)
    if not proxy.has_includes:
        prepared = _prepare(draft, "a file that it includes is not as it should be", connected)
        return _reload(draft, running, "a file that it includes was mended", prepared)
    if proxy.live_hash != draft.wish.proxy_hash:
        return _catch_up(draft, running, connected)
    if proxy.retiring and proxy.retiring_for_s < drain_s(draft, active) and is_somebody_leaving(draft, active):
        return _wait(draft, f"{proxy.retiring} old workers still serve", drained=True)
    return connected


def _catch_up(draft: Draft, running: ObservedContainer, connected: int | None) -> int:
    """What is written is not what runs: nginx is still starting or reloading, or was never told."""
    proxy = draft.observed.proxy
    if proxy.live_hash is None and not proxy.retiring:
        return _wait(draft, "does not answer yet", connected)
    if proxy.retiring and proxy.retiring_for_s < RELOAD_SETTLES_S:
        return _wait(draft, "reloading", connected, drained=True)
    return _reload(draft, running, "runs an older configuration", connected)


# ---------------------------------------------------------------- what nginx is asked for


def _prepare(draft: Draft, cause: str, *after: int | None) -> int:
    """What nginx needs in its folders beside its configuration."""
    action = PrepareProxy(tuple(sorted(draft.services)), draft.wish.files[PROXY_CONFIG])
    return draft.add(action, PROXY, cause, *after)


def _reload(draft: Draft, running: ObservedContainer, cause: str, *after: int | None) -> int:
    reloaded = draft.add(ReloadProxy(running.id), PROXY, cause, *after)
    return _wait(draft, "reloading", reloaded, drained=True)


def _wait(draft: Draft, cause: str, *after: int | None, drained: bool = False) -> int:
    return draft.add(WaitProxy(draft.wish.proxy_hash, drained), PROXY, cause, *after)
