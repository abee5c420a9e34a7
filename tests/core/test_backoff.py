"""What keeps going wrong is left alone longer and longer, up to a cap, and never for good."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.backoff import BASE_S, CAP_S, FORGIVEN_AFTER_S, FREE_TRIES, Backoff, strike, wait_s

UNHURRIED = settings(deadline=None, max_examples=50)


def delays(times: int) -> list[float]:
    """How long is waited after each of so many tries, each made as soon as it may be."""
    backoff, now, found = dict[str, object](), 100.0, []
    for _ in range(times):
        backoff = strike(backoff, frozenset({"app"}), now)  # type: ignore[arg-type, assignment]
        found.append(wait_s(backoff, "app", now))  # type: ignore[arg-type]
        now += found[-1]
    return found


def test_the_first_tries_cost_nothing_and_the_rest_doubles_up_to_a_cap() -> None:
    found = delays(12)
    assert found[:FREE_TRIES] == [0.0] * FREE_TRIES
    assert found[FREE_TRIES : FREE_TRIES + 4] == [BASE_S, 2 * BASE_S, 4 * BASE_S, 8 * BASE_S]
    assert found == sorted(found)
    assert found[-1] == CAP_S


def test_a_thing_that_was_never_tried_is_not_waited_for() -> None:
    assert wait_s({}, "app", 0.0) == 0.0


def test_others_are_not_held_back() -> None:
    backoff: Backoff = {}
    for _ in range(5):
        backoff = strike(backoff, frozenset({"bad"}), 10.0)
    assert wait_s(backoff, "bad", 10.0) > 0
    assert wait_s(backoff, "good", 10.0) == 0.0


def test_what_went_well_for_long_is_forgiven() -> None:
    backoff: Backoff = {}
    for _ in range(5):
        backoff = strike(backoff, frozenset({"app"}), 10.0)
    allowed = backoff["app"].not_before
    assert "app" in strike(backoff, frozenset({"other"}), allowed)
    assert "app" not in strike(backoff, frozenset({"other"}), allowed + FORGIVEN_AFTER_S)


@UNHURRIED
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=60))
def test_nothing_is_ever_left_alone_for_longer_than_the_cap(tries: list[tuple[str, float]]) -> None:
    backoff: Backoff = {}
    now = 0.0
    for target, later in tries:
        now += later
        backoff = strike(backoff, frozenset({target}), now)
        assert 0.0 <= wait_s(backoff, target, now) <= CAP_S
