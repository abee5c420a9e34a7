"""The simulated world in `make test`: random schedules, single faults of the main stories, regressions, some mutants.

Longer runs: `python -m tests.sim --seeds 0:1000000`, `singles`, `pairs --main`, `mutants`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.campaign import Tally, seeds, singles
from tests.sim.mutants import fate
from tests.sim.scenarios import MAIN, SCENARIOS, units
from tests.sim.schedule import Schedule, run
from tests.sim.shrink import REGRESSIONS, is_open, kept
from tests.sim.world import FAULTS

CHUNKS, EACH = 16, 250
KINDS = (*FAULTS[:6], "raise EngineError", "raise MemoryError")
"""Those that end alike are told apart in `python -m tests.sim singles` only."""
SAMPLE = ("remove before nginx has let go", "unknown is as good as allowed", "a failed step is as good as done")


def none_is_broken(tally: Tally) -> None:
    print(tally)
    assert not tally.broken, "\n".join(f"{words}: python -m tests.sim {name}" for name, _, words in tally.broken)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_story_without_faults_ends_as_it_must(scenario: str) -> None:
    first, steps = SCENARIOS[scenario]
    ran = run(Schedule(first, tuple(units(steps))))
    assert ran.violation is None, str(ran.violation)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_schedule_breaks_a_rule(chunk: int) -> None:
    none_is_broken(seeds(chunk * EACH, (chunk + 1) * EACH))


@pytest.mark.parametrize("scenario", MAIN)
def test_every_single_fault_of_the_main_stories_is_survived(scenario: str) -> None:
    none_is_broken(singles(scenario, KINDS))


OLD = sorted(REGRESSIONS.glob("*.json"))


@pytest.mark.parametrize("path", [path for path in OLD if not is_open(path)], ids=lambda path: path.stem)
def test_what_once_broke_a_rule_does_not_any_more(path: Path) -> None:
    ran = run(kept(path))
    assert ran.violation is None, f"{ran.violation}: python -m tests.sim --replay {path}"


@pytest.mark.parametrize("path", [path for path in OLD if is_open(path)], ids=lambda path: path.stem)
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="known, and not mended yet (docs/reliability.md)")
def test_what_is_known_to_break_a_rule_is_mended(path: Path) -> None:
    assert run(kept(path)).violation is None


@pytest.mark.parametrize("name", SAMPLE)
def test_a_break_of_the_product_is_noticed(name: str) -> None:
    found = fate(name, most=200)
    assert found.rule, f"{name} lives through {found.schedules} schedules"
