"""OPA in a simulated world: it answers in bytes, and the real decoder reads them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from reconciler.core.desired import POLICY
from reconciler.core.record import Verdict
from reconciler.formats.policy import read_answer, unknown

MODES = (
    "well",
    "down",
    "late",
    "deny",
    "hold",
    "rollback",
    "garbage",
    "undefined",
    "conflict",
    "stranger",
    "error",
    "full",
)
"""How OPA may be; `stranger` answers for another policy revision, `late` runs but nobody hears from it in time.

`full` lets nothing begin, since the host has no room.
"""


def answer(mode: str, domain: str, question: Mapping[str, Any], revision: str) -> Verdict:
    """What a cycle is told when OPA is like that."""
    if mode in ("down", "late"):
        return unknown(domain, "no answer within 5 s")
    allow, action, reason = _judged(mode, domain, question)
    return _read(mode, domain, revision, allow, action, reason)


@functools.lru_cache(maxsize=1024)
def _read(mode: str, domain: str, revision: str, allow: bool, action: str, reason: str) -> Verdict:
    result = {"allow": allow, "action": action, "reason": reason, "violations": [], "revision": revision}
    status, body = 200, json.dumps({"result": result}).encode()
    match mode:
        case "garbage":
            body = b'{"result": {"allow": "yes"'
        case "undefined":
            body = b"{}"
        case "conflict":
            body = json.dumps({"result": {**result, "allow": True, "action": "rollback"}}).encode()
        case "stranger":
            body = json.dumps({"result": {**result, "allow": True, "action": "promote", "revision": "f" * 64}}).encode()
        case "error":
            status, body = 500, b'{"code":"internal_error","message":"eval_conflict_error"}'
    return read_answer(status, body, domain, revision)


def _judged(mode: str, domain: str, question: Mapping[str, Any]) -> tuple[bool, str, str]:
    """A policy of a few words: away with errors, wait for requests, else on."""
    if mode == "deny" or (mode, domain) in (("hold", "canary"), ("full", "infrastructure")):
        return False, "hold", "not today"
    if domain != "canary":
        return True, "promote", ""
    if mode == "rollback":
        return False, "rollback", "Error rate exceeds 1% threshold"
    rate, slow, requests = question["error_rate"], question["p99_latency"], question["requests"]
    if any(isinstance(each, dict) for each in (rate, requests)):
        return _waited(question)
    if rate > 0.01:
        return False, "rollback", "Error rate exceeds 1% threshold"
    if not isinstance(slow, dict) and slow > 500:
        return False, "rollback", "P99 latency exceeds 500ms"
    if requests < question["rollout"]["min_requests"]:
        return _waited(question)
    return True, "promote", "all is well"


def _waited(question: Mapping[str, Any]) -> tuple[bool, str, str]:
    rollout = question["rollout"]
    if rollout["on_timeout"] == "promote" and rollout["waited_seconds"] >= rollout["max_wait_seconds"]:
        return True, "promote", "too little traffic to tell, for long enough"
    return False, "hold", "not enough evidence"


def listens(world: Any, revision: str) -> bool:
    """An OPA container runs that mounts the policies of `revision`."""
    tail = f"/opa/{revision[:12]}"
    return any(
        mount.source.endswith(tail)
        for box in world.engine.ours(POLICY)
        if world.is_well(box)
        for mount in box.request.spec.mounts
    )
