"""Where each service is on its way from one revision to the next: the state that survives restarts.

    absent ──start──▶ starting ──ready──▶ stable                                        a first deployment
    stable ──start──▶ starting ──ready──▶ analyzing ──promote──▶ promoting              any later one
        promoting ─▶ parking ─▶ renewing ─▶ switching ─▶ settling ─▶ watching ─▶ stable (new)
        promoting ─▶ turning ─▶ parking ─▶ watching ─▶ stable (new)                     where the canary is adopted
    starting, analyzing, suspended ──give up, dismiss──▶ rolling_back ─▶ stable (old)
    renewing ──sick──▶ halted; promoting … watching ──return──▶ returning ─▶ restoring ─▶ rolling_back ─▶ stable (old)
    stable ──start──▶ updating ──ready──▶ stable (new)                                  rolling, recreate

The world is moved by plans; a rollout only says which plan is the right one. It moves along `TRANSITIONS` and
nowhere else. nginx's default slot is `serving`; the other one is where a candidate lives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.core.desired import Mode, Step, Strategy
from reconciler.core.observed import Slot


class Phase(StrEnum):
    """What a service is going through."""

    ABSENT = "absent"
    STABLE = "stable"
    STARTING = "starting"
    ANALYZING = "analyzing"
    SUSPENDED = "suspended"
    PROMOTING = "promoting"
    TURNING = "turning"
    PARKING = "parking"
    RENEWING = "renewing"
    SWITCHING = "switching"
    SETTLING = "settling"
    WATCHING = "watching"
    HALTED = "halted"
    RETURNING = "returning"
    RESTORING = "restoring"
    ROLLING_BACK = "rolling_back"
    UPDATING = "updating"

    @property
    def words(self) -> str:
        """How a sentence says it."""
        return {"stable": "at rest", "absent": "not deployed"}.get(self.value, self.value.replace("_", " "))


class Move(StrEnum):
    """What we decided about one service in one cycle; HOLD is "stay"."""

    HOLD = "hold"
    START = "start"
    READY = "ready"
    ADVANCE = "advance"
    SUSPEND = "suspend"
    RESUME = "resume"
    PROMOTE = "promote"
    SWITCHED = "switched"
    PARKED = "parked"
    HALT = "halt"
    SETTLED = "settled"
    GIVE_UP = "give_up"
    DISMISS = "dismiss"
    SUPERSEDE = "supersede"
    RETURN = "return"
    REMOVED = "removed"


_BEFORE_PROMOTION = (Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED)
_RETURNABLE = (Phase.PROMOTING, Phase.PARKING, Phase.RENEWING, Phase.HALTED, Phase.SETTLING, Phase.WATCHING)

TRANSITIONS: Mapping[tuple[Phase, Move], frozenset[Phase]] = {
    (Phase.ABSENT, Move.START): frozenset({Phase.STARTING}),
    (Phase.STABLE, Move.START): frozenset({Phase.STARTING, Phase.UPDATING}),
    (Phase.STARTING, Move.READY): frozenset({Phase.STABLE, Phase.ANALYZING, Phase.PROMOTING}),
    (Phase.UPDATING, Move.READY): frozenset({Phase.STABLE}),
    (Phase.UPDATING, Move.GIVE_UP): frozenset({Phase.ROLLING_BACK}),
    (Phase.UPDATING, Move.DISMISS): frozenset({Phase.ROLLING_BACK}),
    (Phase.UPDATING, Move.SUPERSEDE): frozenset({Phase.ROLLING_BACK}),
    **{(phase, Move.GIVE_UP): frozenset({Phase.ROLLING_BACK}) for phase in _BEFORE_PROMOTION},
    **{(phase, Move.DISMISS): frozenset({Phase.ROLLING_BACK}) for phase in _BEFORE_PROMOTION},
    **{(phase, Move.SUPERSEDE): frozenset({Phase.ROLLING_BACK}) for phase in _BEFORE_PROMOTION},
    (Phase.ANALYZING, Move.ADVANCE): frozenset({Phase.ANALYZING}),
    (Phase.ANALYZING, Move.SUSPEND): frozenset({Phase.SUSPENDED}),
    (Phase.ANALYZING, Move.PROMOTE): frozenset({Phase.PROMOTING}),
    (Phase.SUSPENDED, Move.RESUME): frozenset({Phase.ANALYZING}),
    (Phase.SUSPENDED, Move.PROMOTE): frozenset({Phase.PROMOTING}),
    (Phase.PROMOTING, Move.SWITCHED): frozenset({Phase.PARKING, Phase.TURNING}),
    (Phase.TURNING, Move.SWITCHED): frozenset({Phase.PARKING, Phase.ROLLING_BACK}),
    (Phase.PARKING, Move.PARKED): frozenset({Phase.RENEWING, Phase.WATCHING}),
    (Phase.RENEWING, Move.READY): frozenset({Phase.SWITCHING}),
    (Phase.RENEWING, Move.HALT): frozenset({Phase.HALTED}),
    (Phase.HALTED, Move.RESUME): frozenset({Phase.RENEWING}),
    (Phase.SWITCHING, Move.SWITCHED): frozenset({Phase.SETTLING}),
    (Phase.SWITCHING, Move.HALT): frozenset({Phase.HALTED}),
    (Phase.SETTLING, Move.REMOVED): frozenset({Phase.WATCHING}),
    (Phase.WATCHING, Move.SETTLED): frozenset({Phase.STABLE}),
    **{(phase, Move.RETURN): frozenset({Phase.RETURNING}) for phase in _RETURNABLE},
    (Phase.RETURNING, Move.READY): frozenset({Phase.RESTORING}),
    (Phase.RESTORING, Move.SWITCHED): frozenset({Phase.ROLLING_BACK, Phase.TURNING}),
    (Phase.ROLLING_BACK, Move.REMOVED): frozenset({Phase.STABLE, Phase.ABSENT}),
}
"""Where each move leads; where there are several, the state decides (`ServiceRollout.after`)."""


@dataclass(frozen=True, slots=True)
class Release:
    """A revision, and the mode it is started for (or, in what the manifest wants, the mode it names)."""

    revision: str
    mode: Mode

    def __str__(self) -> str:
        return f"{self.revision[:12]} ({self.mode})"


@dataclass(frozen=True, slots=True)
class Group:
    """The containers of one release that were born in one slot: how they are known again, wherever they serve."""

    release: Release
    slot: Slot

    @property
    def revision(self) -> str:
        """What they run."""
        return self.release.revision

    def __str__(self) -> str:
        return str(self.release)


@dataclass(frozen=True, slots=True)
class Member:
    """A container that has shown that it can serve, the address nginx reaches it at, and the revision it runs."""

    container_id: str
    address: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Paused:
    """Who said so, why, and until when (seconds since the epoch; None is until `resume`)."""

    actor: str
    reason: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Suspension:
    """Nothing is changed: who said so, why, and until when (seconds since the epoch; None is until `resume`).

    `heals`: what was approved and fell is brought back all the same.
    """

    actor: str
    reason: str = ""
    until: float | None = None
    heals: bool = False

    def __str__(self) -> str:
        who = f"suspended by {self.actor or 'an operator'}"
        return f"{who}: {self.reason}" if self.reason else who


@dataclass(frozen=True, slots=True)
class BrokenGlass:
    """An operator's leave to begin a rollout against the sync windows, for one beginning and until a moment."""

    actor: str
    reason: str
    until: float


