"""A finished cycle as the JSON that goes into `history.jsonl`, with the guide's fields at its top level."""

from __future__ import annotations

from typing import TypeAlias

from reconciler.core.desired import Json, Mode
from reconciler.core.observed import ObservedState
from reconciler.core.plan import HARMLESS, WAITING, Outcome, Plan, PlannedAction, Result
from reconciler.core.record import Cycle, Trigger, Verdict
from reconciler.core.rollout import Decision, Move, Rollout

Record: TypeAlias = dict[str, Json]


def finished(cycle: Cycle) -> Record:
    """The record of one cycle; every key is always there, null where nothing is known."""
    return {
        "timestamp": cycle.ended,
        "kind": "cycle",
        "mode": _mode(cycle),
        "req_per_sec": None,
        "p99_latency": None,
        "error_rate": None,
        "policy": policy_word(cycle),
        "number": cycle.number,
        "trigger": trigger(cycle.trigger),
        "revision": cycle.desired.revision if cycle.desired else None,
        "started": cycle.started,
        "duration_ms": round(cycle.duration_ms, 1),
        "phase": {name: state.phase.value for name, state in sorted(cycle.rollout.services.items())},
        "problems": [str(problem) for problem in cycle.problems],
        "verdicts": [_verdict(verdict) for verdict in cycle.verdicts],
        "decisions": [_decision(decision) for decision in cycle.decisions],
        "actions": [_action(step, result) for step, result in zip(cycle.plan.steps, cycle.results, strict=True)],
        "notes": list(cycle.plan.notes),
        "substituted": _substituted(cycle.observed),
        "errors": list(cycle.errors),
    }


def intent(number: int, why: Trigger, plan: Plan, timestamp: str) -> Record:
    """What a cycle is about to do, written before the first change."""
    steps: list[Json] = [str(step) for step in plan.steps if not isinstance(step.action, WAITING)]
    return {"timestamp": timestamp, "kind": "intent", "number": number, "trigger": trigger(why), "plan": steps}


def voice(cycle: Cycle) -> str:
    """What a cycle says, without its numbers: two cycles in a row that say the same are one piece of news."""
    parts = [
        *(
            f"{name}={state.phase}/{state.stable}/{state.candidate}"
            for name, state in sorted(cycle.rollout.services.items())
        ),
        f"torn_down={cycle.rollout.torn_down}",
        *(str(problem) for problem in cycle.problems),
        *(f"{verdict.domain}={verdict.known}/{verdict.allow}" for verdict in cycle.verdicts),
        *(f"{decision.service}:{decision.move}:{decision.reason}" for decision in cycle.decisions if decision.reason),
        *(f"{step}" for step, result in zip(cycle.plan.steps, cycle.results, strict=True) if _failed(result)),
        *cycle.plan.notes,
        *cycle.errors,
    ]
    return "\n".join(parts)


def changed_the_world(cycle: Cycle) -> bool:
    """Something was done, or tried, that an auditor would want to see."""
    return any(
        not isinstance(step.action, HARMLESS) and result.outcome in (Outcome.OK, Outcome.UNKNOWN)
        for step, result in zip(cycle.plan.steps, cycle.results, strict=True)
    ) or any(decision.move is not Move.HOLD for decision in cycle.decisions)


def trigger(why: Trigger) -> Record:
    """A trigger; empty fields are left out."""
    fields = {"kind": why.kind, "detail": why.detail, "actor": why.actor, "reason": why.reason}
    return {name: value for name, value in fields.items() if value}


def policy_word(cycle: Cycle) -> str | None:
    """The guide's `policy`: FAIL if any verdict of the cycle denied, PASS if all allowed, null if none was asked."""
    if not cycle.verdicts:
        return None
    return "PASS" if all(verdict.allow for verdict in cycle.verdicts) else "FAIL"


def _mode(cycle: Cycle) -> str | None:
    return mode_of(cycle.rollout) or (cycle.desired.services[0].mode.value if cycle.desired else None)


def mode_of(rollout: Rollout) -> str | None:
    """`canary` if any service runs one, else `stable`; None before anything runs."""
    running = [state.stable for state in rollout.services.values() if state.stable]
    if not running:
        return None
    return Mode.CANARY.value if any(release.mode is Mode.CANARY for release in running) else Mode.STABLE.value


def _failed(result: Result) -> bool:
    return result.outcome in (Outcome.FAILED, Outcome.UNKNOWN)


def _verdict(verdict: Verdict) -> Record:
    return {
        "domain": verdict.domain,
        "allow": verdict.allow,
        "known": verdict.known,
        "action": verdict.action,
        "reason": verdict.reason,
        "violations": [
            {"id": v.id, "message": v.message, "observed": v.observed, "limit": v.limit} for v in verdict.violations
        ],
        "policy_revision": verdict.revision,
        "decision_id": verdict.decision_id,
        "input_digest": verdict.input_digest,
    }


def _decision(decision: Decision) -> Record:
    return {
        "service": decision.service,
        "move": decision.move.value,
        "reason": decision.reason,
        "release": str(decision.release) if decision.release else None,
    }


def _action(step: PlannedAction, result: Result) -> Record:
    return {
        "verb": step.verb,
        "target": step.target,
        "cause": step.cause,
        "outcome": result.outcome.value,
        "detail": result.detail,
    }


def _substituted(observed: ObservedState | None) -> Record:
    images = observed.engine.images.values() if observed else ()
    return {image.reference: image.used for image in images if image.is_substitute}
