"""What is known about a canary, from one reading to the next: the door to evidence for everybody else.

`begin` it, `measure` once per cycle, `summarise` for people and policy. All of it is values; what must survive a
restart is `Evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.evidence.agreement import Agreement, compared
from reconciler.core.evidence.baseline import Baseline, grown
from reconciler.core.evidence.counting import (
    Asked,
    Counts,
    Gained,
    Source,
    added,
    chosen,
    count_track,
    known_paths,
)
from reconciler.core.evidence.limits import Limits, limits_of
from reconciler.core.evidence.metric import Rules, Trials, weighed
from reconciler.core.evidence.readings import Counted, Reading
from reconciler.core.evidence.state import NO_CHAOS, SLOW_SHARE, UNKNOWN_CHAOS, Evidence, Traffic
from reconciler.core.evidence.statistics import (
    EVENLY,
    Stratum,
    catastrophe_llrs,
    fed,
    with_starts,
)
from reconciler.core.evidence.summary import Summary, as_json, summarise
from reconciler.core.evidence.window import Window, slid

__all__ = [
    "SAMPLE_S",
    "Baseline",
    "Evidence",
    "Limits",
    "Summary",
    "as_json",
    "baseline_of",
    "begin",
    "limits_of",
    "measure",
    "summarise",
]

SAMPLE_S = 2.0


def begin(about: str, now: float, baseline: Baseline | None = None) -> Evidence:
    """Evidence of nothing yet, about `about`. With stable's history, bursts are known from the first cycle on.

    A container that began after `now` counts from zero; of an older one the first reading is only where to count from.
    """
    return Evidence(about=about, began=now, history=baseline or Baseline())


def baseline_of(evidence: Evidence) -> Baseline:
    """Stable's history as the run leaves it behind, to begin the next one with."""
    return evidence.history


def measure(
    evidence: Evidence,
    canary: Mapping[str, Counted],
    baseline: Mapping[str, Counted],
    limits: Limits,
    *,
    provider: str,
    now: float,
    horizon_s: float,
    share: float | None,
    excuses_chaos: bool = True,
) -> Evidence:
    """The evidence after a cycle that read these containers, by container ID.

    At rest `canary` is stable itself and `baseline` is empty: then its own counts go into the history.

    `provider` is the manifest's (`auto`, `app`, `ingress`, `prometheus`), `horizon_s` how long the rollout may take,
    `share` the canary's share of the traffic where that is meant to be exact. `excuses_chaos`: what is done under
    chaos is no evidence, and it starts afresh when the chaos ends; for a canary that is kept on purpose, since any
    other one could excuse itself by claiming chaos. Called less than SAMPLE_S after the
    last cycle that counted, it answers `evidence` unchanged; a cycle in which no canary could be read leaves what is
    counted to the next.
    """
    if 0.0 <= now - evidence.asked_at < SAMPLE_S:
        return evidence
    evidence = _with_source(replace(evidence, asked_at=now), provider, canary, baseline)
    evidence, was_chaos = _with_chaos(evidence, canary), evidence.chaos
    if evidence.source is None:
        return replace(evidence, missed_scrapes=evidence.missed_scrapes + len(canary))
    asked = _asked(evidence, evidence.source, canary, baseline, limits)
    canary_seen, gained = count_track(evidence.canary, canary, asked)
    evidence = _with_quality(replace(evidence, canary=canary_seen, paths=asked.paths), gained, now)
    if not gained.read:
        return evidence
    baseline_seen, other = count_track(evidence.baseline, baseline, asked)
    span_s = max(0.0, now - (evidence.at or evidence.began))
    evidence = replace(evidence, baseline=baseline_seen, at=now)
    stable = other if baseline else gained
    if not gained.counted:
        return _with_history(evidence, stable, was_chaos)
    evidence = _with_window(evidence, gained, limits, span_s, now)
    if excuses_chaos and _is_chaos(evidence.chaos):
        return evidence
    if excuses_chaos and _is_chaos(was_chaos):
        return _afresh(evidence, now)
    exact = None if provider == "prometheus" else share  # a scrape's span reaches back over the last change of weight
    evidence = _with_traffic(evidence, canary, baseline, gained, other, exact)
    evidence = replace(evidence, agreement=compared(evidence.agreement, gained, span_s))
    # Last of all the history: what corrects a cycle must have been known before it.
    return _with_history(_with_tests(evidence, gained, other, limits, span_s, horizon_s), stable, was_chaos)


def _with_source(
    evidence: Evidence, provider: str, canary: Mapping[str, Counted], baseline: Mapping[str, Counted]
) -> Evidence:
    source = chosen(evidence.source, provider, (*canary.values(), *baseline.values()))
    if source is evidence.source:
        return evidence
    return replace(evidence, source=source, paths=(), canary={}, baseline={}, window=Window(), agreement=Agreement())


def _with_chaos(evidence: Evidence, canary: Mapping[str, Counted]) -> Evidence:
    """The canary's own word on chaos; a container that is not read has not said that it is over."""
    words = [each.service.chaos or NO_CHAOS for each in canary.values() if isinstance(each.service, Reading)]
    active = next((word for word in words if word != NO_CHAOS), NO_CHAOS)
    if active == NO_CHAOS and (not words or (len(words) < len(canary) and _is_chaos(evidence.chaos))):
        return evidence
    return replace(evidence, chaos=active)


def _is_chaos(word: str) -> bool:
    return word not in (NO_CHAOS, UNKNOWN_CHAOS)


