"""Evidence as people and policies read it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from reconciler.core.desired import Json
from reconciler.core.evidence.agreement import disagreement
from reconciler.core.evidence.counting import Counts, Seen
from reconciler.core.evidence.limits import Limits
from reconciler.core.evidence.metric import Metric
from reconciler.core.evidence.state import SLOW_SHARE, Evidence, Traffic
from reconciler.core.evidence.statistics import (
    MOST_E,
    below_llrs,
    confidence_sequence,
    is_excluded,
    requests_until,
    split_log_e,
)
from reconciler.core.evidence.window import Shown, shown

STALE_S = 12.0
UNCLEAR_FOR_S = 60.0


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """The last window. Ratio, milliseconds, requests per second; None where `why_unknown` says why."""

    requests: int
    error_rate: float | None
    p99_ms: float | None
    req_per_sec: float | None
    seconds: float
    why_unknown: str


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric over the whole run. Rates are ratios, None without requests; `rate_low` and `rate_high` hold at
    every look with 95 %. The last four are the latency's only: milliseconds, and whether a bucket ends at the limit.
    """

    requests: int
    baseline_requests: int
    count: int
    rate: float | None
    rate_low: float
    rate_high: float
    baseline_rate: float | None
    excess: float | None
    e_above_limit: float
    e_below_limit: float
    e_worse: float
    baseline_e_above_limit: float
    bad_cycles: int
    design_effect: float
    threshold_ms: float | None = None
    bucket_exact: bool | None = None
    p99_low_ms: float | None = None
    p99_high_ms: float | None = None


@dataclass(frozen=True, slots=True)
class TrafficSummary:
    """How the requests were split; `e_mismatch` is the evidence that it is not as meant (1.0 where none is meant)."""

    expected_share: float | None
    observed_share: float | None
    e_mismatch: float


