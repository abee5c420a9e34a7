"""SIGKILL before and after every effect of the daemon, on the real engine, nginx and OPA, under traffic.

    python -m tests.e2e.faults.crash_points [--workers N] [--scenario NAME] [--sample N --seed S]

A scenario is run undisturbed first; its effects are the points. Then it is run once for each point and side: the
daemon kills itself there, is started again at once, and must come to the same end. What a daemon only does after a
crash is no point. Needs the engine and its images (`make test` has set them up). Exit code 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import docker

from tests.e2e.faults.crash_scenarios import LIMIT_S, SCENARIOS, FirstDeploy, Scenario, Site
from tests.e2e.faults.crash_stack import CrashStack, traffic
from tests.e2e.stack import wait_for

RATE = 120.0
INTERVAL_S = 5.0
"""The loop's, while there is work: a recovery is to take no more than this and 2 s."""


@dataclass(frozen=True)
class Point:
    """One place to die: the name of an effect (see launch.Switch), and the side of it."""

    scenario: str
    name: str
    side: str

    def __str__(self) -> str:
        return f"{self.scenario}: {self.side} {self.name}"


@dataclass
class Run:
    """How one went. `back_s`: from death to the end of the next daemon's first cycle; `took_s`: the whole scenario."""

    point: Point
    has_struck: bool = False
    back_s: float = 0.0
    took_s: float = 0.0
    troubles: list[str] = field(default_factory=list)


# ---------------------------------------------------------------- one run


