"""What wakes the next cycle, how long the loop sleeps, and who hears of which cycle."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from reconciler.core.plan import OK, Outcome, Plan, PlannedAction, PullImage, Result, WaitProxy
from reconciler.core.record import Cycle, Trigger
from reconciler.core.rollout import Decision, Move, Rollout
from reconciler.core.words import Deploy, LookAgain
from reconciler.loop import BUSY_S, BUSY_TURNS, IDLE_S, SLOWEST_LOOK_S, UNSETTLED_S, Loop, Wake
from tests.cycle.cycle_world import V2, World

LIMIT_S = 20.0
ACT = PlannedAction(PullImage("a"), "a", "missing")
WAIT = PlannedAction(WaitProxy("h", True), "nginx", "reloading")
PENDING = Result(Outcome.PENDING, look_again_s=0.05)
QUIET = Cycle(1, Trigger("interval"), "", "", 1.0, None, None, Rollout())


@pytest.fixture
def world() -> World:
    made = World()
    made.converge()
    made.cycle()
    return made


def loop_of(world: World, finished: Callable[[Cycle], None] = lambda _cycle: None) -> Loop:
    return Loop(world.ports, world.setting, world.memory, finished)


def after(loop: Loop, **changes: object) -> float:
    """The delay once a cycle ended like that."""
    loop.latest = dataclasses.replace(QUIET, **changes)
    loop._note_waiting(loop.latest)
    return loop.delay_s()


# ---------------------------------------------------------------- delays


@pytest.mark.parametrize(
    ("changes", "delay_s"),
    [
        ({}, IDLE_S),
        ({"is_settled": False}, UNSETTLED_S),
        ({"errors": ("the engine is down",)}, BUSY_S),
        ({"plan": Plan((WAIT,)), "results": (PENDING,)}, 0.05),
        ({"plan": Plan((ACT,)), "results": (OK,)}, 0.0),
        ({"plan": Plan((ACT,)), "results": (Result(Outcome.FAILED),)}, BUSY_S),
        ({"decisions": (Decision("app", Move.START),)}, 0.0),
        ({"decisions": (Decision("app", Move.HOLD, "DENIED"),)}, BUSY_S),
        ({"plan": Plan((ACT,)), "results": (Result(Outcome.SKIPPED, look_again_s=60.0),)}, BUSY_S),
    ],
)
def test_the_loop_sleeps_as_long_as_the_last_cycle_lets_it(
    world: World, changes: dict[str, object], delay_s: float
) -> None:
    assert after(loop_of(world), **changes) == delay_s


def test_the_first_cycle_comes_at_once(world: World) -> None:
    assert loop_of(world).delay_s() == 0.0


def test_a_long_wait_is_looked_at_more_and_more_rarely(world: World) -> None:
    loop, delays = loop_of(world), []
    for _ in range(60):
        delays.append(after(loop, plan=Plan((WAIT,)), results=(PENDING,)))
        world.passes(1)
    assert delays[:9] == [0.05] * 9
    assert delays == sorted(delays)
    assert (delays[20], delays[-1]) == (1.0, SLOWEST_LOOK_S)


def test_a_wait_that_ends_is_forgotten(world: World) -> None:
    loop = loop_of(world)
    after(loop, plan=Plan((WAIT,)), results=(PENDING,))
    world.passes(30)
    after(loop, plan=Plan((ACT,)), results=(OK,))
    assert after(loop, plan=Plan((WAIT,)), results=(PENDING,)) == 0.05


@pytest.mark.fault("J8")
def test_a_host_where_somebody_undoes_us_is_not_fought_at_full_speed(world: World) -> None:
    loop = loop_of(world)
    delays = [after(loop, plan=Plan((ACT,)), results=(OK,)) for _ in range(BUSY_TURNS + 60)]
    assert set(delays[:BUSY_TURNS]) == {0.0}
    assert delays[BUSY_TURNS] > 0
    assert delays[-1] == SLOWEST_LOOK_S
    after(loop)
    assert after(loop, plan=Plan((ACT,)), results=(OK,)) == 0.0, "one quiet cycle is forgiveness"


# ---------------------------------------------------------------- wakes


@pytest.mark.fault("E8")
def test_wakes_that_come_together_are_one_cycle_named_after_the_loudest(world: World) -> None:
    loop = loop_of(world)
    for kind in ("engine", "manifest", "operator", "interval", "engine"):
        loop.wake(Trigger(kind))
    wakes = loop._next_wakes(0.0)
    assert len(wakes) == 5
    assert loop.turn(wakes).trigger.kind == "operator"
    assert [wake.trigger.kind for wake in loop._next_wakes(0.0)] == ["pending"], "nothing is left in the inbox"


@pytest.mark.parametrize(("louder", "than"), [("manifest", "engine"), ("signal", "manifest"), ("interval", "pending")])
def test_a_persons_reason_is_louder_than_the_machines(world: World, louder: str, than: str) -> None:
    for pair in ([louder, than], [than, louder]):
        assert loop_of(world).turn([Wake(Trigger(kind)) for kind in pair]).trigger.kind == louder


@pytest.mark.fault("J6")
def test_every_word_is_heard_even_when_it_is_not_the_loudest(world: World) -> None:
    loop = loop_of(world)
    loop.turn([Wake(Trigger("operator"), Deploy(allow_interruption=True)), Wake(Trigger("operator"), LookAgain())])
    assert not loop.memory.allow_interruption, "with nothing to do the permission is used up"
    world.wants(V2)
    loop.turn([Wake(Trigger("operator"), LookAgain()), Wake(Trigger("operator"), Deploy(allow_interruption=True))])
    assert loop.memory.allow_interruption


# ---------------------------------------------------------------- following


@contextmanager
def turning(loop: Loop) -> Iterator[None]:
    thread = threading.Thread(target=loop.turn_for_ever, args=(lambda: None,))
    thread.start()
    try:
        yield
    finally:
        loop.stop()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def test_following_in_a_process_without_a_loop_turns_it(world: World) -> None:
    world.wants(V2)
    for cycle in loop_of(world).follow(Trigger("operator", "deploy"), Deploy()):
        assert cycle is not None
        world.clock.seconds += 0.1
        if cycle.is_converged and cycle.rollout.of("app").phase == "stable" and world.images() == ["demo:2"]:
            break


def test_a_word_said_during_a_cycle_is_answered_by_a_cycle_that_heard_it() -> None:
    world = World(ThreadPoolExecutor(2))
    world.loaded = dataclasses.replace(world.loaded, desired=None)
    in_cycle, may_end = threading.Event(), threading.Event()
    ends: queue.Queue[Cycle] = queue.Queue()

    def hold() -> object:
        in_cycle.set()
        assert may_end.wait(LIMIT_S)
        return world.loaded

    world.ports.source.load = hold  # type: ignore[method-assign]
    loop = loop_of(world, ends.put)
    loop.turns_itself = True
    answers: queue.Queue[Cycle] = queue.Queue()

    def follow() -> None:
        for cycle in loop.follow(Trigger("operator", "deploy", "ann"), Deploy()):
            if cycle is not None:
                answers.put(cycle)
                return

    with turning(loop):
        assert in_cycle.wait(LIMIT_S)
        reader = threading.Thread(target=follow)
        reader.start()
        while loop._inbox.empty():
            assert reader.is_alive()
        may_end.set()
        assert ends.get(timeout=LIMIT_S).trigger.kind == "start"
        answer = answers.get(timeout=LIMIT_S)
        reader.join(LIMIT_S)
    assert (answer.trigger.kind, answer.trigger.actor) == ("operator", "ann")
    assert loop._listeners == [], "a reader that left is not told any more"


def test_a_follower_is_let_go_when_the_loop_stops() -> None:
    world = World(ThreadPoolExecutor(2))
    world.wants(None, "broken")
    loop = loop_of(world)
    loop.turns_itself = True
    with turning(loop):
        follower = loop.follow(Trigger("operator", "deploy"), Deploy())
        assert next(follower) is not None
        loop.stop()
        assert all(cycle is None or cycle.problems for cycle in follower), "it ends"


def test_a_stopped_loop_has_written_its_quiet_cycles_down() -> None:
    world = World(ThreadPoolExecutor(2))
    world.wants(None, "broken")
    loop = loop_of(world)
    loop.turn([Wake(Trigger("start"))])
    loop.turn([Wake(Trigger("interval"))])
    with turning(loop):
        pass
    assert world.kinds()[0] == "cycle"
    assert world.kinds()[-1] == "idle"


def test_a_long_quiet_time_is_written_down_every_few_minutes(world: World) -> None:
    loop = loop_of(world)
    before = len(world.records)
    for _ in range(60):
        loop.turn([Wake(Trigger("interval"))])
        world.passes(15)
    idle = [record for record in world.records[before:] if record["kind"] == "idle"]
    assert len(idle) in (2, 3)
    assert sum(record["count"] for record in idle) <= 62