@dataclass(frozen=True, slots=True)
class Asked:
    """An operator's word that waits for its moment: `what` is `promote`, `rollback`, `resume` or `retry`."""

    what: str
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Course:
    """How a rollout goes on, fixed at its start."""

    strategy: Strategy = Strategy.CANARY
    steps: tuple[Step, ...] = ()
    is_adopted: bool = False


@dataclass(frozen=True, slots=True)
class ServiceRollout:
    """The state of one service.

    `serving` is nginx's default slot, `stable` what it holds; from PARKING to SWITCHING `stable` stands stopped
    there while the candidate carries all traffic. `candidate` is what is tried in the other slot (for a rolling
    update: in the same one). `fresh` are the new stable containers of a promotion, `kept` the stopped old ones
    that can come back. `step` counts from 0. `since` is when the phase was entered, `seen` the last cycle in
    which clocks ran (seconds since the epoch); `step_s` and `waited_s` are observed, unpaused seconds of the
    step and of the whole analysis. `unknown_since` is when answers stopped, `sick_since` when health did;
    `is_suspended_by_verdict` tells
    why a suspension does not end by itself. `run` counts rollouts and fresh starts of evidence. `dismissed` is
    the wish that is not tried again until it changes. `blue` and `green` are the slots' members. `quarantined`
    are revisions that were rolled back, newest last, `why_rolled_back` is the newest one's story. `last_stable`
    outlives a teardown.
    """

    service: str
    phase: Phase = Phase.ABSENT
    serving: Slot = Slot.BLUE
    stable: Group | None = None
    candidate: Group | None = None
    fresh: Group | None = None
    kept: Group | None = None
    course: Course = field(default_factory=Course)
    step: int = 0
    since: float = 0.0
    seen: float = 0.0
    step_s: float = 0.0
    waited_s: float = 0.0
    unknown_since: float | None = None
    sick_since: float | None = None
    is_suspended_by_verdict: bool = False
    run: int = 0
    paused: Paused | None = None
    asked: Asked | None = None
    dismissed: Release | None = None
    blue: tuple[Member, ...] = ()
    green: tuple[Member, ...] = ()
    quarantined: tuple[str, ...] = ()
    why_rolled_back: str = ""
    last_stable: str = ""
    reason: str = ""

    @property
    def candidate_slot(self) -> Slot:
        """Where a candidate is born: the other slot; the serving one when nothing serves yet or replicas take turns."""
        in_place = self.stable is None or self.course.strategy in IN_PLACE
        return self.serving if in_place else self.serving.other

    @property
    def weight_pct(self) -> int:
        """The share of requests that the candidate is meant to have in this phase."""
        if self.phase is Phase.ANALYZING:
            return self.course.steps[self.step].weight_pct
        return 100 if self.carries_all else 0

    @property
    def carries_all(self) -> bool:
        """The candidate's slot has, or is about to have, every request."""
        if self.phase in (Phase.RETURNING, Phase.RESTORING):
            return self.kept is None
        if self.phase is Phase.PARKING:
            return not self.course.is_adopted
        return self.phase in (Phase.PROMOTING, Phase.RENEWING, Phase.HALTED)

    @property
    def parked(self) -> Group | None:
        """The old stable containers of a promotion: they stand stopped, or are about to, and can come back."""
        return self.kept or self.stable

    @property
    def groups(self) -> tuple[Group, ...]:
        """Every group that the state still needs."""
        return tuple(group for group in (self.stable, self.candidate, self.fresh, self.kept) if group)

    def members(self, slot: Slot) -> tuple[Member, ...]:
        """Who serves in `slot`, as last remembered."""
        return self.blue if slot is Slot.BLUE else self.green

    def after(self, decision: Decision, now: float) -> ServiceRollout:
        """The state once `decision` is taken; `now` in seconds since the epoch."""
        if decision.move is Move.HOLD:
            return dataclasses.replace(self, reason=decision.reason) if decision.reason != self.reason else self
        moved = _MOVES[decision.move](self, decision)
        assert moved.phase in TRANSITIONS[self.phase, decision.move], f"{self.phase} → {moved.phase}"
        return dataclasses.replace(moved, since=now, seen=now, reason=decision.reason)


