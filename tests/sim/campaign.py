"""Many schedules: seeds by the thousand, or every single fault of a scenario; over all cores."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.sim.remembered import thawed_and_remade
from tests.sim.scenarios import SCENARIOS, stages, units
from tests.sim.schedule import Schedule, drawn, run
from tests.sim.world import FAULTS

CHUNK = 12_500
"""So many seeds run in one go; what is known of the ends of states is known within it only, so that it never matters
which process runs what."""


@dataclass
class Tally:
    """What a campaign came to; `broken` are what to reproduce it with, the rule, and its words."""

    schedules: int = 0
    cycles: int = 0
    effects: int = 0
    cpu_s: float = 0.0
    broken: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.schedules += other.schedules
        self.cycles += other.cycles
        self.effects += other.effects
        self.cpu_s += other.cpu_s
        self.broken += other.broken

    def __str__(self) -> str:
        many, rate = max(1, self.schedules), self.schedules / max(self.cpu_s, 1e-9)
        return (
            f"{self.schedules} schedules, {rate:.0f} a second and core, {self.cycles / many:.1f} cycles and "
            f"{self.effects / many:.1f} effects each, {len(self.broken)} broken"
        )


KNOWN: set[Any] = set()
"""States of which it is known how they end; of a search for a mutant's death, which goes on from story to story."""


def seeds(first: int, last: int) -> Tally:
    """The schedules of seeds `first` to `last`, the last one not among them."""
    return _run((f"--seed {seed}", drawn(seed)) for seed in range(first, last))


def singles(scenario: str, kinds: Sequence[str] = FAULTS) -> Tally:
    """Every effect of a scenario, with everything that can happen to it."""
    return _run(every_single(scenario, kinds))


def every_single(scenario: str, kinds: Sequence[str] = FAULTS) -> Iterator[tuple[str, Schedule]]:
    """A schedule for each effect of the scenario and each fault of it."""
    first, steps = SCENARIOS[scenario]
    worlds, story = stages(scenario), units(steps)
    for at, step in enumerate(story):
        for ahead in range(worlds[at + 1].effects - worlds[at].effects):
            for kind in kinds:
                name = f"singles --scenario {scenario!r} --effect {worlds[at].effects + ahead} --fault {kind!r}"
                steps = (*story[:at], ["fault", ahead, kind], step, *story[at + 1 :])
                yield name, Schedule(first, steps, scenario, at, len(story) - at - 1)


def every_pair(scenario: str, kinds: Iterable[str] = FAULTS[:6]) -> Iterator[tuple[str, Schedule]]:
    """Two faults, the second one up to 12 effects after the first: on what it left behind, and on the way back."""
    first, steps = SCENARIOS[scenario]
    worlds, story = stages(scenario), units(steps)
    for at, step in enumerate(story):
        for ahead in range(worlds[at + 1].effects - worlds[at].effects):
            for kind in kinds:
                for later in range(1, 13):
                    for other in kinds:
                        two = (["fault", ahead, kind], ["fault", ahead + later, other])
                        where = f"--scenario {scenario!r} --effect {worlds[at].effects + ahead} --fault {kind!r}"
                        name = f"pairs {where} --later {later} --other {other!r}"
                        steps = (*story[:at], *two, step, *story[at + 1 :])
                        yield name, Schedule(first, steps, scenario, at, len(story) - at - 3)


def pairs(scenario: str) -> Tally:
    """Every pair of faults of a scenario."""
    return _run(every_pair(scenario))


def _run(schedules: Iterable[tuple[str, Schedule]]) -> Tally:
    tally, began = Tally(), time.process_time()
    known: set[Any] = set()
    gc.disable()
    try:
        with thawed_and_remade():
            for name, schedule in schedules:
                ran = run(schedule, known)
                tally.schedules += 1
                tally.cycles += ran.cycles
                tally.effects += ran.effects
                if ran.violation is not None:
                    tally.broken.append((name, ran.violation.rule, str(ran.violation)))
                if tally.schedules % 4000 == 0:
                    gc.collect()
                    gc.freeze()
    finally:
        gc.enable()
    tally.cpu_s = time.process_time() - began
    return tally


def campaign(first: int, last: int, jobs: int) -> Iterator[Tally]:
    """Tallies of chunks of seeds, as they come, from `jobs` processes."""
    bounds = [(at, min(at + CHUNK, last)) for at in range(first, last, CHUNK)]
    if jobs == 1:
        yield from (seeds(*each) for each in bounds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(seeds, *zip(*bounds, strict=True))
