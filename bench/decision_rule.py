"""Our rule on many runs at once: the arithmetic of `reconciler.core` and the decisions of `opa/canary.rego` in numpy.

`bench.decisions` shows on some runs that it answers as the core does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.decision_worlds import BLOCK_S, BLOCKS, Arm, Floats, Ints, Site
from reconciler.core.evidence.limits import Limits
from reconciler.core.evidence.metric import LATE, REACH
from reconciler.core.evidence.state import CATASTROPHE_LATE
from reconciler.core.evidence.statistics import CATASTROPHES, MIXTURE, MULTIPLES, PARTS, PROMISES

UNDECIDED, PROMOTED, ROLLED_BACK = 0, 1, -1
WEIGHTS = np.array(MIXTURE)
TAIL = 0.01
MOST = 1e200


@dataclass(frozen=True)
class Outcome:
    """What a rule answered per run (PROMOTED, ROLLED_BACK, UNDECIDED), when in seconds, whether on time and not on
    evidence, and how many requests of the canary had failed by then.
    """

    verdict: Ints
    at_s: Floats
    on_time: NDArray[np.bool_]
    failed: Ints


class Mixture:
    """One e-process for every run."""

    def __init__(self, runs: int, rates: Floats, null: float, weights: Floats = WEIGHTS, late: float = 0.0) -> None:
        self.bad = np.log(np.where(rates > 0, rates, 1.0) / null)
        self.has_zero = bool((rates <= 0).any())
        self.good = np.log1p(-rates) - np.log1p(-null)
        self.weights, self.reserve = weights, late
        self.values = np.tile((1.0 - late) * weights, (runs, 1))

    def feed(self, bad: Ints, total: Ints, effect: Floats | float = 1.0) -> None:
        llr = bad[:, None] * self.bad + (total - bad)[:, None] * self.good
        self.move(llr, effect)
        if self.has_zero:
            self.values[:, -1] = np.where(bad > 0, 0.0, self.values[:, -1])

    def move(self, llr: Floats, effect: Floats | float) -> None:
        scaled = llr / np.asarray(effect).reshape(-1, 1)
        self.values = np.minimum(self.values * np.exp(np.clip(scaled, -700.0, 230.0)), MOST)

    def begin_late(self, elapsed_s: float, span_s: float, horizon_s: float) -> None:
        spent = self.reserve * span_s / (horizon_s + elapsed_s + span_s)
        self.values += spent * self.weights
        self.reserve -= spent

    @property
    def e(self) -> Floats:
        return self.values.sum(axis=1) + self.reserve

    def keep(self, which: Ints) -> None:
        self.values = self.values[which]


class Tests:
    """The four processes of one metric for every run."""

    def __init__(self, runs: int, limit: float, limits: Limits) -> None:
        above, below = np.minimum(limit * np.array(MULTIPLES), 0.95), limit * (1 + limits.margin) * np.array(PARTS)
        self.above = Mixture(runs, above, limit, late=LATE)
        self.below = Mixture(runs, below, limit * (1 + limits.margin), np.array(PROMISES))
        self.worse = Mixture(runs, above, limit, late=LATE)
        self.baseline = Mixture(runs, above, limit, late=LATE)
        self.tolerated, self.sustained_s = limits.odds_ratio_tolerated, limits.sustained_seconds
        self.lately: list[tuple[float, Floats]] = []
        self.total, self.bad, self.other_total, self.other_bad, self.bad_cycles = np.zeros((5, runs), dtype=np.int64)

    def feed(self, n: Ints, k: Ints, other_n: Ints, other_k: Ints, icc: Floats, clock: Clock) -> None:
        per_block = max(1.0, BLOCK_S / clock.span_s)
        self.above.feed(k, n, 1.0 + REACH * icc * n * per_block)
        self.below.feed(k, n, 1.0 + icc * n * per_block)
        self.baseline.feed(other_k, other_n, 1.0 + REACH * icc * other_n * per_block)
        with np.errstate(divide="ignore"):
            together = 1.0 / n + 1.0 / other_n
        llr = self._relative(n, k, other_n, other_k)
        self.worse.move(llr, 1.0 + REACH * 2.0 * icc * per_block / together)
        for each in (self.above, self.worse, self.baseline):
            each.begin_late(clock.elapsed_s, clock.span_s, clock.horizon_s)
        self.total, self.bad = self.total + n, self.bad + k
        self.other_total, self.other_bad = self.other_total + other_n, self.other_bad + other_k
        self.bad_cycles = self.bad_cycles + (k > 0)
        now_s = clock.elapsed_s + clock.span_s
        kept = [each for each in self.lately if each[0] > now_s - self.sustained_s]
        self.lately = [*kept, (now_s, self.below.e)]

    @property
    def e_below(self) -> Floats:
        """The least of late."""
        return np.min([each for _, each in self.lately], axis=0) if self.lately else np.ones(len(self.total))

    def _relative(self, n: Ints, k: Ints, other_n: Ints, other_k: Ints) -> Floats:
        usable = ((n > 0) & (other_n > 0))[:, None]
        weight = (np.maximum(n, 1) * self.tolerated)[:, None]
        other = np.maximum(other_n, 1)[:, None]
        times = np.array(MULTIPLES)
        null, share = weight / (weight + other), weight * times / (weight * times + other)
        llr = k[:, None] * np.log(share / null) + other_k[:, None] * np.log((1 - share) / (1 - null))
        return np.where(usable, llr, 0.0)

    def keep(self, which: Ints) -> None:
        for each in (self.above, self.below, self.worse, self.baseline):
            each.keep(which)
        self.lately = [(at_s, each[which]) for at_s, each in self.lately]
        self.total, self.bad, self.bad_cycles = self.total[which], self.bad[which], self.bad_cycles[which]
        self.other_total, self.other_bad = self.other_total[which], self.other_bad[which]


@dataclass(frozen=True)
class Clock:
    """Where a cycle lies in the run; seconds."""

    elapsed_s: float
    span_s: float
    horizon_s: float


def correlations(totals: Ints, bads: Ints) -> Floats:
    """`statistics.intraclass_correlation` of each run's blocks."""
    used = totals > 0
    count, total, bad = used.sum(axis=1), totals.sum(axis=1), bads.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = bad / total
        spread = rate * (1 - rate)
        squares = np.where(used, (bads - totals * rate[:, None]) ** 2 / (totals * spread[:, None]), 0.0)
        per_block = total * spread / count
        error = np.sqrt((2 + 1 / per_block) / (count - 1))
        icc = np.clip((squares.sum(axis=1) / (count - 1) - error - 1) / (total / count), 0.0, 1.0)
    return np.where((count >= 8) & (bad >= 10) & (bad < total), icc, 0.0)


