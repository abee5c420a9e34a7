"""The rule on one run as production computes it: readings into `reconciler.core`, and the decision from its summary."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from bench.decision_rule import PROMOTED, ROLLED_BACK, TAIL, UNDECIDED, Ladder, Run
from bench.decision_worlds import BLOCK_S, Ints, Site
from reconciler.core.evidence import Evidence, Limits, Summary, begin, measure, summarise
from reconciler.core.evidence.baseline import Baseline, Block
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.evidence.statistics import intraclass_correlation

BEGAN = 1_000_000.0
NOT_ASKED = Unread("not asked", is_absent=True)


class Recorded(Site):
    """A site that remembers what it drew, so that another rule can be given the very same requests."""

    drawn: dict[int, tuple[Ints, tuple[Ints, ...]]]

    def cycle(self, cycle: int, runs: Ints, step: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
        """As `Site`, and remembered."""
        made = super().cycle(cycle, runs, step)
        self.__dict__.setdefault("drawn", {})[cycle] = (runs, made)
        return made

    def of(self, run: int) -> list[tuple[int, ...]]:
        """What one run got, cycle by cycle, until it was decided."""
        found = []
        for cycle in range(len(self.drawn)):
            runs, arrays = self.drawn[cycle]
            place = int(np.searchsorted(runs, run))
            if place == len(runs) or runs[place] != run:
                break
            found.append(tuple(int(each[place]) for each in arrays))
        return found


def disagreements(site: Recorded, limits: Limits, ladder: Ladder) -> list[str]:
    """Where the core answers otherwise than the vectorised rule, in words; empty is agreement of every run."""
    outcome = Run(site, site.history, limits, ladder).outcome()
    found = []
    for run in range(site.runs):
        verdict, at_s = by_core(site, run, limits, ladder)
        if (verdict, at_s) != (int(outcome.verdict[run]), float(outcome.at_s[run])):
            found.append(f"run {run}: core {verdict} at {at_s}, numpy {outcome.verdict[run]} at {outcome.at_s[run]}")
    return found


def by_core(site: Recorded, run: int, limits: Limits, ladder: Ladder) -> tuple[int, float]:
    """Verdict and second of one run by `measure` and `summarise`; a rule of one step."""
    evidence = measured(begin("run", BEGAN, _history(site, run)), (0,) * 6, (0,) * 6, BEGAN, limits, ladder.horizon_s)
    sums = list(accumulate(site.of(run), lambda one, other: tuple(a + b for a, b in zip(one, other, strict=True))))
    for cycle, counts in enumerate(sums, start=1):
        now_s = cycle * site.dt_s
        evidence = measured(evidence, counts[:3], counts[3:], BEGAN + now_s, limits, ladder.horizon_s)
        verdict = decided(summarise(evidence, limits, BEGAN + now_s), limits)
        if verdict != UNDECIDED:
            return verdict, now_s
    return UNDECIDED, float("inf")


def measured(
    evidence: Evidence, canary: tuple[int, ...], baseline: tuple[int, ...], now: float, limits: Limits, horizon_s: float
) -> Evidence:
    """One cycle of two containers, the canary begun with the run, stable an hour before."""
    return measure(
        evidence,
        {"canary": _counted(canary, BEGAN, now)},
        {"stable": _counted(baseline, BEGAN - 3600.0, now)},
        limits,
        provider="app",
        now=now,
        horizon_s=horizon_s,
        share=None,
    )


def _counted(counts: tuple[int, ...], began: float, now: float) -> Counted:
    total, failed, slow = counts[:3]
    buckets = ((0.1, total - slow), (0.5, total - slow), (1.0, total), (float("inf"), total))
    return Counted(Reading(now, began, {"/": total}, {"/": failed}, buckets, now - began), NOT_ASKED)


def _history(site: Recorded, run: int) -> Baseline:
    arms = (site.history.total[run], site.history.failed[run], site.history.slow[run])
    blocks = tuple(Block(int(n), int(failed), int(n), int(slow)) for n, failed, slow in zip(*arms, strict=True))
    errors = intraclass_correlation([(each.total, each.failed) for each in blocks])
    slow = intraclass_correlation([(each.timed, each.slow) for each in blocks])
    assert BLOCK_S % site.dt_s == 0.0
    return Baseline(blocks, Block(), BEGAN, errors, slow)


def decided(summary: Summary, limits: Limits) -> int:
    """The decisions of `opa/canary.rego` for the last step, on what it is given."""
    metrics = (summary.errors, limits.max_error_rate), (summary.latency, TAIL)
    if summary.e_catastrophic >= limits.catastrophic_e:
        return ROLLED_BACK
    suspected = summary.e_catastrophic >= limits.caution_e
    for metric, limit in metrics:
        leans = (metric.rate or 0.0) > limit and metric.e_above_limit >= limits.lean_e
        over = metric.e_above_limit >= limits.rollback_e and metric.baseline_e_above_limit < 1 / limits.alpha
        if metric.bad_cycles >= limits.min_bad_cycles and (over or (leans and metric.e_worse >= limits.rollback_e)):
            return ROLLED_BACK
        suspected |= metric.e_above_limit >= limits.caution_e or (leans and metric.e_worse >= limits.caution_e)
        suspected |= metric.e_below_limit < limits.promote_e
    window = summary.window
    within = window.requests >= limits.min_requests and (window.error_rate or 0.0) <= limits.max_error_rate
    within = within and window.p99_ms is not None and window.p99_ms <= limits.max_p99_latency_ms
    proven = summary.evidence_s >= limits.min_evidence_seconds and summary.data_quality.ok
    return PROMOTED if within and proven and not suspected else UNDECIDED
