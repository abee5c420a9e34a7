"""What a rollout comes to next, in a sentence for people: pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.desired import Service
from reconciler.core.record import Verdict
from reconciler.core.rollout import Decision, Phase, ServiceRollout

UNWATCHED = "nothing by itself: no daemon runs. `deploy`, or a daemon, goes on"


@dataclass(frozen=True, slots=True)
class Said:
    """What the last cycle made of the rollout: policy's verdict, our decision, and the canary's own word on chaos."""

    verdict: Verdict | None = None
    decision: Decision | None = None
    chaos: str = ""


def what_next(state: ServiceRollout, wanted: Service | None, said: Said) -> str:
    """What happens if all goes on as it is."""
    if state.paused is not None and state.phase in (Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED):
        return "nothing before `resume`; a bad sign still rolls back"
    is_held = wanted is not None and wanted.mode == "canary"
    if state.phase is Phase.ANALYZING:
        return _mended_first(state, wanted, said.decision) or _next_step(state, is_held, said.verdict, said.chaos)
    if state.phase is Phase.SUSPENDED:
        if state.is_suspended_by_verdict:
            return "stays at 0 % until `resume` or `rollback`"
        return "goes on at step 1 when answers are back"
    return _NEXT.get(state.phase, "")


def _mended_first(state: ServiceRollout, wanted: Service | None, decision: Decision | None) -> str:
    """What keeps a canary on trial from going on, whatever is measured; "" where nothing does."""
    if decision is None:
        return ""
    if decision.is_sick:
        check = wanted.healthcheck if wanted else None
        patience = f"after {check.interval_s * check.retries:g} s" if check else "soon"
        return f"goes on once all is healthy again; a canary that stays sick is rolled back {patience}"
    if decision.is_unknown:
        budget_s = wanted.rollout.unknown_budget_s if wanted else 0.0
        silent_s = state.seen - state.unknown_since if state.unknown_since is not None else 0.0
        return f"stays here; unless there are answers, no requests any more in {max(0.0, budget_s - silent_s):.0f} s"
    return ""


def _next_step(state: ServiceRollout, is_held: bool, verdict: Verdict | None, chaos: str) -> str:
    if chaos in ("slow", "error"):
        stays = "stays here" if is_held else "no step up, and back once it is proven bad"
        return f"{stays}; `swiftdeploy chaos recover` ends the chaos"
    if verdict is not None and verdict.known and verdict.violations:
        return "stays here until the limits are kept; rolls back once it is proven bad"
    is_last = state.step + 1 >= len(state.course.steps)
    if is_last and is_held:
        return "stays here until `promote`"
    is_ready = verdict is not None and verdict.known and verdict.allow
    if not is_ready:
        when = "once policy allows it"
    else:
        left_s = state.course.steps[state.step].duration_s - state.step_s if state.course.steps else 0.0
        when = f"in {left_s:.0f} s, if policy still agrees" if left_s >= 1 else "now"
    if is_last:
        return f"becomes stable {when}" if is_ready else f"promotes itself {when}"
    return f"{state.course.steps[state.step + 1].weight_pct} % of the requests {when}"


_NEXT = {
    Phase.STARTING: "gets its first requests once it is healthy",
    Phase.PROMOTING: "the old containers stop, and are kept",
    Phase.PARKING: "new stable containers start",
    Phase.TURNING: "the old containers stop",
    Phase.RENEWING: "takes over once the new stable containers are healthy",
    Phase.SWITCHING: "the canary's containers are removed",
    Phase.SETTLING: "the new revision is watched; the old one is kept until then",
    Phase.WATCHING: (
        "the old containers are removed; until then they take over again if it turns bad, or at once on `rollback`"
    ),
    Phase.HALTED: "`retry`, `rollback` or a newer manifest",
    Phase.RETURNING: "takes the traffic back once the old containers are healthy",
    Phase.RESTORING: "what went bad is removed",
    Phase.ROLLING_BACK: "at rest once what was tried is removed",
    Phase.UPDATING: "at rest once every replica is replaced",
}
