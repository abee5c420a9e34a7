"""A service's rollout as `status` and `why` show it: pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.desired import Json, Service
from reconciler.core.evidence import Summary, as_json
from reconciler.core.evidence.limits import Limits, limits_of
from reconciler.core.membership import of_group
from reconciler.core.record import Cycle, Verdict
from reconciler.core.rollout import Group, Phase, ServiceRollout
from reconciler.formats.policy import standing
from reconciler.operations.what_next import Said, what_next


def rollout_value(cycle: Cycle, state: ServiceRollout, wanted: Service | None) -> Json:
    """Where the rollout is, what was measured, what policy says and what happens next; None at rest.

    `blocked`: something has to be mended first, so no amount of requests brings it further.
    """
    if state.phase in (Phase.ABSENT, Phase.STABLE):
        return None
    summary, verdict = cycle.measured.get(state.service), cycle.judged.get(state.service)
    if summary is not None and summary.about.startswith("stable/"):
        summary = None  # nothing is on trial yet
    limits = cycle.desired.limits.get("canary", {}) if cycle.desired else {}
    decision = next((d for d in cycle.decisions if d.service == state.service), None)
    duration_s = state.course.steps[state.step].duration_s if state.course.steps else 0.0
    return {
        "phase": state.phase.value,
        "step": state.step + 1 if state.course.steps else 0,
        "steps": len(state.course.steps),
        "weight": _weight(cycle, state),
        "since": state.since,
        "step_seconds": round(state.step_s, 1),
        "step_duration": duration_s,
        "watch_seconds": wanted.rollout.watch_s if wanted else None,
        "held": wanted is not None and wanted.mode == "canary",
        "paused": _paused(state),
        "stable": _group(cycle, state, state.stable, wanted),
        "canary": _group(cycle, state, state.candidate, wanted),
        "reason": _reason(cycle, state),
        "next": what_next(state, wanted, Said(verdict, decision, summary.chaos if summary else "")),
        "blocked": decision is not None and (decision.is_sick or decision.is_unknown),
        "policy": _policy(verdict, summary, limits),
        "window": _window(summary, limits.get("window_seconds")),
        "limits": dict(limits),
        "evidence": as_json(summary) if summary else None,
        "quarantined": list(state.quarantined),
        "chaos": summary.chaos if summary else None,
    }


def traffic_value(cycle: Cycle | None) -> dict[str, Json]:
    """The guide's three numbers over the last window; None where nothing was measured, with the reason."""
    summary = next(iter(cycle.measured.values()), None) if cycle else None
    window = summary.window if summary else None
    return {
        "req_per_sec": window.req_per_sec if window else None,
        "p99_latency_ms": window.p99_ms if window else None,
        "error_rate": window.error_rate if window else None,
        "why_unknown": window.why_unknown if window else "nothing was measured yet",
    }


def canary_verdict(cycle: Cycle | None) -> Json:
    """What the canary policy says, as PASS, FAIL or UNKNOWN; a hold for want of evidence breaks no limit."""
    if cycle is None or not cycle.judged:
        return {"status": "UNKNOWN", "reason": "there is no canary to judge", "violations": []}
    name, verdict = next(iter(cycle.judged.items()))
    limits = cycle.desired.limits.get("canary", {}) if cycle.desired else {}
    value = _policy(verdict, cycle.measured.get(name), limits)
    return {key: value[key] for key in ("status", "reason", "violations")}


def _weight(cycle: Cycle, state: ServiceRollout) -> int:
    """The share the canary has now, where nginx's flags tell; else the one it is meant to have."""
    seen = cycle.observed.proxy.weights.get(state.service) if cycle.observed else None
    return state.weight_pct if seen is None else seen


def _paused(state: ServiceRollout) -> Json:
    if state.paused is None:
        return None
    return {"actor": state.paused.actor, "reason": state.paused.reason, "until": state.paused.until}


def _group(cycle: Cycle, state: ServiceRollout, group: Group | None, wanted: Service | None) -> Json:
    if group is None or cycle.observed is None:
        return None
    image, version = cycle.made_of.get(group.revision, ("", ""))
    containers = of_group(cycle.observed, state.service, group)
    return {
        "revision": group.revision,
        "version": version,
        "image": image,
        "ready": sum(container.is_ready for container in containers),
        "wanted": wanted.replicas if wanted else len(containers),
    }


def _reason(cycle: Cycle, state: ServiceRollout) -> str:
    said = next((d.reason for d in cycle.decisions if d.service == state.service), "")
    return said or state.reason


def _policy(verdict: Verdict | None, summary: Summary | None, limits: Mapping[str, Json]) -> dict[str, Json]:
    if verdict is None:
        return {
            "status": "UNKNOWN",
            "action": "",
            "reason": "policy was not asked",
            "violations": [],
            "revision": "",
            "decision_id": "",
        }
    return {
        "status": standing(verdict, is_measured=_is_measured(summary, limits_of(limits))),
        "action": verdict.action,
        "reason": verdict.reason,
        "violations": [
            {"id": v.id, "message": v.message, "observed": v.observed, "limit": v.limit} for v in verdict.violations
        ],
        "revision": verdict.revision,
        "decision_id": verdict.decision_id,
    }


def _is_measured(summary: Summary | None, limits: Limits) -> bool:
    """There are numbers, and they can be believed: not so few that their being over a limit breaks none yet."""
    if summary is None or summary.window.why_unknown or summary.data_quality.disagreement:
        return False
    window = summary.window
    is_over = (window.error_rate or 0.0) > limits.max_error_rate or (window.p99_ms or 0.0) > limits.max_p99_latency_ms
    return window.requests >= limits.min_requests or not is_over


def _window(summary: Summary | None, seconds: Json) -> dict[str, Json]:
    window = summary.window if summary else None
    return {
        "requests": window.requests if window else None,
        "req_per_sec": window.req_per_sec if window else None,
        "error_rate": window.error_rate if window else None,
        "p99_ms": window.p99_ms if window else None,
        "seconds": window.seconds if window else seconds,
        "why_unknown": window.why_unknown if window else "nothing was measured yet",
    }
