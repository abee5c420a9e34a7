"""How others decide, from their documented behaviour and sources: reimplementations, not the products."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bench.decision_rule import PROMOTED, ROLLED_BACK, TAIL, Outcome
from bench.decision_worlds import Arm, Floats, Ints

LIMIT = 0.01
INTERVAL_S, WINDOW_S = 30.0, 60.0
KAYENTA_POINT_S, KAYENTA_POINTS, KAYENTA_RUNS = 5.0, 60, 300
KAYENTA_TOLERANCE = 0.25
Z_98 = 2.3263478740408408


def checks(canary: Arm, dt_s: float) -> NDArray[np.bool_]:
    """Every 30 s, over the last minute: both limits hold, and there was a request."""
    ends = np.arange(round(INTERVAL_S / dt_s), canary.total.shape[1] + 1, round(INTERVAL_S / dt_s))
    starts = np.maximum(ends - round(WINDOW_S / dt_s), 0)
    total, failed, slow = (
        sums[:, ends] - sums[:, starts]
        for sums in (
            np.cumsum(np.pad(each, ((0, 0), (1, 0))), axis=1) for each in (canary.total, canary.failed, canary.slow)
        )
    )
    return (total > 0) & (failed <= LIMIT * total) & (slow <= TAIL * total)


def flagger(canary: Arm, dt_s: float) -> Outcome:
    """30 s interval, threshold 5, 10 iterations. A pass never takes a failure back; both ends act one tick later."""
    good = checks(canary, dt_s)
    failed, passed = np.cumsum(~good, axis=1), np.cumsum(good, axis=1)
    return _first(canary, failed >= 5, passed >= 10, dt_s, later_s=INTERVAL_S)


def argo(canary: Arm, dt_s: float) -> Outcome:
    """30 s interval, count 10, failureLimit 3, as in its documentation's example."""
    good = checks(canary, dt_s)
    failed, done = np.cumsum(~good, axis=1), np.broadcast_to(np.arange(1, good.shape[1] + 1) >= 10, good.shape)
    return _first(canary, failed > 3, done, dt_s, later_s=0.0)


def _first(canary: Arm, bad: NDArray[np.bool_], good: NDArray[np.bool_], dt_s: float, *, later_s: float) -> Outcome:
    never = good.shape[1] + 1
    bad_at = np.where(bad.any(axis=1), bad.argmax(axis=1), never)
    good_at = np.where(good.any(axis=1), good.argmax(axis=1), never)
    verdict = np.where(bad_at <= good_at, ROLLED_BACK, PROMOTED)
    at_s = (np.minimum(bad_at, good_at) + 1) * INTERVAL_S + later_s
    return Outcome(verdict, at_s, np.zeros(len(verdict), dtype=bool), _failed_by(canary, at_s, dt_s))


def kayenta(canary: Arm, peer: Arm, dt_s: float) -> Outcome:
    """One judgement after 60 points of 5 s: Mann-Whitney, 98 %, tolerance 0.25, both metrics must pass."""
    runs = min(KAYENTA_RUNS, canary.total.shape[0])
    high = np.zeros(runs, dtype=bool)
    for run in range(runs):
        high[run] = any(
            _is_high(_points(canary, name, run, dt_s), _points(peer, name, run, dt_s)) for name in ("failed", "slow")
        )
    at_s = np.full(runs, KAYENTA_POINT_S * KAYENTA_POINTS)
    verdict = np.where(high, ROLLED_BACK, PROMOTED)
    return Outcome(verdict, at_s, np.zeros(runs, dtype=bool), _failed_by(canary, at_s, dt_s))


def _points(arm: Arm, name: str, run: int, dt_s: float) -> Floats:
    """Percentages per point; points without requests are left out."""
    held = round(KAYENTA_POINT_S / dt_s)
    shape = (KAYENTA_POINTS, held)
    total = arm.total[run, : held * KAYENTA_POINTS].reshape(shape).sum(axis=1)
    bad = getattr(arm, name)[run, : held * KAYENTA_POINTS].reshape(shape).sum(axis=1)
    return np.asarray(100.0 * bad[total > 0] / total[total > 0])


def _is_high(ours: Floats, theirs: Floats) -> bool:
    """The lower confidence limit of the Hodges-Lehmann shift is above the tolerance times the shift."""
    m, n = len(ours), len(theirs)
    if not m or not n:
        return True
    shifts = np.sort(np.subtract.outer(ours, theirs).ravel())
    rank = int(m * n / 2 - Z_98 * math.sqrt(m * n * (m + n + 1) / 12) - 0.5)
    return bool(shifts[max(rank, 0)] > KAYENTA_TOLERANCE * abs(np.median(shifts)))


def _failed_by(canary: Arm, at_s: Floats, dt_s: float) -> Ints:
    sums = np.cumsum(canary.failed, axis=1)
    cycles = np.clip((at_s / dt_s).astype(int) - 1, 0, sums.shape[1] - 1)
    return np.asarray(sums[np.arange(len(at_s)), cycles])
