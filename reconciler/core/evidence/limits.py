"""The parameters of the evidence about a canary, by the manifest's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from reconciler.core.desired import Json

LEAST_LIMIT = 1e-4


@dataclass(frozen=True, slots=True)
class Limits:
    """`policy.canary` of the manifest; the names and meanings are its own, units in the names, rates are ratios.

    An e-value of `1/beta` promotes, one of `rollback_tests/alpha` rolls back, `advance_e` is enough for a step
    that is not the last. Evidence below the limit counts as its least over the last `sustained_seconds`.
    """

    max_error_rate: float = 0.01
    max_p99_latency_ms: float = 500.0
    window_seconds: float = 30.0
    min_requests: int = 20
    relative_gate: str = "limit"
    margin: float = 0.5
    alpha: float = 0.05
    beta: float = 0.05
    rollback_tests: int = 4
    advance_e: float = 1.0
    sustained_seconds: float = 10.0
    caution_e: float = 3.0
    odds_ratio_tolerated: float = 1.5
    lean_e: float = 2.0
    min_excess: float = 0.005
    min_bad_cycles: int = 2
    catastrophic_e: float = 1000.0
    catastrophic_error_rate: float = 0.25
    max_restarts: int = 3
    warmup_seconds: float = 15.0
    min_evidence_seconds: float = 60.0

    @property
    def tested_error_rate(self) -> float:
        """The limit that evidence is weighed against: at least 0.0001, since nothing ever proves a rate of 0."""
        return max(self.max_error_rate, LEAST_LIMIT)

    @property
    def proven_error_rate(self) -> float:
        """The rate that promotion must be proven to be under: the limit and its margin."""
        return min(self.tested_error_rate * (1.0 + self.margin), 0.99)

    @property
    def promote_e(self) -> float:
        """The evidence that promotes."""
        return 1.0 / self.beta

    @property
    def rollback_e(self) -> float:
        """The evidence that rolls back."""
        return self.rollback_tests / self.alpha


def limits_of(policy: Mapping[str, Json]) -> Limits:
    """The parameters in `policy`, which the manifest's loader has checked and completed; others are left alone."""
    return Limits(**{each.name: policy[each.name] for each in fields(Limits) if each.name in policy})  # type: ignore[arg-type]