class History:
    """Stable's blocks, and the one that is being filled."""

    def __init__(self, arm: Arm, dt_s: float) -> None:
        self.blocks = np.stack([arm.total, arm.failed, arm.slow])
        self.filling = np.zeros((3, arm.total.shape[0]), dtype=np.int64)
        self.per_block, self.filled = round(BLOCK_S / dt_s), 0
        self._correlate()

    def _correlate(self) -> None:
        self.errors = correlations(self.blocks[0], self.blocks[1])
        self.slow = correlations(self.blocks[0], self.blocks[2])

    def grow(self, n: Ints, failed: Ints, slow: Ints) -> None:
        self.filling = self.filling + np.stack([n, failed, slow])
        self.filled += 1
        if self.filled == self.per_block:
            self.blocks = np.concatenate([self.blocks, self.filling[:, :, None]], axis=2)[:, :, -BLOCKS:]
            self.filling, self.filled = np.zeros_like(self.filling), 0
            self._correlate()

    def keep(self, which: Ints) -> None:
        self.blocks, self.filling = self.blocks[:, which], self.filling[:, which]
        self.errors, self.slow = self.errors[which], self.slow[which]


@dataclass(frozen=True)
class Ladder:
    """How a rollout climbs: seconds per step, and how it ends. One step and no least requests is a plain analysis."""

    steps_s: tuple[float, ...] = (0.0,)
    max_wait_s: float = float("inf")
    least_requests: int = 0
    on_timeout: str = "hold"
    horizon_s: float = 1800.0


