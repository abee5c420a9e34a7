"""The state of evidence: what a run of measurements knows, and what must survive a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.evidence.agreement import Agreement
from reconciler.core.evidence.baseline import Baseline
from reconciler.core.evidence.counting import Counts, Seen, Source
from reconciler.core.evidence.metric import Metric
from reconciler.core.evidence.statistics import EVENLY, Process, fresh_process
from reconciler.core.evidence.window import Window

SLOW_SHARE = 0.01
UNKNOWN_CHAOS = "unknown"
NO_CHAOS = "none"
CATASTROPHE_LATE = 0.1


def _catastrophe() -> Process:
    return fresh_process(EVENLY, late=CATASTROPHE_LATE)


@dataclass(frozen=True, slots=True)
class Traffic:
    """How requests were split since the weight or the containers last changed. `share` None: it is not exact.

    `pending` is what came while some container could not be read: counted once all were.
    """

    share: float | None = None
    members: str = ""
    canary: int = 0
    baseline: int = 0
    pending_canary: int = 0
    pending_baseline: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about a canary, and all that must survive a restart. Seconds; `at` is since the epoch.

    `about` names what it is evidence for. `asked_at` is the last cycle that counted as one, `at` the last one that
    brought a reading of the canary. `measured_s` is the time in which something was measured, `evidence_s` the part
    after warm-up in which it counted. `chaos` is the canary's last word (`none`, `slow`, `error`), `unknown` before
    the first. `history` is stable's, for the design effect and for the next rollout.
    """

    about: str
    began: float
    asked_at: float = 0.0
    at: float = 0.0
    source: Source | None = None
    paths: tuple[str, ...] = ()
    canary: Mapping[str, Seen] = field(default_factory=dict)
    baseline: Mapping[str, Seen] = field(default_factory=dict)
    errors: Metric = field(default_factory=Metric)
    latency: Metric = field(default_factory=Metric)
    catastrophe: Process = field(default_factory=_catastrophe)
    whole: Counts = field(default_factory=Counts)
    window: Window = field(default_factory=Window)
    traffic: Traffic = field(default_factory=Traffic)
    agreement: Agreement = field(default_factory=Agreement)
    history: Baseline = field(default_factory=Baseline)
    chaos: str = UNKNOWN_CHAOS
    measured_s: float = 0.0
    evidence_s: float = 0.0
    missed_scrapes: int = 0
    counter_resets: int = 0
    canary_restarts: int = 0
    unclear_at: float = 0.0
    unclear: str = ""
