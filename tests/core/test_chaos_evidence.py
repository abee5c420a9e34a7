"""Chaos excuses a canary that is kept on purpose, and no other: claiming chaos must not be a way to be promoted."""

from __future__ import annotations

import math

import pytest

from reconciler.core.evidence import begin, measure, summarise
from reconciler.core.evidence.limits import Limits
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.evidence.summary import Summary

LIMITS = Limits(warmup_seconds=0.0)
NOT_COUNTED = Unread("not counted", is_absent=True)


def reading(at: float, began: float, total: int, failed: int, chaos: str) -> Counted:
    buckets = ((0.5, total), (math.inf, total))
    return Counted(Reading(at, began, {"/": total}, {"/": failed}, buckets, at - began, "canary", chaos), NOT_COUNTED)


def after(chaos: list[str], *, excuses_chaos: bool) -> Summary:
    """60 requests in 3 s each, half of them failed whenever the canary says that there is chaos."""
    known, total, failed = begin("test", 0.0), 0, 0
    for i, word in enumerate(chaos, 1):
        at, total = i * 3.0, total + 60
        failed += 30 if word != "none" else 0
        known = measure(
            known,
            {"c": reading(at, 0.5, total, failed, word)},
            {"s": reading(at, -1000.0, total * 4, 0, "none")},
            LIMITS,
            provider="app",
            now=at,
            horizon_s=600.0,
            share=None,
            excuses_chaos=excuses_chaos,
        )
    return summarise(known, LIMITS, len(chaos) * 3.0)


@pytest.mark.parametrize("excuses", [True, False])
def test_the_window_shows_what_is_either_way(excuses: bool) -> None:
    shown = after(["error"] * 6, excuses_chaos=excuses)
    assert (shown.window.error_rate, shown.chaos) == (0.5, "error")


def test_what_a_kept_canary_does_under_chaos_is_no_evidence() -> None:
    shown = after(["error"] * 6, excuses_chaos=True)
    assert (shown.errors.e_above_limit, shown.e_catastrophic, shown.requests) == (1.0, 1.0, 0)


def test_any_other_canary_answers_for_what_it_does() -> None:
    shown = after(["error"] * 6, excuses_chaos=False)
    assert shown.errors.e_above_limit >= LIMITS.rollback_e
    assert shown.e_catastrophic >= LIMITS.catastrophic_e


def test_evidence_starts_afresh_when_the_chaos_of_a_kept_canary_ends() -> None:
    shown = after(["error"] * 4 + ["none"] * 5, excuses_chaos=True)
    assert shown.errors.count == 0
    assert shown.requests == 4 * 60, "the cycle in which it ended counts for nothing"
    assert shown.window.error_rate == 0.0
