"""From a schedule that breaks a rule to a shorter one that breaks the same, and a file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.sim.scenarios import units
from tests.sim.schedule import Schedule, run
from tests.sim.steps import Step

REGRESSIONS = Path(__file__).parent / "regressions"


def shrunk(schedule: Schedule) -> Schedule:
    """The schedule without whatever the violation does not need; it begins on an empty host."""
    rule = broken(schedule)
    assert rule, "nothing is broken"
    best = replace(schedule, scenario="", start=0, steps=tuple(units(list(schedule.steps))))
    if broken(best) != rule:
        return schedule
    is_shorter = True
    while is_shorter:
        is_shorter = False
        for fewer in _fewer(best):
            if broken(fewer) == rule:
                best, is_shorter = fewer, True
                break
    return replace(best, steps=tuple(joined(best.steps)))


def broken(schedule: Schedule) -> str:
    """The rule that the schedule breaks; "" where it breaks none."""
    violation = run(schedule).violation
    return violation.rule if violation else ""


def _fewer(schedule: Schedule) -> Iterator[Schedule]:
    """Shorter ones: without a half, a quarter, … one step; then on a smaller first manifest, or an earlier fault."""
    steps = schedule.steps
    size = max(1, len(steps) // 2)
    while True:
        for at in range(0, len(steps), size):
            yield replace(schedule, steps=(*steps[:at], *steps[at + size :]))
        if size == 1:
            break
        size //= 2
    words = schedule.first.split()
    for index in range(1, len(words)):
        yield replace(schedule, first=" ".join((*words[:index], *words[index + 1 :])))
    for at, step in enumerate(steps):
        if step[0] == "wants" and " " in step[1]:
            asked = step[1].split()
            for index in range(1, len(asked)):
                fewer = " ".join((*asked[:index], *asked[index + 1 :]))
                yield replace(schedule, steps=(*steps[:at], ["wants", fewer], *steps[at + 1 :]))
        if step[0] == "meddle":
            yield replace(schedule, steps=(*steps[:at], step[2], *steps[at + 1 :]))


def joined(steps: tuple[Step, ...]) -> Iterator[Step]:
    """The steps with cycles in a row as one."""
    count = 0
    for step in steps:
        if step[0] == "cycle":
            count += step[1]
            continue
        if count:
            yield ["cycle", count]
        count = 0
        yield step
    if count:
        yield ["cycle", count]


def saved(schedule: Schedule, name: str, rule: str, words: str, *, is_open: bool = True) -> Path:
    """Write the schedule to where `make test` replays it; one that `is_open` is known to break the rule still."""
    path = REGRESSIONS / f"{name}.json"
    lines = ",\n    ".join(json.dumps(step) for step in schedule.steps)
    head = f'  "broke": {json.dumps(rule)},\n  "words": {json.dumps(words)},\n  "first": {json.dumps(schedule.first)},'
    path.write_text(
        f'{{\n{head}\n  "open": {json.dumps(is_open)},\n  "steps": [\n    {lines}\n  ]\n}}\n', encoding="utf-8"
    )
    return path


def is_open(path: Path) -> bool:
    """The product is known to break the rule still."""
    return bool(json.loads(path.read_text(encoding="utf-8")).get("open"))


def kept(path: Path) -> Schedule:
    """The schedule of such a file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return Schedule(found["first"], tuple(found["steps"]))
