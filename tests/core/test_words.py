"""What an operator's word changes, and which words make no sense when."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.desired import Mode
from reconciler.core.rollout import Asked, Paused, Phase, Release, Rollout, ServiceRollout
from reconciler.core.words import (
    Deploy,
    LookAgain,
    Noted,
    OfService,
    Pause,
    Promote,
    Resume,
    Retry,
    Rollback,
    Teardown,
    hear,
    objection,
)
from tests.builders import canary, release, rollout, service, state

TRIED = canary(service(image="demo:2"))
BAD = TRIED.revision
ANALYZING = state(Phase.ANALYZING, candidate=TRIED)


def heard(of: ServiceRollout, word: object) -> ServiceRollout:
    return hear(rollout(of), word).of("app")  # type: ignore[arg-type]


# ---------------------------------------------------------------- words about a service


@pytest.mark.parametrize(
    ("word", "asked"),
    [
        (Promote("app", "ann", "looks well"), Asked("promote", "ann", "looks well")),
        (Rollback("app", "ann", "looks odd"), Asked("rollback", "ann", "looks odd")),
    ],
)
def test_an_operators_wish_waits_for_the_next_decision(word: OfService, asked: Asked) -> None:
    assert heard(ANALYZING, word) == dataclasses.replace(ANALYZING, asked=asked)


@pytest.mark.fault("J6")
@pytest.mark.parametrize("phase", [Phase.ANALYZING, Phase.SUSPENDED, Phase.HALTED])
def test_a_roll_back_outweighs_what_is_said_before_and_after_it(phase: Phase) -> None:
    of, back = state(phase, candidate=TRIED), Asked("rollback", "bob", "it loses orders")
    said = Rollback("app", "bob", "it loses orders")
    for other in (
        Promote("app", "ann"),
        Promote("app", "ann", "", True, BAD),
        Resume("app", "ann"),
        Retry("app", "ann"),
    ):
        assert heard(heard(of, said), other).asked == back
        assert heard(heard(of, other), said).asked == back
    assert heard(heard(of, said), Promote("app", "ann", keeps_mode=True)).dismissed is None


@pytest.mark.parametrize("phase", [Phase.STABLE, Phase.ABSENT])
def test_a_roll_back_of_nothing_is_not_kept_for_later(phase: Phase) -> None:
    assert heard(state(phase), Rollback("app", "ann")) == state(phase)


@pytest.mark.parametrize("phase", [Phase.ROLLING_BACK, Phase.RETURNING, Phase.RESTORING])
@pytest.mark.parametrize("word", [Rollback("app", "ann"), Promote("app", "ann")])
def test_a_way_back_takes_no_word_of_what_it_leaves(phase: Phase, word: OfService) -> None:
    of = rollout(state(phase, candidate=TRIED))
    assert hear(of, word) == of


def test_a_pause_says_who_why_and_until_when() -> None:
    assert heard(ANALYZING, Pause("app", "ann", "lunch", 99.0)).paused == Paused("ann", "lunch", 99.0)


def test_resume_ends_a_pause_and_asks_only_where_something_is_suspended() -> None:
    paused = dataclasses.replace(ANALYZING, paused=Paused("ann"))
    assert heard(paused, Resume("app", "bob")) == ANALYZING
    suspended = dataclasses.replace(paused, phase=Phase.SUSPENDED)
    after = heard(suspended, Resume("app", "bob"))
    assert (after.paused, after.asked) == (None, Asked("resume", "bob"))


def test_retry_lifts_quarantine_and_dismissal_and_asks_only_where_something_is_halted() -> None:
    stuck = state(quarantined=(BAD,), dismissed=Release(BAD, Mode.CANARY), paused=Paused("swiftdeploy"))
    assert heard(stuck, Retry("app", "ann", "again")) == state()
    halted = heard(state(Phase.HALTED, candidate=TRIED), Retry("app", "ann", "again"))
    assert halted.asked == Asked("retry", "ann", "again")


def test_a_promotion_is_of_the_canary_that_policy_was_asked_about() -> None:
    of = rollout(ANALYZING)
    assert hear(of, Promote("app", "ann", revision="0" * 64)) == of
    asked = hear(of, Promote("app", "ann", revision=BAD)).of("app").asked
    assert asked == Asked("promote", "ann", "")


@pytest.mark.parametrize("word", [Promote("x"), Rollback("x"), Pause("x"), Resume("x"), Retry("x")])
def test_a_word_about_a_service_that_is_not_there_changes_nothing(word: OfService) -> None:
    assert hear(rollout(), word) == rollout()


@pytest.mark.parametrize("word", [LookAgain(), Noted("chaos", "app", "ann")])
def test_what_is_only_told_changes_nothing(word: object) -> None:
    assert heard(ANALYZING, word) == ANALYZING


# ---------------------------------------------------------------- deploy and teardown


def test_a_teardown_forgets_what_ran_but_not_what_was_learned() -> None:
    wish = Release(BAD, Mode.CANARY)
    of = dataclasses.replace(ANALYZING, quarantined=("q",), last_stable="s", dismissed=wish)
    down = hear(rollout(of), Teardown(volumes=True))
    assert (down.torn_down, down.drop_volumes) == (True, True)
    after = down.of("app")
    assert (after.phase, after.groups, after.blue, after.paused, after.asked) == (Phase.ABSENT, (), (), None, None)
    assert (after.quarantined, after.last_stable, after.dismissed) == (("q",), "s", wish)


def test_only_deploy_clears_a_teardown() -> None:
    down = hear(rollout(), Teardown(volumes=True))
    for word in (LookAgain(), Retry("app"), Resume("app"), Promote("app")):
        assert hear(down, word).torn_down
    up = hear(down, Deploy())
    assert (up.torn_down, up.drop_volumes) == (False, False)


def test_deploy_tries_a_failed_first_release_again_but_no_later_one() -> None:
    first = ServiceRollout("app", quarantined=(BAD,))
    assert heard(first, Deploy()).quarantined == ()
    for later in (state(quarantined=(BAD,)), ServiceRollout("app", quarantined=(BAD,), last_stable="s")):
        assert heard(later, Deploy()).quarantined == (BAD,)


def test_a_teardown_of_nothing_is_still_a_teardown() -> None:
    assert hear(Rollout(), Teardown()).torn_down


# ---------------------------------------------------------------- objections

FITS = {
    Promote: {Phase.ANALYZING, Phase.SUSPENDED},
    Rollback: set(Phase) - {Phase.STABLE, Phase.ABSENT, Phase.ROLLING_BACK, Phase.RETURNING, Phase.RESTORING},
    Pause: {Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED},
    Resume: {Phase.SUSPENDED},
    Retry: {Phase.HALTED},
}


@pytest.mark.fault("J6")
@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("kind", list(FITS))
def test_a_word_is_taken_where_it_makes_sense_and_refused_in_a_sentence_elsewhere(
    kind: type[OfService], phase: Phase
) -> None:
    said = objection(state(phase, candidate=TRIED), kind("app"))
    assert (said == "") == (phase in FITS[kind])
    if said:
        assert "app" in said
        assert phase.words in said or kind in (Retry, Rollback) or phase is Phase.UPDATING


@pytest.mark.parametrize(
    ("of", "word"),
    [
        (state(paused=Paused("swiftdeploy", "the rollout's state was lost")), Resume("app")),
        (state(quarantined=(BAD,)), Retry("app")),
        (state(dismissed=release()), Retry("app")),
    ],
)
def test_words_that_lift_something_are_taken_wherever_there_is_something_to_lift(
    of: ServiceRollout, word: OfService
) -> None:
    assert objection(of, word) == ""
