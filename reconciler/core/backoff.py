"""How long to leave a thing alone that keeps going wrong: a cap, and no end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BASE_S = 1.0
CAP_S = 60.0
FORGIVEN_AFTER_S = 10.0
"""What has kept well for this long after it might have been tried again is forgiven (as Docker does)."""
FREE_TRIES = 2
"""Tries that cost nothing: one to act, one to act again on what was seen next."""


@dataclass(frozen=True, slots=True)
class Strikes:
    """How often a target was tried in a row, when last, and when it may be tried again (monotonic seconds)."""

    count: int
    last: float
    not_before: float


Backoff = Mapping[str, Strikes]


def wait_s(backoff: Backoff, target: str, now: float) -> float:
    """Seconds until `target` may be tried again; 0.0 is now."""
    strikes = backoff.get(target)
    return max(0.0, strikes.not_before - now) if strikes else 0.0


def strike(backoff: Backoff, targets: frozenset[str], now: float) -> Backoff:
    """The backoff once `targets` were tried and are not known to be well; old strikes are forgiven."""
    kept = {t: s for t, s in backoff.items() if now - s.not_before < FORGIVEN_AFTER_S}
    for target in targets:
        count = kept[target].count + 1 if target in kept else 1
        delay = 0.0 if count <= FREE_TRIES else min(CAP_S, BASE_S * 2.0 ** (count - FREE_TRIES - 1))
        kept[target] = Strikes(count, now, now + delay)
    return kept