LOWERING = frozenset({Move.GIVE_UP, Move.DISMISS, Move.SUPERSEDE, Move.SUSPEND, Move.RETURN})
"""Moves that take requests away from what was tried: nothing may hold them up."""

WAY_BACK = frozenset({Phase.RETURNING, Phase.RESTORING, Phase.TURNING, Phase.ROLLING_BACK})
"""Phases that lead back to what ran before."""

IN_PLACE = frozenset({Strategy.ROLLING, Strategy.RECREATE})
"""Strategies that replace replicas where they are."""

QUARANTINE_KEPT = 20


def with_quarantined(quarantined: tuple[str, ...], revision: str) -> tuple[str, ...]:
    """The newest revisions that were rolled back, newest last, at most QUARANTINE_KEPT."""
    return (*(kept for kept in quarantined if kept != revision), revision)[-QUARANTINE_KEPT:]


@dataclass(frozen=True, slots=True)
class Decision:
    """What we do about one service in this cycle, and why.

    `release` and `course` are what START starts; READY may bring another course; `is_verdict` says that a SUSPEND came
    of a policy's answer; `dismisses` is the wish that is not tried again.
    """

    service: str
    move: Move
    reason: str = ""
    release: Release | None = None
    course: Course | None = None
    is_verdict: bool = False
    dismisses: Release | None = None
    is_observing: bool = False
    is_unknown: bool = False
    is_sick: bool = False


