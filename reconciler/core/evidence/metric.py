"""The four tests of one metric: failed requests, or slow ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.core.evidence.statistics import (
    PROMISES,
    Process,
    Stratum,
    above_llrs,
    below_llrs,
    fed,
    fresh_process,
    relative_llrs,
    with_starts,
)

BLOCK_S = 30.0
REACH = 1.4


LATE = 0.5
LOOKS = 24


def _late() -> Process:
    return fresh_process(late=LATE)


def _promise() -> Process:
    return fresh_process(PROMISES)


@dataclass(frozen=True, slots=True)
class Metric:
    """Evidence about one metric since the run began, warm-up left out.

    `above`: the canary's rate is over the limit; `below`: it is under the limit with its margin; `worse`: its odds
    are worse than the baseline's beyond what is tolerated; `baseline_above`: the baseline's rate is over the limit.
    `lately` are (seconds of evidence, ln of `below`) of the last cycles: what promotes must have lasted.
    `bad_most` and `bad_least` bracket the canary's bad events where buckets do not tell them exactly.
    """

    above: Process = field(default_factory=_late)
    below: Process = field(default_factory=_promise)
    worse: Process = field(default_factory=_late)
    baseline_above: Process = field(default_factory=_late)
    lately: tuple[tuple[float, float], ...] = ()
    total: int = 0
    bad_least: int = 0
    bad_most: int = 0
    baseline_total: int = 0
    baseline_bad: int = 0
    bad_cycles: int = 0
    design_effect: float = 1.0

    @property
    def sustained_log_e(self) -> float:
        """ln of the least evidence that there was of late for a rate below the limit.

        Whatever is never more than an e-process has its guarantee. Of chance crossings few last: in the simulation
        this takes away a third of the false promotions and costs a healthy canary no time.
        """
        return min((log_e for _, log_e in self.lately), default=0.0)


@dataclass(frozen=True, slots=True)
class Trials:
    """What one cycle says about one metric: the canary's trials, the baseline's, and both by stratum."""

    total: int
    bad_least: int
    bad_most: int
    baseline_total: int
    baseline_bad: int
    strata: tuple[Stratum, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a metric is tested against: its limit and bounds (rates), how bursty it is, and the clock of the run."""

    limit: float
    bound: float
    tolerated: float
    icc: float
    elapsed_s: float
    horizon_s: float
    span_s: float
    sustained_s: float


def weighed(metric: Metric, trials: Trials, rules: Rules) -> Metric:
    """The evidence after one more cycle. A cycle without requests changes nothing but the weight of late starts."""
    canary, baseline = _block_effect(rules, trials.total), _block_effect(rules, trials.baseline_total)
    above = above_llrs(trials.bad_least, trials.total, rules.limit)
    below = below_llrs(trials.bad_most, trials.total, rules.bound)
    worse = relative_llrs(trials.strata, rules.tolerated)
    baseline_above = above_llrs(trials.baseline_bad, trials.baseline_total, rules.limit)
    promising = fed(metric.below, below, canary)
    return Metric(
        above=_late_fed(metric.above, above, _roll_back_effect(canary), rules),
        below=promising,
        worse=_late_fed(metric.worse, worse, _roll_back_effect(_relative_effect(rules, trials)), rules),
        baseline_above=_late_fed(metric.baseline_above, baseline_above, _roll_back_effect(baseline), rules),
        lately=_lately(metric, promising, rules),
        total=metric.total + trials.total,
        bad_least=metric.bad_least + trials.bad_least,
        bad_most=metric.bad_most + trials.bad_most,
        baseline_total=metric.baseline_total + trials.baseline_total,
        baseline_bad=metric.baseline_bad + trials.baseline_bad,
        bad_cycles=metric.bad_cycles + (trials.bad_least > 0),
        design_effect=canary if trials.total else metric.design_effect,
    )


def _lately(metric: Metric, below: Process, rules: Rules) -> tuple[tuple[float, float], ...]:
    now_s = rules.elapsed_s + rules.span_s
    kept = [each for each in metric.lately if each[0] > now_s - rules.sustained_s]
    return (*kept[-LOOKS:], (now_s, below.log_e))


def _late_fed(process: Process, llrs: tuple[float, ...], design_effect: float, rules: Rules) -> Process:
    return with_starts(fed(process, llrs, design_effect), rules.elapsed_s, rules.span_s, rules.horizon_s)


def _block_effect(rules: Rules, total: int) -> float:
    """1 + icc m, with m the requests of a block at this cycle's rate (Kish 1965)."""
    return 1.0 + rules.icc * total * _cycles_per_block(rules)


def _roll_back_effect(block_effect: float) -> float:
    """Bursts reach over the edges of a block: of bursts of 20 s, blocks of 30 s show half of the long-run variance.

    A block of a minute shows 1.4 times as much. Only what rolls back is corrected by that: in the simulation it
    takes a third of the false roll backs away, and would only delay promotions, whose evidence has to last anyway.
    """
    return 1.0 + REACH * (block_effect - 1.0)


def _relative_effect(rules: Rules, trials: Trials) -> float:
    if not trials.total or not trials.baseline_total:
        return 1.0
    return 1.0 + 2.0 * rules.icc * _cycles_per_block(rules) / (1.0 / trials.total + 1.0 / trials.baseline_total)


def _cycles_per_block(rules: Rules) -> float:
    return max(1.0, BLOCK_S / rules.span_s) if rules.span_s > 0.0 else 1.0
