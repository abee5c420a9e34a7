"""State that is lost, or of an older day: what serves goes on serving, and what was decided stays decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.core.containers import KeptRevision
from reconciler.core.desired import DesiredState, Mode, RolloutSpec, Step
from reconciler.core.rollout import Phase, Rollout
from reconciler.core.words import Deploy, Rollback
from tests.builders import desired, service
from tests.cycle.cycle_world import World

ROLLOUT = RolloutSpec(steps=(Step(50, 2.0),), watch_s=6.0, min_requests=5)


def wish(version: int, mode: Mode = Mode.STABLE, **changes: Any) -> DesiredState:
    of = service(image=f"demo:{version}", mode=mode, rollout=dataclasses.replace(ROLLOUT, **changes))
    return desired(of, revision=f"{version}{mode[0]}" * 32, limits={"canary": {"warmup_seconds": 0.0}})


def running(first: DesiredState) -> World:
    world = World()
    world.traffic.rate = 50.0
    world.wants(first)
    world.converge()
    return world


def upto(world: World, phase: Phase) -> None:
    world.until(lambda _: world.app.phase is phase, 900)


def served(world: World) -> float:
    """The share of requests that somebody well gets."""
    return round(sum(world.traffic._shares().values()), 6)


def mode(box: Any) -> str:
    return dict(box.request.spec.environment)["MODE"]


# ---------------------------------------------------------------- revisions


def test_new_stable_containers_that_never_answered_take_over_from_nobody_when_their_revision_is_lost() -> None:
    world = running(wish(1))
    world.wants(wish(2, watch_s=60.0))
    upto(world, Phase.RENEWING)
    well = world.is_well
    world.is_well = lambda box: (
        well(box)
        and not (  # type: ignore[method-assign]
            box.request.spec.image == "demo:2" and mode(box) == Mode.STABLE
        )
    )
    world.wants(wish(3))
    world.cycle()
    world.store.revisions = {r: k for r, k in world.store.revisions.items() if k.service.image != "demo:2"}
    world.restart()
    least = 1.0
    for _ in range(900):
        world.cycle()
        least = min(least, served(world))
        if world.app.phase is Phase.STABLE and "demo:3" in world.images():
            break
    assert (least, world.images()) == (1.0, ["demo:3"])


# ---------------------------------------------------------------- an older rollout


def older() -> tuple[World, dict[str, KeptRevision]]:
    """A host on which demo:2 took over from demo:1, with the rollout of before back on disk and a new process.

    Beside it the revisions that were kept before.
    """
    world = running(wish(1))
    before, kept = world.store.rollout, world.store.revisions
    world.wants(wish(2))
    world.until(lambda cycle: cycle.is_converged and "demo:2" in world.images() and len(world.images()) == 1, 900)
    world.store.rollout = before
    world.restart()
    return world, kept


def engine_is_away(world: World) -> Callable[[], None]:
    world.engine.is_down = True

    def back() -> None:
        world.engine.is_down = False

    return back


def nobody_is_well_yet(world: World) -> Callable[[], None]:
    world.broken.append("by the test")  # requests fail until it answers, whoever is in charge
    world.sick = {"demo:2"}
    return world.sick.clear


@pytest.mark.parametrize("hinder", [engine_is_away, nobody_is_well_yet])
@pytest.mark.parametrize("cycles", [1, 30])
def test_an_older_rollout_is_known_for_one_in_the_first_cycle_that_sees_somebody_answer(
    hinder: Callable[[World], Callable[[], None]], cycles: int
) -> None:
    world, _ = older()
    before, relieve = world.app, hinder(world)
    for _ in range(cycles):
        assert not world.cycle().plan.acts
        assert (world.app.stable, world.app.candidate) == (before.stable, None)
    relieve()
    for _ in range(60):
        world.cycle()
        assert served(world) == 1.0
    assert (world.images(), world.app.phase, world.app.paused) == (["demo:2"], Phase.STABLE, None)


def test_a_permission_that_is_given_in_doubt_is_kept_until_something_can_be_done_with_it() -> None:
    world, _ = older()
    nobody_is_well_yet(world)
    world.cycle(Deploy(allow_interruption=True))
    assert world.memory.in_doubt_since is not None
    assert world.memory.allow_interruption


def test_while_an_older_rollout_is_in_doubt_that_is_said() -> None:
    world, _ = older()
    relieve = nobody_is_well_yet(world)
    assert "may be an older one" in world.cycle().errors[0]
    assert not world.memory.is_recalled
    relieve()
    assert not world.cycle().errors
    assert world.memory.is_recalled


def test_a_doubt_ends_with_the_health_deadline() -> None:
    world, kept = older()
    world.store.revisions |= kept
    nobody_is_well_yet(world)
    world.cycle()
    world.passes(61.0)
    world.until(lambda _: served(world) == 1.0, 300)
    assert "demo:1" in world.images()


# ---------------------------------------------------------------- what was decided


@pytest.mark.parametrize("phase", [Phase.TURNING, Phase.ROLLING_BACK])
def test_what_was_just_rolled_back_is_not_stable_again_after_a_restart(phase: Phase) -> None:
    world = running(wish(1))
    world.wants(wish(2, watch_s=60.0))
    upto(world, Phase.WATCHING)
    world.cycle(Rollback("app", "ada", "customers complain"))
    upto(world, phase)
    world.broken.append("by the test")  # somebody removes what serves
    stable = world.app.stable
    assert stable is not None
    for box in world.boxes():
        if box.labels["io.swiftdeploy.revision"] == stable.revision:
            world.engine.destroy(box.id)
    world.restart()
    world.until(lambda _: served(world) == 1.0 and world.app.phase is Phase.STABLE, 300)
    assert (world.images(), world.app.stable) == (["demo:1"], stable)


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_canary_that_was_dismissed_is_not_tried_again_before_somebody_has_looked(is_lost: bool) -> None:
    world = running(wish(1))
    world.wants(wish(1, Mode.CANARY))
    upto(world, Phase.ANALYZING)
    world.cycle(Rollback("app", "ada", "it hurts customers"))
    upto(world, Phase.STABLE)
    world.converge()
    if is_lost:
        world.store.rollout = Rollout()
    world.restart()
    for _ in range(30):
        world.cycle()
        assert world.app.phase is Phase.STABLE
    assert (world.app.paused is not None) == is_lost


def test_a_roll_back_needs_no_manifest_in_force() -> None:
    """last-good.json is lost and nobody lets a manifest in: what an operator takes back goes back all the same."""
    world = running(wish(1))
    world.wants(wish(2))
    upto(world, Phase.ANALYZING)
    world.store.good = None
    world.restart()
    world.opa_answers = False
    world.cycle(Rollback("app", "ann"))
    assert (world.app.phase, len(world.app.quarantined)) == (Phase.ROLLING_BACK, 1)
    upto(world, Phase.STABLE)
    assert (world.memory.last_good, world.nginx.weights["app"]) == (None, 0)
