"""The arithmetic of evidence, against published values, figures worked by hand, and what must always hold."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.evidence.statistics import (
    MOST_E,
    NOTHING,
    PROMISES,
    Process,
    Stratum,
    above_llrs,
    below_llrs,
    bernoulli_llr,
    catastrophe_llrs,
    confidence_sequence,
    fed,
    fresh_process,
    histogram_quantile,
    intraclass_correlation,
    is_excluded,
    relative_llrs,
    requests_until,
    split_log_e,
    with_starts,
)

INF = math.inf
POSITIVE = ((0.1, 50), (0.2, 70), (1.0, 110), (INF, 120))
NEGATIVE = ((-0.2, 10), (-0.1, 20), (0.3, 20), (INF, 30))
MIDDLES = ((0.0, 0), (2.0, 10), (4.0, 20), (6.0, 30), (INF, 30))
FROM_ZERO = ((0.0, 0), (0.1, 50), (0.2, 70), (1.0, 110), (INF, 110))
BELOW_ZERO = ((-0.25, 0), (-0.2, 10), (-0.1, 20), (0.3, 20), (INF, 20))
ALL_JOBS = ((0.1, 10), (0.2, 19), (INF, 25))
counts = st.tuples(st.integers(0, 40), st.integers(0, 400)).map(lambda pair: (pair[0], sum(pair)))


# Values of promql/promqltest/testdata/histograms.test at prometheus/prometheus 7c7782b.
@pytest.mark.parametrize(
    ("quantile", "buckets", "expected"),
    [
        (0, POSITIVE, 0.0),
        (0, NEGATIVE, -0.2),
        (1, POSITIVE, 1.0),
        (1, NEGATIVE, 0.3),
        (0.2, POSITIVE, 0.048),
        (0.2, NEGATIVE, -0.2),
        (0.5, POSITIVE, 0.15),
        (0.5, NEGATIVE, -0.15),
        (0.8, POSITIVE, 0.72),
        (0.8, NEGATIVE, 0.3),
        (1 / 6, MIDDLES, 1.0),
        (0.5, MIDDLES, 3.0),
        (5 / 6, MIDDLES, 5.0),
        (0, FROM_ZERO, 0.0),
        (0.25, FROM_ZERO, 0.055),
        (0.5, FROM_ZERO, 0.125),
        (0.75, FROM_ZERO, 0.45),
        (0, BELOW_ZERO, -0.25),
        (0.25, BELOW_ZERO, -0.225),
        (0.75, BELOW_ZERO, -0.15),
        (0.3, ALL_JOBS, 0.075),
        (0.5, ALL_JOBS, 0.1277777777777778),
    ],
)
def test_a_quantile_is_what_prometheus_says(quantile, buckets, expected):
    assert histogram_quantile(quantile, buckets) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "buckets",
    [(), ((INF, 5),), ((0.1, 3), (0.2, 5)), ((0.1, 0), (INF, 0))],
    ids=["none", "inf", "no inf", "no requests"],
)
def test_a_quantile_of_nothing_is_unknown(buckets):
    assert histogram_quantile(0.99, buckets) is None


def test_a_quantile_at_the_end_of_a_bucket_is_not_beyond_empty_ones():
    assert histogram_quantile(0.5, ((0.1, 50), (0.2, 50), (1.0, 100), (INF, 100))) == 0.1


def test_a_quantile_beyond_the_highest_bound_is_that_bound():
    assert histogram_quantile(0.99, ((0.1, 1), (0.25, 2), (INF, 100))) == 0.25


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4))
def test_p99_is_over_a_bound_exactly_when_more_than_one_percent_is_slower(gains):
    bounds = (0.1, 0.5, 1.0, INF)
    cumulative = [sum(gains[: index + 1]) for index in range(4)]
    total, slow = cumulative[-1], cumulative[-1] - cumulative[1]
    p99 = histogram_quantile(0.99, list(zip(bounds, cumulative, strict=True)))
    if total:
        assert (p99 > 0.5) == (slow > 0.01 * total)


def test_no_requests_are_no_evidence():
    assert fed(fresh_process(), above_llrs(0, 0, 0.01)).e == pytest.approx(1.0)
    assert fed(fresh_process(late=0.5), below_llrs(0, 0, 0.015)).e == pytest.approx(1.0)
    assert relative_llrs([Stratum(0, 0, 0, 0), Stratum(0, 9, 0, 0)], 1.5) == (0.0,) * 6


@given(counts, counts)
def test_counts_fed_in_pieces_are_the_counts_fed_at_once(one, other):
    pieces = fed(fed(fresh_process(), above_llrs(*one, 0.01)), above_llrs(*other, 0.01))
    whole = fed(fresh_process(), above_llrs(one[0] + other[0], one[1] + other[1], 0.01))
    assert pieces.log_e == pytest.approx(whole.log_e, abs=1e-6)


@given(counts)
def test_one_more_failure_is_more_evidence_above_and_less_below(pair):
    bad, total = pair
    above, below = fresh_process(late=0.5), fresh_process(PROMISES)
    assert fed(above, above_llrs(bad + 1, total + 1, 0.01)).log_e > fed(above, above_llrs(bad, total + 1, 0.01)).log_e
    assert fed(below, below_llrs(bad + 1, total + 1, 0.015)).log_e < fed(below, below_llrs(bad, total + 1, 0.015)).log_e


@pytest.mark.parametrize("rate", [0.01, 0.005])
def test_a_canary_within_the_limit_multiplies_no_stake(rate):
    """The expectation of one step is at most 1 under the null, whatever the alternative: the guarantee rests on it."""
    for at_bad, at_good in zip(above_llrs(1, 1, 0.01), above_llrs(0, 1, 0.01), strict=True):
        assert rate * math.exp(at_bad) + (1 - rate) * math.exp(at_good) <= 1.0 + 1e-12
    for at_bad, at_good in zip(below_llrs(1, 1, 0.015), below_llrs(0, 1, 0.015), strict=True):
        worse = 0.025 - rate
        assert worse * math.exp(at_bad) + (1 - worse) * math.exp(at_good) <= 1.0 + 1e-12


def test_the_odds_of_two_arms_that_fail_alike_multiply_no_stake():
    """One failure of 100 against 400: it is the canary's own with probability 1/5 at equal odds, 3/11 at 1.5."""
    own, others = relative_llrs([Stratum(1, 100, 0, 400)], 1.5), relative_llrs([Stratum(0, 100, 1, 400)], 1.5)
    for chance in (1 / 5, 3 / 11):
        for at_own, at_other in zip(own, others, strict=True):
            assert chance * math.exp(at_own) + (1 - chance) * math.exp(at_other) <= 1.0 + 1e-12
    assert 3 / 11 * math.exp(own[0]) + 8 / 11 * math.exp(others[0]) == pytest.approx(1.0)


