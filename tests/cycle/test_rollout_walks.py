"""Canaries from start to end, cycle by cycle: each walk that the design names, on a host in memory under traffic."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.core.desired import DesiredState, Mode, RolloutSpec, Service, Step, Strategy
from reconciler.core.errors import StateError
from reconciler.core.plan import StartContainer
from reconciler.core.record import Cycle
from reconciler.core.rollout import Move, Phase, Rollout
from reconciler.core.words import Deploy, Pause, Promote, Resume, Retry, Rollback, Teardown
from tests.builders import desired, service
from tests.cycle.cycle_world import World

STEPS = (Step(5, 4.0), Step(25, 4.0), Step(50, 4.0))
ROLLOUT = RolloutSpec(steps=STEPS, watch_s=6.0, min_requests=5, unknown_budget_s=6.0)


def app(image: str = "demo:1", **changes: Any) -> Service:
    rollout = dataclasses.replace(ROLLOUT, **changes.pop("rollout", {}))
    return service(image=image, rollout=rollout, **changes)


def wish(image: str = "demo:1", **changes: Any) -> DesiredState:
    limits = {"canary": {"warmup_seconds": 0.0}}
    of = app(image, **changes)
    return desired(of, revision=f"{hash(of) & 0xFFFFFFFFFFFFFFFF:064x}", limits=limits)


def running(state: DesiredState) -> World:
    """A host on which `state` has been deployed and gets 100 requests a second."""
    world = World()
    world.wants(state)
    world.converge()
    world.until(lambda cycle: not cycle.plan)
    world.traffic.rate = 100.0
    world.cycles.clear()
    return world


@pytest.fixture
def world() -> World:
    return running(wish())


def upto(world: World, phase: Phase, limit: int = 600) -> Cycle:
    return world.until(lambda _: world.app.phase is phase, limit)


def phases(world: World) -> list[Phase]:
    found = [cycle.rollout.of("app").phase for cycle in world.cycles]
    return [phase for i, phase in enumerate(found) if i == 0 or found[i - 1] is not phase]


def weights(world: World) -> Iterator[int]:
    """The weights that nginx was given, each once in a row."""
    before = None
    for cycle in world.cycles:
        seen = cycle.observed.proxy.weights.get("app") if cycle.observed else None
        if seen is not None and seen != before:
            yield seen
            before = seen


def modes(world: World) -> list[tuple[str, str]]:
    return sorted((box.request.spec.image, dict(box.request.spec.environment)["MODE"]) for box in world.boxes())


def stable_image(world: World) -> str:
    """What the stable group runs, by its containers."""
    group = world.app.stable
    assert group is not None
    images = {
        b.request.spec.image for b in world.boxes() if b.labels["io.swiftdeploy.revision"] == group.release.revision
    }
    assert len(images) == 1
    return images.pop()


def rests_at(world: World, image: str, limit: int = 900) -> None:
    """At rest: nothing but one stable container of `image`, all requests to it."""
    world.until(lambda cycle: world.app.phase is Phase.STABLE and not cycle.plan, limit)
    assert modes(world) == [(image, "stable")]
    assert world.nginx.weights["app"] == 0


WALK = [
    Phase.STARTING,
    Phase.ANALYZING,
    Phase.PROMOTING,
    Phase.PARKING,
    Phase.RENEWING,
    Phase.SWITCHING,
    Phase.SETTLING,
    Phase.WATCHING,
    Phase.STABLE,
]


def test_a_changed_tag_goes_through_all_steps_and_becomes_stable(world: World) -> None:
    world.wants(wish("demo:2"))
    rests_at(world, "demo:2")
    assert phases(world) == WALK
    assert list(weights(world)) == [0, 5, 25, 50, 100, 0]


@pytest.mark.fault("G13")
def test_a_step_lasts_its_time_even_when_policy_would_go_on(world: World) -> None:
    world.says("canary", allow=True)
    world.wants(wish("demo:2"))
    began = upto(world, Phase.ANALYZING).rollout.of("app").since
    upto(world, Phase.PROMOTING)
    assert world.app.since - began >= sum(step.duration_s for step in STEPS)


def test_a_canary_that_fails_at_25_percent_is_rolled_back_and_stable_untouched(world: World) -> None:
    (stable,) = world.boxes()
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    world.traffic.errors["demo:2"] = 0.5
    rests_at(world, "demo:1")
    assert [box.id for box in world.boxes()] == [stable.id]
    assert len(world.app.quarantined) == 1
    assert max(weights(world)) == 25
    for _ in range(50):
        world.cycle()
    world.restart()
    world.cycle(Deploy())
    for _ in range(50):
        world.cycle()
    assert modes(world) == [("demo:1", "stable")], "neither time, nor a restart, nor a deployment tries it again"


@pytest.mark.fault("C6")
@pytest.mark.parametrize("is_all_lost", [False, True], ids=["revisions", "everything"])
def test_stable_goes_on_serving_where_nobody_knows_its_revision_any_more(world: World, is_all_lost: bool) -> None:
    (stable,) = world.boxes()
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    world.traffic.errors["demo:2"] = 0.5
    world.store.revisions.clear()
    if is_all_lost:
        world.store.rollout = Rollout()
    world.restart()
    world.until(lambda _: world.nginx.weights["app"] == 0, 60)
    for _ in range(60):
        world.cycle()
        assert stable.id in {box.id for box in world.boxes() if world.is_well(box)}
    serving = world.app.stable
    assert serving is not None
    assert serving.revision == stable.labels["io.swiftdeploy.revision"]


@pytest.mark.parametrize("word", [None, Rollback("app", "ada", "it fails")], ids=["policy", "an operator"])
def test_a_full_disk_does_not_keep_a_bad_canary_in_the_traffic(world: World, word: Rollback | None) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    world.store.is_full = True
    if word:
        world.cycle(word)
    else:
        world.traffic.errors["demo:2"] = 0.5
    world.until(lambda _: world.nginx.weights["app"] == 0, 60)
    assert any("no space left" in error for error in world.cycles[-1].errors)
    world.store.is_full = False
    rests_at(world, "demo:1")
    assert world.app.quarantined


def test_docker_restart_of_a_canary_is_no_verdict(world: World) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    (canary,) = (box for box in world.boxes() if box.request.spec.image == "demo:2")
    world.broken.append("it is being restarted")
    world.engine.crash(canary.name, exit_code=143)
    world.cycle()
    assert world.app.phase is Phase.ANALYZING
    world.engine.apply(StartContainer(canary.id))
    world.broken.clear()
    rests_at(world, "demo:2")


def test_a_canary_that_was_stopped_and_stays_so_is_rolled_back(world: World) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    (canary,) = (box for box in world.boxes() if box.request.spec.image == "demo:2")
    world.broken.append("its own requests fail")
    world.engine.crash(canary.name, exit_code=0)
    upto(world, Phase.ROLLING_BACK)
    world.broken.clear()
    rests_at(world, "demo:1")
    assert "exited with code 0" in world.app.why_rolled_back


@pytest.mark.fault("B19", "B38")
def test_a_release_that_cannot_even_be_created_is_given_up_with_the_engines_own_words(world: World) -> None:
    from reconciler.core.plan import CreateContainer, Outcome, Result

    said = Result(Outcome.FAILED, "Range of CPUs is from 0.01 to 2.00")
    world.engine.fault = lambda action: said if isinstance(action, CreateContainer) else None
    world.wants(wish("demo:2"))
    world.until(lambda _: "Range of CPUs" in world.app.reason)
    world.passes(61)
    rests_at(world, "demo:1")
    assert "Range of CPUs" in world.app.why_rolled_back


@pytest.mark.fault("G12", "H1")
def test_a_canary_that_cannot_be_measured_any_more_loses_its_requests_after_the_budget(world: World) -> None:
    world.wants(wish("demo:2", rollout={"steps": (Step(25, 30.0),)}))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    world.traffic.is_silent = True
    upto(world, Phase.SUSPENDED)
    world.until(lambda _: world.nginx.weights["app"] == 0)
    assert world.app.quarantined == ()
    world.traffic.is_silent = False
    rests_at(world, "demo:2")


@pytest.mark.fault("H9")
def test_who_is_contradicted_by_nginx_loses_its_requests_until_somebody_looks(world: World) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    world.traffic.proxy_errors["demo:2"] = 0.3
    upto(world, Phase.SUSPENDED)
    assert "disagree" in world.app.reason
    for _ in range(100):
        world.cycle()
    assert (world.app.phase, world.nginx.weights["app"]) == (Phase.SUSPENDED, 0)
    world.cycle(Rollback("app", "ada"))
    rests_at(world, "demo:1")


def test_an_operator_lifts_the_quarantine_with_a_reason(world: World) -> None:
    world.traffic.errors["demo:2"] = 0.5
    world.wants(wish("demo:2"))
    upto(world, Phase.ROLLING_BACK)
    rests_at(world, "demo:1")
    world.traffic.errors.clear()
    world.cycle(Retry("app", "ada", "the database is back"))
    rests_at(world, "demo:2")


def test_a_new_stable_that_is_sick_halts_the_promotion_and_the_canary_serves_on(world: World) -> None:
    world.wants(wish("demo:2"))
    upto(world, Phase.PARKING)
    world.engine.broken_images[world.engine.images["demo:2"].id] = "no such file"
    upto(world, Phase.HALTED)
    assert world.nginx.weights["app"] == 100
    for _ in range(50):
        world.cycle()
    assert world.app.phase is Phase.HALTED, "nobody but an operator or a newer manifest moves it"
    world.engine.broken_images.clear()
    world.cycle(Retry("app", "ada", "disk was full"))
    rests_at(world, "demo:2")


def test_a_halted_promotion_goes_back_on_an_operators_word(world: World) -> None:
    world.wants(wish("demo:2"))
    upto(world, Phase.PARKING)
    world.engine.broken_images[world.engine.images["demo:2"].id] = "no such file"
    upto(world, Phase.HALTED)
    world.cycle(Rollback("app", "ada", "not today"))
    rests_at(world, "demo:1")
    assert len(world.app.quarantined) == 1


def test_a_halted_promotion_gives_way_to_a_newer_manifest(world: World) -> None:
    world.wants(wish("demo:2"))
    upto(world, Phase.PARKING)
    world.engine.broken_images[world.engine.images["demo:2"].id] = "no such file"
    upto(world, Phase.HALTED)
    world.wants(wish("demo:3"))
    world.until(lambda _: stable_image(world) == "demo:3" and world.app.phase is Phase.STABLE, 1200)
    assert world.app.quarantined == (), "it was overtaken, not rolled back"


def test_what_goes_bad_while_it_is_watched_is_one_start_and_one_switch_away_from_the_old(world: World) -> None:
    (old,) = world.boxes()
    world.wants(wish("demo:2"))
    upto(world, Phase.WATCHING)
    acts: list[str] = []
    world.around = acts.append
    world.traffic.errors["demo:2"] = 0.5
    rests_at(world, "demo:1")
    assert [box.id for box in world.boxes()] == [old.id], "the very container that was kept"
    assert "before CreateContainer" not in acts
    assert (acts.count("before StartContainer"), len(world.app.quarantined)) == (1, 1)


def test_what_a_release_did_that_was_taken_back_is_not_stables_history(world: World) -> None:
    """Else its errors pass for stable's bursts, and the mending release waits for half an hour of proof."""
    for _ in range(200):
        world.cycle()
        world.passes(3.0)
    world.wants(wish("demo:2"))
    upto(world, Phase.WATCHING)
    world.traffic.errors["demo:2"] = 0.05
    rests_at(world, "demo:1")
    world.wants(wish("demo:3"))
    upto(world, Phase.ANALYZING)
    begun = len(world.cycles)
    rests_at(world, "demo:3")
    effects = [one.errors.design_effect for cycle in world.cycles[begun:] for one in cycle.measured.values()]
    assert effects
    assert max(effects) == 1.0


