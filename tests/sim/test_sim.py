"""The simulated world in `make test`: random schedules, single faults of the main stories, regressions, some mutants.

Longer runs: `python -m tests.sim --seeds 0:1000000`, `singles`, `pairs --main`, `mutants`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reconciler.measuring import Measured
from tests.sim import remembered
from tests.sim.campaign import Tally, seeds, singles
from tests.sim.mutant_list import MUTANTS
from tests.sim.mutants import fate, is_told
from tests.sim.remembered import thawed_and_remade
from tests.sim.scenarios import MAIN, SCENARIOS, units
from tests.sim.schedule import Schedule, run
from tests.sim.shrink import REGRESSIONS, is_open, kept
from tests.sim.world import FAULTS

CHUNKS, EACH = 10, 5000
"""So many seeds run in `make test`, in pieces that processes can share out."""
KINDS = (*FAULTS[:6], "raise EngineError", "raise MemoryError")
"""Those that end alike are told apart in `python -m tests.sim singles` only."""
SAMPLE = (
    "remove before nginx has let go",
    "weight up before the reload",
    "switch to new ones that are down",
    "restore to the wrong slot",
    "no test of the configuration",
    "old groups stay",
    "a rolling update takes them all",
    "only the serving slot is shown",
    "unknown is as good as allowed",
    "a denial is as good as allowed",
    "the last step comes first",
    "a bad verdict changes nothing",
    "steps do not wait for one another",
    "a failed step is as good as done",
)

ALL_KEPT = sorted(REGRESSIONS.glob("*.json"))
REPLAYED = [path for path in ALL_KEPT if not is_open(path)]


def none_is_broken(tally: Tally) -> None:
    print(tally)
    assert not tally.broken, "\n".join(f"{words}: python -m tests.sim {name}" for name, _, words in tally.broken)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_story_without_faults_ends_as_it_must(scenario: str) -> None:
    first, steps = SCENARIOS[scenario]
    ran = run(Schedule(first, tuple(units(steps))))
    assert ran.violation is None, str(ran.violation)


def test_thawed_values_are_what_frozen_ones_are_and_freeze_again() -> None:
    frozen = Measured(trouble="none")
    with thawed_and_remade():
        made = Measured(trouble="none")
        assert (made, repr(made), made.evidence) == (frozen, repr(frozen), {})
        assert remembered.replace(made, trouble="some") == Measured(trouble="some") != made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.trouble = "some"  # type: ignore[misc]
    assert dataclasses.replace(made, trouble="some") == Measured(trouble="some")


@pytest.mark.fault("A1", "A2", "A3", "A4", "A9", "A14", "B1", "B3", "B4", "B15", "B22", "B25", "B26", "B28", "B35")
@pytest.mark.fault("C1", "C2", "C6", "D1", "D4", "E3", "E8", "E9", "G1", "G3", "G4", "G5", "G7", "G10", "G12", "G13")
@pytest.mark.fault("H1", "H3", "H4", "H6", "H8", "H9", "I2", "I3", "I4", "I5", "I11")
@pytest.mark.long
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_schedule_breaks_a_rule(chunk: int) -> None:
    none_is_broken(seeds(chunk * EACH, (chunk + 1) * EACH))


@pytest.mark.fault("A1", "A2", "A3", "A4", "A11", "A19", "B3", "B4", "B15", "C1", "C2", "I5")
@pytest.mark.parametrize("scenario", MAIN)
def test_every_single_fault_of_the_main_stories_is_survived(scenario: str) -> None:
    none_is_broken(singles(scenario, KINDS))


@pytest.mark.fault("B29", "D1", "G13", "H9")
@pytest.mark.parametrize("path", REPLAYED, ids=lambda path: path.stem)
def test_what_once_broke_a_rule_does_not_any_more(path: Path) -> None:
    ran = run(kept(path))
    assert ran.violation is None, f"{ran.violation}: python -m tests.sim --replay {path}"


@pytest.mark.parametrize("path", sorted({*ALL_KEPT} - {*REPLAYED}), ids=lambda path: path.stem)
def test_what_is_known_to_break_a_rule_is_listed_as_long_as_it_does(path: Path) -> None:
    assert run(kept(path)).violation is not None, f"it is mended: say so in {path} and in docs/reliability.md"


def test_every_break_of_the_product_still_finds_its_piece_of_the_source() -> None:
    assert [name for name in MUTANTS if not is_told(name)] == []


@pytest.mark.parametrize("name", SAMPLE)
def test_a_break_of_the_product_is_noticed(name: str) -> None:
    found = fate(name, most=200)
    assert found.rule, f"{name} lives through {found.schedules} schedules"
