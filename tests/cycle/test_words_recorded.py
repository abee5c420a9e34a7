"""History tells of every word what became of it: one that nobody heeded is not done."""

from __future__ import annotations

import pytest

from reconciler.core.desired import RolloutSpec
from reconciler.core.rollout import Asked, Paused, Phase, Rollout
from reconciler.core.words import (
    Deploy,
    LookAgain,
    Noted,
    Pause,
    Promote,
    Resume,
    Retry,
    Rollback,
    Suspend,
    Teardown,
    Word,
)
from reconciler.formats.cycle_record import as_heard
from tests.builders import STEPS, canary, desired, rollout, service, state
from tests.cycle.cycle_world import World

TRIED = canary(service(image="demo:2"))
ANALYZING = rollout(state(Phase.ANALYZING, candidate=TRIED))
REST = rollout()


def outcome(of: Rollout, *words: Word) -> list[str]:
    return [word.outcome if isinstance(word, Noted) else "done" for word in as_heard(of, words)]


@pytest.mark.parametrize(
    ("of", "word", "why"),
    [
        (REST, Promote("app", "ann", "", revision="f" * 64),
         "app has no canary that could be promoted: it is at rest"),
        (ANALYZING, Promote("app", "ann", "", revision="f" * 64),
         f"the canary is {TRIED.revision[:12]} now, not ffffffffffff"),
        (rollout(state(Phase.ANALYZING, candidate=TRIED, asked=Asked("rollback", "bob"))), Promote("app", "ann"),
         "bob asked for a roll back first"),
        (rollout(state(Phase.ROLLING_BACK, candidate=TRIED)), Promote("app", "ann", "", revision=TRIED.revision),
         "app has no canary that could be promoted: it is rolling back"),
        (REST, Rollback("app", "ann"), "nothing to roll back: app is at rest, and no older revision is kept"),
        (REST, Resume("app", "ann"), "app is neither paused nor suspended: it is at rest"),
        (REST, Retry("app", "ann", "x"), "nothing to try again: no revision of app was rolled back or dismissed"),
        (REST, Pause("db", "ann"), ""),
        (REST, Rollback("db", "ann"), "nothing to roll back: db is not deployed, and no older revision is kept"),
    ],
)  # fmt: skip
@pytest.mark.fault("J6")
def test_a_word_that_changes_nothing_is_ignored_and_it_is_said_why(of: Rollout, word: Word, why: str) -> None:
    assert outcome(of, word) == ([f"ignored: {why}"] if why else ["done"])


@pytest.mark.parametrize(
    ("of", "word"),
    [
        (ANALYZING, Promote("app", "ann", revision=TRIED.revision)),
        (ANALYZING, Promote("app", "ann")),
        (ANALYZING, Rollback("app", "ann")),
        (ANALYZING, Pause("app", "ann")),
        (rollout(state(Phase.ANALYZING, candidate=TRIED, paused=Paused("ann"))), Pause("app", "ann")),
        (rollout(state(Phase.ANALYZING, candidate=TRIED, asked=Asked("rollback", "ann"))), Rollback("app", "ann")),
        (rollout(state(Phase.ANALYZING, candidate=TRIED, paused=Paused("ann"))), Resume("app", "ann")),
        (rollout(state(quarantined=("a",))), Retry("app", "ann", "x")),
        (REST, Deploy()),
        (REST, Teardown()),
        (rollout(torn_down=True), Teardown()),
        (REST, Suspend("ann", "x")),
    ],
)
def test_a_word_that_is_heeded_or_so_already_is_done(of: Rollout, word: Word) -> None:
    assert as_heard(of, [word]) == (word,)


def test_a_word_is_told_from_what_those_before_it_left() -> None:
    assert outcome(ANALYZING, LookAgain(), Rollback("app", "bob"), Promote("app", "ann"), Rollback("app", "bob")) == [
        "done",
        "ignored: bob asked for a roll back first",
        "done",
    ]


def test_what_was_noted_stays_as_it_was_told() -> None:
    noted = Noted("chaos", "app", "ann", outcome="denied: no")
    assert as_heard(REST, [noted]) == (noted,)


@pytest.mark.fault("J6")
def test_the_record_of_the_cycle_says_it() -> None:
    tried = service(image="demo:2", rollout=RolloutSpec(steps=STEPS))
    world = World()
    world.converge()
    world.wants(desired(tried, revision="2" * 64))
    world.until(lambda _: world.app.phase is Phase.ANALYZING)
    world.cycle(Promote("app", "ann", "looks fine", revision="f" * 64))
    now = world.app.candidate.revision[:12]  # type: ignore[union-attr]
    assert [word for record in world.records for word in record.get("words", ())][-1:] == [
        {
            "word": "promote",
            "service": "app",
            "actor": "ann",
            "reason": "looks fine",
            "detail": "",
            "outcome": f"ignored: the canary is {now} now, not ffffffffffff",
        }
    ]