@contextmanager
def opened(scenario: Scenario, engine: docker.DockerClient) -> Iterator[Site]:
    """A site where runs of `scenario` can begin; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        site = Site(Path(name), engine)
        try:
            scenario.open(site)
            yield site
        except AssertionError:
            _keep_evidence(site, Run(Point(scenario.name, "opening", "")))
            raise
        finally:
            site.stack.clean()


def run_once(scenario: Scenario, site: Site, point: Point) -> Run:
    """The scenario once, with a death at `point`; whatever is wrong afterwards is among the troubles."""
    run, stack = Run(point), site.stack
    try:
        with _watched(scenario, site, run):
            scenario.prepare(site)
            kept = scenario.keeps(site)
            deaths = len(stack.deaths)
            stack.arm((point.name, point.side))
            began = time.monotonic()
            scenario.act(site)
            wait_for(f"the right end of {scenario.name}", lambda: scenario.is_done(site), LIMIT_S)
            run.took_s = time.monotonic() - began
        run.has_struck = stack.has_struck
        stack.disarm()
        run.troubles += _wrongs(scenario, site, kept)
        if run.has_struck:
            wait_for("a death", lambda: len(stack.deaths) > deaths, 5)
            run.back_s = back_s(stack)
        scenario.close(site)
    except AssertionError as error:
        run.troubles.append(str(error))
        stack.disarm()
    return run


@contextmanager
def _watched(scenario: Scenario, site: Site, run: Run) -> Iterator[None]:
    """Traffic as long as it lasts; none of it may fail."""
    if not scenario.has_traffic:
        yield
        return
    with traffic(site.stack.port, RATE) as client:
        yield
    if client.failed or not client.counts:
        run.troubles.append(f"requests failed: {client.failed} of {sum(client.counts.values())}")


def _wrongs(scenario: Scenario, site: Site, kept: set[str]) -> list[str]:
    found = []
    services = sorted(container.labels["io.swiftdeploy.service"] for container in site.stack.containers())
    if services != scenario.wanted():
        found.append(f"containers at the end: {services}")
    if not kept <= site.ids():
        found.append(f"{len(kept - site.ids())} containers were replaced that were to stay")
    broken = site.stack.history_is_whole()
    return [*found, f"history: {broken}"] if broken else found


def back_s(stack: CrashStack) -> float:
    """How long the last death lasted: until the next daemon had finished its first cycle."""
    journal = stack.journal()
    last = {line["pid"]: index for index, line in enumerate(journal)}
    pids = list(dict.fromkeys(line["pid"] for line in journal))
    died = journal[last[pids[-2]]]["at"]
    first = next(line for line in journal if line["pid"] == pids[-1] and line["kind"] == "cycle")
    return float(first["at"] - died)


# ---------------------------------------------------------------- all of them


def points_of(scenario: Scenario, engine: docker.DockerClient, rounds: int = 1) -> tuple[list[Point], float]:
    """Every effect of undisturbed runs, both sides; and how long one takes. Raises AssertionError where one fails."""
    names: dict[str, None] = {}
    took = []
    for _ in range(rounds):
        with opened(scenario, engine) as site:
            run = run_once(scenario, site, Point(scenario.name, "nowhere", "before"))
            assert not run.troubles, f"undisturbed, {scenario.name}: {run.troubles}"
            took.append(run.took_s)
            armed = [line for line in site.stack.journal() if line["kind"] == "before" and line["armed"]]
            names |= dict.fromkeys(line["name"] for line in armed)
    sides = ("before", "after")
    return [Point(scenario.name, name, side) for name in names for side in sides], statistics.median(took)


def run_all(kind: type[Scenario], points: Sequence[Point], workers: int, told: Callable[[Run], None]) -> list[Run]:
    """One run for each point, on sites side by side; a site where something was wrong is not used again."""
    left, lock, runs = list(reversed(points)), threading.Lock(), list[Run]()

    def work() -> None:
        engine, scenario = docker.from_env(), kind()
        while left:
            with opened(scenario, engine) as site:
                while True:
                    with lock:
                        if not left:
                            return
                        point = left.pop()
                    run = run_once(scenario, site, point)
                    with lock:
                        runs.append(run)
                    told(run)
                    if run.troubles:
                        _keep_evidence(site, run)
                    if run.troubles or kind is FirstDeploy:
                        break

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
    return runs


def _keep_evidence(site: Site, run: Run) -> None:
    """What tells what happened, where somebody can look."""
    target = Path(tempfile.gettempdir()) / f"crash-{site.stack.project}"
    target.mkdir(exist_ok=True)
    (target / "point").write_text(f"{run.point}\n{run.troubles}\n")
    for name in ("journal", "daemon.log", "state/history.jsonl", "state/rollout.json"):
        with suppress(OSError):
            (target / Path(name).name).write_bytes((site.stack.folder / name).read_bytes())


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main() -> int:
    options = _options()
    runs: list[Run] = []
    late: list[float] = []
    total = 0
    for name in options.scenario or SCENARIOS:
        engine = docker.from_env()
        points, usual_s = points_of(SCENARIOS[name](), engine, 2)
        total += len(points)
        if options.sample:
            points = random.Random(options.seed).sample(points, min(options.sample, len(points)))
        print(f"{name}: {len(points)} points to run, {usual_s:.1f} s undisturbed", flush=True)
        found = run_all(SCENARIOS[name], points, options.workers, _tell)
        again = [run.point for run in found if not run.has_struck and not run.troubles]
        found = [run for run in found if run.point not in again]
        found += run_all(SCENARIOS[name], again, options.workers, _tell)
        late += [run.took_s - usual_s for run in found if run.has_struck and not run.troubles]
        runs += found
    return _summary(runs, total, late)


def _tell(run: Run) -> None:
    if run.troubles:
        print(f"  FAILED {run.point}: {'; '.join(run.troubles)}", flush=True)
    elif run.back_s > INTERVAL_S:
        print(f"  slow ({run.back_s:.1f} s) {run.point}", flush=True)


def _summary(runs: list[Run], total: int, late: list[float]) -> int:
    failed = [run for run in runs if run.troubles]
    missed = [run for run in runs if not run.has_struck and not run.troubles]
    back = [run.back_s for run in runs if run.has_struck]
    for run in missed:
        print(f"  not reached: {run.point}")
    print(f"crash points: {total}, run {len(runs)}, died there {len(back)}, not reached {len(missed)}")
    print(f"failures: {len(failed)}")
    print(f"in control again: p50 {percentile(back, 0.5):.2f} s, p99 {percentile(back, 0.99):.2f} s")
    print(f"done later than undisturbed: p50 {percentile(late, 0.5):.2f} s, p99 {percentile(late, 0.99):.2f} s")
    print(f"target: in control again p99 ≤ {INTERVAL_S + 2:g} s")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--sample", type=int, default=0, help="only so many of each scenario's points")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