def test_an_operator_rolls_back_while_it_is_watched(world: World) -> None:
    world.wants(wish("demo:2"))
    upto(world, Phase.WATCHING)
    world.cycle(Rollback("app", "ada", "customers complain"))
    rests_at(world, "demo:1")
    assert any("ada: customers complain" in d.reason for cycle in world.cycles for d in cycle.decisions)


def test_the_next_rollout_after_a_return_goes_well_too(world: World) -> None:
    """The old containers came back into the other slot; everything works the other way round as well."""
    world.wants(wish("demo:2"))
    upto(world, Phase.WATCHING)
    world.cycle(Rollback("app", "ada"))
    rests_at(world, "demo:1")
    world.wants(wish("demo:3"))
    rests_at(world, "demo:3")


def test_the_old_revision_wanted_again_while_watching_is_a_roll_back_without_blame(world: World) -> None:
    world.wants(wish("demo:2"))
    upto(world, Phase.WATCHING)
    world.wants(wish())
    rests_at(world, "demo:1")
    assert world.app.quarantined == ()


def test_a_canary_of_the_stable_revision_is_held_and_can_be_had_again_and_again(world: World) -> None:
    for _ in range(2):
        world.wants(wish(mode=Mode.CANARY))
        world.until(lambda _: world.nginx.weights["app"] == 50, 900)
        for _ in range(100):
            world.cycle()
        assert (world.app.phase, world.nginx.weights["app"]) == (Phase.ANALYZING, 50), "never promoted by itself"
        assert modes(world) == [("demo:1", "canary"), ("demo:1", "stable")]
        world.wants(wish())
        rests_at(world, "demo:1")
        assert world.app.quarantined == ()


