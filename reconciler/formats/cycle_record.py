"""A finished cycle as the JSON that goes into `history.jsonl`, with the guide's fields at its top level."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from reconciler.core.desired import Json, Mode
from reconciler.core.evidence import as_json
from reconciler.core.observed import ObservedState
from reconciler.core.plan import HARMLESS, WAITING, Outcome, Plan, PlannedAction, Result
from reconciler.core.provenance import Commit
from reconciler.core.record import Cycle, Trigger, Verdict
from reconciler.core.rollout import Decision, Group, Move, Phase, Rollout, ServiceRollout
from reconciler.core.words import LookAgain, Noted, OfService, Pause, Promote, Word, hear, objection

Record: TypeAlias = dict[str, Json]


def finished(cycle: Cycle) -> Record:
    """The record of one cycle; every key is always there, null where nothing is known."""
    return {
        "timestamp": cycle.ended,
        "kind": "cycle",
        "mode": _mode(cycle),
        **_traffic(cycle),
        "policy": policy_word(cycle),
        "number": cycle.number,
        "trigger": trigger(cycle.trigger),
        "revision": cycle.desired.revision if cycle.desired else None,
        "commit": commit_json(cycle.commit),
        "started": cycle.started,
        "duration_ms": round(cycle.duration_ms, 1),
        "phase": {name: state.phase.value for name, state in sorted(cycle.rollout.services.items())},
        "words": [_word(word) for word in cycle.words],
        "rollouts": {name: _rollout(cycle, state) for name, state in sorted(cycle.rollout.services.items())},
        "suspended": str(cycle.rollout.suspended) if cycle.rollout.suspended else None,
        "problems": [str(problem) for problem in cycle.problems],
        "trouble": [str(problem) for problem in cycle.trouble],
        "verdicts": [_verdict(verdict) for verdict in cycle.verdicts],
        "decisions": [_decision(decision) for decision in cycle.decisions],
        "actions": [_action(step, result) for step, result in zip(cycle.plan.steps, cycle.results, strict=True)],
        "notes": list(cycle.plan.notes),
        "substituted": _substituted(cycle.observed),
        "errors": list(cycle.errors),
    }


def commit_json(commit: Commit | None) -> Json:
    """A commit with all that is told of it; null where a manifest comes from no commit."""
    if commit is None:
        return None
    return {
        "id": commit.id,
        "author": commit.author,
        "subject": commit.subject,
        "when": commit.when,
        "signer": commit.signer,
        "source": commit.source,
    }


def intent(number: int, why: Trigger, plan: Plan, timestamp: str) -> Record:
    """What a cycle is about to do, written before the first change."""
    steps: list[Json] = [str(step) for step in plan.steps if not isinstance(step.action, WAITING)]
    return {"timestamp": timestamp, "kind": "intent", "number": number, "trigger": trigger(why), "plan": steps}


def voice(cycle: Cycle) -> str:
    """What a cycle says, without its numbers: two cycles in a row that say the same are one piece of news."""
    parts = [
        *(
            f"{name}={state.phase}/{state.step}/{state.stable}/{state.candidate}"
            for name, state in sorted(cycle.rollout.services.items())
        ),
        f"torn_down={cycle.rollout.torn_down}",
        f"suspended={cycle.rollout.suspended}",
        f"commit={cycle.commit.id if cycle.commit else None}",
        *(str(problem) for problem in cycle.problems),
        *(str(problem) for problem in cycle.trouble),
        *(f"{verdict.domain}={verdict.known}/{verdict.action}/{_names(verdict)}" for verdict in cycle.verdicts),
        *(f"{d.service}:{d.move}:{numberless(d.reason)}" for d in cycle.decisions if d.reason),
        *(f"{step}" for step, result in zip(cycle.plan.steps, cycle.results, strict=True) if _failed(result)),
        *cycle.plan.notes,
        *cycle.errors,
    ]
    return "\n".join(parts)


_NUMBERS = re.compile(r"(?<!step )(?<! of )(?<![0-9.,:])[0-9][0-9.,:]*")


def numberless(text: str) -> str:
    """`text` without its numbers, but for those of steps: a countdown says one thing."""
    return _NUMBERS.sub("#", text)


def _names(verdict: Verdict) -> str:
    return ",".join(violation.id for violation in verdict.violations)


def changed_the_world(cycle: Cycle) -> bool:
    """Something was done, or tried, that an auditor would want to see."""
    return any(
        not isinstance(step.action, HARMLESS) and result.outcome in (Outcome.OK, Outcome.UNKNOWN)
        for step, result in zip(cycle.plan.steps, cycle.results, strict=True)
    ) or bool(cycle.words or any(decision.move is not Move.HOLD for decision in cycle.decisions))


def trigger(why: Trigger) -> Record:
    """A trigger; empty fields are left out."""
    fields = {"kind": why.kind, "detail": why.detail, "actor": why.actor, "reason": why.reason}
    return {name: value for name, value in fields.items() if value}


def policy_word(cycle: Cycle) -> str | None:
    """The guide's `policy`: FAIL if a verdict of the cycle found something wrong, else PASS; null if none was asked."""
    if not cycle.verdicts:
        return None
    return "PASS" if all(is_pass(verdict) for verdict in cycle.verdicts) else "FAIL"