def put_off(decision: Decision, state: ServiceRollout) -> Decision:
    """What becomes of `decision` where nothing can be written down: only what gives requests back goes on.

    What is put off is held, so that no clock counts the time until it can be.
    """
    if decision.move in LOWERING or decision.move is Move.HOLD or state.phase in WAY_BACK:
        return decision
    return Decision(state.service, Move.HOLD, state.reason)


def is_taken_back(decision: Decision, state: ServiceRollout) -> bool:
    """It does what an operator's `rollback` asks for, or goes on with a way back; for that no manifest is needed."""
    is_asked_back = state.asked is not None and state.asked.what == "rollback"
    return state.phase in WAY_BACK or (is_asked_back and decision.move in (Move.GIVE_UP, Move.RETURN))


# ---------------------------------------------------------------- what each move does to the state


def _start(state: ServiceRollout, decision: Decision) -> ServiceRollout:
    assert decision.release is not None, "a start without a release"
    course = decision.course or Course()
    begun = dataclasses.replace(_fresh_clocks(state), course=course, run=state.run + 1, paused=None, asked=None)
    in_place = state.stable is not None and course.strategy in IN_PLACE
    phase = Phase.UPDATING if in_place else Phase.STARTING
    return dataclasses.replace(
        begun,
        phase=phase,
        candidate=Group(decision.release, begun.candidate_slot),
        dismissed=None if state.stable else state.dismissed,
    )


def _fresh_clocks(state: ServiceRollout) -> ServiceRollout:
    return dataclasses.replace(
        state, step=0, step_s=0.0, waited_s=0.0, unknown_since=None, sick_since=None, is_suspended_by_verdict=False
    )


def _ready(state: ServiceRollout, decision: Decision) -> ServiceRollout:
    match state.phase:
        case Phase.STARTING if state.stable is None:
            return _arrived(state)
        case Phase.STARTING:
            course = decision.course or state.course
            phase = Phase.ANALYZING if course.steps else Phase.PROMOTING
            return dataclasses.replace(state, phase=phase, course=course)
        case Phase.RENEWING:
            return dataclasses.replace(state, phase=Phase.SWITCHING)
        case Phase.RETURNING:
            return dataclasses.replace(state, phase=Phase.RESTORING)
        case _:
            return _arrived(state)