def test_a_held_canary_that_fails_is_suspended_and_comes_back_on_a_word_with_fresh_evidence(world: World) -> None:
    world.wants(wish(mode=Mode.CANARY))
    world.until(lambda _: world.nginx.weights["app"] == 50, 900)
    world.says("canary", allow=False, action="rollback", reason="Error rate exceeds 1% threshold")
    upto(world, Phase.SUSPENDED)
    world.until(lambda _: world.nginx.weights["app"] == 0)
    assert modes(world) == [("demo:1", "canary"), ("demo:1", "stable")], "it is kept, to be looked at"
    del world.verdicts["canary"]
    for _ in range(100):
        world.cycle()
    assert world.app.phase is Phase.SUSPENDED
    run = world.app.run
    world.cycle(Resume("app", "ada"))
    world.until(lambda _: world.nginx.weights["app"] == 50, 900)
    assert world.app.run == run + 1


def test_a_held_canary_of_a_newer_revision_is_promoted_by_an_operator(world: World) -> None:
    world.wants(wish("demo:2", mode=Mode.CANARY))
    world.until(lambda _: world.nginx.weights["app"] == 50, 900)
    world.wants(wish("demo:2"))
    world.cycle(Promote("app", "ada"))
    rests_at(world, "demo:2")


@pytest.mark.fault("E9")
def test_mode_edited_by_hand_and_back_ends_where_it_began(world: World) -> None:
    (stable,) = world.boxes()
    world.wants(wish(mode=Mode.CANARY))
    upto(world, Phase.STARTING)
    world.wants(wish())
    rests_at(world, "demo:1")
    assert [box.id for box in world.boxes()] == [stable.id]