@dataclass(frozen=True, slots=True)
class DataQuality:
    """Whether the counts can be relied on, and why not."""

    ok: bool
    why: str
    missed_scrapes: int
    counter_resets: int
    canary_restarts: int
    disagreement: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What is missing until promotion is proven if all goes on as observed.

    `requests` 0: nothing more; None: never at this rate of failures. `seconds` None: never, or at an unknown rate.
    """

    requests: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """All of it at one moment; `source` is whose counts decide (`service`, `proxy`, "" before it is chosen)."""

    about: str
    source: str
    requests: int
    baseline_requests: int
    window: WindowSummary
    errors: MetricSummary
    latency: MetricSummary
    e_catastrophic: float
    traffic: TrafficSummary
    data_quality: DataQuality
    observed_s: float
    evidence_s: float
    chaos: str
    needs: Needs


def summarise(evidence: Evidence, limits: Limits, now: float) -> Summary:
    """What the evidence says at `now`."""
    window = shown(evidence.window)
    why_unread = _unread(evidence.canary, now)
    return Summary(
        about=evidence.about,
        source=evidence.source.value if evidence.source else "",
        requests=evidence.errors.total,
        baseline_requests=evidence.errors.baseline_total,
        window=_window(evidence, window, why_unread, limits),
        errors=_metric(evidence.errors),
        latency=_latency(evidence, limits),
        e_catastrophic=evidence.catastrophe.e,
        traffic=_traffic(evidence.traffic),
        data_quality=_quality(evidence, why_unread, limits, now),
        observed_s=evidence.measured_s,
        evidence_s=evidence.evidence_s,
        chaos=evidence.chaos,
        needs=_needs(evidence, window, limits),
    )


def as_json(summary: Summary) -> dict[str, Json]:
    """The `evidence` of the canary question: the summary's own keys, and `requests` of both tracks in one object.

    No number is infinite or NaN.
    """
    requests: dict[str, Json] = {"canary": summary.requests, "baseline": summary.baseline_requests}
    whole = cast("dict[str, Json]", _plain(dataclasses.asdict(summary)))
    del whole["baseline_requests"]
    return {**whole, "requests": requests}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def _unread(canary: Mapping[str, Seen], now: float) -> str:
    """Why the canary is not known now: nothing was read yet, or not of some container for too long."""
    if not canary:
        return "no reading of the canary yet"
    for container, seen in sorted(canary.items()):
        if seen.missed_since and (now - seen.missed_since >= STALE_S or not (seen.service or seen.proxy)):
            return f"no reading of {container[:12]} for {now - seen.missed_since:.0f} s: {seen.why}"
    return ""


def _window(evidence: Evidence, window: Shown, why_unread: str, limits: Limits) -> WindowSummary:
    why = why_unread
    if not why and not window.requests:
        is_young = window.seconds < limits.window_seconds
        begun = f"no requests yet: measuring began {window.seconds:.0f} s ago"
        why = begun if is_young else f"no requests in the last {limits.window_seconds:g} s"
    p99_ms = None if why else window.p99_ms
    return WindowSummary(
        requests=window.requests,
        error_rate=None if why else window.error_rate,
        p99_ms=p99_ms,
        req_per_sec=None if why_unread else window.per_second,
        seconds=window.seconds,
        why_unknown=why or ("" if p99_ms is not None else "no latency is counted"),
    )


def _metric(metric: Metric) -> MetricSummary:
    low, _ = confidence_sequence(metric.bad_least, metric.total)
    _, high = confidence_sequence(metric.bad_most, metric.total)
    rate = metric.bad_least / metric.total if metric.total else None
    baseline_rate = metric.baseline_bad / metric.baseline_total if metric.baseline_total else None
    return MetricSummary(
        requests=metric.total,
        baseline_requests=metric.baseline_total,
        count=metric.bad_least,
        rate=rate,
        rate_low=low,
        rate_high=high,
        baseline_rate=baseline_rate,
        excess=None if rate is None or baseline_rate is None else rate - baseline_rate,
        e_above_limit=metric.above.e,
        e_below_limit=math.exp(min(metric.sustained_log_e, math.log(MOST_E))),
        e_worse=metric.worse.e,
        baseline_e_above_limit=metric.baseline_above.e,
        bad_cycles=metric.bad_cycles,
        design_effect=metric.design_effect,
    )


def _latency(evidence: Evidence, limits: Limits) -> MetricSummary:
    whole, threshold_s = evidence.whole, limits.max_p99_latency_ms / 1000.0
    low_s, high_s = _p99_between(whole)
    return dataclasses.replace(
        _metric(evidence.latency),
        threshold_ms=limits.max_p99_latency_ms,
        bucket_exact=threshold_s in (whole.bounds or evidence.window.bounds),
        p99_low_ms=1000.0 * low_s,
        p99_high_ms=None if high_s is None else 1000.0 * high_s,
    )


def _p99_between(whole: Counts) -> tuple[float, float | None]:
    """The bounds that P99 surely lies between, 95 %, at every look; None: above the highest.

    Of each bound the share of slower requests has a confidence sequence. Shares are nested, so only the two bounds
    around the true P99 can be wrong, at 97.5 % each (Howard and Ramdas 2022, arXiv 1906.09712, for bucket counts).
    """
    low, high = 0.0, None
    for bound, count in zip(whole.bounds, whole.buckets, strict=False):
        slower = whole.timed - count
        if not whole.timed or not is_excluded(SLOW_SHARE, slower, whole.timed, 0.025):
            continue
        if slower > SLOW_SHARE * whole.timed:
            low = bound
        elif high is None:
            high = bound
    return low, high


def _traffic(traffic: Traffic) -> TrafficSummary:
    total = traffic.canary + traffic.baseline
    e = 1.0
    if traffic.share is not None and 0.0 < traffic.share < 1.0 and total:
        log_e = split_log_e((traffic.canary, traffic.baseline), (traffic.share, 1.0 - traffic.share))
        e = math.exp(min(log_e, math.log(MOST_E)))
    return TrafficSummary(traffic.share, traffic.canary / total if total else None, e)


def _quality(evidence: Evidence, why_unread: str, limits: Limits, now: float) -> DataQuality:
    differs = disagreement(evidence.agreement, limits.max_error_rate)
    whys = [why_unread, differs and f"service and proxy disagree: {differs}", _untimed(evidence, limits)]
    if evidence.unclear and now - evidence.unclear_at < UNCLEAR_FOR_S:
        whys.append(evidence.unclear)
    why = "; ".join(each for each in whys if each)
    return DataQuality(
        ok=not why,
        why=why,
        missed_scrapes=evidence.missed_scrapes,
        counter_resets=evidence.counter_resets,
        canary_restarts=evidence.canary_restarts,
        disagreement=differs,
    )


def _untimed(evidence: Evidence, limits: Limits) -> str:
    """Why P99 cannot be told from the limit; "" where it can, or where nothing was read yet."""
    tallies = [(seen.service if evidence.source == "service" else seen.proxy) for seen in evidence.canary.values()]
    for each in tallies:
        if each is not None and not each.bounds:
            return "the canary counts no latency"
        if each is not None and each.bounds[-1] < limits.max_p99_latency_ms / 1000.0:
            highest = 1000.0 * each.bounds[-1]
            return f"the highest latency bucket ends at {highest:g} ms: nothing tells whether P99 is above the limit"
    return ""


def _needs(evidence: Evidence, window: Shown, limits: Limits) -> Needs:
    """What both metrics need until `1/beta`, at the rates observed so far, and what is left of the least exposure."""
    wanted = math.log(limits.promote_e)
    exposure_s = max(0.0, limits.min_evidence_seconds - evidence.evidence_s)
    bounds = (limits.proven_error_rate, SLOW_SHARE * (1.0 + limits.margin))
    needed = [
        _requests_needed(metric, bound, wanted)
        for metric, bound in zip((evidence.errors, evidence.latency), bounds, strict=True)
    ]
    if any(each is None for each in needed):
        return Needs(None, None)
    requests = max(each for each in needed if each is not None)
    if not requests:
        return Needs(0, exposure_s)
    return Needs(requests, max(exposure_s, requests / window.per_second) if window.per_second else None)


def _requests_needed(metric: Metric, bound: float, wanted: float) -> int | None:
    """Wald's expected sample size (1945) from here on, each request failing as often as it did so far."""
    rate = metric.bad_most / metric.total if metric.total else 0.0
    ones, zeros = below_llrs(1, 1, bound), below_llrs(0, 1, bound)
    gains = [(rate * one if rate else 0.0) + (1.0 - rate) * zero for one, zero in zip(ones, zeros, strict=True)]
    return requests_until(metric.below, [gain / metric.design_effect for gain in gains], wanted)