def _arrived(state: ServiceRollout) -> ServiceRollout:
    assert state.candidate is not None, "nothing to arrive with"
    last = state.candidate.revision
    return dataclasses.replace(
        state, phase=Phase.STABLE, stable=state.candidate, candidate=None, last_stable=last, paused=None
    )


def _advance(state: ServiceRollout, _: Decision) -> ServiceRollout:
    return dataclasses.replace(state, step=state.step + 1, step_s=0.0)


def _suspend(state: ServiceRollout, decision: Decision) -> ServiceRollout:
    return dataclasses.replace(state, phase=Phase.SUSPENDED, is_suspended_by_verdict=decision.is_verdict)


def _resume(state: ServiceRollout, _: Decision) -> ServiceRollout:
    """After a verdict with fresh evidence, after silence with what there was; a halted promotion starts anew."""
    if state.phase is Phase.HALTED:
        return dataclasses.replace(state, phase=Phase.RENEWING, asked=None)
    run = state.run + 1 if state.is_suspended_by_verdict else state.run
    waited_s = 0.0 if state.is_suspended_by_verdict else state.waited_s
    return dataclasses.replace(_fresh_clocks(state), phase=Phase.ANALYZING, run=run, waited_s=waited_s, asked=None)


def _promote(state: ServiceRollout, _: Decision) -> ServiceRollout:
    assert state.stable is None or state.candidate is None or state.candidate.revision != state.stable.revision, (
        "a promotion of what is stable"
    )
    return dataclasses.replace(state, phase=Phase.PROMOTING, paused=None, asked=None)


def _switched(state: ServiceRollout, _: Decision) -> ServiceRollout:
    match state.phase:
        case Phase.PROMOTING if state.course.is_adopted:
            return dataclasses.replace(
                state,
                phase=Phase.TURNING,
                serving=state.serving.other,
                kept=state.stable,
                stable=state.candidate,
                candidate=None,
            )
        case Phase.PROMOTING:
            return dataclasses.replace(state, phase=Phase.PARKING)
        case Phase.TURNING:
            return dataclasses.replace(state, phase=Phase.PARKING if state.kept else Phase.ROLLING_BACK)
        case Phase.SWITCHING:
            assert state.fresh is not None, "a switch to nothing"
            return dataclasses.replace(
                state, phase=Phase.SETTLING, kept=state.stable, stable=state.fresh, fresh=None, candidate=None
            )
        case _ if state.kept is None:
            return dataclasses.replace(state, phase=Phase.ROLLING_BACK, candidate=None, fresh=None)
        case _:
            return dataclasses.replace(
                state, phase=Phase.TURNING, serving=state.serving.other, stable=state.kept, kept=None
            )


def _parked(state: ServiceRollout, _: Decision) -> ServiceRollout:
    if state.course.is_adopted:
        return dataclasses.replace(state, phase=Phase.WATCHING)
    assert state.candidate is not None, "a promotion of nothing"
    fresh = Group(Release(state.candidate.revision, Mode.STABLE), state.serving)
    return dataclasses.replace(state, phase=Phase.RENEWING, fresh=fresh)


def _halt(state: ServiceRollout, _: Decision) -> ServiceRollout:
    return dataclasses.replace(state, phase=Phase.HALTED)


def _settled(state: ServiceRollout, _: Decision) -> ServiceRollout:
    last = state.stable.revision if state.stable else ""
    return dataclasses.replace(_fresh_clocks(state), phase=Phase.STABLE, kept=None, last_stable=last, course=Course())


def _give_up(state: ServiceRollout, decision: Decision) -> ServiceRollout:
    """Roll back; a revision that is stable too is only not tried again until the wish changes."""
    assert state.candidate is not None, "only a candidate can be given up"
    bad, dismissed = state.candidate.revision, decision.dismisses or state.dismissed
    is_stable = state.stable is not None and state.stable.revision == bad
    quarantined = state.quarantined if is_stable else with_quarantined(state.quarantined, bad)
    return dataclasses.replace(
        _leaving(state), quarantined=quarantined, dismissed=dismissed, why_rolled_back=decision.reason
    )


