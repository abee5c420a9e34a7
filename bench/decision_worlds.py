"""Canaries and the stable copies beside them, drawn by chance: what a decision rule is tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BURST_RATE = 0.05
BURST_S = 20.0
BURST_EVERY_S = 300.0
WARMUP_SPIKE_S = 10.0
BLOCKS, BLOCK_S = 60, 30.0


@dataclass(frozen=True)
class Scenario:
    """How often requests fail or are slow on either side, and what is the right answer to it.

    `bursts`: `shared` by both sides, `own` of each, or `new`: each side's own, and none in stable's last 30 minutes.
    """

    name: str
    is_healthy: bool
    canary: float = 0.002
    baseline: float = 0.002
    canary_slow: float = 0.002
    baseline_slow: float = 0.002
    spikes: bool = False
    bursts: str = ""
    onset_s: float = 0.0
    is_scored: bool = True


SCENARIOS = (
    Scenario("P healthy 0.2 % (A/A)", True),
    Scenario("P healthy 0.8 % (A/A)", True, 0.008, 0.008),
    Scenario("P healthy 0.99 % (A/A)", True, 0.0099, 0.0099),
    Scenario("R bad 1.5 %", False, 0.015),
    Scenario("R bad 1.5 %, baseline 1.5 % too", False, 0.015, 0.015),
    Scenario("R bad 2 %", False, 0.02),
    Scenario("R bad 5 %", False, 0.05),
    Scenario("R bad 50 %", False, 0.5),
    Scenario("P latency ok, 0.5 % slow (A/A)", True, canary_slow=0.005, baseline_slow=0.005),
    Scenario("R latency bad, 0.5 → 3 % slow", False, canary_slow=0.03, baseline_slow=0.005),
    Scenario("P warm-up spike 10 s, then 0.2 %", True, spikes=True),
    Scenario("P bursty A/A, shared bursts, mean 0.5 %", True, bursts="shared"),
    Scenario("P bursty A/A, own bursts, mean 0.5 %", True, bursts="own"),
    Scenario("R late onset 0.2 → 5 % at 60 s", False, 0.05, onset_s=60.0),
    Scenario("R bad 3 % under shared bursts", False, 0.03, bursts="shared"),
    Scenario("R bad 5 %, baseline 2 %", False, 0.05, 0.02),
    Scenario("P* 0.8 % within limit, baseline 0.2 %", True, 0.008, is_scored=False),
    Scenario("P* own bursts of a kind not seen in 30 min", True, bursts="new", is_scored=False),
)


@dataclass(frozen=True)
class Arm:
    """Requests, failed ones and slow ones of one side: runs × cycles."""

    total: Ints
    failed: Ints
    slow: Ints


class Site:
    """Runs of one scenario in cycles of `dt_s`: `per_second` requests on both sides together, split by chance.

    `shares` is the canary's by step. `history` is stable's last 30 minutes in blocks of 30 s.
    """

    def __init__(
        self,
        scenario: Scenario,
        per_second: float,
        shares: Sequence[float],
        *,
        seconds: float,
        dt_s: float,
        runs: int,
        seed: int,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.runs, self.cycles, self.dt_s = runs, round(seconds / dt_s), dt_s
        self.scenario, self.shares, self.per_cycle = scenario, np.array(shares), per_second * dt_s
        shape = (runs, self.cycles)
        self.bursts = _bursts(self.rng, shape, dt_s) if scenario.bursts else np.zeros((runs, 1))
        self.others = _bursts(self.rng, shape, dt_s) if scenario.bursts in ("own", "new") else self.bursts
        self.history = _history(self.rng, scenario, per_second * (1 - shares[0]), runs, dt_s)

    def cycle(self, cycle: int, runs: Ints, step: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
        """Requests, failed, slow of the canary, then of stable, for `runs` that are on `step`."""
        share = self.shares[step]
        canary_p, canary_slow, baseline_p = self.rates(cycle, runs)
        n = self.rng.poisson(self.per_cycle * share)
        other = self.rng.poisson(self.per_cycle * (1 - share))
        return (
            n,
            self.rng.binomial(n, canary_p),
            self.rng.binomial(n, canary_slow),
            other,
            self.rng.binomial(other, baseline_p),
            self.rng.binomial(other, self.scenario.baseline_slow),
        )

    def rates(self, cycle: int, runs: Ints) -> tuple[Floats, float, Floats]:
        """How often the canary fails, is slow, and how often stable fails in a cycle."""
        ends_s, made = (cycle + 1) * self.dt_s, self.scenario
        at = cycle if made.bursts else 0
        canary, slow = (made.canary if ends_s > made.onset_s else 0.002), made.canary_slow
        if made.spikes and ends_s <= WARMUP_SPIKE_S:
            canary, slow = 0.2, 0.3
        extra = BURST_RATE - 0.002
        return canary + extra * self.bursts[runs, at], slow, made.baseline + extra * self.others[runs, at]


def drawn(site: Site) -> tuple[Arm, Arm, Arm]:
    """A whole world of a site at once, for rules that decide nothing on the way: canary, stable, and a stable as large
    as the canary for rules that ask for one. It never climbs.
    """
    everyone, still = np.arange(site.runs), np.zeros(site.runs, dtype=np.int64)
    cycles = [site.cycle(cycle, everyone, still) for cycle in range(site.cycles)]
    arrays = [np.stack(each, axis=1) for each in zip(*cycles, strict=True)]
    total = site.rng.poisson(site.per_cycle * site.shares[0], size=arrays[0].shape)
    failing = np.stack([site.rates(cycle, everyone)[2] for cycle in range(site.cycles)], axis=1)
    peer = Arm(total, site.rng.binomial(total, failing), site.rng.binomial(total, site.scenario.baseline_slow))
    return Arm(*arrays[:3]), Arm(*arrays[3:]), peer


def _bursts(rng: np.random.Generator, shape: tuple[int, int], dt_s: float) -> Floats:
    """1.0 in a burst: exponential lengths and gaps, begun in equilibrium."""
    runs, cycles = shape
    begins, ends = dt_s / (BURST_EVERY_S - BURST_S), dt_s / BURST_S
    on = rng.random(runs) < BURST_S / BURST_EVERY_S
    found = np.zeros(shape)
    chance = rng.random(shape)
    for cycle in range(cycles):
        on = np.where(on, chance[:, cycle] >= ends, chance[:, cycle] < begins)
        found[:, cycle] = on
    return found


def _arm(rng: np.random.Generator, arrivals: Floats, failing: Floats, slow: Floats) -> Arm:
    total = rng.poisson(np.broadcast_to(arrivals, slow.shape))
    return Arm(total, rng.binomial(total, np.broadcast_to(failing, slow.shape)), rng.binomial(total, slow))


def _history(rng: np.random.Generator, scenario: Scenario, per_second: float, runs: int, dt_s: float) -> Arm:
    in_block = round(BLOCK_S / dt_s)
    shape = (runs, BLOCKS * in_block)
    is_bursty = scenario.bursts in ("shared", "own")
    failing = scenario.baseline + (BURST_RATE - 0.002) * (_bursts(rng, shape, dt_s) if is_bursty else np.zeros(shape))
    arm = _arm(rng, np.asarray(per_second * dt_s), failing, np.full(shape, scenario.baseline_slow))
    return Arm(*(each.reshape(runs, BLOCKS, in_block).sum(axis=2) for each in (arm.total, arm.failed, arm.slow)))
