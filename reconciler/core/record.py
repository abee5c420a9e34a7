"""What is kept of a cycle: why it ran, what it saw, decided, did, and how that ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.desired import DesiredState
from reconciler.core.errors import Problem
from reconciler.core.evidence import Summary
from reconciler.core.observed import ObservedState
from reconciler.core.plan import WAITING, Outcome, Plan, Result
from reconciler.core.provenance import Commit
from reconciler.core.rollout import Decision, Move, Release, Rollout
from reconciler.core.words import Word


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why a cycle ran. `kind`: interval, manifest, git, engine, operator, signal, start, pending.

    `actor` and `reason` are an operator's; `detail` says which file or event.
    """

    kind: str
    detail: str = ""
    actor: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that was broken: numbers as the policy saw them."""

    id: str
    message: str
    observed: str = ""
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A policy's answer to one question.

    `known` is false when OPA could not be asked or did not answer as agreed: `reason` then says how, and
    `allow` is false. `action` is `promote`, `hold` or `rollback`.
    """

    domain: str
    allow: bool
    reason: str
    known: bool = True
    action: str = "hold"
    violations: tuple[Violation, ...] = ()
    revision: str = ""
    decision_id: str = ""
    input_digest: str = ""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The host as the infrastructure gate sees it; None is "could not be read", which policy must not like."""

    disk_free_gb: float | None
    cpu_load: float | None
    mem_used_percent: float | None
    cpus: int
    disk_path: str


@dataclass(frozen=True, slots=True)
class Cycle:
    """One pass, finished. `errors` are what stopped a part of it; `started` and `ended` are RFC 3339, UTC.

    `is_settled` is false when the manifest was still being written, so that it was not looked at. `asked` is
    the revision of the manifest as it was read, "" when it could not be; `desired` is the one in force, `is_let_in`
    that this is the one that was read, with all that is read beside it. `wanted` are the releases it asks for, `words`
    what operators said, `measured` the evidence about each service, `judged` what the canary policy says of it,
    `made_of` the image and version of every revision that can be started. `commit` is the one that the manifest in
    force was read from, `trouble` why its source cannot be followed any further.
    """

    number: int
    trigger: Trigger
    started: str
    ended: str
    duration_ms: float
    desired: DesiredState | None
    observed: ObservedState | None
    rollout: Rollout
    problems: tuple[Problem, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    decisions: tuple[Decision, ...] = ()
    plan: Plan = field(default_factory=Plan)
    results: tuple[Result, ...] = ()
    errors: tuple[str, ...] = ()
    is_settled: bool = True
    asked: str = ""
    is_let_in: bool = False
    words: tuple[Word, ...] = ()
    measured: Mapping[str, Summary] = field(default_factory=dict)
    judged: Mapping[str, Verdict] = field(default_factory=dict)
    wanted: Mapping[str, Release] = field(default_factory=dict)
    made_of: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    commit: Commit | None = None
    trouble: tuple[Problem, ...] = ()

    @property
    def moved(self) -> bool:
        """A rollout took a step."""
        return any(decision.move is not Move.HOLD for decision in self.decisions)

    @property
    def look_again_s(self) -> float | None:
        """The earliest moment a pending action asked for, or None."""
        waits = [result.look_again_s for result in self.results if result.look_again_s is not None]
        return min(waits, default=None)

    @property
    def did_something(self) -> bool:
        """It changed the world, or tried to, or found something wrong."""
        acted = any(
            result.outcome not in (Outcome.PENDING, Outcome.SKIPPED) and not isinstance(step.action, WAITING)
            for step, result in zip(self.plan.steps, self.results, strict=True)
        )
        return acted or bool(self.errors or self.problems)

    @property
    def is_converged(self) -> bool:
        """Desired and observed agree and nothing is under way."""
        return self.desired is not None and not (self.plan or self.errors or self.problems or self.moved)
