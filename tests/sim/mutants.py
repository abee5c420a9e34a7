"""Named breaks of the product: the simulation must notice every one of them, or it proves nothing.

A mutant replaces a piece of the source of one function while it lasts. A piece that is not there any more is an error:
then the product was rewritten, and the mutant has to be told anew.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from tests.sim import campaign, scenarios, schedule, speed
from tests.sim.ending import fresh
from tests.sim.mutant_list import MUTANTS
from tests.sim.scenarios import SCENARIOS, units
from tests.sim.schedule import Schedule, drawn, run
from tests.sim.shrink import REGRESSIONS, is_open, kept
from tests.sim.watch import Violation

MOST = 2000
"""Random schedules after which a mutant counts as one that lives."""


@dataclass(frozen=True)
class Fate:
    """What became of a mutant: which rule it broke, in which schedule, after how many; `rule` is "" where it lives."""

    name: str
    rule: str
    words: str
    schedules: int
    seconds: float


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The product with one mutant in it."""
    where, old, new, _ = MUTANTS[name]
    function = _found(where)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) >= 1, f"mutant {name!r}: {where} does not contain {old!r} any more; tell it anew"
    body = source[source.index("def ") :].replace(old, new)
    module = importlib.import_module(where.partition(":")[0])
    names: dict[str, Any] = {}
    exec(compile("from __future__ import annotations\n" + body, f"<mutant {name}>", "exec"), module.__dict__, names)
    kept, function.__code__ = function.__code__, names[function.__name__].__code__
    _forget()
    try:
        yield
    finally:
        function.__code__ = kept
        _forget()


def is_told(name: str) -> bool:
    where, old, _, _ = MUTANTS[name]
    return old in textwrap.dedent(inspect.getsource(_found(where)))


def _found(where: str) -> FunctionType:
    module, _, path = where.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    found = found.fget if isinstance(found, property) else found
    found = inspect.unwrap(found)
    assert isinstance(found, FunctionType), where
    return found


def _forget() -> None:
    speed.forget()
    scenarios.stages.cache_clear()
    fresh.cache_clear()
    campaign.KNOWN.clear()
    schedule.forget()


def fate(name: str, most: int = MOST) -> Fate:
    """Run schedules, stories without a fault first, until one breaks a rule that holds without the mutant."""
    began, tried, schedules = time.process_time(), 0, _schedules(most)
    if not is_told(name):
        return Fate(name, "", "its piece of the source is not there any more: tell it anew", 0, 0.0)
    while True:
        with mutated(name):
            for each in schedules:
                tried += 1
                rule, words = _broken(each)
                if rule:
                    break
            else:
                return Fate(name, "", "", tried, time.process_time() - began)
        if not _broken(each)[0]:
            return Fate(name, rule, words, tried, time.process_time() - began)


def _schedules(most: int) -> Iterator[Schedule]:
    for title, (first, steps) in SCENARIOS.items():
        done = units(steps)
        yield Schedule(first, tuple(done), title, len(done))
    yield from map(kept, (path for path in sorted(REGRESSIONS.glob("*.json")) if not is_open(path)))
    yield from map(drawn, range(most))


def _broken(asked: Schedule) -> tuple[str, str]:
    """The rule that a schedule breaks and how; a mutant that ends the simulation itself is noticed too."""
    try:
        violation = run(asked, campaign.KNOWN).violation
    except Violation as found:
        violation = found
    except Exception as error:  # noqa: BLE001
        return type(error).__name__, str(error)
    return (violation.rule, str(violation)) if violation else ("", "")


def report(jobs: int, only: str = "") -> int:
    """Print what became of every mutant; 0 where none lives."""
    names = [name for name in MUTANTS if only in name]
    lives = []
    with ProcessPoolExecutor(jobs) as pool:
        for found in pool.map(fate, names):
            verdict = (
                f"killed by {found.rule} after {found.schedules} schedules" if found.rule else f"LIVES {found.words}"
            )
            print(f"{found.name:44} {verdict}, {found.seconds:.1f} s", flush=True)
            print(f"    {MUTANTS[found.name][3]}", flush=True)
            if found.rule:
                print(f"    {found.words[:140]}", flush=True)
            else:
                lives.append(found.name)
    print(f"{len(names)} mutants, {len(names) - len(lives)} killed{', alive: ' + ', '.join(lives) if lives else ''}")
    return 1 if lives else 0