def _afresh(evidence: Evidence, now: float) -> Evidence:
    """The chaos is over: what was counted under it, the last cycle too, is evidence of nothing."""
    fresh = begin(evidence.about, now)
    return replace(
        evidence,
        began=now,
        errors=fresh.errors,
        latency=fresh.latency,
        catastrophe=fresh.catastrophe,
        whole=fresh.whole,
        window=fresh.window,
        traffic=fresh.traffic,
        agreement=fresh.agreement,
        evidence_s=0.0,
    )


def _asked(
    evidence: Evidence,
    source: Source,
    canary: Mapping[str, Counted],
    baseline: Mapping[str, Counted],
    limits: Limits,
) -> Asked:
    counted = (*canary.values(), *baseline.values())
    readings = (each.service if source is Source.SERVICE else each.proxy for each in counted)
    return Asked(
        source=source,
        since=evidence.began,
        now=evidence.asked_at,
        paths=known_paths(evidence.paths, readings),
        threshold_s=limits.max_p99_latency_ms / 1000.0,
        warmup_s=limits.warmup_seconds,
    )


def _with_history(evidence: Evidence, stable: Gained, was_chaos: str) -> Evidence:
    """Stable's history with this cycle. What was done under chaos is nobody's history."""
    if not stable.read or _is_chaos(was_chaos) or _is_chaos(evidence.chaos):
        return evidence
    return replace(evidence, history=grown(evidence.history, stable.warm, evidence.asked_at))


def _with_quality(evidence: Evidence, gained: Gained, now: float) -> Evidence:
    return replace(
        evidence,
        missed_scrapes=evidence.missed_scrapes + gained.missed,
        counter_resets=evidence.counter_resets + bool(gained.unclear),
        canary_restarts=evidence.canary_restarts + gained.restarts,
        unclear_at=now if gained.unclear else evidence.unclear_at,
        unclear=gained.unclear or evidence.unclear,
    )


def _with_window(evidence: Evidence, gained: Gained, limits: Limits, span_s: float, now: float) -> Evidence:
    seconds, least = limits.window_seconds, limits.min_requests
    window = slid(evidence.window, gained.whole, span_s, now, seconds=seconds, least=least)
    return replace(evidence, window=window, measured_s=evidence.measured_s + span_s)


def _with_traffic(
    evidence: Evidence,
    canary: Mapping[str, Counted],
    baseline: Mapping[str, Counted],
    gained: Gained,
    other: Gained,
    share: float | None,
) -> Evidence:
    """The split with this cycle in it; begun anew, without it, when the share or the containers changed."""
    old, members = evidence.traffic, ",".join(each[:8] for each in (*sorted(canary), "", *sorted(baseline)))
    if old.share != share or old.members != members or gained.restarts or other.restarts:
        return replace(evidence, traffic=Traffic(share=share, members=members))
    here, there = old.pending_canary + gained.whole.total, old.pending_baseline + other.whole.total
    if gained.missed or other.missed:
        pending = replace(old, pending_canary=here, pending_baseline=there)
        return replace(evidence, traffic=pending)
    settled = replace(
        old, canary=old.canary + here, baseline=old.baseline + there, pending_canary=0, pending_baseline=0
    )
    return replace(evidence, traffic=settled)


def _with_tests(
    evidence: Evidence, gained: Gained, other: Gained, limits: Limits, span_s: float, horizon_s: float
) -> Evidence:
    llrs = catastrophe_llrs(gained.whole.failed, gained.whole.total, limits.catastrophic_error_rate)
    catastrophe = with_starts(fed(evidence.catastrophe, llrs), evidence.measured_s - span_s, span_s, horizon_s, EVENLY)
    evidence = replace(evidence, catastrophe=catastrophe)
    if not gained.is_warm:
        return evidence
    rules = Rules(
        limit=limits.tested_error_rate,
        bound=limits.proven_error_rate,
        tolerated=limits.odds_ratio_tolerated,
        icc=evidence.history.icc_errors,
        elapsed_s=evidence.evidence_s,
        horizon_s=horizon_s,
        span_s=span_s,
        sustained_s=limits.sustained_seconds,
    )
    slow = replace(rules, limit=SLOW_SHARE, bound=SLOW_SHARE * (1.0 + limits.margin), icc=evidence.history.icc_slow)
    is_complete = not gained.missed and not other.missed
    return replace(
        evidence,
        errors=weighed(evidence.errors, _failures(gained.warm, other.warm, is_complete), rules),
        latency=weighed(evidence.latency, _slowness(gained.warm, other.warm, is_complete), slow),
        whole=added(evidence.whole, gained.warm),
        evidence_s=evidence.evidence_s + span_s,
    )


def _failures(canary: Counts, baseline: Counts, is_complete: bool) -> Trials:
    """Failed requests; path by path against the baseline, since another mix of paths is no regression."""
    slots = zip(canary.requests, canary.errors, baseline.requests, baseline.errors, strict=False)
    strata = tuple(Stratum(bad, total, other_bad, other_total) for total, bad, other_total, other_bad in slots)
    return Trials(
        total=canary.total,
        bad_least=canary.failed,
        bad_most=canary.failed,
        baseline_total=baseline.total,
        baseline_bad=baseline.failed,
        strata=strata if is_complete else (),
    )


def _slowness(canary: Counts, baseline: Counts, is_complete: bool) -> Trials:
    """Slow requests, all paths together: histograms are not kept by path."""
    timed = canary.timed if canary.is_timed else 0
    other = baseline.timed if baseline.is_timed else 0
    stratum = Stratum(canary.slow_least, timed, baseline.slow_most, other)
    return Trials(
        total=timed,
        bad_least=canary.slow_least if timed else 0,
        bad_most=canary.slow_most if timed else 0,
        baseline_total=other,
        baseline_bad=baseline.slow_most if other else 0,
        strata=(stratum,) if is_complete else (),
    )