@pytest.mark.fault("E8")
@pytest.mark.parametrize("phase", [p for p in WALK if p is not Phase.STABLE])
def test_a_third_manifest_in_each_phase_wins_in_the_end(world: World, phase: Phase) -> None:
    world.wants(wish("demo:2"))
    upto(world, phase)
    world.wants(wish("demo:3"))
    world.until(lambda c: world.app.phase is Phase.STABLE and stable_image(world) == "demo:3" and not c.plan, 1500)
    assert modes(world) == [("demo:3", "stable")]
    assert world.app.quarantined == ()


@pytest.mark.fault("A1", "C6", "J9")
@pytest.mark.parametrize("phase", [p for p in WALK if p is not Phase.STABLE])
@pytest.mark.parametrize("is_lost", [False, True], ids=["killed", "state lost"])
def test_the_daemon_killed_in_each_phase_loses_no_request_and_ends_well(
    world: World, phase: Phase, is_lost: bool
) -> None:
    world.wants(wish("demo:2"))
    upto(world, phase)
    if is_lost:
        world.store.rollout, world.store.kept_evidence = Rollout(), {}
    world.restart()
    world.until(lambda cycle: world.app.phase is Phase.STABLE and not cycle.plan, 900)
    if is_lost and stable_image(world) != "demo:2":
        assert world.app.paused is not None, "a human is asked before anything is tried again"
        for _ in range(50):
            world.cycle()
        assert stable_image(world) == "demo:1"
        world.cycle(Resume("app", "ada"))
    world.until(lambda _: stable_image(world) == "demo:2" and world.app.phase is Phase.STABLE, 900)
    assert {image for image, _ in modes(world)} == {"demo:2"}


