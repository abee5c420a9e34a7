"""From wishes and a snapshot to a plan: pure, deterministic, and complete in one pass. Begin with `make_plan`.

    images ─▶ OPA, first and alone ─▶ network, volumes ─▶ files ─▶ nginx ─▶ each service by its phase

A plan holds whatever can be done now and the waits that the rest hangs on; the next cycle goes on from what
it then sees. Nothing here remembers anything. What is to be done about each thing is in the room of that thing.
"""

from __future__ import annotations

from reconciler.core.observed import ObservedState
from reconciler.core.plan import Plan
from reconciler.core.planner.draft import Draft
from reconciler.core.planner.files import plan_files, sha256
from reconciler.core.planner.ground import plan_ground, plan_images
from reconciler.core.planner.groups import is_on_trial
from reconciler.core.planner.leaving import sweep
from reconciler.core.planner.policies import plan_policies
from reconciler.core.planner.proxy import kept_port, plan_proxy
from reconciler.core.planner.services import plan_service
from reconciler.core.planner.teardown import tear_down
from reconciler.core.planner.wish import PROXY_CONFIG, Wish
from reconciler.core.rollout import Phase, Rollout

__all__ = ["PROXY_CONFIG", "Wish", "is_on_trial", "kept_port", "make_plan", "sha256"]


def make_plan(wish: Wish, observed: ObservedState, rollout: Rollout) -> Plan:
    """The plan for one cycle; empty when `observed` is what is wished for."""
    draft = Draft(wish, observed, rollout)
    if rollout.torn_down:
        tear_down(draft)
    else:
        _converge(draft)
    return draft.plan()


def _converge(draft: Draft) -> None:
    plan_images(draft)
    plan_policies(draft)
    active = [state for state in draft.rollout.services.values() if state.phase is not Phase.ABSENT]
    if not active:
        sweep(draft, None)
        return
    ground = plan_ground(draft)
    plan_files(draft)
    proxy = plan_proxy(draft, ground.network, active)
    for state in active:
        plan_service(draft, state, ground, proxy)
    sweep(draft, proxy)
