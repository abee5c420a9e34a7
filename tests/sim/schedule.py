"""A schedule: where it begins and what happens, all drawn from one seed before anything runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.sim import policy, traffic
from tests.sim.digest import key
from tests.sim.ending import ends_well
from tests.sim.scenarios import SCENARIOS, stages, units
from tests.sim.steps import WORDS, Step, happen
from tests.sim.watch import Violation
from tests.sim.world import FAULTS, World

WISHES = ("1", "2", "3", "2 hold", "1 hold", "2 x2", "1 x3", "2 adopt", "3 blue_green", "2 quick", "3 rolling")
WISHES += ("2 recreate", "1 job", "2 shop", "1 strict", "3 port", "2 rolling x2", "3 hold x2", "2 job shop")
NAMES = ("nginx/live/nginx.conf", "docker-compose.yml")
STATE = ("rollout.json", "last-good.json", "evidence.json")


LEAVES = 8
"""So many seeds in a row begin alike, and end each in its own way: what is alike has to be run once only."""


@dataclass(frozen=True)
class Schedule:
    """`first` is the manifest on an empty host, `steps` what happens then; the first `start` ones are `scenario`'s own.

    The last `rejoins` units are so again, as many others have them; `shared` units after the start are those of
    the neighbouring seeds.
    """

    first: str
    steps: tuple[Step, ...]
    scenario: str = ""
    start: int = 0
    rejoins: int = 0
    shared: int = 0

    def tail(self) -> Sequence[Step]:
        """What happens after the scenario was left."""
        return self.steps[self.start :]


@dataclass(frozen=True)
class Ran:
    """What a run was like; `violation` is the rule that was broken, or None."""

    cycles: int
    effects: int
    is_followed: bool
    violation: Violation | None = None


def drawn(seed: int) -> Schedule:
    """The schedule of a seed."""
    chance = random.Random(seed // LEAVES)
    scenario = chance.choice(list(SCENARIOS))
    first, steps = SCENARIOS[scenario]
    before = units(steps)
    start = chance.randrange(len(before) + 1)
    tail: list[Step] = []
    if chance.random() < 0.3:
        tail.append(["order", chance.randrange(1, 1 << 20)])
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 4))):
        tail += _round(chance)
    own = random.Random(f"leaf {seed}")
    return Schedule(first, (*before[:start], *tail, *_round(own)), scenario, start, shared=len(tail))


def _round(chance: random.Random) -> list[Step]:
    """Something goes wrong, and time passes."""
    wrong = [_disturbance(chance) for _ in range(chance.choice((1, 1, 1, 2)))]
    return [*wrong, ["cycle", chance.choice((1, 1, 1, 2, 3))]]


def _disturbance(chance: random.Random) -> Step:
    roll = chance.random()
    if roll < 0.45:
        return ["fault", chance.randrange(12), chance.choice(FAULTS[:6] if chance.random() < 0.8 else FAULTS)]
    if roll < 0.52:
        return ["meddle", chance.randrange(10), _accident(chance)]
    if roll < 0.72:
        return _accident(chance)
    if roll < 0.86:
        return _trouble(chance)
    if roll < 0.93:
        return ["wants", chance.choice(WISHES)]
    return ["word", chance.choice(list(WORDS))]


def _accident(chance: random.Random) -> Step:
    """Somebody, or something, does this to the host."""
    index = chance.randrange(6)
    return chance.choice(
        (
            ["kill", index, chance.choice((1, 137, 0, 143))],
            ["stop", index],
            ["start", index],
            ["rm", index],
            ["disconnect", index],
            ["docker pause", index],
            ["docker unpause", index],
            ["kill nginx"],
            ["reboot"],
            ["power", chance.randrange(4)],
            ["prune"],
            ["restart"],
            ["lose", chance.choice(STATE)],
            ["drift", index, chance.choice((None, "edited by hand"))],
            ["flags lost"],
            ["jump", chance.choice((-5.0, 5.0, 3600.0))],
            ["wait", chance.choice((5.0, 45.0, 2_592_000.0))],
            ["reset metrics"],
            ["rmi", chance.choice(("demo:1", "demo:2", "nginx:1.30"))],
        )
    )


def _trouble(chance: random.Random) -> Step:
    """This is so from now on, until the end or until it is said otherwise."""
    image = chance.choice(("demo:1", "demo:2", "demo:3"))
    return chance.choice(
        (
            ["opa", chance.choice(policy.MODES)],
            ["metrics", chance.choice(traffic.MODES)],
            ["sick", image],
            ["sick"],
            ["errors", image, chance.choice((0.0, 0.05, 0.5))],
            ["slow", image, chance.choice((0.0, 0.05, 0.5))],
            ["rate", chance.choice((0.0, 2.0, 1000.0))],
            ["engine down", chance.choice((0, 1, 1))],
            ["disk", chance.choice((0, 1, 1))],
            ["full", chance.choice(("state", "history", "rendered"))],
            ["nginx", "ignores", chance.randrange(1, 3)],
            ["nginx", "lag_s", chance.choice((0.05, 1.5, 8.0))],
            ["nginx", "drain_s", chance.choice((1.5, 4.0, 100.0))],
            ["nginx", "hangs", chance.choice((0, 1, 1))],
            ["host", 0],
            ["half a manifest"],
        )
    )


def run(schedule: Schedule, known: set[Any] | None = None, story: list[str] | None = None) -> Ran:
    """Let it happen, then let the host come to rest.

    `known` are states of which is known how they end; with a `story` everything is run from the empty host on.
    """
    if story is not None or not schedule.scenario:
        world, steps = World(schedule.first), schedule.steps
        world.story = story
    elif known is not None and schedule.shared:
        found = _shared(schedule)
        if isinstance(found, Violation):
            return Ran(0, 0, False, found)
        world, steps = found.clone(), schedule.tail()[schedule.shared :]
    else:
        world, steps = stages(schedule.scenario)[schedule.start].clone(), schedule.tail()
    cycles, effects = world.cycles, world.effects
    broken = None
    try:
        _followed(world, steps, schedule.rejoins, known)
    except Violation as violation:
        broken = violation
    ran = Ran(world.cycles - cycles, world.effects - effects, known is None, broken)
    world.ends()
    return ran


_SHARED: list[tuple[Any, World | Violation]] = []
"""The one beginning that was shared last, and the world after it or the rule that it breaks."""


def _shared(schedule: Schedule) -> World | Violation:
    """The world after the units that the schedule shares with its neighbours; to be cloned, never to be used."""
    steps = schedule.tail()[: schedule.shared]
    key = (schedule.scenario, schedule.start, repr(steps))
    if not _SHARED or _SHARED[0][0] != key:
        world = stages(schedule.scenario)[schedule.start].clone()
        after: World | Violation = world
        try:
            for step in steps:
                happen(world, step)
        except Violation as violation:
            after = violation
        _SHARED[:] = [(key, after)]
    return _SHARED[0][1]


def forget() -> None:
    """The product was changed: how a beginning ended does not count any more."""
    _SHARED.clear()


def _followed(world: World, steps: Sequence[Step], rejoins: int, known: set[Any] | None) -> None:
    """Every step, and the end; no further than where another schedule has been with the same steps before it."""
    passed = []
    for at, step in enumerate(steps):
        left = len(steps) - at
        if known is not None and left <= rejoins and not world.faults:
            here = (left, key(world), *map(repr, steps[at:]))
            if here in known:
                return
            passed.append(here)
        happen(world, step)
    ends_well(world, known)
    if known is not None:
        known.update(passed)
