"""The figures of the simulated world, in one table, with those of others who test controllers or stores like this."""

from __future__ import annotations

import time
from concurrent.futures import Executor, ProcessPoolExecutor

from tests.sim.campaign import CHUNK, Tally, seeds, singles
from tests.sim.mutant_list import MUTANTS
from tests.sim.mutants import fate
from tests.sim.scenarios import SCENARIOS
from tests.sim.world import FAULTS

SIEVE = "Sieve (OSDI 2022): 7.5 plans a machine-hour, 2,380 plans for ten controllers"
OTHERS = {
    "schedules a machine-hour": SIEVE,
    "single faults": "Sieve: one perturbation a plan, pruned by 47 to 99.6 %",
}


def report(first: int, last: int, jobs: int) -> int:
    """Print the table of seeds `first` to `last`, every single fault and every mutant; 0 where nothing is broken."""
    began = time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        drawn = _added(pool, [(at, min(at + CHUNK, last)) for at in range(first, last, CHUNK)])
        drawn_s = time.monotonic() - began
        faults = Tally()
        for tally in pool.map(singles, SCENARIOS):
            faults.add(tally)
        killed = [found for found in pool.map(fate, MUTANTS) if found.rule]
    per_hour = drawn.schedules / max(drawn_s, 0.001) * 3600
    rows = [
        ("schedules", f"{drawn.schedules:,}", f"{len(drawn.broken)} broken"),
        ("schedules a second and core", f"{drawn.schedules / max(drawn.cpu_s, 0.001):,.0f}", "asked: 400"),
        ("schedules a machine-hour", f"{per_hour:,.0f}", OTHERS["schedules a machine-hour"]),
        ("cycles of the product in them", f"{drawn.cycles:,}", f"{drawn.effects:,} effects"),
        ("stories", str(len(SCENARIOS)), "without a fault, each ends as it must"),
        ("single faults", f"{faults.schedules:,}", f"{len(faults.broken)} broken; {OTHERS['single faults']}"),
        ("faults of one effect", str(len(FAULTS)), "each at each effect of each story"),
        ("mutants killed", f"{len(killed)} of {len(MUTANTS)}", "asked: all of at least 40"),
    ]
    print("| figure | here | beside it |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    for name, _, words in (*drawn.broken, *faults.broken):
        print(f"BROKEN {words[:160]}\n    python -m tests.sim {name}")
    return 1 if drawn.broken or faults.broken or len(killed) < len(MUTANTS) else 0


def _added(pool: Executor, bounds: list[tuple[int, int]]) -> Tally:
    whole = Tally()
    for tally in pool.map(seeds, *zip(*bounds, strict=True)):
        whole.add(tally)
    return whole
