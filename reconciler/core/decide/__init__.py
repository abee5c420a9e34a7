"""What we do about each service: the only place where a rollout's next move is chosen.

`decide` looks the phase up in a table; what is chosen in each is in the room of that part of a rollout.
"""

from __future__ import annotations

import dataclasses

from reconciler.core.decide import at_rest, canary, promotion, way_back
from reconciler.core.decide.at_rest import course_of
from reconciler.core.decide.clocks import LONGEST_TICK_S, advance, moved_in_time, not_ahead_of
from reconciler.core.decide.view import Context, View
from reconciler.core.rollout import Decision, Move, Phase, Rollout, ServiceRollout
from reconciler.core.targets import Targets
from reconciler.core.windows import gate

__all__ = [
    "LONGEST_TICK_S",
    "Context",
    "advance",
    "course_of",
    "decide",
    "moved_in_time",
    "not_ahead_of",
    "wish_changed",
]


def wish_changed(rollout: Rollout, targets: Targets) -> Rollout:
    """The rollout without dismissals of what is not wished for any more: wished for again, it is tried again."""
    stale = {
        name: dataclasses.replace(state, dismissed=None)
        for name, state in rollout.services.items()
        if state.dismissed is not None and targets.wanted.get(name, state.dismissed) != state.dismissed
    }
    return dataclasses.replace(rollout, services={**rollout.services, **stale}) if stale else rollout


def decide(rollout: Rollout, context: Context) -> tuple[Decision, ...]:
    """One decision for every service that is wanted or still has state; HOLD where nothing is to be done."""
    names = dict.fromkeys((*context.targets.wanted, *rollout.services))
    return tuple(_decide(rollout, rollout.of(name), context) for name in names)


def _decide(rollout: Rollout, state: ServiceRollout, context: Context) -> Decision:
    if rollout.torn_down:
        return Decision(state.service, Move.HOLD, "torn down; `deploy` brings it back")
    suspension = rollout.suspension(context.now)
    if suspension is not None:
        return Decision(state.service, Move.HOLD, f"{suspension}; `resume` ends it")
    if state.phase in (Phase.ABSENT, Phase.STABLE) and not rollout.may_break_glass(context.now):
        return _in_a_window(at_rest.at_rest(View(state, context)), context)
    return _BY_PHASE[state.phase](View(state, context))


def _in_a_window(decision: Decision, context: Context) -> Decision:
    """Nothing new begins while the sync windows are closed; what runs goes on."""
    window = gate(context.outlooks, decision.service, context.now)
    if decision.move is not Move.START or window.is_open:
        return decision
    return Decision(decision.service, Move.HOLD, f'{window.reason}; `deploy --break-glass --reason "why"` begins now')


_BY_PHASE = {
    Phase.ABSENT: at_rest.at_rest,
    Phase.STABLE: at_rest.at_rest,
    Phase.STARTING: canary.starting,
    Phase.ANALYZING: canary.analyzing,
    Phase.SUSPENDED: canary.suspended,
    Phase.PROMOTING: promotion.promoting,
    Phase.TURNING: promotion.turning,
    Phase.PARKING: promotion.parking,
    Phase.RENEWING: promotion.renewing,
    Phase.HALTED: promotion.halted,
    Phase.SWITCHING: promotion.switching,
    Phase.SETTLING: promotion.settling,
    Phase.WATCHING: promotion.watching,
    Phase.RETURNING: way_back.returning,
    Phase.RESTORING: way_back.restoring,
    Phase.ROLLING_BACK: way_back.rolling_back,
    Phase.UPDATING: canary.updating,
}
