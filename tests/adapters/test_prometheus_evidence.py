"""Evidence from scrapes that come every 5 to 60 s and not at every look: the same verdicts, and no false alarm."""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.metrics import InStep
from reconciler.core.desired import Metrics, Service
from reconciler.core.evidence import Limits, Summary, begin, measure, summarise
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.observed import ObservedContainer, Status
from reconciler.ports import MeasureTarget

T0 = 1_000_000.0
LOOK_S = 2.5
LIMITS = Limits()
SERVICE = Service("app", "i", 3000, metrics=Metrics("prometheus", server="http://127.0.0.1:9090"))
UNDECIDED, ROLLED_BACK, PROMOTED = 0, -1, 1


@dataclass
class Box:
    """A container: what it does to requests, and what it and nginx have counted. It is scraped at `offset_s`."""

    name: str
    began: float
    offset_s: float
    failing: float = 0.002
    slow: float = 0.002
    hides: bool = False
    is_frozen: bool = False
    total: int = 0
    failed: int = 0
    late: int = 0
    scraped: Reading | Unread = field(default_factory=lambda: Unread("the server has not scraped it"))

    @property
    def target(self) -> MeasureTarget:
        return MeasureTarget(ObservedContainer(self.name, self.name, "app", "r", Status.RUNNING), SERVICE)

    def serves(self, chance: random.Random, count: int) -> None:
        self.total += count
        self.failed += sum(chance.random() < self.failing for _ in range(count))
        self.late += sum(chance.random() < self.slow for _ in range(count))

    def reading(self, now: float) -> Reading:
        buckets = ((0.1, self.total - self.late), (0.5, self.total - self.late), (math.inf, self.total))
        return Reading(now, self.began, {"/": self.total}, {"/": self.failed}, buckets, now - self.began, "canary")

    def is_scraped(self, now: float) -> None:
        if self.is_frozen and isinstance(self.scraped, Reading):
            self.scraped = replace(self.scraped, at=now, uptime_s=now - self.began)
        else:
            found = self.reading(now)
            self.scraped = replace(found, errors={"/": 0}) if self.hides else found


class Site:
    """Canary and stable behind nginx, `per_second` requests on both; each is scraped every `apart_s`."""

    def __init__(self, seed: int = 1, apart_s: float = 15.0, per_second: float = 40.0, share: float = 0.25) -> None:
        self.chance, self.apart_s, self.per_second, self.share = random.Random(seed), apart_s, per_second, share
        offsets = sorted(self.chance.uniform(0.0, apart_s) for _ in range(2))
        self.chance.shuffle(offsets)
        self.canary, self.stable = Box("c", T0, offsets[0]), Box("s", T0 - 3600.0, offsets[1], total=10**6)
        self.in_step, self.evidence, self.now = InStep(), begin("r1", T0), T0
        self.is_up, self.share_was_meant = True, share

    def pass_a_look(self) -> Summary:
        until = self.now + LOOK_S
        while self.now < until:
            for box, share in ((self.canary, self.share), (self.stable, 1.0 - self.share)):
                box.serves(self.chance, self._requests(share))
                if (self.now - T0 - box.offset_s) % self.apart_s < 0.5 and self.now - box.began > 2.0:
                    box.is_scraped(self.now)
            self.now += 0.5
        boxes = (self.canary, self.stable)
        scraped = {box.name: box.scraped if self.is_up else Unread("connection refused") for box in boxes}
        by_proxy = {box.name: replace(box.reading(self.now), mode="") for box in boxes}
        counted = self.in_step.counted([box.target for box in boxes], scraped, by_proxy)
        self.evidence = self._measured(counted)
        return summarise(self.evidence, LIMITS, self.now)

    def looks(self, seconds: float) -> Iterator[Summary]:
        for _ in range(round(seconds / LOOK_S)):
            yield self.pass_a_look()

    def _requests(self, share: float) -> int:
        meant = self.per_second * 0.5 * share
        return int(meant) + (self.chance.random() < meant % 1)

    def _measured(self, counted: dict[str, Counted]) -> Any:
        return measure(
            self.evidence,
            {"c": counted["c"]},
            {"s": counted["s"]},
            LIMITS,
            provider="prometheus",
            now=self.now,
            horizon_s=780.0,
            share=self.share,
        )


