"""What one cycle hands to the next, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from reconciler.core.backoff import Backoff
from reconciler.core.containers import Layout
from reconciler.core.desired import DesiredState
from reconciler.core.evidence import Evidence
from reconciler.core.permission import Permission
from reconciler.core.provenance import Commit
from reconciler.core.rollout import Rollout
from reconciler.formats.history import IdleRun
from reconciler.ports import ProbeTarget


@dataclass(frozen=True, slots=True)
class Memory:
    """What one cycle hands to the next. Only `rollout`, `last_good` and `evidence` matter, and they are on disk too.

    `awaited` are running containers that were not ready yet: the loop asks them again without a whole cycle.
    `voice` is what the last record said, `recorded_at` when (monotonic seconds), `intended` a plan that was written
    down and has not done anything yet.
    `troubles` is what the engine last said of containers, by name, that it could not create or start, `answered` when
    each OPA, by its container's ID, last did (monotonic seconds), `clock_ahead_s` how far the wall clock is ahead of
    the steady one, `shown` the addresses in nginx's last few configurations, by their hash, `ran` the hash that
    it last said it runs, `commit` the one that
    `last_good` was read from, `is_unsaved`: an operator's word is not on disk yet. `is_recalled`: the rollout from
    disk was compared with what runs; `in_doubt_since` is when that was first tried in vain (monotonic seconds).
    """

    rollout: Rollout = field(default_factory=Rollout)
    last_good: DesiredState | None = None
    number: int = 0
    backoff: Backoff = field(default_factory=dict)
    permission: Permission | None = None
    awaited: tuple[ProbeTarget, ...] = ()
    voice: str | None = None
    idle: IdleRun | None = None
    intended: str = ""
    recorded_at: float = 0.0
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    answered: Mapping[str, float] = field(default_factory=dict)
    clock_ahead_s: float | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ran: str = ""
    commit: Commit | None = None
    is_unsaved: bool = False
    is_recalled: bool = False
    in_doubt_since: float | None = None

    @property
    def allow_interruption(self) -> bool:
        """nginx may be replaced, though that drops connections."""
        return self.permission is not None


@dataclass(frozen=True, slots=True)
class Setting:
    """What never changes while a daemon runs."""

    layout: Layout
    pool: ThreadPoolExecutor


@dataclass(frozen=True, slots=True)
class Asked:
    """The manifest in force, and the one that waits to be let in (None: none, or the same).

    While nothing was ever let in, `force` is only a proposal: it says which policy engine to start.
    """

    force: DesiredState
    incoming: DesiredState | None
    is_proposal: bool = False

    @property
    def both(self) -> tuple[DesiredState, ...]:
        """Everything that has to be looked at."""
        return (self.force, self.incoming) if self.incoming else (self.force,)