class Run:
    """All runs of one cell under our rule; decided ones are dropped on the way."""

    def __init__(self, site: Site, history: Arm, limits: Limits, ladder: Ladder) -> None:
        self.site, self.limits, self.ladder, self.dt_s = site, limits, ladder, site.dt_s
        runs = site.runs
        self.active = np.arange(runs)
        self.errors, self.slow = Tests(runs, limits.max_error_rate, limits), Tests(runs, TAIL, limits)
        rates, null = np.array(CATASTROPHES), limits.catastrophic_error_rate
        rates = np.maximum(rates, null + (1 - null) * rates / 2)
        self.catastrophe = Mixture(runs, rates, null, np.full(4, 0.25), late=CATASTROPHE_LATE)
        self.history = History(history, self.dt_s)
        self.sums = np.zeros((3, runs, site.cycles + 1), dtype=np.int64)
        self.step, self.step_since = np.zeros(runs, dtype=np.int64), np.zeros(runs)
        self.verdict, self.at_s = np.zeros(runs, dtype=np.int64), np.full(runs, np.inf)
        self.on_time, self.failed_by_then = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=np.int64)

    def outcome(self) -> Outcome:
        """Every run until it is decided or its time is over."""
        for cycle in range(1, self.site.cycles + 1):
            self._measure(cycle)
            self._decide(cycle)
            if not len(self.active):
                break
        return Outcome(self.verdict, self.at_s, self.on_time, self.failed_by_then)

    def _measure(self, cycle: int) -> None:
        n, k, slow, other_n, other_k, other_slow = self.site.cycle(cycle - 1, self.active, self.step)
        for index, each in enumerate((n, k, slow)):
            self.sums[index, :, cycle] = self.sums[index, :, cycle - 1] + each
        begun_s = (cycle - 1) * self.dt_s
        horizon_s = self.ladder.horizon_s
        self.catastrophe.feed(k, n)
        self.catastrophe.begin_late(begun_s, self.dt_s, horizon_s)
        if begun_s >= self.limits.warmup_seconds:
            warm_s = np.ceil(self.limits.warmup_seconds / self.dt_s) * self.dt_s
            clock = Clock(begun_s - warm_s, self.dt_s, horizon_s)
            self.errors.feed(n, k, other_n, other_k, self.history.errors, clock)
            self.slow.feed(n, slow, other_n, other_slow, self.history.slow, clock)
        self.history.grow(other_n, other_k, other_slow)

    def _decide(self, cycle: int) -> None:
        now_s, limits, ladder = cycle * self.dt_s, self.limits, self.ladder
        warm_s = np.ceil(limits.warmup_seconds / self.dt_s) * self.dt_s
        bad = (self.catastrophe.e >= limits.catastrophic_e) | self._is_bad(self.errors, limits.max_error_rate)
        bad |= self._is_bad(self.slow, TAIL)
        fit = ~bad & self._is_within(cycle) & (self.catastrophe.e < limits.caution_e)
        fit &= self._is_calm(self.errors, limits.max_error_rate) & self._is_calm(self.slow, TAIL)
        fit &= self.errors.total >= ladder.least_requests
        duration = np.array(ladder.steps_s)[self.step]
        fit &= now_s - self.step_since >= duration
        is_last = self.step == len(ladder.steps_s) - 1
        needed = np.where(is_last, limits.promote_e, limits.advance_e)
        proven = (self.errors.e_below >= needed) & (self.slow.e_below >= needed)
        proven &= ~is_last | (now_s - warm_s >= limits.min_evidence_seconds)
        timed = (now_s >= ladder.max_wait_s) & (ladder.on_timeout == "promote")
        up = fit & (proven | timed)
        self._end(cycle, bad, ROLLED_BACK, ~bad)
        self._end(cycle, up & is_last, PROMOTED, proven)
        climbs = up & ~is_last
        self.step_since = np.where(climbs, now_s, self.step_since)
        self.step = self.step + climbs
        self._keep(np.flatnonzero(~bad & ~(up & is_last)))

    def _end(self, cycle: int, which: NDArray[np.bool_], verdict: int, proven: NDArray[np.bool_]) -> None:
        runs = self.active[which]
        self.verdict[runs], self.at_s[runs] = verdict, cycle * self.dt_s
        self.on_time[runs] = ~proven[which]
        self.failed_by_then[runs] = self.sums[1, which, cycle]

    def _keep(self, which: Ints) -> None:
        if len(which) == len(self.active):
            return
        self.active, self.sums = self.active[which], self.sums[:, which]
        self.step, self.step_since = self.step[which], self.step_since[which]
        for each in (self.errors, self.slow, self.catastrophe, self.history):
            each.keep(which)

    def _is_worse(self, tests: Tests, limit: float, wanted: float) -> NDArray[np.bool_]:
        rate = tests.bad / np.maximum(tests.total, 1)
        if self.limits.relative_gate == "limit":
            gate = (rate > limit) & (tests.above.e >= self.limits.lean_e)
        else:
            gate = rate - tests.other_bad / np.maximum(tests.other_total, 1) >= self.limits.min_excess
        return gate & (tests.worse.e >= wanted)

    def _is_bad(self, tests: Tests, limit: float) -> NDArray[np.bool_]:
        over = (tests.above.e >= self.limits.rollback_e) & (tests.baseline.e < 1.0 / self.limits.alpha)
        worse = self._is_worse(tests, limit, self.limits.rollback_e)
        return (over | worse) & (tests.bad_cycles >= self.limits.min_bad_cycles)

    def _is_calm(self, tests: Tests, limit: float) -> NDArray[np.bool_]:
        caution = self.limits.caution_e
        return (tests.above.e < caution) & ~self._is_worse(tests, limit, caution)

    def _is_within(self, cycle: int) -> NDArray[np.bool_]:
        """The limits hold in the last window, stretched over the least requests."""
        total = self.sums[0]
        wanted = total[:, cycle] - self.limits.min_requests
        stretched = (total[:, : cycle + 1] <= wanted[:, None]).sum(axis=1) - 1
        held = round(self.limits.window_seconds / self.dt_s)
        since = np.maximum(np.minimum(stretched, cycle - held), 0)
        each = np.arange(len(self.active))
        n, failed, slow = (sums[:, cycle] - sums[each, since] for sums in self.sums)
        enough = n >= self.limits.min_requests
        return enough & (failed <= self.limits.max_error_rate * n) & (slow <= TAIL * n)