def _dismiss(state: ServiceRollout, decision: Decision) -> ServiceRollout:
    return dataclasses.replace(_leaving(state), dismissed=decision.dismisses or state.dismissed)


def _leaving(state: ServiceRollout) -> ServiceRollout:
    return dataclasses.replace(state, phase=Phase.ROLLING_BACK, paused=None, asked=None)


def _return(state: ServiceRollout, decision: Decision) -> ServiceRollout:
    """Back to the old stable containers; what they replaced is quarantined, unless the manifest took it back itself."""
    bad = state.fresh or (state.stable if state.kept else state.candidate)
    assert bad is not None, "nothing to return from"
    quarantined = state.quarantined if decision.dismisses else with_quarantined(state.quarantined, bad.revision)
    candidate = None if state.kept else state.candidate
    why = state.why_rolled_back if decision.dismisses else decision.reason
    return dataclasses.replace(
        state,
        phase=Phase.RETURNING,
        quarantined=quarantined,
        candidate=candidate,
        paused=None,
        asked=None,
        why_rolled_back=why,
    )


def _removed(state: ServiceRollout, _: Decision) -> ServiceRollout:
    if state.phase is Phase.SETTLING:
        return dataclasses.replace(state, phase=Phase.WATCHING)
    phase = Phase.STABLE if state.stable else Phase.ABSENT
    return dataclasses.replace(
        _fresh_clocks(state), phase=phase, candidate=None, fresh=None, course=Course(), asked=None
    )


_MOVES = {
    Move.START: _start,
    Move.READY: _ready,
    Move.ADVANCE: _advance,
    Move.SUSPEND: _suspend,
    Move.RESUME: _resume,
    Move.PROMOTE: _promote,
    Move.SWITCHED: _switched,
    Move.PARKED: _parked,
    Move.HALT: _halt,
    Move.SETTLED: _settled,
    Move.GIVE_UP: _give_up,
    Move.DISMISS: _dismiss,
    Move.SUPERSEDE: _dismiss,
    Move.RETURN: _return,
    Move.REMOVED: _removed,
}


@dataclass(frozen=True, slots=True)
class Rollout:
    """The whole state: services by name, and what outlives any of them.

    `torn_down`: an operator took the stack down, and only `deploy` brings it back; `drop_volumes`: with its
    data. `subnet` and `ip_range` are those our network got, so that a lost one comes back as it was.
    `admitted` is the revision of the manifest that was last let in. `suspended` and `glass` are an operator's words;
    `lapsed` ends them in time.
    """

    services: Mapping[str, ServiceRollout] = field(default_factory=dict)
    torn_down: bool = False
    drop_volumes: bool = False
    subnet: str | None = None
    ip_range: str | None = None
    admitted: str = ""
    suspended: Suspension | None = None
    glass: BrokenGlass | None = None

    def suspension(self, now: float) -> Suspension | None:
        """The suspension that is in force at `now` (seconds since the epoch)."""
        given = self.suspended
        return given if given is not None and (given.until is None or now < given.until) else None

    def lapsed(self, now: float) -> Rollout:
        """The same without what has ended by `now` (seconds since the epoch)."""
        glass = self.glass if self.may_break_glass(now) else None
        suspended = self.suspension(now)
        if (glass, suspended) == (self.glass, self.suspended):
            return self
        return dataclasses.replace(self, glass=glass, suspended=suspended)

    def may_break_glass(self, now: float) -> bool:
        """Whether a rollout may begin at `now` although no sync window is open."""
        return self.glass is not None and now < self.glass.until

    def of(self, service: str) -> ServiceRollout:
        """The state of `service`; one never seen is absent."""
        return self.services.get(service) or ServiceRollout(service)
