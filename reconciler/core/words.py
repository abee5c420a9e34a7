"""What an operator's word changes in the state, before the cycle that hears it decides anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.core.rollout import WAY_BACK, Asked, BrokenGlass, Paused, Phase, Rollout, ServiceRollout, Suspension


@dataclass(frozen=True, slots=True)
class Deploy:
    """Bring the stack up (again): clears a teardown, and lets a first release that failed be tried once more.

    `glass`: although the sync windows are closed.
    """

    allow_interruption: bool = False
    glass: BrokenGlass | None = None


@dataclass(frozen=True, slots=True)
class Teardown:
    """Take the stack down; `volumes` also removes the data volumes, not only the logs."""

    volumes: bool = False


@dataclass(frozen=True, slots=True)
class Suspend:
    """Observe and record, change nothing; with `heals`, bring back what was approved and fell. `until` as for Pause."""

    actor: str = ""
    reason: str = ""
    until: float | None = None
    heals: bool = False


@dataclass(frozen=True, slots=True)
class Unsuspend:
    """End a suspension."""

    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Reconcile now."""


@dataclass(frozen=True, slots=True)
class Promote:
    """Give the canary all requests and make it stable; policy was asked before this word was said.

    `keeps_mode`: the manifest will go on asking for a canary of this revision, and is not heeded in that. `revision` is
    the one that policy was asked about: another canary does not hear it; "" for whichever there is.
    """

    service: str
    actor: str = ""
    reason: str = ""
    keeps_mode: bool = False
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Rollback:
    """Back to what ran before; the revision that is left is quarantined."""

    service: str
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Keep a rollout where it is: measured, never moved up. `until` is seconds since the epoch."""

    service: str
    actor: str = ""
    reason: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """End a pause; a canary that a verdict suspended starts over with fresh evidence."""

    service: str
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again what was rolled back or dismissed, or what a promotion halted at."""

    service: str
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something an operator did that is no matter of the state, for the record: chaos, a denied promotion."""

    word: str
    service: str
    actor: str = ""
    reason: str = ""
    detail: str = ""
    outcome: str = "done"


Word = Deploy | Teardown | Suspend | Unsuspend | LookAgain | Promote | Rollback | Pause | Resume | Retry | Noted
OfService = Promote | Rollback | Pause | Resume | Retry


def hear(rollout: Rollout, word: Word) -> Rollout:
    """The rollout once `word` is heard."""
    match word:
        case Suspend():
            given = Suspension(word.actor, word.reason, word.until, word.heals)
            return dataclasses.replace(rollout, suspended=given)
        case Unsuspend():
            return dataclasses.replace(rollout, suspended=None)
        case Deploy():
            glass = word.glass or rollout.glass
            services = {name: _deployed(state) for name, state in rollout.services.items()}
            return dataclasses.replace(rollout, services=services, torn_down=False, drop_volumes=False, glass=glass)
        case Teardown(volumes=volumes):
            services = {name: _torn_down(state) for name, state in rollout.services.items()}
            return dataclasses.replace(rollout, services=services, torn_down=True, drop_volumes=volumes)
        case LookAgain() | Noted():
            return rollout
        case Promote() | Rollback() | Pause() | Resume() | Retry():
            state = rollout.services.get(word.service)
            if state is None:
                return rollout
            return dataclasses.replace(rollout, services={**rollout.services, word.service: _heard(state, word)})


def _deployed(state: ServiceRollout) -> ServiceRollout:
    is_first = state.stable is None and not state.last_stable
    return dataclasses.replace(state, quarantined=()) if is_first else state


def _torn_down(state: ServiceRollout) -> ServiceRollout:
    return ServiceRollout(
        state.service,
        run=state.run,
        quarantined=state.quarantined,
        why_rolled_back=state.why_rolled_back,
        last_stable=state.last_stable,
        dismissed=state.dismissed,
    )


_NOTHING_TO_ROLL_BACK = (Phase.STABLE, Phase.ABSENT)


def _is_asked_back(state: ServiceRollout) -> bool:
    """A roll back was asked for and is not begun: it is not taken back by what somebody else says meanwhile."""
    return state.asked is not None and state.asked.what == "rollback"


def _heard(state: ServiceRollout, word: OfService) -> ServiceRollout:
    match word:
        case Promote() if word.revision and (not state.candidate or state.candidate.revision != word.revision):
            return state
        case Promote() if _is_asked_back(state) or state.phase in WAY_BACK:
            return state
        case Promote():
            approved = state.candidate.release if word.keeps_mode and state.candidate else state.dismissed
            return dataclasses.replace(state, asked=Asked("promote", word.actor, word.reason), dismissed=approved)
        case Rollback() if _to_rollback(state):
            return state
        case Rollback():
            return dataclasses.replace(state, asked=Asked("rollback", word.actor, word.reason))
        case Pause():
            return dataclasses.replace(state, paused=Paused(word.actor, word.reason, word.until))
        case Resume():
            is_heeded = state.phase is Phase.SUSPENDED and not _is_asked_back(state)
            asked = Asked("resume", word.actor, word.reason) if is_heeded else state.asked
            return dataclasses.replace(state, paused=None, asked=asked)
        case Retry():
            is_heeded = state.phase is Phase.HALTED and not _is_asked_back(state)
            asked = Asked("retry", word.actor, word.reason) if is_heeded else state.asked
            return dataclasses.replace(state, quarantined=(), dismissed=None, paused=None, asked=asked)


def objection(state: ServiceRollout, word: OfService) -> str:
    """Why `word` makes no sense in this state, in a sentence for the operator; "" where it does."""
    return _OBJECTIONS[type(word)](state)


def _to_promote(state: ServiceRollout) -> str:
    if state.phase in (Phase.ANALYZING, Phase.SUSPENDED):
        return ""
    return f"{state.service} has no canary that could be promoted: it is {state.phase.words}"


def _to_rollback(state: ServiceRollout) -> str:
    if state.phase in _NOTHING_TO_ROLL_BACK:
        return f"nothing to roll back: {state.service} is {state.phase.words}, and no older revision is kept"
    if state.phase in (Phase.ROLLING_BACK, Phase.RETURNING, Phase.RESTORING):
        return f"{state.service} is rolling back already"
    return ""


def _to_pause(state: ServiceRollout) -> str:
    if state.phase is Phase.UPDATING:
        return f"{state.service} is replaced replica by replica, which cannot be paused; `rollback` takes it back"
    if state.phase in (Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED) and state.stable is not None:
        return ""
    return f"{state.service} has no rollout that could be paused: it is {state.phase.words}"


def _to_resume(state: ServiceRollout) -> str:
    if state.paused is not None or state.phase is Phase.SUSPENDED:
        return ""
    return f"{state.service} is neither paused nor suspended: it is {state.phase.words}"


def _to_retry(state: ServiceRollout) -> str:
    if state.quarantined or state.dismissed or state.phase is Phase.HALTED:
        return ""
    return f"nothing to try again: no revision of {state.service} was rolled back or dismissed"


_OBJECTIONS: dict[type, Callable[[ServiceRollout], str]] = {
    Promote: _to_promote,
    Rollback: _to_rollback,
    Pause: _to_pause,
    Resume: _to_resume,
    Retry: _to_retry,
}