def test_another_mix_of_paths_is_no_regression():
    """Both arms fail 0.1 % on one path and 5 % on the other; the canary gets more of the other."""
    paths = [Stratum(1, 1000, 9, 9000), Stratum(250, 5000, 50, 1000)]
    pooled = [Stratum(251, 6000, 59, 10000)]
    assert fed(fresh_process(late=0.5), relative_llrs(pooled, 1.5)).log_e > math.log(1e6)
    assert fed(fresh_process(late=0.5), relative_llrs(paths, 1.5)).log_e < 0.0


# Figures of the design's reference, §2.3, for its weights.
@pytest.mark.parametrize(("bad", "enough"), [(0, 272), (1, 452), (2, 582)])
def test_how_many_requests_promote(bad, enough):
    def e(total: int) -> float:
        return fed(fresh_process(), below_llrs(bad, total, 0.015)).e

    assert e(enough) >= 20.0 > e(enough - 1)


@pytest.mark.parametrize(("total", "enough"), [(5, 3), (75, 6), (1000, 24)])
def test_how_many_failures_roll_back_in_the_first_cycle(total, enough):
    def e(bad: int) -> float:
        return fed(fresh_process(late=0.5), above_llrs(bad, total, 0.01)).e

    assert e(enough) >= 80.0 > e(enough - 1)


def test_starting_more_components_leaves_the_evidence_as_it_was():
    process = fed(fresh_process(late=0.5), above_llrs(3, 100, 0.01))
    assert with_starts(process, 10.0, 5.0, 600.0).log_e == pytest.approx(process.log_e)


def test_half_of_the_reserve_is_spent_within_the_horizon_and_never_all():
    process = fresh_process(late=0.5)
    for cycle in range(120):
        process = with_starts(process, 5.0 * cycle, 5.0, 600.0)
    assert process.reserve == pytest.approx(0.25)
    for cycle in range(120, 12000):
        process = with_starts(process, 5.0 * cycle, 5.0, 600.0)
    assert 0.0 < process.reserve < 0.01


