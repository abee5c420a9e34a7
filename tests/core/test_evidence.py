"""From readings to what is known of a canary: counting, windows, doubts, and what people and policy are told."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import cattrs
import pytest

from reconciler.core.evidence import (
    Evidence,
    Limits,
    as_json,
    baseline_of,
    begin,
    limits_of,
    measure,
    summarise,
)
from reconciler.core.evidence.readings import Counted, Reading, Unread

T0 = 1_000_000.0
BOUNDS = (0.1, 0.25, 0.5, 1.0, math.inf)
ABSENT = Unread("no such families", is_absent=True)
SILENT = Unread("connection refused")
LIMITS = Limits()


class Box:
    """A container that counts. `bounds` are its buckets' (the proxy's are the same)."""

    def __init__(self, began: float = T0 - 100.0, bounds: tuple[float, ...] = BOUNDS) -> None:
        self.began, self.bounds, self.chaos = began, bounds, ""
        self.requests: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.times: list[tuple[float, int]] = []
        self.unseen = 0

    def served(self, good: int = 0, bad: int = 0, slow: int = 0, path: str = "/") -> Box:
        """Answers of 20 ms; `slow` ones of 700 ms are among the good."""
        self.requests[path] = self.requests.get(path, 0) + good + bad
        self.errors[path] = self.errors.get(path, 0) + bad
        self.times += [(0.02, good + bad - slow), (0.7, slow)]
        return self

    def restarted(self, at: float) -> Box:
        self.began, self.requests, self.errors, self.times = at, {}, {}, []
        return self

    def reading(self, now: float, unseen: int = 0) -> Reading:
        """`unseen` failures are kept quiet."""
        buckets = tuple((bound, sum(count for time, count in self.times if time <= bound)) for bound in self.bounds)
        errors = {path: max(0, count - unseen) for path, count in self.errors.items()}
        return Reading(now, self.began, dict(self.requests), errors, buckets, now - self.began, "canary", self.chaos)

    def told(self, now: float) -> Counted:
        return Counted(self.reading(now, self.unseen), self.reading(now))


class Run:
    """Evidence about some boxes, cycle by cycle of 2.5 s."""

    def __init__(self, limits: Limits = LIMITS, provider: str = "auto", share: float | None = None, step: float = 2.5):
        self.evidence, self.limits, self.provider = begin("r1", T0), limits, provider
        self.share, self.step, self.now = share, step, T0 - step

    def cycle(self, canary: dict, baseline: dict | None = None) -> Run:
        self.now += self.step

        def told(boxes: dict) -> dict:
            return {name: box.told(self.now) if isinstance(box, Box) else box for name, box in boxes.items()}

        self.evidence = measure(
            self.evidence,
            told(canary),
            told(baseline or {}),
            self.limits,
            provider=self.provider,
            now=self.now,
            horizon_s=600.0,
            share=self.share,
        )
        return self

    def steady(self, cycles: int, canary: Box, baseline: Box, **served: int) -> Run:
        for _ in range(cycles):
            canary.served(**(served or {"good": 40}))
            baseline.served(good=160)
            self.cycle({"c": canary}, {"s": baseline})
        return self

    @property
    def summary(self):
        return summarise(self.evidence, self.limits, self.now)


def begun(limits: Limits = LIMITS, **options) -> tuple[Run, Box, Box]:
    """A run that has read both sides once: what comes from now on counts."""
    run, canary, baseline = Run(limits, **options), Box().served(good=1000), Box().served(good=9000, bad=5)
    return run.cycle({"c": canary}, {"s": baseline}), canary, baseline


# --- counting ------------------------------------------------------------------------------------------------


@pytest.mark.fault("D5")
def test_what_an_older_container_did_before_is_not_counted():
    run, canary, baseline = begun()
    assert run.summary.requests == 0
    run.steady(1, canary, baseline, good=38, bad=2)
    assert (run.summary.requests, run.summary.errors.count, run.summary.baseline_requests) == (40, 2, 160)


def test_a_container_that_began_with_the_run_counts_from_zero():
    run, canary = Run(), Box(began=T0)
    run.cycle({"c": canary.served(good=9, bad=1)})
    assert (run.summary.window.requests, run.summary.window.error_rate) == (10, 0.1)


def test_the_first_request_of_a_new_path_is_counted():
    run, canary, baseline = begun()
    canary.served(bad=1, path="/new")
    run.cycle({"c": canary}, {"s": baseline})
    assert run.summary.errors.count == 1


def test_a_call_too_soon_changes_nothing():
    run, canary, baseline = begun()
    run.step = 1.9
    before = run.evidence
    assert run.cycle({"c": canary.served(good=5)}, {"s": baseline}).evidence is before


def test_a_missed_reading_spans_to_the_next():
    run, canary, baseline = begun()
    canary.served(good=10)
    run.cycle({"c": Counted(SILENT, SILENT)}, {"s": baseline})
    assert (run.summary.requests, run.summary.data_quality.missed_scrapes, run.summary.data_quality.ok) == (0, 1, True)
    run.steady(1, canary, baseline, good=30)
    assert (run.summary.requests, run.summary.evidence_s) == (40, 5.0)


def test_a_canary_that_stays_unread_is_unknown_and_says_why():
    run, canary, baseline = begun()
    run.steady(4, canary, baseline)
    for _ in range(6):
        run.cycle({"c": Counted(SILENT, SILENT)}, {"s": baseline})
    window = run.summary.window
    assert (window.error_rate, window.p99_ms, run.summary.data_quality.ok) == (None, None, False)
    assert window.why_unknown == "no reading of c for 12 s: connection refused"


@pytest.mark.fault("D5", "H4")
def test_a_restart_counts_from_zero_warms_up_again_and_is_told():
    run, canary, baseline = begun()
    run.steady(2, canary, baseline)
    canary.restarted(run.now + 0.5).served(good=7, bad=3)
    run.cycle({"c": canary}, {"s": baseline})
    assert run.summary.data_quality.canary_restarts == 1
    assert run.summary.window.requests == 90
    assert run.summary.requests == 80


@pytest.mark.fault("H4")
def test_a_count_that_falls_while_the_container_lives_on_is_dropped_and_doubted():
    run, canary, baseline = begun()
    run.steady(2, canary, baseline)
    canary.requests["/"] -= 30
    run.cycle({"c": canary}, {"s": baseline})
    assert (run.summary.requests, run.summary.data_quality.counter_resets, run.summary.data_quality.ok) == (
        80,
        1,
        False,
    )
    run.steady(26, canary, baseline)
    assert run.summary.data_quality.ok


@pytest.mark.fault("D1")
def test_a_beginning_that_moves_while_nothing_falls_is_counted_neither_way():
    """A clock that was set looks like this, and would otherwise count all there ever was once more."""
    run, canary, baseline = begun()
    canary.began += 60.0
    baseline.began += 60.0
    run.now += 60.0
    run.steady(1, canary, baseline, good=10)
    assert (run.summary.requests, run.summary.data_quality.canary_restarts) == (0, 0)


@pytest.mark.fault("H3")
@pytest.mark.parametrize(
    "spoil",
    [
        {"requests": {"/": -1}},
        {"errors": {"/": math.nan}},
        {"began": math.inf},
        {"buckets": ((0.1, 9), (0.5, 3), (math.inf, 9))},
        {"buckets": ((0.1, 9), (0.5, 12))},
    ],
)
def test_numbers_that_are_no_counts_are_not_read(spoil):
    run, canary, baseline = begun()
    canary.served(good=10)
    bad = replace(canary.reading(run.now + 2.5), **spoil)
    run.cycle({"c": Counted(bad, SILENT)}, {"s": baseline})
    assert (run.summary.requests, run.summary.data_quality.missed_scrapes) == (0, 1)


def test_replicas_add_up_and_come_and_go():
    run, boxes, baseline = Run(), {name: Box() for name in "abc"}, Box()
    run.cycle(boxes, {"s": baseline})
    for box in boxes.values():
        box.served(good=10)
    run.cycle(boxes, {"s": baseline})
    boxes["a"].served(good=5)
    del boxes["c"]
    boxes["d"] = Box(began=run.now + 1.0).served(good=3)
    run.cycle(boxes, {"s": baseline})
    assert (run.summary.window.requests, run.summary.requests) == (38, 35)


def test_only_the_first_paths_are_told_apart_and_none_is_lost():
    run, canary, baseline = begun()
    for path in range(30):
        canary.served(good=1, path=f"/{path}")
    run.cycle({"c": canary}, {"s": baseline})
    for path in range(60):
        canary.served(good=1, path=f"/{path}")
    run.cycle({"c": canary}, {"s": baseline})
    assert (run.summary.requests, run.summary.data_quality.counter_resets, len(run.evidence.paths)) == (90, 0, 8)


# --- warm-up and the first evidence --------------------------------------------------------------------------


@pytest.mark.fault("H12")
def test_failures_of_the_warm_up_are_seen_but_are_no_evidence():
    run, canary, baseline = Run(), Box(began=T0), Box()
    run.steady(6, canary, baseline, good=8, bad=2)
    assert (run.summary.requests, run.summary.window.error_rate) == (0, 0.2)
    run.steady(6, canary, baseline, good=10)
    assert (run.summary.errors.count, run.summary.errors.e_above_limit < 1.0) == (0, True)


def test_a_catastrophe_is_known_before_the_warm_up_ends():
    run, canary, baseline = Run(), Box(began=T0), Box()
    run.steady(4, canary, baseline, good=12, bad=13)
    assert run.summary.e_catastrophic > LIMITS.catastrophic_e


def test_half_of_the_requests_failing_is_proven_in_two_cycles():
    run, canary, baseline = begun()
    run.steady(2, canary, baseline, good=12, bad=13)
    errors = run.summary.errors
    assert errors.e_above_limit > LIMITS.rollback_e
    assert errors.e_worse > LIMITS.rollback_e
    assert errors.bad_cycles == LIMITS.min_bad_cycles
    assert errors.baseline_e_above_limit < 1.0


def test_a_healthy_canary_is_proven_in_a_minute():
    run, canary, baseline = begun()
    run.steady(24, canary, baseline)
    summary = run.summary
    assert summary.errors.e_below_limit > LIMITS.promote_e
    assert summary.latency.e_below_limit > LIMITS.promote_e
    assert summary.evidence_s == LIMITS.min_evidence_seconds
    assert (summary.needs.requests, summary.needs.seconds) == (0, 0.0)


def test_evidence_below_the_limit_counts_once_it_has_lasted():
    run, canary, baseline = begun()
    run.steady(9, canary, baseline)
    metric = run.evidence.errors
    assert metric.sustained_log_e == min(log_e for at, log_e in metric.lately if at > 22.5 - 10.0)
    assert metric.sustained_log_e < metric.below.log_e


def test_slow_requests_are_proven_slow():
    run, canary, baseline = begun()
    run.steady(4, canary, baseline, good=40, slow=20)
    assert run.summary.latency.e_above_limit > LIMITS.rollback_e
    assert run.summary.latency.bucket_exact is True
    assert run.summary.latency.p99_low_ms == 500.0
    assert run.summary.window.p99_ms == pytest.approx(990.0)


def test_another_mix_of_paths_does_not_convict_a_canary():
    run, canary, baseline = begun()
    for _ in range(20):
        canary.served(good=20, path="/easy").served(good=38, bad=2, path="/hard")
        baseline.served(good=400, path="/easy").served(good=38, bad=2, path="/hard")
        run.cycle({"c": canary}, {"s": baseline})
    assert run.summary.errors.rate > 4 * run.summary.errors.baseline_rate
    assert run.summary.errors.e_worse < 1.0


# --- the window ----------------------------------------------------------------------------------------------


def test_the_window_forgets_what_is_older():
    run, canary, baseline = begun()
    run.steady(4, canary, baseline, good=10, bad=10)
    run.steady(12, canary, baseline)
    window = run.summary.window
    assert (window.requests, window.error_rate, window.seconds, window.req_per_sec) == (480, 0.0, 30.0, 16.0)


def test_a_quiet_window_stretches_back_over_the_least_requests():
    run, canary, baseline = begun(step=20.0)
    for _ in range(30):
        run.steady(1, canary, baseline, good=1)
    window = run.summary.window
    assert (window.requests, window.seconds) == (20, 400.0)


def test_a_very_quiet_window_stays_small():
    run, canary, baseline = begun()
    for request in range(21):
        canary.served(good=1, bad=request == 5)
        for _ in range(24):
            run.cycle({"c": canary}, {"s": baseline})
    assert run.summary.window.requests >= 20
    assert run.summary.window.requests <= 21
    assert len(run.evidence.window.slices) <= 40


@pytest.mark.fault("H6")
def test_no_requests_are_unknown_and_not_zero():
    run, canary, baseline = begun()
    run.cycle({"c": canary}, {"s": baseline})
    window = run.summary.window
    assert (window.error_rate, window.p99_ms, window.req_per_sec) == (None, None, 0.0)
    assert window.why_unknown == "no requests yet: measuring began 2 s ago"


# --- whose word counts ---------------------------------------------------------------------------------------


@pytest.mark.fault("H7")
def test_auto_takes_the_proxy_where_a_service_does_not_count():
    run, canary, baseline = Run(), Box(), Box()

    def mute(box: Box) -> Counted:
        return Counted(ABSENT, box.reading(run.now + run.step))

    run.cycle({"c": mute(canary)}, {"s": baseline})
    canary.served(good=10)
    run.cycle({"c": mute(canary)}, {"s": baseline})
    assert (run.summary.source, run.summary.requests) == ("proxy", 10)


@pytest.mark.fault("H1")
def test_auto_waits_for_a_service_that_is_only_not_read_now():
    run, canary, baseline = begun()
    run.cycle({"c": Counted(SILENT, canary.served(good=10).reading(T0 + 2.5))}, {"s": baseline})
    assert (run.summary.source, run.summary.requests) == ("service", 0)


def test_a_choice_stays_until_the_service_stops_counting():
    run, canary, baseline = begun()
    run.steady(2, canary, baseline)
    run.cycle({"c": Counted(ABSENT, canary.reading(run.now + 2.5))}, {"s": baseline})
    assert run.summary.source == "proxy"
    run.steady(2, canary, baseline)
    assert (run.summary.source, run.summary.requests) == ("proxy", 160)


@pytest.mark.parametrize(("provider", "source"), [("app", "service"), ("prometheus", "service"), ("ingress", "proxy")])
def test_a_named_provider_decides(provider, source):
    run, _, _ = begun(provider=provider)
    assert run.summary.source == source


@pytest.mark.fault("H9")
def test_a_service_that_hides_its_failures_is_caught():
    run, canary, baseline = begun()
    canary.unseen = 10**6
    run.steady(8, canary, baseline, good=38, bad=4)
    quality = run.summary.data_quality
    assert not quality.ok
    assert quality.disagreement == "the proxy saw 9.5 % fail, the service 0 %"


def test_requests_that_never_reach_the_service_are_missed():
    run, canary, baseline = Run(), Box(), Box()
    inner = Box()
    for cycle in range(8):
        now = T0 + 2.5 * cycle
        told = Counted(inner.reading(now), canary.reading(now))
        run.cycle({"c": told}, {"s": baseline})
        canary.served(good=40)
        inner.served(good=30)
    assert run.summary.data_quality.disagreement == "the proxy passed on 280 requests, the service counted 210"


def test_a_few_requests_between_two_readings_are_no_disagreement():
    run, canary, baseline = begun()
    canary.unseen = 4
    run.steady(8, canary, baseline, good=39, bad=1)
    assert run.summary.data_quality.ok


def test_callers_beside_the_proxy_are_no_disagreement():
    run, canary, baseline = Run(), Box(), Box()
    outer = Box()
    for cycle in range(8):
        now = T0 + 2.5 * cycle
        run.cycle({"c": Counted(canary.reading(now), outer.reading(now))}, {"s": baseline})
        canary.served(good=40)
        outer.served(good=10)
    assert run.summary.data_quality.ok


# --- chaos ---------------------------------------------------------------------------------------------------


def test_chaos_is_shown_and_is_no_evidence():
    run, canary, baseline = begun()
    run.steady(12, canary, baseline)
    before = run.summary
    canary.chaos = "slow"
    run.steady(12, canary, baseline, good=40, slow=40)
    during = run.summary
    assert during.chaos == "slow"
    assert during.window.p99_ms > 500.0
    assert (during.requests, during.latency, during.errors) == (before.requests, before.latency, before.errors)


def test_evidence_starts_afresh_when_chaos_ends():
    run, canary, baseline = begun()
    canary.chaos = "error"
    run.steady(8, canary, baseline, good=20, bad=20)
    canary.chaos = "none"
    run.steady(1, canary, baseline, good=20, bad=20)
    assert (run.summary.requests, run.summary.window.requests, run.summary.evidence_s) == (0, 0, 0.0)
    run.steady(2, canary, baseline)
    assert (run.summary.requests, run.summary.errors.count, run.summary.chaos) == (80, 0, "none")


def test_chaos_does_not_end_by_not_being_read():
    run, canary, baseline = begun()
    canary.chaos = "error"
    run.steady(1, canary, baseline)
    run.cycle({"c": Counted(SILENT, SILENT)}, {"s": baseline})
    assert run.summary.chaos == "error"


def test_chaos_of_one_replica_does_not_end_by_another_ones_word():
    run, one, other, baseline = Run(), Box(), Box(), Box()
    one.chaos, other.chaos = "error", "none"
    run.cycle({"a": one, "b": other}, {"s": baseline})
    run.cycle({"a": Counted(SILENT, SILENT), "b": other}, {"s": baseline})
    assert run.summary.chaos == "error"
    one.chaos = "none"
    run.cycle({"a": one, "b": other}, {"s": baseline})
    assert run.summary.chaos == "none"


# --- latency that buckets do not tell ------------------------------------------------------------------------


def test_a_limit_between_two_bounds_is_bracketed():
    """Answers of 700 ms and a limit of 800: not surely slow, so no roll back; not surely fast, so no promotion."""
    run, canary, baseline = begun(replace(LIMITS, max_p99_latency_ms=800.0))
    run.steady(24, canary, baseline, good=40, slow=10)
    latency = run.summary.latency
    assert (latency.bucket_exact, latency.count) == (False, 0)
    assert latency.e_above_limit < 1.0
    assert latency.e_below_limit < 1.0


@pytest.mark.fault("H7")
def test_buckets_that_end_below_the_limit_tell_nothing():
    bounds = (0.1, 0.25, math.inf)
    run, canary, baseline = Run(), Box(bounds=bounds), Box(bounds=bounds)
    run.steady(30, canary, baseline)
    assert not run.summary.data_quality.ok
    assert "the highest latency bucket ends at 250 ms" in run.summary.data_quality.why
    assert run.summary.latency.e_below_limit == pytest.approx(1.0)


# --- the split of the traffic --------------------------------------------------------------------------------


def test_a_canary_that_answers_nothing_is_missed_in_the_traffic():
    run, canary, baseline = begun(share=0.2)
    run.steady(3, canary, baseline)
    assert run.summary.traffic.e_mismatch < 1.0
    for _ in range(3):
        baseline.served(good=200)
        run.cycle({"c": canary}, {"s": baseline})
    assert run.summary.traffic.e_mismatch > LIMITS.catastrophic_e


@pytest.mark.fault("H12")
def test_a_new_weight_begins_the_split_anew():
    run, canary, baseline = begun(share=0.2)
    run.steady(6, canary, baseline)
    run.share = 0.5
    run.steady(1, canary, baseline)
    assert run.summary.traffic.observed_share is None
    run.steady(4, canary, baseline, good=160)
    assert run.summary.traffic.observed_share == 0.5
    assert run.summary.traffic.e_mismatch < 1.0


def test_one_late_reading_is_no_mismatch():
    run, canary, baseline = begun(share=0.2)
    run.steady(2, canary, baseline)
    both = Box()
    canary.served(good=4000)
    both = canary.told(run.now + 2.5)
    baseline.served(good=16000)
    run.cycle({"c": both}, {"s": Counted(SILENT, SILENT)})
    assert run.summary.traffic.e_mismatch < 1.0
    run.steady(1, canary, baseline)
    assert run.summary.traffic.e_mismatch < 1.0
    assert run.summary.traffic.observed_share == pytest.approx(0.2, abs=0.01)


# --- stable's history ----------------------------------------------------------------------------------------


def bursty_rest(bursts: bool) -> Evidence:
    run, stable = Run(), Box(began=T0 - 3600.0)
    for cycle in range(12 * 60):
        bad = (8 if (cycle // 12) % 10 == 0 else 0) if bursts else int(cycle % 8 == 0)
        stable.served(good=150 - bad, bad=bad)
        run.cycle({"s": stable})
    return run.evidence


def test_bursts_of_stable_at_rest_dampen_the_next_rollout():
    bursty, steady = baseline_of(bursty_rest(True)), baseline_of(bursty_rest(False))
    assert bursty.icc_errors > 0.005 > steady.icc_errors == 0.0
    seen = {}
    for name, history in (("bursty", bursty), ("steady", steady)):
        run, canary, baseline = begun()
        run.evidence = replace(run.evidence, history=history)
        seen[name] = run.steady(4, canary, baseline, good=37, bad=3).summary.errors
    assert seen["bursty"].e_above_limit < seen["steady"].e_above_limit / 100
    assert seen["bursty"].design_effect > 1.5
    assert seen["steady"].design_effect == 1.0


def test_the_canary_is_not_in_the_history_of_stable():
    run, canary, baseline = begun()
    run.steady(30, canary, baseline, good=20, bad=20)
    assert sum(block.failed for block in baseline_of(run.evidence).blocks) == 0
    assert sum(block.total for block in baseline_of(run.evidence).blocks) > 0


# --- what is told and what is kept ---------------------------------------------------------------------------


def test_what_is_needed_is_said_in_requests_and_seconds():
    run, canary, baseline = begun()
    run.steady(4, canary, baseline, good=5)
    needs = run.summary.needs
    assert needs.requests is not None
    assert needs.seconds == pytest.approx(needs.requests / 2.0)
    canary.served(good=needs.requests)
    run.cycle({"c": canary}, {"s": baseline})
    run.step = 20.0
    run.cycle({"c": canary}, {"s": baseline})
    assert run.summary.needs.requests == 0
    assert run.summary.errors.e_below_limit == pytest.approx(20.0, rel=0.02)


def test_a_failing_canary_needs_no_number_of_requests():
    run, canary, baseline = begun()
    run.steady(4, canary, baseline, good=36, bad=4)
    assert (run.summary.needs.requests, run.summary.needs.seconds) == (None, None)


def test_the_state_survives_a_restart_and_is_small():
    boxes = [Box() for _ in range(6)]
    names = ["0123456789abcdef" * 4 + str(index) for index in range(6)]
    run = Run()
    for cycle in range(12 * 61):
        for index, box in enumerate(boxes):
            for path in range(12):
                box.served(good=1000 + 17 * index, bad=cycle % 3, slow=cycle % 7, path=f"/some/longer/path/{path}")
            box.times = [(time, sum(n for t, n in box.times if t == time)) for time in (0.02, 0.7)]
        run.cycle(dict(zip(names[:3], boxes[:3], strict=True)), dict(zip(names[3:], boxes[3:], strict=True)))
    converter = cattrs.Converter()
    text = json.dumps(converter.unstructure(run.evidence), allow_nan=False)
    assert len(text) < 20_000, len(text)
    assert converter.structure(json.loads(text), Evidence) == run.evidence
    for key in ("requests", "errors"):
        assert as_json(run.summary)[key]


def test_what_policy_reads_is_json_with_all_that_was_agreed_on():
    run, canary, baseline = begun(share=0.2)
    run.steady(30, canary, baseline)
    told = json.loads(json.dumps(as_json(run.summary), allow_nan=False))
    assert told["requests"] == {"canary": 1200, "baseline": 4800}
    keys = "count rate rate_low rate_high baseline_rate excess e_above_limit e_below_limit e_worse bad_cycles"
    keys += " baseline_e_above_limit design_effect threshold_ms bucket_exact p99_low_ms p99_high_ms"
    for key in keys.split():
        assert key in told["errors"]
        assert told["latency"][key] is not None
    assert set(told["window"]) >= {"requests", "error_rate", "p99_ms", "req_per_sec", "why_unknown"}
    assert set(told["traffic"]) == {"expected_share", "observed_share", "e_mismatch"}
    assert set(told["data_quality"]) >= {"ok", "why", "missed_scrapes", "counter_resets", "canary_restarts"}
    assert set(told["needs"]) == {"requests", "seconds"}
    for key in ("e_catastrophic", "observed_s", "evidence_s"):
        assert isinstance(told[key], float)
    assert told["chaos"] == "none"
    assert (told["latency"]["p99_low_ms"], told["latency"]["p99_high_ms"]) == (0.0, 100.0)


def test_evidence_of_nothing_can_be_told():
    summary = summarise(begin("r1", T0), LIMITS, T0)
    told = json.loads(json.dumps(as_json(summary), allow_nan=False))
    assert (told["chaos"], told["data_quality"]["ok"], told["errors"]["rate"]) == ("unknown", False, None)
    assert told["window"]["why_unknown"] == "no reading of the canary yet"


def test_limits_take_the_names_of_the_manifest():
    limits = limits_of({"max_error_rate": 0.02, "window_seconds": 60, "someone_elses": 3})
    assert (limits.max_error_rate, limits.window_seconds, limits.margin) == (0.02, 60, 0.5)
    assert limits.proven_error_rate == pytest.approx(0.03)


def test_a_limit_of_no_errors_at_all_can_be_tested():
    run, canary, baseline = begun(replace(LIMITS, max_error_rate=0.0))
    run.steady(2, canary, baseline, good=30, bad=10)
    assert run.summary.errors.e_above_limit > LIMITS.rollback_e


def test_the_simulated_rule_answers_as_the_core_does(monkeypatch):
    pytest.importorskip("numpy")
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))
    agreement = importlib.import_module("bench.decisions").agreement
    assert agreement(runs=2) == []
