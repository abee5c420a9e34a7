"""Where each service is on its way from one release to the next: the state that survives restarts.

    absent ──start──▶ starting ──ready──▶ promoting ──switched──▶ draining ──drained──▶ stable
    stable ──start──▶ starting ──give_up──▶ rolling_back ──removed──▶ stable (or absent), quarantined

The world is moved by plans; a rollout only says which plan is the right one. It moves along `TRANSITIONS`
and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.core.desired import Mode
from reconciler.core.observed import Slot


class Phase(StrEnum):
    """What a service is going through."""

    ABSENT = "absent"
    STABLE = "stable"
    STARTING = "starting"
    PROMOTING = "promoting"
    DRAINING = "draining"
    ROLLING_BACK = "rolling_back"


class Move(StrEnum):
    """What we decided about one service in one cycle; HOLD is "stay"."""

    HOLD = "hold"
    START = "start"
    READY = "ready"
    SWITCHED = "switched"
    DRAINED = "drained"
    GIVE_UP = "give_up"
    SUPERSEDE = "supersede"
    REMOVED = "removed"


TRANSITIONS: Mapping[tuple[Phase, Move], Phase] = {
    (Phase.ABSENT, Move.START): Phase.STARTING,
    (Phase.STABLE, Move.START): Phase.STARTING,
    (Phase.STARTING, Move.READY): Phase.PROMOTING,
    (Phase.STARTING, Move.GIVE_UP): Phase.ROLLING_BACK,
    (Phase.STARTING, Move.SUPERSEDE): Phase.ROLLING_BACK,
    (Phase.PROMOTING, Move.SWITCHED): Phase.DRAINING,
    (Phase.PROMOTING, Move.GIVE_UP): Phase.ROLLING_BACK,
    (Phase.DRAINING, Move.DRAINED): Phase.STABLE,
    (Phase.ROLLING_BACK, Move.REMOVED): Phase.STABLE,
}


@dataclass(frozen=True, slots=True)
class Release:
    """What runs in a slot: a revision, started for a mode."""

    revision: str
    mode: Mode

    def __str__(self) -> str:
        return f"{self.revision[:12]} ({self.mode})"


@dataclass(frozen=True, slots=True)
class Member:
    """A container that has shown that it can serve, and the address nginx reaches it at."""

    container_id: str
    address: str


@dataclass(frozen=True, slots=True)
class ServiceRollout:
    """The state of one service.

    `serving` is the slot nginx uses by default; it holds `stable`. `candidate` is what is being started or
    switched to, in `serving.other`; while DRAINING it is already `stable` and `leaving` is what goes.
    `since` is when the phase was entered (seconds since the epoch). `blue` and `green` are the members of the
    slots. `quarantined` are revisions that were given up, newest last.
    """

    service: str
    phase: Phase = Phase.ABSENT
    serving: Slot = Slot.BLUE
    stable: Release | None = None
    candidate: Release | None = None
    leaving: Release | None = None
    since: float = 0.0
    blue: tuple[Member, ...] = ()
    green: tuple[Member, ...] = ()
    quarantined: tuple[str, ...] = ()
    reason: str = ""

    @property
    def candidate_slot(self) -> Slot:
        """Where a candidate is started: the other slot, or the serving one when nothing serves yet."""
        return self.serving if self.stable is None else self.serving.other

    def members(self, slot: Slot) -> tuple[Member, ...]:
        """Who serves in `slot`, as last remembered."""
        return self.blue if slot is Slot.BLUE else self.green

    def after(self, decision: Decision, now: float) -> ServiceRollout:
        """The state once `decision` is taken; `now` in seconds since the epoch."""
        if decision.move is Move.HOLD:
            return dataclasses.replace(self, reason=decision.reason) if decision.reason != self.reason else self
        phase = TRANSITIONS[self.phase, decision.move]
        moved = dataclasses.replace(self, phase=phase, since=now, reason=decision.reason)
        match decision.move:
            case Move.START:
                return dataclasses.replace(moved, candidate=decision.release)
            case Move.SWITCHED:
                serving = self.candidate_slot
                return dataclasses.replace(
                    moved, serving=serving, stable=self.candidate, leaving=self.stable, candidate=None
                )
            case Move.DRAINED:
                return dataclasses.replace(moved, leaving=None)
            case Move.GIVE_UP:
                assert self.candidate is not None, "only a candidate can be given up"
                return dataclasses.replace(moved, quarantined=_with(self.quarantined, self.candidate.revision))
            case Move.REMOVED:
                phase = Phase.STABLE if self.stable else Phase.ABSENT
                return dataclasses.replace(moved, phase=phase, candidate=None)
            case Move.READY | Move.SUPERSEDE | Move.HOLD:
                return moved


QUARANTINE_KEPT = 20


def _with(quarantined: tuple[str, ...], revision: str) -> tuple[str, ...]:
    """The newest revisions that were given up, newest last, at most QUARANTINE_KEPT."""
    return (*(kept for kept in quarantined if kept != revision), revision)[-QUARANTINE_KEPT:]


@dataclass(frozen=True, slots=True)
class Decision:
    """What we do about one service in this cycle, and why; `release` is what START starts."""

    service: str
    move: Move
    reason: str = ""
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """The whole state: services by name, and what outlives any of them.

    `torn_down`: an operator took the stack down, and only `deploy` brings it back; `drop_volumes`: with its
    data. `subnet` and `ip_range` are those our network got, so that a lost one comes back as it was.
    `admitted` is the revision of the manifest that was last let in.
    """

    services: Mapping[str, ServiceRollout] = field(default_factory=dict)
    torn_down: bool = False
    drop_volumes: bool = False
    subnet: str | None = None
    ip_range: str | None = None
    admitted: str = ""

    def of(self, service: str) -> ServiceRollout:
        """The state of `service`; one never seen is absent."""
        return self.services.get(service) or ServiceRollout(service)
