"""OPA: who judges is there, and answers, before anybody is judged."""

from __future__ import annotations

from reconciler.core.desired import POLICY
from reconciler.core.membership import GONE
from reconciler.core.observed import ObservedContainer
from reconciler.core.plan import PreparePolicy, RemoveFile, StartContainer, WaitPolicy
from reconciler.core.planner.containers import BEING_HEALED, create, remove, why_down
from reconciler.core.planner.draft import Draft
from reconciler.core.planner.files import write
from reconciler.core.targets import PolicyTarget


def plan_policies(draft: Draft) -> None:
    """Every OPA that should run, before those that should not are removed."""
    wanted = draft.wish.targets.policies
    kept = [_plan_policy(draft, target) for target in wanted]
    if not wanted or not all(draft.observed.policy(target.revision).ready for target in wanted):
        return
    for container in draft.observed.of(POLICY):
        if container.id not in kept:
            remove(draft, container, "another OPA answers", 2.0)
    files = {path for target in wanted for path in target.files}
    for path in sorted(draft.observed.files):
        if path.startswith("opa/") and path not in files:
            draft.add(RemoveFile(path), path, "of an older policy")


def _plan_policy(draft: Draft, target: PolicyTarget) -> str | None:
    """See that one OPA runs and answers; the ID of its container, where there is one."""
    written = [write(draft, path, text) for path, text in sorted(target.files.items())]
    containers = draft.observed.of(POLICY)
    right = [c for c in containers if c.revision == target.spec.digest() and c.status not in GONE]
    if right:
        _mend(draft, target, right[-1], *written)
        return right[-1].id
    cause = "policies, limits or image changed" if containers else "missing"
    prepared = draft.add(PreparePolicy(target.revision), POLICY, cause)
    name, created = create(draft, POLICY, target.spec, None, cause, *written, prepared)
    started = draft.add(StartContainer(name), POLICY, cause, created)
    draft.add(WaitPolicy(target.revision), POLICY, "starting", started)
    return None


def _mend(draft: Draft, target: PolicyTarget, container: ObservedContainer, *written: int | None) -> None:
    """See that an existing OPA runs and answers."""
    health = draft.observed.policy(target.revision)
    if health.is_stuck:
        remove(draft, container, f"runs but does not answer: {health.detail}", 1.0)
    elif not container.is_running and container.status not in BEING_HEALED:
        prepared = draft.add(PreparePolicy(target.revision), POLICY, f"is {container.status}")
        started = draft.add(StartContainer(container.id), POLICY, why_down(container), *written, prepared)
        draft.add(WaitPolicy(target.revision), POLICY, "starting", started)
    elif not health.ready:
        draft.add(WaitPolicy(target.revision), POLICY, health.detail, *written)
