"""The table of moves, and what each one makes of the state."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.decide import advance
from reconciler.core.desired import Mode, Strategy
from reconciler.core.observed import Slot
from reconciler.core.rollout import (
    LOWERING,
    QUARANTINE_KEPT,
    TRANSITIONS,
    Asked,
    Course,
    Decision,
    Group,
    Move,
    Paused,
    Phase,
    Release,
    Rollout,
    ServiceRollout,
    put_off,
    with_quarantined,
)
from tests.builders import STEPS, canary, group, release, service, state

V2 = service(image="demo:2")
REV2 = release(V2).revision
TRIED = canary(V2)
FRESH = group(V2)


def after(of: ServiceRollout, *moves: Move, **facts: object) -> ServiceRollout:
    for move in moves:
        of = of.after(Decision("app", move, f"because of {move}", **facts), 2000.0)  # type: ignore[arg-type]
    return of


def started(course: Course | None = None, of: ServiceRollout | None = None) -> ServiceRollout:
    course = course or Course(steps=STEPS)
    mode = Mode.STABLE if course.strategy in (Strategy.ROLLING, Strategy.RECREATE) else Mode.CANARY
    return after(of or state(), Move.START, release=Release(REV2, mode), course=course)


# ---------------------------------------------------------------- the table


def test_every_phase_can_be_entered_and_left() -> None:
    assert {phase for phase, _ in TRANSITIONS} == set(Phase)
    assert set().union(*TRANSITIONS.values()) == set(Phase)


def test_rest_can_be_reached_from_every_phase() -> None:
    reached = {Phase.STABLE}
    while True:
        more = {phase for (phase, _), leads in TRANSITIONS.items() if leads & reached}
        if more <= reached:
            break
        reached |= more
    assert reached == set(Phase)


def test_a_promotion_is_never_given_up_but_only_returned_from() -> None:
    for phase in (Phase.PROMOTING, Phase.PARKING, Phase.RENEWING, Phase.HALTED, Phase.SETTLING, Phase.WATCHING):
        assert (phase, Move.GIVE_UP) not in TRANSITIONS
        assert (phase, Move.SUPERSEDE) not in TRANSITIONS
        assert (phase, Move.RETURN) in TRANSITIONS


def test_a_move_that_is_not_in_the_table_is_a_bug_and_not_a_move() -> None:
    with pytest.raises((KeyError, AssertionError)):
        after(state(), Move.PROMOTE)


def test_a_hold_keeps_the_clock_and_tells_why() -> None:
    before = state(since=7.0)
    held = before.after(Decision("app", Move.HOLD, "DENIED: Disk space below 10GB"), 99.0)
    assert (held.since, held.reason) == (7.0, "DENIED: Disk space below 10GB")
    assert held.after(Decision("app", Move.HOLD, held.reason), 100.0) is held


def test_a_move_sets_the_clocks_of_the_phase() -> None:
    moved = started()
    assert (moved.since, moved.seen, moved.reason) == (2000.0, 2000.0, "because of start")


# ---------------------------------------------------------------- the ways forward


def test_a_first_deployment_goes_straight_to_stable_whatever_its_course() -> None:
    first = after(ServiceRollout("app"), Move.START, release=release(), course=Course(steps=STEPS))
    assert (first.phase, first.candidate, first.candidate_slot) == (Phase.STARTING, group(), Slot.BLUE)
    there = after(first, Move.READY)
    assert (there.phase, there.stable, there.candidate) == (Phase.STABLE, group(), None)
    assert there.last_stable == release().revision


def test_a_start_is_a_new_run_with_clocks_at_zero_and_no_words_of_an_earlier_one() -> None:
    old = state(
        step=2,
        step_s=5.0,
        waited_s=9.0,
        unknown_since=3.0,
        sick_since=4.0,
        is_suspended_by_verdict=True,
        paused=Paused("ann"),
        asked=Asked("rollback"),
        dismissed=release(),
    )
    begun = started(of=old)
    assert (begun.phase, begun.candidate, begun.run) == (Phase.STARTING, TRIED, 2)
    assert (begun.step, begun.step_s, begun.waited_s, begun.unknown_since, begun.sick_since) == (
        0,
        0.0,
        0.0,
        None,
        None,
    )
    assert (begun.is_suspended_by_verdict, begun.paused, begun.asked, begun.dismissed) == (False, None, None, None)


def test_a_candidate_is_born_in_the_slot_that_does_not_serve() -> None:
    green = state(serving=Slot.GREEN, stable=group(slot=Slot.BLUE))
    assert started(of=green).candidate == canary(V2, Slot.BLUE)


def test_a_canary_climbs_step_by_step() -> None:
    climbing = after(started(), Move.READY)
    seen = [climbing.weight_pct]
    for _ in STEPS[1:]:
        climbing = after(dataclasses.replace(climbing, step_s=60.0, waited_s=77.0), Move.ADVANCE)
        seen.append(climbing.weight_pct)
        assert (climbing.step_s, climbing.waited_s) == (0.0, 77.0), "evidence adds up, a step's time does not"
    assert seen == [5, 25, 50]


def test_without_steps_a_healthy_candidate_is_promoted_at_once() -> None:
    assert after(started(Course()), Move.READY).phase is Phase.PROMOTING


def test_a_promotion_ends_with_fresh_containers_in_the_slot_that_always_served() -> None:
    walk = after(started(), Move.READY, Move.PROMOTE)
    assert (walk.phase, walk.weight_pct, walk.paused, walk.asked) == (Phase.PROMOTING, 100, None, None)
    walk = after(walk, Move.SWITCHED)
    assert (walk.phase, walk.weight_pct, walk.parked) == (Phase.PARKING, 100, group())
    walk = after(walk, Move.PARKED)
    assert (walk.phase, walk.weight_pct, walk.fresh) == (Phase.RENEWING, 100, FRESH)
    walk = after(walk, Move.READY)
    assert (walk.phase, walk.weight_pct, walk.candidate) == (Phase.SWITCHING, 0, TRIED)
    walk = after(walk, Move.SWITCHED)
    assert (walk.phase, walk.stable, walk.kept, walk.candidate, walk.fresh) == (
        Phase.SETTLING,
        FRESH,
        group(),
        None,
        None,
    )
    walk = after(walk, Move.REMOVED)
    assert (walk.phase, walk.kept, walk.last_stable) == (Phase.WATCHING, group(), "")
    walk = after(walk, Move.SETTLED)
    assert (walk.phase, walk.stable, walk.kept, walk.serving) == (Phase.STABLE, FRESH, None, Slot.BLUE)
    assert walk.last_stable == REV2


def test_an_adopted_canary_becomes_stable_where_it_is() -> None:
    walk = after(started(Course(steps=STEPS, is_adopted=True)), Move.READY, Move.PROMOTE, Move.SWITCHED)
    assert (walk.phase, walk.serving, walk.stable, walk.kept) == (Phase.TURNING, Slot.GREEN, TRIED, group())
    assert (walk.weight_pct, walk.carries_all) == (0, False)
    walk = after(walk, Move.SWITCHED)
    assert (walk.phase, walk.parked, walk.weight_pct) == (Phase.PARKING, group(), 0)
    walk = after(walk, Move.PARKED, Move.SETTLED)
    assert (walk.phase, walk.serving, walk.stable, walk.kept) == (Phase.STABLE, Slot.GREEN, TRIED, None)


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.RECREATE])
def test_replicas_that_take_turns_do_so_in_the_slot_that_serves(strategy: Strategy) -> None:
    walk = started(Course(strategy))
    assert (walk.phase, walk.candidate, walk.weight_pct) == (Phase.UPDATING, group(V2), 0)
    done = after(walk, Move.READY)
    assert (done.phase, done.stable, done.candidate, done.last_stable) == (Phase.STABLE, group(V2), None, REV2)


# ---------------------------------------------------------------- suspended and halted


def test_after_silence_a_canary_starts_over_with_the_evidence_it_had() -> None:
    silent = after(state(Phase.ANALYZING, candidate=TRIED, step=2, waited_s=40.0, unknown_since=3.0), Move.SUSPEND)
    assert (silent.phase, silent.weight_pct, silent.is_suspended_by_verdict) == (Phase.SUSPENDED, 0, False)
    back = after(silent, Move.RESUME)
    assert (back.phase, back.step, back.run, back.waited_s) == (Phase.ANALYZING, 0, silent.run, 40.0)
    assert back.unknown_since is None


def test_after_a_verdict_a_canary_starts_over_with_fresh_evidence() -> None:
    judged = state(Phase.ANALYZING, candidate=TRIED, step=2, waited_s=40.0)
    suspended = after(judged, Move.SUSPEND, is_verdict=True)
    asked = dataclasses.replace(suspended, asked=Asked("resume"))
    back = after(asked, Move.RESUME)
    assert (back.phase, back.step, back.run, back.waited_s, back.asked) == (Phase.ANALYZING, 0, 2, 0.0, None)
    assert not back.is_suspended_by_verdict


def test_a_halted_promotion_starts_its_containers_anew_in_the_same_run() -> None:
    renewing = state(Phase.RENEWING, candidate=TRIED, fresh=FRESH)
    halted = after(renewing, Move.HALT)
    assert (halted.phase, halted.weight_pct, halted.candidate) == (Phase.HALTED, 100, TRIED)
    again = after(dataclasses.replace(halted, asked=Asked("retry")), Move.RESUME)
    assert (again.phase, again.fresh, again.asked, again.run) == (Phase.RENEWING, FRESH, None, 1)


# ---------------------------------------------------------------- the ways back


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED, Phase.UPDATING])
def test_what_is_given_up_is_quarantined_and_leaves_stable_where_it_was(phase: Phase) -> None:
    tried = state(phase, candidate=TRIED, paused=Paused("ann"), asked=Asked("rollback"))
    back = after(tried, Move.GIVE_UP)
    assert (back.phase, back.weight_pct, back.quarantined) == (Phase.ROLLING_BACK, 0, (REV2,))
    assert (back.paused, back.asked) == (None, None)
    end = after(back, Move.REMOVED)
    assert (end.phase, end.stable, end.candidate, end.serving) == (Phase.STABLE, group(), None, Slot.BLUE)


def test_a_first_release_that_is_given_up_leaves_nothing() -> None:
    first = after(ServiceRollout("app"), Move.START, release=release())
    end = after(first, Move.GIVE_UP, Move.REMOVED)
    assert (end.phase, end.stable, end.quarantined) == (Phase.ABSENT, None, (release().revision,))


@pytest.mark.parametrize("move", [Move.DISMISS, Move.SUPERSEDE])
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED, Phase.UPDATING])
def test_what_a_newer_wish_leaves_behind_is_not_quarantined(phase: Phase, move: Move) -> None:
    back = after(state(phase, candidate=TRIED), move)
    assert (back.phase, back.quarantined, back.dismissed) == (Phase.ROLLING_BACK, (), None)


def test_a_canary_of_the_stable_revision_is_dismissed_and_never_quarantined() -> None:
    wish = Release(release().revision, Mode.CANARY)
    same = state(Phase.ANALYZING, candidate=canary(service()))
    back = after(same, Move.GIVE_UP, dismisses=wish)
    assert (back.quarantined, back.dismissed) == ((), wish)


WHILE_PROMOTED = [
    (Phase.PROMOTING, {"candidate": TRIED}),
    (Phase.PARKING, {"candidate": TRIED}),
    (Phase.RENEWING, {"candidate": TRIED, "fresh": FRESH}),
    (Phase.HALTED, {"candidate": TRIED, "fresh": FRESH}),
    (Phase.SETTLING, {"stable": FRESH, "kept": group()}),
    (Phase.WATCHING, {"stable": FRESH, "kept": group()}),
    (Phase.PARKING, {"stable": TRIED, "kept": group(), "serving": Slot.GREEN, "course": Course(is_adopted=True)}),
]


@pytest.mark.parametrize(("phase", "changes"), WHILE_PROMOTED)
def test_a_return_quarantines_the_new_revision_and_ends_at_the_old_one(phase: Phase, changes: dict) -> None:
    back = after(state(phase, **changes), Move.RETURN)
    assert (back.phase, back.quarantined, back.parked) == (Phase.RETURNING, (REV2,), group())
    back = after(back, Move.READY, Move.SWITCHED)
    if back.phase is Phase.TURNING:
        back = after(back, Move.SWITCHED)
    assert (back.phase, back.weight_pct) == (Phase.ROLLING_BACK, 0)
    end = after(back, Move.REMOVED)
    assert (end.phase, end.stable, end.groups) == (Phase.STABLE, group(), (group(),))


@pytest.mark.parametrize(("phase", "changes"), WHILE_PROMOTED)
def test_a_return_that_the_manifest_asks_for_quarantines_nothing(phase: Phase, changes: dict) -> None:
    back = after(state(phase, **changes), Move.RETURN, dismisses=release(V2))
    assert (back.phase, back.quarantined) == (Phase.RETURNING, ())


def test_a_return_from_the_watch_ends_in_the_other_slot_with_the_old_containers() -> None:
    watching = state(Phase.WATCHING, stable=FRESH, kept=group())
    back = after(watching, Move.RETURN)
    assert (back.weight_pct, back.carries_all) == (0, False), "the new containers serve until the old ones can"
    back = after(back, Move.READY, Move.SWITCHED)
    assert (back.phase, back.serving, back.stable, back.kept) == (Phase.TURNING, Slot.GREEN, group(), None)


def test_the_old_revision_is_the_one_to_go_back_to_until_the_watch_is_over() -> None:
    one = release().revision
    settling = state(Phase.SETTLING, stable=FRESH, kept=group(), last_stable=one)
    watching = after(settling, Move.REMOVED)
    assert watching.last_stable == one
    assert after(watching, Move.SETTLED).last_stable == REV2


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("phase", "weight"),
    [
        (Phase.ABSENT, 0),
        (Phase.STABLE, 0),
        (Phase.STARTING, 0),
        (Phase.ANALYZING, 25),
        (Phase.SUSPENDED, 0),
        (Phase.PROMOTING, 100),
        (Phase.TURNING, 0),
        (Phase.PARKING, 100),
        (Phase.RENEWING, 100),
        (Phase.HALTED, 100),
        (Phase.SWITCHING, 0),
        (Phase.SETTLING, 0),
        (Phase.WATCHING, 0),
        (Phase.ROLLING_BACK, 0),
        (Phase.UPDATING, 0),
    ],
)
def test_each_phase_gives_the_candidate_its_share(phase: Phase, weight: int) -> None:
    assert state(phase, candidate=TRIED, step=1).weight_pct == weight


def test_a_blue_green_candidate_is_analyzed_without_traffic() -> None:
    step = dataclasses.replace(STEPS[0], weight_pct=0)
    walk = after(started(Course(Strategy.BLUE_GREEN, (step,))), Move.READY)
    assert (walk.phase, walk.weight_pct) == (Phase.ANALYZING, 0)


# ---------------------------------------------------------------- quarantine, groups, words


def test_the_quarantine_keeps_the_newest_and_each_once() -> None:
    assert with_quarantined(("a", "b"), "a") == ("b", "a")
    many = tuple(str(number) for number in range(QUARANTINE_KEPT))
    assert with_quarantined(many, "new") == (*many[1:], "new")


def test_every_group_that_is_named_is_needed() -> None:
    full = state(Phase.RENEWING, candidate=TRIED, fresh=FRESH)
    assert full.groups == (group(), TRIED, FRESH)
    assert Group(release(), Slot.BLUE) in full.groups


def test_phases_read_like_words() -> None:
    assert (Phase.ROLLING_BACK.words, Phase.STABLE.words, Phase.ABSENT.words) == (
        "rolling back",
        "at rest",
        "not deployed",
    )


# ---------------------------------------------------------------- what cannot be written down


@pytest.mark.parametrize("move", sorted(Move))
def test_without_a_record_only_what_gives_requests_back_goes_on(move: Move) -> None:
    tried = state(Phase.ANALYZING, candidate=TRIED, reason="step 1 of 2")
    of = put_off(Decision("app", move, "why", is_observing=True), tried)
    goes_on = move in LOWERING or move is Move.HOLD
    assert of == (
        Decision("app", move, "why", is_observing=True) if goes_on else Decision("app", Move.HOLD, "step 1 of 2")
    )
    back = state(Phase.RETURNING, stable=FRESH, kept=group())
    assert put_off(Decision("app", move, "why"), back).move is move


def test_no_clock_counts_the_time_in_which_a_step_could_not_be_written_down() -> None:
    tried = state(Phase.ANALYZING, candidate=TRIED, step_s=60.0, seen=1000.0)
    late = put_off(Decision("app", Move.ADVANCE, "all is well"), tried)
    kept = advance(Rollout({"app": tried}), (late,), 1020.0)
    again = advance(kept, (Decision("app", Move.HOLD, is_observing=True),), 1021.0).of("app")
    assert (kept.of("app").step, kept.of("app").step_s, again.step_s) == (0, 60.0, 61.0)
