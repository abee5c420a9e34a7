"""Whole rollouts on a host in memory, told as stories; an oracle in the world watches the requests."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.desired import Mode, RolloutSpec, Service, Strategy
from reconciler.core.observed import Slot, Status
from reconciler.core.record import Verdict
from reconciler.core.rollout import Phase, Release
from reconciler.core.words import Deploy, Pause, Promote, Resume, Retry, Rollback, Teardown
from tests.builders import release, service
from tests.core.core_world import (
    CAREFUL,
    HOLD,
    PROMOTE,
    ROLLBACK,
    UNKNOWN,
    V1,
    V2,
    V3,
    CoreWorld,
    with_mode,
)

HELD1, HELD2 = (with_mode(of, Mode.CANARY) for of in (V1, V2))
CLIMB = "stable starting analyzing analyzing analyzing"
REV1, REV2, REV3 = (release(of).revision for of in (V1, V2, V3))


def deployed(wanted: Service = V1) -> CoreWorld:
    world = CoreWorld(wanted)
    world.rests()
    world.moves.clear()
    return world


def with_canary(held: bool = False, step: int = 0) -> CoreWorld:
    """A canary of the second revision, at its first step but not long; at a later one where `step` says so."""
    world = deployed()
    world.wants(HELD2 if held else V2)
    world.until(lambda state: state.phase is Phase.ANALYZING and state.step == step)
    world.until(lambda _: world.said.is_observing)
    return world


def promoted() -> CoreWorld:
    """The second revision is stable and watched."""
    world = deployed()
    world.wants(V2)
    world.reaches(Phase.WATCHING)
    return world


# ---------------------------------------------------------------- the straight way


def test_a_first_deployment_goes_straight_to_stable() -> None:
    world = CoreWorld(HELD1)
    world.reaches(Phase.STABLE)
    assert world.path() == "absent starting stable"
    assert world.running() == ["demo:1 stable"]


def test_a_good_revision_climbs_is_promoted_to_fresh_containers_and_watched() -> None:
    world = deployed()
    world.wants(V2)
    began = world.now
    world.reaches(Phase.WATCHING)
    assert world.path() == f"{CLIMB} promoting parking renewing switching settling watching"
    assert world.now - began > 180, "three steps of 60 s"
    assert world.running() == ["demo:2 stable"]
    assert len(world.names("demo:1", "stable")) == 1, "the old one is stopped and kept"
    end = world.rests()
    assert (world.running(), world.names("demo:1", "stable"), world.weight) == (["demo:2 stable"], [], 0)
    assert (end.serving, end.last_stable, end.quarantined) == (Slot.BLUE, REV2, ())


def test_the_weight_of_the_canary_climbs_and_never_jumps() -> None:
    world = deployed()
    world.wants(V2)
    seen = [world.weight]
    while world.app.phase is not Phase.WATCHING:
        world.cycle()
        if world.weight != seen[-1]:
            seen.append(world.weight)
    assert seen == [0, 5, 25, 50, 100, 0]


def test_an_adopted_canary_becomes_stable_as_it_is() -> None:
    adopting = dataclasses.replace(V2, rollout=dataclasses.replace(CAREFUL, promotion="adopt"))
    world = deployed()
    world.wants(adopting)
    world.reaches(Phase.WATCHING)
    assert world.path() == f"{CLIMB} promoting turning parking watching"
    assert (world.running(), world.weight) == (["demo:2 canary"], 0)
    (name,) = world.names("demo:2", "canary")
    assert world.boxes[name].restart_policy == "unless-stopped"
    end = world.rests()
    assert (world.running(), end.serving, end.last_stable) == (["demo:2 canary"], Slot.GREEN, REV2)


def test_the_revision_after_an_adopted_one_finds_its_slot() -> None:
    adopt = dataclasses.replace(CAREFUL, promotion="adopt")
    world = deployed()
    for wanted in (V2, V3):
        world.wants(dataclasses.replace(wanted, rollout=adopt))
        world.reaches(Phase.WATCHING)
        world.rests()
    assert (world.running(), world.app.serving) == (["demo:3 canary"], Slot.BLUE)


def test_a_blue_green_revision_gets_no_requests_before_it_gets_all() -> None:
    blue_green = dataclasses.replace(CAREFUL, strategy=Strategy.BLUE_GREEN)
    world = deployed()
    world.wants(dataclasses.replace(V2, rollout=blue_green))
    weights = {(world.cycle().phase, world.weight) for _ in range(80)}
    assert {weight for phase, weight in weights if phase is Phase.ANALYZING} == {0}
    assert world.running() == ["demo:2 stable"]


def test_a_canary_is_started_without_a_restart_policy_and_gets_one_with_all_requests() -> None:
    world = with_canary()
    (name,) = world.names("demo:2", "canary")
    assert world.boxes[name].restart_policy == "no"
    world.reaches(Phase.PARKING)
    assert world.boxes[name].restart_policy == "unless-stopped"


# ---------------------------------------------------------------- held by policy, silence, an operator


def test_a_canary_that_policy_holds_stays_where_it_is() -> None:
    world = with_canary()
    world.verdict = HOLD
    for _ in range(100):
        world.cycle()
    assert (world.app.phase, world.app.step, world.weight) == (Phase.ANALYZING, 0, 5)
    assert world.app.waited_s > 400
    world.verdict = PROMOTE
    assert world.cycle().step == 1


def test_silence_holds_then_suspends_and_ends_by_itself_with_the_evidence_it_had() -> None:
    world = with_canary(step=1)
    run, waited_s = world.app.run, world.app.waited_s
    world.verdict = UNKNOWN
    world.cycle()
    for _ in range(59):
        world.cycle()
        assert (world.app.phase, world.weight) == (Phase.ANALYZING, 25), "the weight holds for the budget"
    assert world.app.waited_s - waited_s < 6, "what nobody judged was not waited for"
    world.reaches(Phase.SUSPENDED, 5)
    assert (world.weight, len(world.names("demo:2", "canary"))) == (0, 1)
    world.verdict = PROMOTE
    back = world.cycle()
    assert (back.phase, back.step, back.run, world.weight) == (Phase.ANALYZING, 0, run, 5)
    assert back.waited_s >= waited_s
    assert back.quarantined == ()


def test_a_paused_canary_is_kept_where_it_is_and_still_rolled_back_on_a_bad_sign() -> None:
    world = with_canary()
    world.hear(Pause("app", "ann", "lunch"))
    for _ in range(40):
        world.cycle()
    assert (world.app.step, world.weight) == (0, 5)
    assert world.said.reason == "paused by ann: lunch"
    (name,) = world.names("demo:2", "canary")
    world.dies(name, 1)
    world.cycle()
    assert (world.app.phase, world.weight) == (Phase.ROLLING_BACK, 0)


def test_a_pause_ends_with_resume_or_at_its_time() -> None:
    for word, until in ((Resume("app", "ann"), None), (None, 100.0)):
        world = with_canary()
        world.hear(Pause("app", "ann", until=world.now + until if until else None))
        for _ in range(30):
            world.cycle()
        if word:
            assert world.app.step == 0
            world.hear(word)
        world.until(lambda state: state.step == 1)


# ---------------------------------------------------------------- rolled back


def test_a_bad_verdict_rolls_back_and_the_revision_is_never_tried_again_without_a_word() -> None:
    world = with_canary()
    world.verdict = ROLLBACK
    world.cycle()
    assert (world.app.phase, world.weight) == (Phase.ROLLING_BACK, 0), "down at once"
    world.verdict = PROMOTE
    end = world.rests()
    assert (world.running(), end.quarantined, end.stable.revision) == (["demo:1 stable"], (REV2,), REV1)  # type: ignore[union-attr]
    world.moves.clear()
    for _ in range(20):
        world.cycle()
    world.reboots()
    world.hear(Deploy())
    world.wants(HELD2)
    for _ in range(20):
        world.cycle()
    assert (world.moves, world.running()) == ([], ["demo:1 stable"])
    world.hear(Retry("app", "ann", "it was the network"))
    assert world.cycle().phase is Phase.STARTING
    assert world.app.quarantined == ()


def test_a_quarantine_does_not_stand_in_the_way_of_another_revision() -> None:
    world = with_canary()
    world.verdict = ROLLBACK
    world.cycle()
    world.verdict = PROMOTE
    world.rests()
    world.wants(V3)
    world.reaches(Phase.WATCHING)
    world.rests()
    assert (world.running(), world.app.quarantined) == (["demo:3 stable"], (REV2,))


def test_a_revision_that_cannot_start_never_gets_a_request() -> None:
    world = deployed()
    world.sick = {"demo:2"}
    world.wants(V2)
    weights = set()
    while world.app.phase is not Phase.ROLLING_BACK:
        world.cycle()
        weights.add(world.weight)
    world.rests()
    assert weights == {0}
    assert world.path() == "stable starting rolling_back stable"


def test_a_first_release_that_fails_leaves_nothing_and_deploy_tries_it_again() -> None:
    world = CoreWorld()
    world.sick = {"demo:1"}
    world.reaches(Phase.ROLLING_BACK)
    world.until(lambda state: state.phase is Phase.ABSENT)
    assert world.boxes == {}
    world.sick = set()
    world.hear(Deploy())
    world.rests()
    assert world.running() == ["demo:1 stable"]


# ---------------------------------------------------------------- a canary that the manifest keeps


def test_a_held_canary_climbs_and_stays_at_its_last_step() -> None:
    world = with_canary(held=True)
    for _ in range(100):
        world.cycle()
    assert (world.app.phase, world.app.step, world.weight) == (Phase.ANALYZING, 2, 50)


def test_a_held_canary_suspended_by_a_verdict_waits_for_resume_and_starts_a_new_run() -> None:
    world = with_canary(held=True, step=1)
    run = world.app.run
    world.verdict = ROLLBACK
    world.cycle()
    assert (world.app.phase, world.weight) == (Phase.SUSPENDED, 0)
    world.verdict = PROMOTE
    for _ in range(30):
        world.cycle()
    assert world.app.phase is Phase.SUSPENDED, "a verdict is not taken back by itself"
    assert world.running() == ["demo:1 stable", "demo:2 canary"]
    world.hear(Resume("app", "ann"))
    back = world.cycle()
    assert (back.phase, back.step, back.run, back.waited_s) == (Phase.ANALYZING, 0, run + 1, 0.0)


@pytest.mark.parametrize("image", ["demo:1", "demo:2"])
def test_a_held_canary_without_steps_is_not_promoted_by_itself(image: str) -> None:
    world = deployed()
    world.wants(service(image=image, mode=Mode.CANARY, rollout=RolloutSpec(steps=())))
    world.reaches(Phase.STARTING)
    for _ in range(10):
        world.cycle()
    assert "promoting" not in world.path()


def test_a_word_to_promote_a_canary_of_the_stable_revision_only_removes_it() -> None:
    world = deployed()
    world.wants(HELD1)
    world.reaches(Phase.ANALYZING)
    world.hear(Promote("app", "ann"))
    for _ in range(20):
        world.cycle()
    assert "promoting" not in world.path()


def test_an_operator_promotes_a_held_canary() -> None:
    world = with_canary(held=True)
    world.hear(Promote("app", "ann"))
    world.wants(V2)
    world.reaches(Phase.WATCHING)
    assert world.running() == ["demo:2 stable"]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED])
def test_a_canary_of_the_stable_revision_is_removed_by_mode_stable_and_never_quarantined(phase: Phase) -> None:
    world = deployed()
    world.wants(HELD1)
    world.reaches(Phase.STARTING)
    if phase is not Phase.STARTING:
        world.reaches(Phase.ANALYZING)
        assert world.running() == ["demo:1 canary", "demo:1 stable"]
        world.until(lambda _: world.said.is_observing)
    if phase is Phase.SUSPENDED:
        world.verdict = ROLLBACK
        world.reaches(Phase.SUSPENDED)
    world.wants(V1)
    world.rests()
    assert (world.running(), world.app.quarantined, world.app.phase) == (["demo:1 stable"], (), Phase.STABLE)


def test_a_failed_canary_of_the_stable_revision_is_not_started_again_until_the_wish_changes() -> None:
    world = deployed()
    world.wants(HELD1)
    world.reaches(Phase.ANALYZING)
    (name,) = world.names("demo:1", "canary")
    world.dies(name, 1)
    end = world.rests()
    assert (end.quarantined, end.dismissed) == ((), Release(REV1, Mode.CANARY))
    world.moves.clear()
    for _ in range(10):
        world.cycle()
    assert world.moves == []
    world.wants(V1)
    world.cycle()
    world.wants(HELD1)
    world.reaches(Phase.ANALYZING)


def test_retry_lifts_a_dismissal_too() -> None:
    world = deployed()
    world.wants(HELD1)
    world.reaches(Phase.ANALYZING)
    world.hear(Rollback("app", "ann"))
    world.rests()
    world.hear(Retry("app", "ann", "again"))
    world.reaches(Phase.ANALYZING, 10)


def test_a_deployment_that_wants_a_canary_at_once_gets_stable_first() -> None:
    world = CoreWorld(HELD1)
    world.reaches(Phase.ANALYZING)
    assert world.path() == "absent starting stable starting analyzing"


def test_a_newer_canary_that_is_held_no_more_goes_on_by_itself() -> None:
    world = with_canary(held=True, step=2)
    (canary,) = world.names("demo:2", "canary")
    world.wants(V2)
    world.reaches(Phase.PROMOTING)
    assert world.names("demo:2", "canary") == [canary], "the same containers, not another rollout"


def test_a_service_is_scaled_while_a_canary_runs() -> None:
    world = with_canary(held=True)
    world.wants(dataclasses.replace(HELD2, replicas=3))
    world.until(lambda _: len(world.running()) == 6 and world.said.is_observing)
    world.wants(HELD2)
    world.until(lambda _: world.running() == ["demo:1 stable", "demo:2 canary"])
    assert world.app.phase is Phase.ANALYZING


# ---------------------------------------------------------------- supersede


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED])
@pytest.mark.parametrize(("wanted", "ends"), [(V1, "demo:1"), (V3, "demo:3")])
def test_a_newer_manifest_ends_a_trial_without_touching_what_runs(phase: Phase, wanted: Service, ends: str) -> None:
    world = deployed()
    (stable,) = world.names("demo:1", "stable")
    world.wants(HELD2)
    world.reaches(Phase.STARTING)
    if phase is not Phase.STARTING:
        world.reaches(Phase.ANALYZING)
        world.until(lambda _: world.said.is_observing)
    if phase is Phase.SUSPENDED:
        world.verdict = ROLLBACK
        world.reaches(Phase.SUSPENDED)
        world.verdict = PROMOTE
    world.wants(wanted)
    world.cycle()
    assert (world.app.phase, world.weight) == (Phase.ROLLING_BACK, 0)
    world.reaches(Phase.STABLE)
    assert world.names("demo:1", "stable") == [stable]
    assert world.app.quarantined == ()
    world.until(lambda _: world.running() == [f"{ends} stable"])
    world.rests()


@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.PARKING, Phase.RENEWING, Phase.SWITCHING, Phase.SETTLING])
def test_a_newer_revision_waits_for_the_end_of_a_promotion(phase: Phase) -> None:
    world = deployed()
    world.wants(V2)
    world.reaches(phase)
    world.wants(V3)
    world.until(lambda _: world.running() == ["demo:3 stable"])
    assert " watching stable starting" in world.path(), "the promotion ended, its watch was cut short"
    assert world.app.quarantined == ()


@pytest.mark.parametrize(
    "phase", [Phase.PROMOTING, Phase.PARKING, Phase.RENEWING, Phase.SWITCHING, Phase.SETTLING, Phase.WATCHING]
)
def test_the_old_revision_wanted_again_during_a_promotion_comes_back(phase: Phase) -> None:
    world = deployed()
    (stable,) = world.names("demo:1", "stable")
    world.wants(V2)
    world.reaches(phase)
    world.wants(V1)
    end = world.rests()
    assert (world.running(), world.names("demo:1", "stable")) == (["demo:1 stable"], [stable])
    assert (end.quarantined, end.last_stable, world.weight) == ((), REV1, 0)


def test_a_newer_revision_in_the_watch_removes_the_kept_ones_and_starts() -> None:
    world = promoted()
    world.wants(V3)
    world.reaches(Phase.STARTING, 4)
    world.until(lambda _: world.names("demo:1", "stable") == [], 10)
    assert world.app.last_stable == REV2


# ---------------------------------------------------------------- a new stable that fails


def halted() -> CoreWorld:
    world = deployed()
    world.wants(V2)
    world.reaches(Phase.RENEWING)
    (name,) = world.names("demo:2", "stable")
    world.dies(name, 1)
    world.cycle()
    assert (world.app.phase, world.weight) == (Phase.HALTED, 100)
    return world


def test_new_stable_containers_that_fail_halt_with_the_canary_serving() -> None:
    world = halted()
    for _ in range(20):
        world.cycle()
    assert (world.app.phase, world.weight, world.running()) == (Phase.HALTED, 100, ["demo:2 canary"])
    assert len(world.names("demo:1", "stable")) == 1


def test_a_halted_promotion_goes_on_after_a_retry() -> None:
    world = halted()
    world.hear(Retry("app", "ann", "again"))
    world.reaches(Phase.WATCHING)
    assert world.running() == ["demo:2 stable"]


def test_a_retry_starts_new_stable_containers_in_place_of_those_that_failed() -> None:
    world = deployed()
    world.wants(V2)
    world.reaches(Phase.RENEWING)
    (failed,) = world.names("demo:2", "stable")
    world.change(failed, status=Status.RESTARTING, restarts=3, exit_code=1)
    world.reaches(Phase.HALTED, 1)
    world.cycle()
    assert world.names("demo:2", "stable") == []
    world.hear(Retry("app", "ann", "the database is back"))
    world.reaches(Phase.WATCHING)
    assert world.running() == ["demo:2 stable"]


def test_an_operator_rolls_a_halted_promotion_back_to_the_kept_ones() -> None:
    world = halted()
    world.hear(Rollback("app", "ann"))
    end = world.rests()
    assert (world.running(), end.quarantined, world.weight) == (["demo:1 stable"], (REV2,), 0)


def test_a_newer_manifest_leaves_a_halted_promotion() -> None:
    world = halted()
    world.wants(V3)
    world.until(lambda _: world.running() == ["demo:3 stable"])
    assert world.app.quarantined == ()


# ---------------------------------------------------------------- the watch


def test_a_watched_revision_that_policy_condemns_is_taken_back() -> None:
    world = promoted()
    world.moves.clear()
    world.verdict = ROLLBACK
    end = world.rests()
    assert world.path() == "watching returning restoring turning rolling_back stable"
    assert (world.running(), end.quarantined, world.weight) == (["demo:1 stable"], (REV2,), 0)
    assert (end.last_stable, end.serving) == (REV1, Slot.GREEN)


def test_what_was_taken_back_is_the_ground_for_the_next_rollout() -> None:
    world = promoted()
    world.verdict = ROLLBACK
    world.rests()
    world.verdict = PROMOTE
    world.wants(V3)
    world.reaches(Phase.WATCHING)
    world.rests()
    assert (world.running(), world.app.serving) == (["demo:3 stable"], Slot.GREEN)


def test_a_watched_revision_that_falls_sick_is_taken_back() -> None:
    world = promoted()
    world.sick = {"demo:2"}
    end = world.rests()
    assert (world.running(), end.quarantined) == (["demo:1 stable"], (REV2,))


def test_an_operator_rolls_back_while_watching() -> None:
    world = promoted()
    world.hear(Rollback("app", "ann", "customers call"))
    end = world.rests()
    assert (world.running(), end.quarantined) == (["demo:1 stable"], (REV2,))
    assert "customers call" in end.reason


def test_a_watch_that_is_not_answered_lasts_on() -> None:
    world = promoted()
    world.verdict = UNKNOWN
    for _ in range(60):
        world.cycle()
    assert world.app.phase is Phase.WATCHING
    assert len(world.names("demo:1", "stable")) == 1
    world.verdict = PROMOTE
    assert world.cycle().phase is Phase.STABLE


@pytest.mark.parametrize("held", [False, True])
def test_an_adopted_revision_is_taken_back_as_well(held: bool) -> None:
    adopting = dataclasses.replace(V2, rollout=dataclasses.replace(CAREFUL, promotion="adopt"))
    world = deployed()
    world.wants(adopting)
    world.reaches(Phase.WATCHING)
    world.hear(Rollback("app", "ann"))
    if held:
        world.wants(with_mode(adopting, Mode.CANARY))
    end = world.rests()
    assert (world.running(), end.serving, world.weight) == (["demo:1 stable"], Slot.BLUE, 0)


# ---------------------------------------------------------------- the host


@pytest.mark.fault("A14")
def test_a_reboot_is_no_bad_sign_weight_0_start_again_same_step() -> None:
    world = with_canary(step=1)
    run = world.app.run
    world.reboots()
    world.cycle()
    assert (world.app.phase, world.app.step, world.weight) == (Phase.ANALYZING, 1, 0)
    world.until(lambda _: world.weight == 25, 5)
    assert (world.app.run, world.app.quarantined) == (run, ())
    world.reaches(Phase.WATCHING)


@pytest.mark.parametrize(
    "phase", [Phase.STARTING, Phase.PROMOTING, Phase.PARKING, Phase.RENEWING, Phase.SWITCHING, Phase.SETTLING]
)
def test_a_reboot_in_the_middle_of_a_rollout_does_not_stop_it(phase: Phase) -> None:
    world = deployed()
    world.wants(V2)
    world.reaches(phase)
    world.reboots()
    world.reaches(Phase.WATCHING)
    assert (world.running(), world.app.quarantined) == (["demo:2 stable"], ())


def test_stable_that_is_down_stops_the_clocks_while_the_canary_keeps_its_share() -> None:
    world = with_canary()
    world.sick = {"demo:1"}
    world.cycle()
    step_s, waited_s = world.app.step_s, world.app.waited_s
    for _ in range(30):
        world.cycle()
    assert (world.app.step_s, world.app.waited_s, world.weight) == (step_s, waited_s, 5)
    serving, members = world.live
    canary = {box.address for box in world.boxes.values() if box.mode == "canary"}
    assert not canary & set(members[serving]), "an unjudged canary does not inherit what was stable's"
    world.sick = set()
    world.until(lambda state: state.step == 1)


@pytest.mark.fault("G12")
def test_a_canary_that_policy_condemns_is_gone_even_while_stable_that_runs_is_ill() -> None:
    world = with_canary()
    world.sick = {"demo:1"}
    world.cycle()
    assert "waiting for the stable containers: " in world.said.reason
    assert "`promote` does without them" in world.said.reason
    world.verdict = ROLLBACK
    world.until(lambda state: state.phase is Phase.ROLLING_BACK)
    world.until(lambda _: world.weight == 0)
    assert world.app.quarantined


@pytest.mark.fault("A9", "D2")
def test_a_gap_of_ten_minutes_is_no_bake_time() -> None:
    world = with_canary()
    before = world.app.step_s
    world.passes(600.0)
    world.cycle()
    assert world.app.step_s - before <= 30.0


# ---------------------------------------------------------------- torn down, lost, vanished


def test_a_teardown_in_the_middle_comes_back_with_stable_and_then_starts_anew() -> None:
    world = with_canary()
    world.hear(Teardown())
    world.until(lambda _: not world.boxes)
    assert world.app.last_stable == REV1
    world.hear(Deploy())
    world.moves.clear()
    world.reaches(Phase.STABLE)
    assert world.running() == ["demo:1 stable"]
    world.reaches(Phase.WATCHING)
    assert world.path() == f"absent starting {CLIMB} promoting parking renewing switching settling watching"


def test_a_quarantine_outlives_a_teardown() -> None:
    world = with_canary()
    world.verdict = ROLLBACK
    world.cycle()
    world.hear(Teardown())
    world.until(lambda _: not world.boxes)
    world.hear(Deploy())
    world.rests()
    for _ in range(10):
        world.cycle()
    assert (world.running(), world.app.quarantined) == (["demo:1 stable"], (REV2,))


def test_a_run_is_never_numbered_like_an_earlier_one() -> None:
    world = with_canary()
    run = world.app.run
    world.hear(Teardown())
    world.until(lambda _: not world.boxes)
    world.hear(Deploy())
    world.reaches(Phase.ANALYZING)
    assert world.app.run > run


def test_a_lost_state_heals_what_runs_and_starts_nothing_before_a_human_looked() -> None:
    world = with_canary()
    world.forgets_everything()
    for _ in range(20):
        world.cycle()
    assert world.running() == ["demo:1 stable"]
    assert (world.app.phase, world.weight) == (Phase.STABLE, 0)
    assert "state was lost" in world.said.reason
    world.hear(Resume("app", "ann"))
    world.reaches(Phase.WATCHING)


@pytest.mark.parametrize("phase", [Phase.PARKING, Phase.RENEWING, Phase.SETTLING, Phase.WATCHING])
def test_a_state_lost_in_a_promotion_keeps_requests_served(phase: Phase) -> None:
    world = deployed()
    world.wants(V2)
    world.reaches(phase)
    world.forgets_everything()
    world.until(lambda state: state.phase is Phase.STABLE and not world.plans[-1])
    assert (len(world.running()), world.weight) == (1, 0)
    assert world.serves(world.live)


@pytest.mark.fault("E2")
def test_a_service_that_vanishes_goes_when_the_rest_is_at_rest() -> None:
    world = deployed()
    other = dataclasses.replace(service(image="demo:2"), name="web")
    world.wants(other)
    world.until(lambda _: world.running() == ["demo:2 stable"])
    world.cycle()
    assert set(world.rollout.services) == {"web"}


def test_a_service_that_vanishes_loses_its_canary_too() -> None:
    world = with_canary()
    other = dataclasses.replace(service(image="demo:3"), name="web")
    world.wants(other)
    world.until(lambda _: world.running() == ["demo:3 stable"])


# ---------------------------------------------------------------- replicas that take turns


def in_turns(strategy: Strategy, image: str, replicas: int = 2) -> Service:
    return service(image=image, replicas=replicas, rollout=RolloutSpec(strategy=strategy))


def test_a_rolling_update_never_has_fewer_than_it_should() -> None:
    world = deployed(in_turns(Strategy.ROLLING, "demo:1"))
    world.wants(in_turns(Strategy.ROLLING, "demo:2"))
    world.reaches(Phase.UPDATING)
    while world.app.phase is Phase.UPDATING:
        world.cycle()
        assert len(world.running()) >= 2
        assert sum(world.is_well(name) for name in world.boxes) >= 2
    world.rests()
    assert world.running() == ["demo:2 stable"] * 2


def test_a_recreated_replica_is_gone_before_its_successor_starts_one_at_a_time() -> None:
    world = deployed(in_turns(Strategy.RECREATE, "demo:1"))
    world.wants(in_turns(Strategy.RECREATE, "demo:2"))
    world.reaches(Phase.UPDATING)
    while world.app.phase is Phase.UPDATING:
        world.cycle()
        alive = [box for box in world.boxes.values() if box.status is Status.RUNNING]
        assert len({box.replica for box in alive}) == len(alive), "two of the same at once"
        assert alive, "one at a time"
    assert world.rests().stable.revision == release(in_turns(Strategy.RECREATE, "demo:2")).revision  # type: ignore[union-attr]


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.RECREATE])
def test_a_replica_that_fails_its_turn_brings_the_old_ones_back(strategy: Strategy) -> None:
    world = deployed(in_turns(strategy, "demo:1", 3))
    world.wants(in_turns(strategy, "demo:2", 3))
    world.until(lambda _: world.running().count("demo:2 stable") == 1)
    world.cycle()
    world.sick = {"demo:2"}
    world.reaches(Phase.ROLLING_BACK)
    end = world.rests()
    assert world.running() == ["demo:1 stable"] * 3
    assert end.quarantined == (release(in_turns(strategy, "demo:2", 3)).revision,)


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.RECREATE])
def test_an_update_is_superseded_without_quarantine(strategy: Strategy) -> None:
    world = deployed(in_turns(strategy, "demo:1"))
    world.wants(in_turns(strategy, "demo:2"))
    world.reaches(Phase.UPDATING)
    world.cycle()
    world.wants(in_turns(strategy, "demo:3"))
    world.until(lambda _: world.running() == ["demo:3 stable"] * 2)
    assert world.app.quarantined == ()


def test_the_infrastructure_gate_is_asked_for_a_start_and_never_again() -> None:
    world = with_canary()
    world.gate = Verdict("infrastructure", False, "Disk space below 10GB")
    world.reaches(Phase.WATCHING)
    world.rests()
    world.wants(V3)
    for _ in range(5):
        world.cycle()
    assert world.said.reason == "DENIED: Disk space below 10GB"
    (name,) = world.names("demo:2", "stable")
    world.dies(name)
    world.until(lambda _: world.is_well(name), 3)


@pytest.mark.parametrize("phase", [Phase.ANALYZING, Phase.PROMOTING, Phase.SWITCHING])
def test_a_route_that_goes_in_the_middle_of_a_rollout_does_not_leave_it_stuck(phase: Phase) -> None:
    world = deployed()
    world.wants(V2)
    world.reaches(phase)
    world.wants(dataclasses.replace(V2, route=None))
    world.until(lambda state: state.phase in (Phase.WATCHING, Phase.STABLE))


def test_a_canary_that_starts_slowly_after_a_reboot_has_as_long_as_at_its_first_start() -> None:
    world = with_canary(step=1)
    world.reboots()
    world.sick = {"demo:2"}
    for _ in range(9):
        world.cycle()
    assert world.app.phase is Phase.ANALYZING, "45 s of the 60 s that its health deadline gives"
    world.sick = set()
    world.until(lambda _: world.weight == 25, 5)


def test_a_service_that_vanishes_goes_though_another_one_keeps_a_canary() -> None:
    world = deployed()
    other = dataclasses.replace(service(image="demo:2", mode=Mode.CANARY, rollout=CAREFUL), name="web")
    world.wants(other)
    world.until(lambda _: "demo:1 stable" not in world.running())


# ---------------------------------------------------------------- what was found by accident


def test_a_kept_canary_stays_one_while_the_image_of_the_next_manifest_is_not_here() -> None:
    world = deployed()
    world.wants(HELD1)
    world.reaches(Phase.ANALYZING)
    world.until(lambda state: state.step + 1 == len(state.course.steps))
    world.wants(service(image="demo:9", rollout=CAREFUL))
    for _ in range(60):
        world.cycle()
    assert world.app.phase is Phase.ANALYZING
    assert "waiting for images: demo:9" in world.decisions[-1].reason


def test_a_roll_back_stays_with_what_answers_when_the_old_revision_falls_ill_at_the_last_moment() -> None:
    world = promoted()
    world.verdict = ROLLBACK
    world.reaches(Phase.RESTORING)
    world.sick = {"demo:1"}
    for _ in range(20):
        world.cycle()
    assert (world.app.phase, world.serves(world.live)) == (Phase.RESTORING, True)
    world.sick = set()
    world.reaches(Phase.STABLE)
    assert world.app.stable is not None
    assert world.app.stable.revision == REV1


def test_a_deployment_after_a_teardown_that_never_came_to_it_takes_what_still_serves() -> None:
    world = deployed()
    world.hear(Teardown())
    world.hear(Deploy())
    world.cycle()
    assert world.app.phase is Phase.STABLE
    assert not world.plans[-1].steps, "nginx goes on with what it has"