def is_pass(verdict: Verdict) -> bool:
    """Nothing is wrong: allowed, or a canary that is only held, for want of evidence or by an operator's wish."""
    is_waiting = verdict.domain == "canary" and verdict.action == "hold" and not verdict.violations
    return verdict.known and (verdict.allow or is_waiting)


def _mode(cycle: Cycle) -> str | None:
    return mode_of(cycle.rollout) or (cycle.desired.services[0].mode.value if cycle.desired else None)


def mode_of(rollout: Rollout) -> str | None:
    """`canary` while one runs beside stable, else `stable`; None before anything runs."""
    running = [state for state in rollout.services.values() if state.groups]
    if not running:
        return None
    return Mode.CANARY.value if any(has_canary(state) for state in running) else Mode.STABLE.value


def has_canary(state: ServiceRollout) -> bool:
    """A canary runs beside stable, or carries its requests."""
    return state.candidate is not None and state.candidate.release.mode is Mode.CANARY and state.stable is not None


def _traffic(cycle: Cycle) -> Record:
    """The guide's numbers over the last window, of what is being tried, else of what serves."""
    summary = next(iter(cycle.measured.values()), None)
    window = summary.window if summary else None
    return {
        "req_per_sec": window.req_per_sec if window else None,
        "p99_latency": window.p99_ms if window else None,
        "error_rate": window.error_rate if window else None,
    }


def as_heard(rollout: Rollout, words: Sequence[Word]) -> tuple[Word, ...]:
    """What operators said to `rollout`, in their order; a word that was not heeded is noted as ignored, with why."""
    told: list[Word] = []
    for word in words:
        after = hear(rollout, word)
        if isinstance(word, OfService) and (after == rollout or _is_late(rollout.of(word.service), word)):
            told.append(_unheeded(rollout.of(word.service), word))
        elif not isinstance(word, LookAgain):
            told.append(word)
        rollout = after
    return tuple(told)


def _unheeded(state: ServiceRollout, word: OfService) -> Word:
    """A word that changed nothing in `state`, with why, unless what it asks for is so already."""
    asked, name = state.asked, _name(word)
    is_so = asked is not None and (asked.what, asked.actor) == (name, word.actor) and not _is_late(state, word)
    if isinstance(word, Pause) or is_so:
        return word
    why = objection(state, word) or f"there is nothing of {word.service} that it could change"
    if isinstance(word, Promote) and state.candidate and word.revision not in ("", state.candidate.revision):
        why = f"the canary is {state.candidate.revision[:12]} now, not {word.revision[:12]}"
    elif asked is not None and asked.what == "rollback":
        why = f"{asked.actor or 'an operator'} asked for a roll back first"
    return Noted(name, word.service, word.actor, word.reason, outcome=f"ignored: {why}")


def _is_late(state: ServiceRollout, word: OfService) -> bool:
    """There is nothing left to promote: it is on its way there already, or back."""
    return isinstance(word, Promote) and state.phase not in (Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED)


def _name(word: Word) -> str:
    return word.word if isinstance(word, Noted) else type(word).__name__.lower()


def _word(word: Word) -> Record:
    """What an operator said, in the same five fields whatever it was."""
    fields: Record = {
        "word": _name(word),
        "service": getattr(word, "service", ""),
        "actor": getattr(word, "actor", ""),
        "reason": getattr(word, "reason", ""),
        "detail": getattr(word, "detail", ""),
        "outcome": getattr(word, "outcome", "done"),
    }
    return fields


def _rollout(cycle: Cycle, state: ServiceRollout) -> Record:
    summary = cycle.measured.get(state.service)
    return {
        "phase": state.phase.value,
        "step": state.step + 1 if state.course.steps else 0,
        "steps": len(state.course.steps),
        "weight": state.weight_pct,
        "stable": _group(cycle, state.stable),
        "canary": _group(cycle, state.candidate),
        "chaos": summary.chaos if summary else None,
        "evidence": as_json(summary) if summary and state.candidate else None,
        "quarantined": list(state.quarantined),
    }


def _group(cycle: Cycle, group: Group | None) -> Json:
    if group is None:
        return None
    image, version = cycle.made_of.get(group.revision, ("", ""))
    return {"revision": group.revision, "version": version, "image": image}


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
