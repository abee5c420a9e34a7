"""The last cycle as what `status` shows: pure."""

from __future__ import annotations

from reconciler.core.desired import POLICY, PROXY, Json, Mode, Service
from reconciler.core.membership import LOST, of_group
from reconciler.core.observed import ObservedContainer, ObservedState, Slot, Status
from reconciler.core.plan import Outcome
from reconciler.core.record import Cycle, Verdict
from reconciler.core.rollout import Group, Phase, Release, ServiceRollout
from reconciler.formats.cycle_record import has_canary
from reconciler.operations.rollout_view import canary_verdict, rollout_value, traffic_value
from reconciler.operations.what_next import UNWATCHED


def status_value(cycle: Cycle | None, manifest_path: str, daemon: Json) -> dict[str, Json]:
    """Everything `status` tells, as JSON; the same keys always."""
    desired = cycle.desired if cycle else None
    observed = cycle.observed if cycle else None
    problems: list[Json] = [str(problem) for problem in cycle.problems] if cycle else []
    return {
        "project": desired.project if desired else "",
        "manifest": {
            "path": manifest_path,
            "revision": desired.revision if desired else "",
            "valid": not problems,
            "problems": problems,
        },
        "url": f"http://localhost:{_port(cycle, _proxy_container(observed))}" if desired else "",
        "state": state_word(cycle),
        "services": _services(cycle, is_watched=bool(daemon)) if cycle and observed else [],
        "nginx": _proxy(cycle, observed),
        "opa": _policy_engine(observed),
        "policy": _policy(cycle),
        "traffic": traffic_value(cycle),
        "last_cycle": _last_cycle(cycle),
        "daemon": daemon,
    }


def state_word(cycle: Cycle | None) -> str:
    """`converged`, `converging`, `degraded`, `suspended`, `torn_down` or `empty`."""
    if cycle is None or cycle.desired is None:
        return "empty" if cycle is None or not cycle.errors else "degraded"
    if cycle.rollout.torn_down:
        return "torn_down"
    if cycle.rollout.suspended is not None:
        return "suspended"
    if cycle.errors or cycle.problems or any(d.reason.startswith(("DENIED", "policy")) for d in cycle.decisions):
        return "degraded"
    if failures(cycle) or cycle.plan.notes:
        return "degraded"
    phases = {cycle.rollout.of(service.name).phase for service in cycle.desired.services}
    if phases == {Phase.ABSENT} and not cycle.rollout.admitted:
        return "empty"
    if phases != {Phase.STABLE} or cycle.plan:
        return "converging"
    return "converged" if all(_is_at(cycle.rollout.of(n), wish) for n, wish in cycle.wanted.items()) else "degraded"


def _is_at(state: ServiceRollout, wish: Release) -> bool:
    """The service rests where the manifest wants it; a canary that was dismissed is not missed."""
    is_there = state.stable is not None and state.stable.revision == wish.revision
    return is_there and (wish.mode is Mode.STABLE or wish == state.dismissed)


def _is_rebuilt(state: ServiceRollout) -> bool:
    """Its record was lost: what is known of it comes from what runs, and no rollout has begun since."""
    return state.phase is Phase.STABLE and (state.run == 0 or LOST in state.reason)


def failures(cycle: Cycle) -> list[str]:
    """What the cycle tried and could not do."""
    return [
        f"{step.verb} {step.target}: {result.detail}"
        for step, result in zip(cycle.plan.steps, cycle.results, strict=False)
        if result.outcome in (Outcome.FAILED, Outcome.UNKNOWN)
    ]


def _services(cycle: Cycle, *, is_watched: bool) -> list[Json]:
    assert cycle.desired is not None, "asked for only with both"
    assert cycle.observed is not None, "asked for only with both"
    names = dict.fromkeys((*(s.name for s in cycle.desired.services), *cycle.rollout.services))
    shown = [_service(cycle, cycle.rollout.of(name), cycle.observed) for name in names]
    return [service if is_watched else _unwatched(service) for service in shown]


def _unwatched(service: dict[str, Json]) -> Json:
    rollout = service["rollout"]
    if not isinstance(rollout, dict):
        return service
    return {**service, "rollout": {**rollout, "next": UNWATCHED, "blocked": True}}


