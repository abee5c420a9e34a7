"""Two revisions of one service on a small host, and what would be planned there."""

from __future__ import annotations

import dataclasses

from reconciler.core.observed import (
    Health,
    ObservedContainer,
    ObservedProxy,
    ObservedState,
    Status,
)
from reconciler.core.plan import (
    Plan,
)
from reconciler.core.planner import make_plan
from reconciler.core.rollout import ServiceRollout
from tests.builders import (
    CONFIG_HASH,
    canary,
    container,
    desired,
    group,
    kept,
    nginx,
    observed,
    opa,
    release,
    rollout,
    service,
    targets,
    wish,
)

V2 = service(image="demo:2")
REV1, REV2 = release().revision[:8], release(V2).revision[:8]
TRIED, FRESH = canary(V2), group(V2)
OLD, CANARY, NEW = container(), container(TRIED, restart_policy="no"), container(FRESH)
PARKED = dataclasses.replace(OLD, status=Status.EXITED, exit_code=0, health=Health.UNKNOWN)


def host(*containers: ObservedContainer, weight: int = 0, **proxy: object) -> ObservedState:
    """nginx and OPA run, and `weight` % go to the slot that is not the default one."""
    seen = ObservedProxy(CONFIG_HASH, weights={"app": weight}, **proxy)  # type: ignore[arg-type]
    return observed(*containers, nginx(), opa(), proxy=seen)


def planned(of: ServiceRollout, seen: ObservedState, wanted=V2, **wishes: object) -> Plan:
    """The plan where both revisions can be started."""
    made = targets(desired(wanted), stored=(kept(service()), kept(V2)))
    return make_plan(wish(desired(wanted), made, **wishes), seen, rollout(of))


def touched(plan: Plan, kind: type) -> list[str]:
    return [step.target for step in plan.steps if isinstance(step.action, kind)]
