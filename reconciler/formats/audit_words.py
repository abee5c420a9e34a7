"""What an audit reads from records: names for moves and words, and pieces of a record, whatever is in it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.formats.audit_ledger import MAX_TEXT, Entry

MOVES: Mapping[str, str] = {
    "start": "Rollout started",
    "ready": "New containers healthy",
    "advance": "Canary advanced",
    "promote": "Promoted",
    "adopt": "Canary adopted as stable",
    "suspend": "Rollout suspended",
    "resume": "Rollout resumed",
    "switched": "Traffic switched",
    "drained": "Old containers drained",
    "parked": "Old containers parked",
    "settled": "Rollout complete",
    "halt": "Rollout halted",
    "return": "Returning to the old revision",
    "give_up": "Rolled back",
    "dismiss": "Canary dismissed",
    "supersede": "Superseded by a newer manifest",
    "removed": "Canary removed",
}
"""What each move of a rollout is called; `hold` is no news."""

WORDS: Mapping[str, str] = {
    "promote": "Promotion",
    "rollback": "Roll back",
    "pause": "Pause",
    "resume": "Resume",
    "retry": "Retry",
    "deploy": "Deployment",
    "teardown": "Teardown",
    "chaos": "Chaos",
    "suspend": "Suspension",
    "unsuspend": "End of the suspension",
    "accept": "Acceptance of a refused commit",
}
"""Operators' words, as nouns: `Promotion asked for`, `Promotion denied`."""

DONE_AT_ONCE: Mapping[str, str] = {
    "pause": "Paused",
    "suspend": "Suspended",
    "unsuspend": "Suspension ended",
    "accept": "Refused commit accepted",
}
"""Words that are no wish for later: what they say is so from then on."""

NO_NEWS = frozenset({"lookagain", "reconcile", "sync"})
"""Words that ask for nothing but a look."""

WANT_OF_EVIDENCE = frozenset({"min_requests", "evidence", "warm_up", "duration"})
"""Violations that only say "not yet": a canary that waits for evidence breaks no rule."""


def text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else "" if value is None else str(value)[:MAX_TEXT]


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number_in(value: object) -> float | None:
    """A measurement as a verdict carries it, a number or a number in words; None for what is neither."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def without_numbers(words: str) -> str:
    """What two texts have in common that say the same of different numbers."""
    return _NUMBERS.sub("#", words)


_NUMBERS = re.compile("[0-9]+")


def joined(*parts: str) -> str:
    """What there is of them, in one line."""
    return "; ".join(part for part in parts if part)


def by(word: Mapping[str, Any]) -> str:
    actor, reason = text(word.get("actor")), text(word.get("reason"))
    return ": ".join(part for part in (f"by {actor}" if actor else "", reason) if part)


def step_words(each: Mapping[str, Any]) -> str:
    step, steps, weight = each.get("step"), each.get("steps"), each.get("weight")
    parts = [f"step {step} of {steps}" if is_number(step) and is_number(steps) else ""]
    parts.append(f"{weight} % of the traffic" if is_number(weight) else "")
    return ", ".join(part for part in parts if part)


def revisions(move: str, decision: Mapping[str, Any], each: Mapping[str, Any]) -> str:
    """Which revision it is about; where a rollout starts, also which one it leaves."""
    canary, stable = (mapping(each.get(track)).get("revision") for track in ("canary", "stable"))
    if move == "start" and canary and stable and canary != stable:
        return f"{text(stable)[:12]} → {text(canary)[:12]}"
    if move in ("start", "give_up", "promote"):
        return text(decision.get("release")) or text(canary)[:12]
    return ""


def is_waiting(verdict: Mapping[str, Any]) -> bool:
    """A canary that is held only because too little is known of it yet."""
    if verdict.get("domain") != "canary" or verdict.get("allow") or not verdict.get("known", True):
        return False
    broken = dicts(verdict.get("violations"))
    return verdict.get("action", "hold") == "hold" and all(text(each.get("id")) in WANT_OF_EVIDENCE for each in broken)


def violations(domain: str, service: str, verdict: Mapping[str, Any], at: str) -> Iterator[Entry]:
    """One row for each rule that a verdict found broken; one for the verdict where it names none."""
    outcome = _outcome(domain, verdict)
    broken = dicts(verdict.get("violations"))[:20]
    for each in broken:
        observed, limit = number_in(each.get("observed")), number_in(each.get("limit"))
        yield Entry(
            at,
            at,
            text(each.get("message") or each.get("id") or "a rule without a name"),
            service,
            outcome,
            id=text(each.get("id")),
            low=observed,
            high=observed,
            limit=limit,
            said=text(each.get("observed")) if observed is None else "",
        )
    if not broken:
        yield Entry(at, at, text(verdict.get("reason")) or "no reason given", service, outcome)


def _outcome(domain: str, verdict: Mapping[str, Any]) -> str:
    """`canary: roll back`: whose answer it was, and what it meant."""
    if not verdict.get("known", True):
        return f"{domain}: not known"
    return f"{domain}: {'roll back' if verdict.get('action') == 'rollback' else 'denied'}"
