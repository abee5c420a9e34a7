"""A crash before or after any single act, save or record still converges: each of them is tried, one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from reconciler.core.words import Deploy, Teardown
from tests.cycle.cycle_world import V1, V2, V3, World


class Crash(BaseException):
    """The process is gone; what was done is done."""


def crash_at(world: World, index: int) -> list[str]:
    """The process dies at the act with that number; the list tells which ones there were."""
    acts: list[str] = []

    def around(name: str) -> None:
        acts.append(name)
        if len(acts) == index + 1:
            raise Crash(name)

    world.around = around
    return acts


def first_deployment() -> World:
    return World()


def update() -> World:
    world = World()
    world.converge()
    world.wants(V2)
    return world


def overtaken_update() -> World:
    world = update()
    world.sick = {"demo:2"}
    world.until(lambda _: "demo:2" in world.images())
    world.wants(V3)
    return world


def given_up_update() -> World:
    world = update()
    world.sick = {"demo:2"}
    world.until(lambda _: "demo:2" in world.images())
    world.passes(61)
    return world


STORIES: dict[Callable[[], World], list[str]] = {
    first_deployment: ["demo:1"],
    update: ["demo:2"],
    overtaken_update: ["demo:3"],
    given_up_update: ["demo:1"],
}


def ends(world: World, images: list[str]) -> bool:
    return not world.memory.rollout.of("app").candidate and world.images() == images and world.cycles[-1].is_converged


@pytest.mark.fault("A1", "A2")
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_crash_at_any_act_still_converges(story: Callable[[], World]) -> None:
    survived = next(number for number in itertools.count() if not crashes(story, number))
    assert survived > 15, "the story was not told to its end"


def crashes(story: Callable[[], World], number: int) -> bool:
    """Tell a story with a crash at that act; false when it has no such act. It ends well in any case."""
    world = story()
    acts = crash_at(world, number)
    try:
        world.until(lambda _: ends(world, STORIES[story]))
    except Crash:
        world.around = lambda _name: None
        world.restart()
        world.until(lambda _: ends(world, STORIES[story]))
    assert (len(world.boxes("nginx")), len(world.boxes("opa"))) == (1, 1), f"after a crash {acts[-1]}"
    return len(acts) > number


@pytest.mark.fault("A4")
def test_a_crash_in_every_third_act_still_converges() -> None:
    world = World()
    for wanted in (V1, V2, V1):
        world.wants(wanted)
        for number in range(60):
            crash_at(world, number % 4)
            try:
                world.cycle()
            except Crash:
                world.restart()
        world.around = lambda _name: None
        world.converge()
        assert world.images() == [wanted.services[0].image]


@pytest.mark.fault("A3")
def test_a_crash_after_a_word_was_stored_does_not_forget_it() -> None:
    world = World()
    world.converge()
    crash_at(world, 1)
    with pytest.raises(Crash):
        world.cycle(Teardown())
    world.around = lambda _name: None
    world.restart()
    world.until(lambda cycle: not world.engine.boxes)
    world.converge(Deploy())


@pytest.mark.fault("C6")
def test_a_lost_state_directory_is_made_up_for_from_labels() -> None:
    world = update()
    world.converge()
    (box,) = world.boxes()
    world.store.rollout = type(world.store.rollout)()
    world.restart()
    world.converge()
    assert [b.id for b in world.boxes()] == [box.id], "what serves is recognised, not replaced"