def test_a_regression_after_a_healthy_day_is_still_found():
    process = fresh_process(late=0.5)
    for hour in range(24):
        process = with_starts(fed(process, above_llrs(10, 10000, 0.01)), 3600.0 * hour, 3600.0, 600.0)
    assert process.e < 1.0
    assert fed(process, above_llrs(60, 600, 0.01)).e > 80.0


def test_a_design_effect_dampens_evidence():
    plain = fed(fresh_process(), above_llrs(10, 200, 0.01))
    assert 0.0 < fed(fresh_process(), above_llrs(10, 200, 0.01), 2.0).log_e < plain.log_e


def test_an_impossible_rate_stays_impossible_and_is_json():
    assert bernoulli_llr(1, 10, 0.0, 0.015) == NOTHING
    process = fed(fed(fresh_process(PROMISES), below_llrs(1, 1, 0.015)), below_llrs(0, 10_000, 0.015))
    json.dumps(process.logs, allow_nan=False)
    assert math.exp(process.logs[-1]) == 0.0


def test_evidence_has_a_cap_that_json_can_hold():
    assert fed(fresh_process(), below_llrs(0, 10**7, 0.015)).e == pytest.approx(MOST_E)


@pytest.mark.parametrize("null", [0.1, 0.25, 0.3, 0.6, 0.99])
def test_a_catastrophe_is_always_worse_than_what_is_tolerated(null):
    assert all(llr > 0.0 for llr in catastrophe_llrs(1, 1, null))


def test_steady_failures_have_no_correlation_and_bursts_have():
    steady = [(450, 2 + block % 2) for block in range(60)]
    bursty = [(450, 15 if block % 10 == 0 else 1) for block in range(60)]
    assert intraclass_correlation(steady) == 0.0
    assert intraclass_correlation(bursty) > 0.005


def test_the_correlation_of_a_burst_worked_by_hand():
    """Blocks of 100, seven without and three with 10 failures: rate 0.03, dispersion 7.2165 * 10 / 9 = 8.0183."""
    blocks = [(100, 10)] * 3 + [(100, 0)] * 7
    spread = 0.03 * 0.97
    dispersion = (3 * 49 + 7 * 9) / (100 * spread) / 9
    error = math.sqrt((2 + 1 / (100 * spread)) / 9)
    assert dispersion == pytest.approx(8.0183, abs=1e-4)
    assert intraclass_correlation(blocks) == pytest.approx((dispersion - error - 1) / 100)


@pytest.mark.parametrize("blocks", [[], [(100, 5)] * 7, [(100, 1)] * 9, [(10, 10)] * 20])
def test_too_little_history_says_nothing_of_bursts(blocks):
    assert intraclass_correlation(blocks) == 0.0


def test_the_interval_of_five_in_a_thousand():
    """The reference's example, §2.7."""
    low, high = confidence_sequence(5, 1000)
    assert (low, high) == (pytest.approx(0.000539, abs=1e-6), pytest.approx(0.018, abs=1e-5))


@given(counts, st.floats(0.001, 0.999))
def test_a_rate_is_excluded_exactly_outside_the_interval(pair, rate):
    low, high = confidence_sequence(*pair)
    if min(abs(rate - low), abs(rate - high)) > 1e-6:
        assert is_excluded(rate, *pair, 0.05) == (not low <= rate <= high)


def test_no_requests_say_nothing():
    assert confidence_sequence(0, 0) == (0.0, 1.0)


def test_a_split_as_meant_is_no_alarm_and_a_silent_canary_is():
    assert split_log_e((500, 9500), (0.05, 0.95)) < 0.0
    assert split_log_e((0, 2000), (0.05, 0.95)) > math.log(1000)
    assert split_log_e((0, 0), (0.05, 0.95)) == pytest.approx(0.0)


def test_what_is_needed_is_what_is_enough():
    gains = below_llrs(0, 1, 0.015)
    assert requests_until(fresh_process(), gains, math.log(20)) == 272
    half_way = fed(fresh_process(), below_llrs(0, 200, 0.015))
    assert requests_until(half_way, gains, math.log(20)) == 72
    assert requests_until(fed(half_way, below_llrs(0, 100, 0.015)), gains, math.log(20)) == 0
    assert requests_until(fresh_process(), above_llrs(0, 1, 0.01), math.log(20)) is None


def test_a_process_of_one_component_is_its_likelihood_ratio():
    assert Process((math.log(3.0),)).e == pytest.approx(3.0)
