"""What decisions make of the state, clocks included."""

from __future__ import annotations

import dataclasses

from reconciler.core.rollout import Decision, Phase, Rollout, ServiceRollout

LONGEST_TICK_S = 30.0
"""A longer silence between two cycles was not observed, so no clock of a rollout runs through it."""


def moved_in_time(rollout: Rollout, jump_s: float) -> Rollout:
    """The rollout as if it had always gone by a clock that was set forward by `jump_s` (back where negative)."""
    suspended, glass = rollout.suspended, rollout.glass
    if suspended is not None and suspended.until is not None:
        suspended = dataclasses.replace(suspended, until=suspended.until + jump_s)
    if glass is not None:
        glass = dataclasses.replace(glass, until=glass.until + jump_s)
    services = {name: _moved(state, jump_s) for name, state in rollout.services.items()}
    return dataclasses.replace(rollout, services=services, suspended=suspended, glass=glass)


def _moved(state: ServiceRollout, jump_s: float) -> ServiceRollout:
    def moved(moment: float | None) -> float | None:
        return None if moment is None else moment + jump_s

    return dataclasses.replace(
        state,
        since=state.since + jump_s,
        seen=state.seen + jump_s,
        sick_since=moved(state.sick_since),
        unknown_since=moved(state.unknown_since),
        paused=dataclasses.replace(state.paused, until=moved(state.paused.until)) if state.paused else None,
    )


def not_ahead_of(rollout: Rollout, now: float) -> Rollout:
    """The rollout without moments after `now`: what a clock wrote down that was set back since begins now."""
    return dataclasses.replace(rollout, services={n: _not_after(s, now) for n, s in rollout.services.items()})


def _not_after(state: ServiceRollout, now: float) -> ServiceRollout:
    def capped(moment: float | None) -> float | None:
        return None if moment is None else min(moment, now)

    return dataclasses.replace(
        state,
        since=min(state.since, now),
        seen=min(state.seen, now),
        sick_since=capped(state.sick_since),
        unknown_since=capped(state.unknown_since),
    )


def advance(rollout: Rollout, decisions: tuple[Decision, ...], now: float) -> Rollout:
    """The rollout once all `decisions` are taken, clocks and expired pauses included."""
    services = dict(rollout.services)
    for decision in decisions:
        state = _promoted_now_or_not(_ticked(rollout.of(decision.service), decision, now).after(decision, now))
        if state.phase is not Phase.ABSENT or decision.service in services or state.reason:
            services[decision.service] = state
    return dataclasses.replace(rollout, services=services)


def _promoted_now_or_not(state: ServiceRollout) -> ServiceRollout:
    """The state without a promotion that waits for the end of a suspension: what policy allowed is long ago then."""
    if state.phase is not Phase.SUSPENDED or state.asked is None or state.asked.what != "promote":
        return state
    return dataclasses.replace(state, asked=None, dismissed=None)


def _ticked(state: ServiceRollout, decision: Decision, now: float) -> ServiceRollout:
    """The state with its clocks run on: observed time only where the decision observed."""
    if state.paused is not None and state.paused.until is not None and now >= state.paused.until:
        state = dataclasses.replace(state, paused=None)
    is_gap = now - state.seen > LONGEST_TICK_S
    sick_since = _since(state.sick_since, now, is_gap=is_gap) if decision.is_sick else None
    unknown_since = _since(state.unknown_since, now, is_gap=is_gap) if decision.is_unknown else None
    if sick_since != state.sick_since or unknown_since != state.unknown_since:
        state = dataclasses.replace(state, sick_since=sick_since, unknown_since=unknown_since)
    passed_s = min(max(0.0, now - state.seen), LONGEST_TICK_S) if decision.is_observing else 0.0
    if sick_since is not None or unknown_since is not None:
        state = dataclasses.replace(state, seen=now)
    if state.phase is not Phase.ANALYZING:
        return state
    return dataclasses.replace(
        state, seen=now, step_s=round(state.step_s + passed_s, 3), waited_s=round(state.waited_s + passed_s, 3)
    )


def _since(before: float | None, now: float, *, is_gap: bool) -> float:
    """Since when something lasts; what nobody watched does not count."""
    return now if before is None or is_gap else before