@pytest.mark.fault("A14")
def test_a_reboot_mid_canary_is_no_bad_sign(world: World) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    step = world.app.step
    world.passes(1.0)
    world.broken.append("a reboot")
    world.engine.reboot()
    world.cycle()
    assert (world.app.phase, world.app.step) == (Phase.ANALYZING, step)
    world.until(lambda _: world.nginx.weights["app"] == 25)
    world.broken.clear()
    rests_at(world, "demo:2")


def test_stable_killed_while_the_canary_serves_is_healed_and_the_clocks_wait(world: World) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    (old,) = (box for box in world.boxes() if box.request.spec.image == "demo:1")
    world.broken.append("stable is down")
    held = list(world.engine.boxes)
    world.engine.fault = lambda action: (
        None if not isinstance(action, StartContainer) or action.container in held else _refused()
    )
    world.engine.destroy(old.name)
    waited = world.app.waited_s
    for _ in range(30):
        world.cycle()
    assert (world.app.phase, world.app.waited_s) == (Phase.ANALYZING, pytest.approx(waited, abs=0.2))
    assert world.nginx.weights["app"] == 25, "an unjudged canary must not inherit everything"
    world.engine.fault = lambda _action: None
    world.until(lambda _: len(world.boxes()) == 2)
    world.broken.clear()
    rests_at(world, "demo:2")


def _refused() -> Any:
    from reconciler.core.plan import Outcome, Result

    return Result(Outcome.FAILED, "the engine says no")


@pytest.mark.fault("G1", "G12")
def test_policy_away_for_longer_than_its_budget_takes_the_traffic_back_and_gives_it_again(world: World) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    world.says("canary", allow=False, known=False, reason="OPA did not answer within 5 s")
    for _ in range(40):
        world.cycle()
    assert world.nginx.weights["app"] == 25, "within its budget the weight holds"
    upto(world, Phase.SUSPENDED)
    world.until(lambda _: world.nginx.weights["app"] == 0)
    run = world.app.run
    del world.verdicts["canary"]
    upto(world, Phase.ANALYZING)
    assert (world.app.step, world.app.run, world.app.quarantined) == (0, run, ()), "step 1, with its evidence"
    rests_at(world, "demo:2")


def test_a_teardown_mid_rollout_then_a_deploy_restores_the_last_stable_and_starts_over(world: World) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    world.cycle(Teardown())
    world.until(lambda cycle: not world.engine.boxes)
    world.restart()
    world.cycle(Deploy())
    first = upto(world, Phase.STABLE)
    assert stable_image(world) == "demo:1", first.decisions
    world.until(lambda _: stable_image(world) == "demo:2" and world.app.phase is Phase.STABLE, 900)


def test_three_replicas_move_together(world: World) -> None:
    world = running(wish(replicas=3))
    world.wants(wish("demo:2", replicas=3))
    world.until(lambda cycle: world.app.phase is Phase.STABLE and not cycle.plan, 900)
    assert modes(world) == [("demo:2", "stable")] * 3


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.RECREATE])
def test_a_worker_without_a_route_moves_replica_by_replica(strategy: Strategy) -> None:
    def worker(image: str) -> DesiredState:
        return wish(image, route=None, port=None, healthcheck=None, replicas=3, rollout={"strategy": strategy})

    world = World()
    world.broken.append("nothing is routed to it")
    world.wants(worker("demo:1"))
    world.converge()
    world.wants(worker("demo:2"))
    most, least = 0, 3
    while not (world.app.phase is Phase.STABLE and stable_image(world) == "demo:2"):
        world.cycle()
        well = sum(world.is_well(box) for box in world.boxes())
        most, least = max(most, len(world.boxes())), min(least, well)
        assert len(world.cycles) < 400
    assert modes(world) == [("demo:2", "stable")] * 3
    assert (most, least) == ((4, 3) if strategy is Strategy.ROLLING else (3, 3)), "recreated: the old one goes first"


