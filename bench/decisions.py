"""Right and wrong decisions about canaries, simulated: ours beside Flagger's, Argo's and Kayenta's kind of rule.

`python -m bench.decisions` prints two tables as Markdown, after showing that the simulated rule answers as
`reconciler.core` does. `--runs 100` is a quick look; the full size is 2,000 runs a cell (Kayenta 300).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass

import numpy as np

from bench.decision_agreement import Recorded, disagreements, measured
from bench.decision_peers import argo, flagger, kayenta
from bench.decision_rule import PROMOTED, ROLLED_BACK, UNDECIDED, Ladder, Outcome, Run
from bench.decision_worlds import SCENARIOS, Floats, Scenario, Site, drawn
from bench.measures import Row
from reconciler.core.evidence import Limits, begin, summarise

RUNS = 2000
RATES = (1.0, 15.0, 500.0)
SHARE, DT_S, SECONDS = 0.2, 2.5, 1800.0
PEERS_S = 510.0
SHIPPED = Ladder((60.0, 60.0, 60.0), 600.0, 20, "promote", 780.0)
SHIPPED_SHARES = (0.05, 0.25, 0.5)
SHIPPED_RATES = (1 / 60, 1.0, 10.0, 75.0, 200.0, 1000.0)
OURS = "SwiftDeploy"


@dataclass(frozen=True)
class Cell:
    """How one rule did in one scenario at one rate."""

    scenario: Scenario
    per_second: float
    wrong: float
    undecided: float
    right_at_s: Floats
    on_time: float
    failed: float

    @property
    def text(self) -> str:
        """Wrong decisions, undecided ones if any, and the median second of the right ones."""
        undecided = f" (+{self.undecided:.0%})" if round(100 * self.undecided) else ""
        at = f"{np.median(self.right_at_s):.0f} s" if len(self.right_at_s) else "–"
        return f"{100 * self.wrong:.1f} %{undecided} · {at}"


def cell(scenario: Scenario, per_second: float, outcome: Outcome) -> Cell:
    """An outcome, scored."""
    right = outcome.verdict == (PROMOTED if scenario.is_healthy else ROLLED_BACK)
    return Cell(
        scenario,
        per_second,
        float((outcome.verdict == (ROLLED_BACK if scenario.is_healthy else PROMOTED)).mean()),
        float((outcome.verdict == UNDECIDED).mean()),
        outcome.at_s[right],
        float((outcome.on_time & (outcome.verdict == PROMOTED)).mean()),
        float(outcome.failed[right].mean()) if right.any() else 0.0,
    )


def one_step(runs: int, limits: Limits) -> dict[str, list[Cell]]:
    """Every rule in every scenario at every rate: one step of 20 %, 30 minutes."""
    found: dict[str, list[Cell]] = {}
    for per_second in RATES:
        for number, scenario in enumerate(SCENARIOS):
            seed = round(per_second) * 1000 + number

            def site(seconds: float, seed: int, made: Scenario = scenario, rate: float = per_second) -> Site:
                return Site(made, rate / SHARE, [SHARE], seconds=seconds, dt_s=DT_S, runs=runs, seed=seed)

            ours = site(SECONDS, seed)
            canary, _, peer = drawn(site(PEERS_S, seed + 500))
            outcomes = {
                OURS: Run(ours, ours.history, limits, Ladder()).outcome(),
                "Flagger-style": flagger(canary, DT_S),
                "Argo-style": argo(canary, DT_S),
                "Kayenta-style": kayenta(canary, peer, DT_S),
            }
            for name, outcome in outcomes.items():
                found.setdefault(name, []).append(cell(scenario, per_second, outcome))
    return found


@dataclass(frozen=True)
class Score:
    """A rule over all scored cells. Times at 15 requests/s and more: the median over all its right decisions, and the
    median of the cells' medians.
    """

    rolled_back: float
    rolled_back_worst: float
    promoted: float
    promoted_worst: float
    undecided_healthy: float
    undecided_bad: float
    promote_s: tuple[float, float]
    roll_back_s: tuple[float, float]


def score(cells: list[Cell]) -> Score:
    """The summary of a rule."""
    healthy = [each for each in cells if each.scenario.is_scored and each.scenario.is_healthy]
    bad = [each for each in cells if each.scenario.is_scored and not each.scenario.is_healthy]

    def median(those: list[Cell]) -> tuple[float, float]:
        times = [each.right_at_s for each in those if each.per_second >= 15 and len(each.right_at_s)]
        return float(np.median(np.concatenate(times))), statistics.median(float(np.median(each)) for each in times)

    return Score(
        statistics.mean(each.wrong for each in healthy),
        max(each.wrong for each in healthy),
        statistics.mean(each.wrong for each in bad),
        max(each.wrong for each in bad),
        statistics.mean(each.undecided for each in healthy),
        statistics.mean(each.undecided for each in bad),
        median(healthy),
        median(bad),
    )


def print_one_step(found: dict[str, list[Cell]]) -> None:
    """Both tables of the one-step analysis: pooled, and cell by cell."""
    print(
        "| rule | false roll backs, mean (worst) | false promotions, mean (worst) | undecided, healthy / bad "
        "| median promotion, ≥ 15/s (of cells) | median roll back, ≥ 15/s (of cells) |\n" + "|---" * 6 + "|"
    )
    for name, cells in found.items():
        s = score(cells)
        print(
            f"| {name} | {s.rolled_back:.2%} ({s.rolled_back_worst:.1%}) | {s.promoted:.2%} ({s.promoted_worst:.1%}) "
            f"| {s.undecided_healthy:.1%} / {s.undecided_bad:.1%} | {s.promote_s[0]:.0f} s ({s.promote_s[1]:.0f} s) "
            f"| {s.roll_back_s[0]:.0f} s ({s.roll_back_s[1]:.0f} s) |"
        )
    print("\nWrong decisions (+ undecided) · median second of the right ones. P: promotion is right, R: roll back is;")
    print("P*: not scored.\n\n| canary | scenario | " + " | ".join(found) + " |\n" + "|---" * (2 + len(found)) + "|")
    for row in zip(*found.values(), strict=True):
        print(f"| {row[0].per_second:g}/s | {row[0].scenario.name} | " + " | ".join(each.text for each in row) + " |")


def print_shipped(runs: int, limits: Limits) -> None:
    """The table of the shipped ladder: 5, 25, 50 %, a minute each, on time after 10 minutes."""
    print("\n| whole site | scenario | promoted on evidence | on time | rolled back | waiting after 30 min |", end="")
    print(" median of the right ones | failed requests until then |\n|---|---|---|---|---|---|---|---|")
    for per_second in SHIPPED_RATES:
        for number, scenario in enumerate(SCENARIOS):
            seed = 900_000 + round(per_second * 60) * 1000 + number
            site = Site(scenario, per_second, SHIPPED_SHARES, seconds=SECONDS, dt_s=DT_S, runs=runs, seed=seed)
            outcome = Run(site, site.history, limits, SHIPPED).outcome()
            c = cell(scenario, per_second, outcome)
            promoted, back = (float((outcome.verdict == each).mean()) for each in (PROMOTED, ROLLED_BACK))
            rate = f"{per_second:g}/s" if per_second >= 1 else f"{60 * per_second:g}/min"
            at = f"{np.median(c.right_at_s):.0f} s" if len(c.right_at_s) else "–"
            print(
                f"| {rate} | {scenario.name} | {promoted - c.on_time:.1%} | {c.on_time:.1%} | {back:.1%} "
                f"| {c.undecided:.1%} | {at} | {c.failed:.1f} |",
                flush=True,
            )


def agreement(runs: int = 14) -> list[str]:
    """Where core and numpy disagree, over nine scenarios of `runs` runs."""
    found = []
    for number, per_second in ((0, 15), (2, 1), (3, 15), (7, 15), (9, 15), (10, 15), (12, 15), (13, 15), (16, 15)):
        scenario = SCENARIOS[number]
        site = Recorded(scenario, per_second / SHARE, [SHARE], seconds=300.0, dt_s=DT_S, runs=runs, seed=number)
        found += [f"{scenario.name}: {each}" for each in disagreements(site, Limits(), Ladder())]
    return found


def evaluation_cost() -> list[Row]:
    """What one evaluation takes: two containers' readings into evidence, and its summary. Best of five hundreds."""
    limits, best = Limits(), float("inf")
    evidence = begin("run", 1_000_000.0)
    counts = np.zeros(6, dtype=int)
    for cycle in range(500):
        counts += (38, cycle % 3 == 0, cycle % 5 == 0, 150, 1, 1)
        now, both = 1_000_000.0 + cycle * DT_S, tuple(int(each) for each in counts)
        since = time.perf_counter()
        evidence = measured(evidence, both[:3], both[3:], now, limits, 600.0)
        summarise(evidence, limits, now)
        if cycle >= 100:
            best = min(best, time.perf_counter() - since)
    text = f"{1000 * best:.2f} ms"
    return [Row("one evaluation of a canary", text, "–", "–", "≤ 1 ms", best <= 0.001)]


def main(arguments: list[str]) -> int:
    """Print the tables; exit code 1 where core and numpy disagree."""
    parser = argparse.ArgumentParser(prog="python -m bench.decisions")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs a cell")
    runs = parser.parse_args(arguments).runs
    differences = agreement()
    agreed = "disagree" if differences else "agree"
    for each in differences:
        print(each, file=sys.stderr)
    limits = Limits()
    print(f"One step of 20 %, 30 minutes, {runs} runs a cell; core and numpy {agreed} on 126 runs.\n")
    print_one_step(one_step(runs, limits))
    print("\nThe shipped ladder: 5, 25, 50 %, 60 s each, promotion on time after 10 minutes.")
    print_shipped(runs, limits)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