def _service(cycle: Cycle, state: ServiceRollout, observed: ObservedState) -> dict[str, Json]:
    wanted = cycle.desired.service(state.service) if cycle.desired else None
    serving = state.candidate if state.carries_all and state.candidate else state.stable
    stable = of_group(observed, state.service, serving or state.candidate)
    said = next((d.reason for d in cycle.decisions if d.service == state.service), "")
    reason = said or ("" if state.phase is Phase.STABLE else state.reason)
    group = serving or state.candidate
    image, version = _made_of(cycle, group, wanted)
    return {
        "name": state.service,
        "mode": _mode(state, wanted),
        "phase": state.phase.value,
        "reason": reason,
        "revision": group.revision if group else "",
        "image": image,
        "version": version,
        "slot": state.serving.value,
        "ready": sum(container.is_ready for container in stable),
        "wanted": wanted.replicas if wanted else 0,
        "since": state.since or None,
        "quarantined": list(state.quarantined),
        "is_rebuilt": _is_rebuilt(state),
        "rollout": rollout_value(cycle, state, wanted),
        "containers": [_container(container, state, observed) for container in observed.of(state.service)],
    }


def _made_of(cycle: Cycle, group: Group | None, wanted: Service | None) -> tuple[str, str]:
    """Image and version of what serves; before anything does, of what is wanted. A lost revision's are not known."""
    if group is not None and group.revision in cycle.made_of:
        return cycle.made_of[group.revision]
    if group is not None:
        return "?", "?"
    return (wanted.image, wanted.version) if wanted else ("", "")


def _mode(state: ServiceRollout, wanted: Service | None) -> str:
    """`canary` while one runs beside stable; before anything runs, what is wanted."""
    if state.groups:
        return "canary" if has_canary(state) else "stable"
    return wanted.mode.value if wanted else ""


def _slot(state: ServiceRollout, container: ObservedContainer) -> str:
    """Where nginx has it; for one that nginx does not know, where it was born."""
    serves = next((s for s in Slot if any(m.container_id == container.id for m in state.members(s))), container.slot)
    return serves.value if serves else ""


def _container(container: ObservedContainer, state: ServiceRollout, observed: ObservedState) -> Json:
    is_kept = container.status is Status.EXITED and container in of_group(observed, state.service, state.kept)
    return {
        "name": container.name,
        "id": container.id[:12],
        "slot": _slot(state, container),
        "status": container.status.value,
        "health": container.health.value,
        "detail": "stopped, kept for a roll back" if is_kept else container.health_detail or container.error,
        "kept": is_kept,
        "address": container.address or "",
        "revision": container.revision,
        "mode": container.mode,
    }


def _proxy_container(observed: ObservedState | None) -> ObservedContainer | None:
    return next(iter(observed.of(PROXY)), None) if observed else None


def _port(cycle: Cycle | None, proxy: ObservedContainer | None) -> int | None:
    """Where nginx answers; the manifest's port where it does not run yet."""
    if proxy is not None and proxy.ports:
        return proxy.ports[0]
    return cycle.desired.nginx.port if cycle and cycle.desired else None


def _proxy(cycle: Cycle | None, observed: ObservedState | None) -> Json:
    container = _proxy_container(observed)
    return {
        "status": container.status.value if container else "absent",
        "port": _port(cycle, container),
        "live_hash": observed.proxy.live_hash if observed else None,
    }


def _policy_engine(observed: ObservedState | None) -> Json:
    healths = list(observed.policies.items()) if observed else []
    if not healths:
        running = observed is not None and any(c.status is Status.RUNNING for c in observed.of(POLICY))
        return {"ready": False, "detail": "runs, but was not asked" if running else "not there", "revision": ""}
    revision, health = healths[0]
    return {"ready": health.ready, "detail": health.detail, "revision": revision}


def _policy(cycle: Cycle | None) -> Json:
    verdicts = {verdict.domain: verdict for verdict in cycle.verdicts} if cycle else {}
    return {
        "infrastructure": _verdict(verdicts.get("infrastructure"), "the policy engine was not asked"),
        "canary": canary_verdict(cycle),
    }


def _verdict(verdict: Verdict | None, otherwise: str) -> Json:
    if verdict is None:
        return {"status": "UNKNOWN", "reason": otherwise}
    if not verdict.known:
        return {"status": "UNKNOWN", "reason": verdict.reason}
    return {"status": "PASS" if verdict.allow else "FAIL", "reason": "" if verdict.allow else verdict.reason}


def _last_cycle(cycle: Cycle | None) -> Json:
    if cycle is None:
        return None
    return {
        "number": cycle.number,
        "at": cycle.ended,
        "trigger": str(cycle.trigger),
        "plan": [str(step) for step in cycle.plan.steps],
        "notes": list(cycle.plan.notes),
        "errors": [*cycle.errors, *failures(cycle)],
    }
