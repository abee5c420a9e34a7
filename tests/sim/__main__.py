"""Simulate: `python -m tests.sim --seeds 0:100000`, `--seed N` to see one, `singles`, `pairs`, `mutants`, `figures`."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.sim.campaign import Tally, campaign, every_pair, every_single, pairs, singles
from tests.sim.scenarios import MAIN, SCENARIOS
from tests.sim.schedule import Schedule, drawn, run
from tests.sim.shrink import joined, kept, saved, shrunk


def main(arguments: list[str]) -> int:
    """0 where no rule was broken."""
    asked = _parser().parse_args(arguments)
    if asked.what == "mutants":
        from tests.sim.mutants import report

        return report(asked.jobs, asked.only)
    if asked.what == "figures":
        from tests.sim import figures

        first, _, last = asked.seeds.partition(":")
        return figures.report(int(first), int(last), asked.jobs)
    if asked.replay:
        return _told(kept(Path(asked.replay)), asked)
    if asked.seed is not None:
        return _told(drawn(asked.seed), asked)
    if asked.what in ("singles", "pairs"):
        return _scenarios(asked)
    return _seeds(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("what", nargs="?", default="seeds", choices=("seeds", "singles", "pairs", "mutants", "figures"))
    parser.add_argument("--seeds", default="0:10000", metavar="A:B", help="seeds A to B, without B")
    parser.add_argument("--seed", type=int, help="run one from an empty host and tell its story")
    parser.add_argument("--replay", metavar="FILE", help="run a file of tests/sim/regressions and tell its story")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), help="singles, pairs: of this one only")
    parser.add_argument("--effect", type=int, help="singles, pairs: of this effect only, and tell the story")
    parser.add_argument("--fault", help="with --effect: this fault of it")
    parser.add_argument("--later", type=int, help="pairs: so many effects after the first fault")
    parser.add_argument("--other", help="pairs: this one comes then")
    parser.add_argument("--main", action="store_true", help="singles, pairs: of the main scenarios only")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--shrink", metavar="NAME", help="of the one that is told: the shortest way, written to regressions/NAME.json"
    )
    parser.add_argument("--lines", type=int, default=10_000, help="how much of a story is told, from its end")
    parser.add_argument("--only", default="", help="mutants: those whose name contains this")
    return parser


def _told(schedule: Schedule, asked: argparse.Namespace) -> int:
    if asked.shrink:
        schedule = shrunk(schedule)
    story: list[str] = []
    ran = run(schedule, None, story)
    print("\n".join(story[len(story) - min(asked.lines, len(story)) :]))
    print(f"first manifest {schedule.first!r}, then {list(joined(schedule.steps))}")
    if ran.violation is None:
        print(f"No rule was broken in {ran.cycles} cycles and {ran.effects} effects.")
        return 0
    print(f"BROKEN {ran.violation}")
    if asked.shrink:
        print(f"written: {saved(schedule, asked.shrink, ran.violation.rule, str(ran.violation)[:300])}")
    return 1


def _seeds(asked: argparse.Namespace) -> int:
    first, _, last = asked.seeds.partition(":")
    whole, began = Tally(), time.monotonic()
    for tally in campaign(int(first), int(last), asked.jobs):
        whole.add(tally)
        _print_broken(tally)
    return _summed(whole, began)


def _scenarios(asked: argparse.Namespace) -> int:
    names = [asked.scenario] if asked.scenario else list(MAIN) if asked.main else list(SCENARIOS)
    if asked.effect is not None:
        which = f"--effect {asked.effect} --fault {asked.fault!r}"
        every = every_single(names[0])
        if asked.what == "pairs":
            which, every = f"{which} --later {asked.later} --other {asked.other!r}", every_pair(names[0])
        found = next((schedule for name, schedule in every if name.endswith(which)), None)
        if found is None:
            print(f"No schedule of {names[0]!r} has {which}.")
            return 2
        return _told(found, asked)
    whole, began = Tally(), time.monotonic()
    with ProcessPoolExecutor(asked.jobs) as pool:
        for name, tally in zip(names, pool.map(singles if asked.what == "singles" else pairs, names), strict=True):
            whole.add(tally)
            print(f"{name}: {tally}", flush=True)
            _print_broken(tally)
    return _summed(whole, began)


def _print_broken(tally: Tally) -> None:
    for name, _, words in tally.broken:
        print(f"BROKEN {words[:160]}\n    python -m tests.sim {name}", flush=True)


def _summed(whole: Tally, began: float) -> int:
    taken_s = time.monotonic() - began
    print(f"{whole}; {taken_s:.0f} s, {whole.schedules / max(taken_s, 0.001) * 3600:,.0f} an hour on this machine")
    return 1 if whole.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
