"""Words that come together, and words that come long before they can be carried out."""

from __future__ import annotations

import pytest

from reconciler.core.desired import DesiredState, Mode, RolloutSpec, Step
from reconciler.core.rollout import Phase
from reconciler.core.words import Promote, Resume, Rollback, Word
from tests.builders import desired, service
from tests.cycle.cycle_world import World

ROLLOUT = RolloutSpec(steps=(Step(5, 600.0),), watch_s=60.0, min_requests=5, unknown_budget_s=3.0)


def wish(version: int, mode: Mode = Mode.STABLE) -> DesiredState:
    of = service(image=f"demo:{version}", mode=mode, rollout=ROLLOUT)
    return desired(of, revision=f"{version}{mode[0]}" * 32, limits={"canary": {"warmup_seconds": 0.0}})


def trying(mode: Mode = Mode.STABLE) -> World:
    """A host on which demo:2 is tried beside demo:1."""
    world = World()
    world.traffic.rate = 100.0
    world.wants(wish(1))
    world.converge()
    world.wants(wish(2, mode))
    upto(world, Phase.ANALYZING)
    return world


def upto(world: World, phase: Phase) -> None:
    world.until(lambda _: world.app.phase is phase, 600)


@pytest.mark.parametrize("other", [Promote("app", "ann"), Resume("app", "ann")])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_roll_back_is_not_undone_by_what_another_one_says_at_the_same_time(other: Word, is_first: bool) -> None:
    world = trying(Mode.CANARY)
    if isinstance(other, Resume):
        world.says("canary", allow=False, action="rollback", reason="P99 latency exceeds 500ms")
        upto(world, Phase.SUSPENDED)
        world.verdicts.clear()
    back = Rollback("app", "bob", "it loses orders")
    world.cycle(*((other, back) if is_first else (back, other)))
    upto(world, Phase.STABLE)
    assert (world.images(), len(world.app.quarantined)) == (["demo:1"], 1)


def test_a_promotion_that_waited_for_the_canary_is_not_made_against_policy() -> None:
    world = trying(Mode.CANARY)
    world.sick = {"demo:2"}
    world.cycle(Promote("app", "ann"))
    for _ in range(10):
        world.cycle()
        assert world.app.phase is Phase.ANALYZING
    world.sick.clear()
    world.says("canary", allow=False, action="rollback", reason="Error rate exceeds 1% threshold")
    for _ in range(20):
        world.cycle()
        assert world.nginx.weights["app"] <= 5
    assert (world.app.phase, world.app.asked) == (Phase.SUSPENDED, None)


def test_a_promotion_that_waited_for_the_canary_is_made_when_it_answers() -> None:
    world = trying(Mode.CANARY)
    world.sick = {"demo:2"}
    world.cycle(Promote("app", "ann"))
    world.sick.clear()
    world.cycle()
    assert (world.app.phase, world.app.reason) == (Phase.PROMOTING, "promoted by ann")


def test_a_promotion_does_not_outlast_a_suspension() -> None:
    world = trying()
    world.says("canary", allow=False, known=False, reason="OPA is down")
    upto(world, Phase.SUSPENDED)
    world.sick = {"demo:2"}
    world.cycle(Promote("app", "ann"))
    assert "not promoted, since the canary was not ready" in world.app.reason
    world.sick.clear()
    world.passes(9 * 3600.0)
    world.cycle()
    assert world.app.phase is Phase.SUSPENDED
    world.cycle(Promote("app", "ann"))
    assert world.app.phase is Phase.PROMOTING