def test_a_rolling_update_that_fails_goes_back(world: World) -> None:
    world = World()
    world.broken.append("nothing is routed to it")
    world.wants(wish(route=None, replicas=2, rollout={"strategy": Strategy.ROLLING}))
    world.converge()
    world.sick = {"demo:2"}
    world.wants(wish("demo:2", route=None, replicas=2, rollout={"strategy": Strategy.ROLLING}))
    upto(world, Phase.UPDATING)
    world.until(lambda _: "demo:2" in world.images())
    world.passes(61)
    world.until(lambda cycle: world.app.phase is Phase.STABLE and not cycle.plan)
    assert modes(world) == [("demo:1", "stable")] * 2
    assert len(world.app.quarantined) == 1


def test_three_requests_a_minute_wait_for_evidence_and_go_on_when_there_is_enough(world: World) -> None:
    world.traffic.rate = 3 / 60
    world.wants(wish("demo:2", rollout={"min_requests": 20}))
    world.until(lambda _: world.nginx.weights["app"] == 5, 600)
    for _ in range(40):
        world.passes(60)
        world.cycle()
    assert world.nginx.weights["app"] == 5, "two canary requests decide nothing"
    for _ in range(60):
        world.passes(600)
        world.cycle()
    rests_at(world, "demo:2")


@pytest.mark.fault("H6")
def test_an_idle_canary_waits_where_it_is(world: World) -> None:
    world.traffic.rate = 0.0
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 5, 600)
    for _ in range(200):
        world.cycle()
    assert (world.app.phase, world.nginx.weights["app"]) == (Phase.ANALYZING, 5)


@pytest.mark.fault("J9")
def test_a_paused_canary_stays_at_its_weight_and_still_rolls_back(world: World) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    world.cycle(Pause("app", "ada", "over lunch"))
    for _ in range(150):
        world.cycle()
    assert world.nginx.weights["app"] == 25
    world.traffic.errors["demo:2"] = 0.5
    rests_at(world, "demo:1")


def test_a_pause_ends_by_itself_or_on_a_word(world: World) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 5, 600)
    world.cycle(Pause("app", "ada", until=world.clock.now() + 15))
    for _ in range(100):
        world.cycle()
    assert world.nginx.weights["app"] == 5
    world.until(lambda _: world.nginx.weights["app"] == 25, 300)
    world.cycle(Pause("app", "ada"))
    for _ in range(100):
        world.cycle()
    world.cycle(Resume("app", "ada"))
    rests_at(world, "demo:2")


def test_a_blue_green_rollout_is_judged_by_probes_and_then_gets_everything_at_once() -> None:
    blue_green = {"strategy": Strategy.BLUE_GREEN, "probe_path": "/"}
    world = running(wish(rollout=blue_green))
    world.wants(wish("demo:2", rollout=blue_green))
    rests_at(world, "demo:2")
    assert list(weights(world)) == [0, 100, 0]
    world.traffic.errors["demo:3"] = 0.5
    world.wants(wish("demo:3", rollout=blue_green))
    world.until(lambda _: bool(world.app.quarantined), 600)
    rests_at(world, "demo:2")
    assert list(weights(world)) == [0, 100, 0], "no request but our own ever went to it"


def test_an_adopted_canary_becomes_stable_as_it_is() -> None:
    adopt = {"promotion": "adopt"}
    world = running(wish(rollout=adopt))
    world.wants(wish("demo:2", rollout=adopt))
    upto(world, Phase.WATCHING)
    (canary,) = (box for box in world.boxes() if box.request.spec.image == "demo:2")
    world.until(lambda cycle: world.app.phase is Phase.STABLE and not cycle.plan)
    assert [box.id for box in world.boxes()] == [canary.id]
    assert canary.restart_policy == "unless-stopped", "healed like any stable container from now on"
    world.wants(wish("demo:3", rollout=adopt))
    world.until(lambda c: world.app.phase is Phase.STABLE and stable_image(world) == "demo:3" and not c.plan, 900)


def test_an_adopted_canary_that_goes_bad_while_watched_is_taken_back() -> None:
    adopt = {"promotion": "adopt"}
    world = running(wish(rollout=adopt))
    world.wants(wish("demo:2", rollout=adopt))
    upto(world, Phase.WATCHING)
    world.traffic.errors["demo:2"] = 0.5
    rests_at(world, "demo:1")


