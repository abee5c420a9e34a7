"""Sync windows judged: deny wins, and once one allows, nothing is open outside of all that do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.windows import OPEN, Gate, Opening, Outlook, Window, WindowKind, gate, moment

ALLOW, DENY = WindowKind.ALLOW, WindowKind.DENY
INF = math.inf


def outlook(
    kind: WindowKind,
    *openings: tuple[float, float],
    services: tuple[str, ...] = (),
    known_until: float = INF,
    reason: str = "",
) -> Outlook:
    window = Window(kind, "0 8 * * *", 3600.0, services=services, reason=reason)
    return Outlook(window, tuple(Opening(*each) for each in openings), known_until)


def asked(*outlooks: Outlook, now: float = 100.0, service: str = "app") -> Gate:
    return gate(outlooks, service, now)


def test_without_windows_it_is_open() -> None:
    assert asked() == OPEN
    assert asked(outlook(DENY, (0, 200), services=("other",))) == OPEN
    assert OPEN.is_open


def test_a_deny_window_is_closed_while_it_lasts() -> None:
    deny = outlook(DENY, (50, 200), (300, 400), reason="year end")
    found = asked(deny)
    assert (found.is_open, found.until, found.window) == (False, 200, deny.window)
    assert found.reason == 'inside the deny window "year end" (0 8 * * * UTC, 1h) until 1970-01-01 00:03 UTC'
    assert asked(deny, now=200.0).is_open
    assert asked(deny, now=200.0).until == 300
    assert not asked(deny, now=300.0).is_open


def test_an_allow_window_shuts_everything_outside_of_it() -> None:
    allow = outlook(ALLOW, (50, 200), (3600, 7200))
    assert (asked(allow).is_open, asked(allow).until) == (True, 200)
    outside = asked(allow, now=200.0)
    assert (outside.is_open, outside.until, outside.window) == (False, 3600, allow.window)
    assert outside.reason.endswith("the allow window (0 8 * * * UTC, 1h) opens at 1970-01-01 01:00 UTC")


def test_deny_wins_over_allow() -> None:
    allow, deny = outlook(ALLOW, (0, 1000)), outlook(DENY, (50, 300))
    found = asked(allow, deny)
    assert (found.is_open, found.until, found.window) == (False, 300, deny.window)
    assert "opens at" in asked(allow, deny, now=10.0).reason
    assert asked(allow, deny, now=10.0).until == 50


def test_until_is_when_the_answer_changes_not_when_one_window_closes() -> None:
    assert asked(outlook(DENY, (0, 200)), outlook(DENY, (150, 500))).until == 500
    assert asked(outlook(ALLOW, (0, 200)), outlook(ALLOW, (200, 500))).until == 500
    assert asked(outlook(DENY, (0, 200)), outlook(ALLOW, (900, 950))).until == 900


def test_of_several_that_deny_the_longest_is_named() -> None:
    longest = outlook(DENY, (0, 900), reason="b")
    assert asked(outlook(DENY, (0, 200)), longest).window == longest.window


def test_a_window_for_one_service_says_nothing_of_others() -> None:
    windows = (outlook(DENY, (0, 200), services=("job",)), outlook(ALLOW, (500, 600), services=("app", "web")))
    assert not asked(*windows, service="job").is_open
    assert not asked(*windows, service="web").is_open
    assert asked(*windows, service="shop") == OPEN


def test_what_is_not_known_is_not_said() -> None:
    assert asked(outlook(DENY, (0, INF))).until is None
    assert "without an end in sight" in asked(outlook(DENY, (0, INF))).reason
    assert asked(outlook(DENY, (0, 200), known_until=150)).until is None
    assert asked(outlook(DENY, (0, 200)), outlook(ALLOW, (300, 400), known_until=250)).until is None
    never = asked(outlook(ALLOW))
    assert (never.is_open, never.until) == (False, None)
    assert never.reason.endswith("is not seen to open")


@pytest.mark.parametrize(("seconds", "words"), [(60, "1m"), (5400, "1h30m"), (61.4, "1m1s"), (216_000, "60h")])
def test_a_length_is_told_as_it_is_written(seconds: float, words: str) -> None:
    assert str(Window(DENY, "0 8 * * *", seconds)).endswith(f", {words})")


def test_moments_are_told_in_utc() -> None:
    assert moment(1_795_453_200.0) == "2026-11-23 17:00 UTC"


# --- the rule, said another way


STRETCHES = st.lists(st.integers(0, 60), min_size=0, max_size=8, unique=True).map(
    lambda edges: tuple((float(a), float(b)) for a, b in zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
)
OUTLOOKS = st.lists(
    st.tuples(st.sampled_from([ALLOW, DENY]), STRETCHES, st.sampled_from([(), ("app",), ("job",)])), max_size=4
)


@given(OUTLOOKS, st.integers(0, 70))
def test_the_rule_holds_for_any_windows(
    drawn: list[tuple[WindowKind, tuple[tuple[float, float], ...], tuple[str, ...]]], now: int
) -> None:
    outlooks = [outlook(kind, *stretches, services=services) for kind, stretches, services in drawn]

    def rule(at: int) -> bool:
        mine = [(kind, stretches) for kind, stretches, services in drawn if services in ((), ("app",))]
        inside = [kind for kind, stretches in mine if any(a <= at < b for a, b in stretches)]
        return DENY not in inside and (ALLOW in inside or all(kind is DENY for kind, _ in mine))

    found = asked(*outlooks, now=float(now))
    assert found.is_open is rule(now)
    changes = [at for at in range(now + 1, 80) if rule(at) is not rule(now)]
    assert found.until == (float(changes[0]) if changes else None)
    assert found.reason