@pytest.fixture(scope="module")
def decided() -> Any:
    """The decisions of `opa/canary.rego` for the last step."""
    pytest.importorskip("numpy")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[2]))
        return importlib.import_module("bench.decision_agreement").decided


def verdict(site: Site, decided: Any, seconds: float = 600.0) -> tuple[int, float]:
    """The first decision, and after how many seconds."""
    for found in site.looks(seconds):
        if (answer := decided(found, LIMITS)) != UNDECIDED:
            return answer, site.now - T0
    return UNDECIDED, seconds


@pytest.mark.parametrize("apart_s", [5.0, 15.0, 30.0])
@pytest.mark.parametrize(
    ("what", "answer", "scrapes"),
    [
        ({}, PROMOTED, 12),
        ({"failing": 0.05}, ROLLED_BACK, 8),
        ({"failing": 0.5}, ROLLED_BACK, 4),
        ({"slow": 0.08}, ROLLED_BACK, 8),
    ],
    ids=["healthy", "5 % fail", "half fails", "8 % are slow"],
)
def test_the_verdict_is_right_however_seldom_is_scraped(decided, apart_s: float, what: Any, answer: int, scrapes: int):
    for seed in range(4):
        site = Site(seed, apart_s)
        site.canary = replace(site.canary, **what)
        assert verdict(site, decided) == (answer, pytest.approx(0.0, abs=60.0 + scrapes * apart_s)), seed


def test_healthy_canaries_are_not_rolled_back(decided):
    found = []
    for seed in range(12):
        site = Site(100 + seed)
        site.canary, site.stable = replace(site.canary, failing=0.008), replace(site.stable, failing=0.008)
        found.append(verdict(site, decided, 300.0)[0])
    assert ROLLED_BACK not in found
    assert PROMOTED in found


@pytest.mark.parametrize("apart_s", [5.0, 15.0, 60.0])
def test_growing_shares_are_no_mismatch_and_no_disagreement(apart_s: float):
    site = Site(apart_s=apart_s, per_second=100.0, share=0.05)
    site.canary.offset_s, site.stable.offset_s = 0.0, apart_s - 0.5  # the canary's scrape is always old
    for share in (0.05, 0.25, 0.5):
        site.share = share
        for found in site.looks(120.0):
            assert found.traffic.e_mismatch < LIMITS.caution_e, site.now - T0
            assert found.data_quality.disagreement == "", site.now - T0
            assert found.data_quality.ok or found.requests == 0, found.data_quality.why


def test_a_comparison_has_both_sides_in_it():
    """Scrapes of the two come at different moments; the relative test needs both in one cycle."""
    site = Site()
    site.canary, site.stable = replace(site.canary, failing=0.009), replace(site.stable, failing=0.001)
    for found in site.looks(180.0):
        last = found
    assert last.errors.e_worse > 10.0
    assert last.errors.baseline_rate == pytest.approx(0.001, abs=0.0009)


def test_the_same_scrape_again_adds_nothing_and_is_not_taken_for_a_standstill():
    site = Site()
    list(site.looks(60.0))
    requests = [found.requests for found in site.looks(60.0)]
    assert len(set(requests)) in (4, 5), "one gain a scrape"
    assert requests == sorted(requests)
    assert site.evidence.counter_resets == 0
    assert site.evidence.missed_scrapes <= 6, "before the first scrape"


@pytest.mark.fault("H9")
def test_a_service_that_hides_its_failures_is_caught_by_nginx():
    site = Site()
    site.canary.failing, site.canary.hides = 0.1, True
    for found in site.looks(120.0):
        last = found
    assert last.data_quality.disagreement.endswith("fail, the service 0 %")
    assert not last.data_quality.ok


@pytest.mark.fault("H8")
def test_counts_that_stand_still_while_nginx_counts_are_no_evidence():
    site = Site()
    list(site.looks(60.0))
    site.canary.is_frozen = True
    for found in site.looks(120.0):
        last = found
    assert "the proxy passed on" in last.data_quality.disagreement


@pytest.mark.fault("H1")
def test_ten_minutes_without_a_server_are_no_verdict(decided):
    site = Site()
    list(site.looks(30.0))
    site.is_up = False
    before = list(site.looks(600.0))
    assert {decided(found, LIMITS) for found in before} == {UNDECIDED}
    assert "connection refused" in before[-1].data_quality.why
    assert before[-1].window.error_rate is None
    site.is_up = True
    assert verdict(site, decided)[0] == PROMOTED