@pytest.mark.fault("B22")
@pytest.mark.parametrize("crash", [{"oom": True}, {"exit_code": 3}], ids=["out of memory", "crash"])
def test_a_canary_that_dies_is_rolled_back_at_once(world: World, crash: dict[str, Any]) -> None:
    world.wants(wish("demo:2"))
    world.until(lambda _: world.nginx.weights["app"] == 25, 600)
    (bad,) = (box for box in world.boxes() if box.request.spec.image == "demo:2")
    world.broken.append("its own requests fail")
    world.engine.crash(bad.name, **crash)
    decided = world.cycle().decisions[0]
    assert decided.move is Move.GIVE_UP
    assert world.nginx.weights["app"] == 0, "in the same cycle"
    world.broken.clear()
    rests_at(world, "demo:1")


# ---------------------------------------------------------------- somebody sets the clock

YEARS = 10 * 365 * 86400.0


@pytest.mark.fault("D1")
@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, YEARS])
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.RENEWING, Phase.WATCHING])
def test_a_clock_that_is_set_ends_no_wait_early_and_none_late(world: World, phase: Phase, jump_s: float) -> None:
    world.wants(wish("demo:2"))
    upto(world, phase)
    world.clock.set_by_s += jump_s
    upto(world, Phase.WATCHING)
    began = world.clock.seconds
    rests_at(world, "demo:2")
    assert phases(world) == WALK
    assert ROLLOUT.watch_s - 1.0 <= world.clock.seconds - began <= ROLLOUT.watch_s + 6.0


@pytest.mark.fault("D1")
def test_a_clock_that_is_set_in_the_middle_of_a_cycle_ends_no_wait_early(world: World) -> None:
    world.wants(wish("demo:2"))
    upto(world, Phase.WATCHING)
    began, read = world.clock.seconds, world.traffic.read

    def set_meanwhile(*args: Any) -> Any:
        world.clock.set_by_s = YEARS
        return read(*args)

    world.traffic.read = set_meanwhile  # type: ignore[method-assign]
    rests_at(world, "demo:2")
    assert world.clock.seconds - began >= ROLLOUT.watch_s - 1.0


@pytest.mark.fault("D1")
def test_a_pause_for_a_time_ends_in_time_although_the_clock_is_set(world: World) -> None:
    world.wants(wish("demo:2"))
    upto(world, Phase.ANALYZING)
    world.cycle(Pause("app", "ann", "lunch", world.clock.now() + 60.0))
    said = world.clock.seconds
    world.clock.set_by_s -= 3600.0
    world.until(lambda _: world.app.paused is None, 2000)
    assert 60.0 <= world.clock.seconds - said <= 65.0


def test_fewer_replicas_go_after_nginx_has_let_them_go_also_while_the_next_image_is_missing() -> None:
    world = running(wish("demo:2", replicas=2))
    world.wants(wish("demo:9", replicas=1))
    world.until(lambda _: len(world.boxes()) == 1, 300)


@pytest.mark.fault("D1")
def test_a_clock_that_is_set_back_while_nobody_runs_makes_no_wait_longer(world: World) -> None:
    world.wants(wish("demo:2"))
    upto(world, Phase.WATCHING)
    world.clock.set_by_s -= 3600.0
    world.restart()
    upto(world, Phase.STABLE, 200)


@pytest.mark.fault("C2")
def test_a_file_that_cannot_be_removed_keeps_no_rollout_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise StateError("revisions/x.json: input/output error")

    world.wants(wish("demo:2"))
    monkeypatch.setattr(world.store, "forget_all_but", fail)
    upto(world, Phase.STABLE)
    assert world.images() == ["demo:2"]
    assert "revisions/x.json: input/output error" in world.cycles[-1].errors


def test_how_a_container_is_probed_is_known_for_as_long_as_it_is_there(world: World) -> None:
    world.wants(wish("demo:2"))
    upto(world, Phase.PROMOTING)
    world.wants(wish())
    upto(world, Phase.ROLLING_BACK)
    assert {box.labels["io.swiftdeploy.revision"] for box in world.boxes()} <= set(world.store.revisions)
