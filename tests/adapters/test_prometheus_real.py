"""A real Prometheus server that scrapes the real sample service."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from reconciler.adapters import clock
from reconciler.adapters.app_metrics import AppMetrics
from reconciler.adapters.prometheus import PrometheusMetrics
from reconciler.core.desired import Metrics
from reconciler.core.evidence.readings import Reading, Unread
from reconciler.ports import MeasureTarget
from tests.adapters.prometheus_world import Server, Shop, fixed, program, wait_until


@dataclasses.dataclass
class World:
    server: Server
    shop: Shop
    twice: Shop


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    program()
    shop, twice = Shop(), Shop()
    jobs = {
        "shop": fixed(shop.address, {"container": "/shop-1", "where": "b.c+d"}),
        "one": fixed(twice.address),
        "two": fixed(twice.address),
    }
    made = World(Server(tmp_path_factory.mktemp("prometheus"), jobs), shop, twice)
    try:
        shop.start()
        twice.start()
        made.server.start()
        yield made
    finally:
        for each in (made.server, shop, twice):
            each.stop()


@pytest.fixture
def metrics() -> Iterator[PrometheusMetrics]:
    made = PrometheusMetrics()
    yield made
    made.close()


Read = Callable[[MeasureTarget], "Reading | Unread"]


@pytest.fixture
def read(metrics: PrometheusMetrics) -> Read:
    def read(target: MeasureTarget) -> Reading | Unread:
        deadline = clock.monotonic() + 2.0
        return metrics.answers(metrics.ask([target], deadline), deadline)[target.container.id]

    return read


def by_itself(target: MeasureTarget) -> Reading:
    page = AppMetrics()
    direct = dataclasses.replace(target, service=dataclasses.replace(target.service, metrics=Metrics("app")))
    try:
        deadline = clock.monotonic() + 2.0
        found = page.answers(page.ask([direct], deadline), deadline)[target.container.id]
    finally:
        page.close()
    assert isinstance(found, Reading), found
    return found


def has_read(read: Read, target: MeasureTarget, true: Callable[[Reading], bool] = lambda _found: True) -> Reading:
    """The first reading that `true` is true of."""
    found: list[Reading | Unread] = []

    def is_there() -> bool:
        found.append(read(target))
        return isinstance(found[-1], Reading) and true(found[-1])

    wait_until(is_there)
    assert isinstance(found[-1], Reading)
    return found[-1]


def says(read: Read, target: MeasureTarget, words: str) -> None:
    """Waits until there is no reading, for the reason given."""
    found: list[Reading | Unread] = []

    def is_said() -> bool:
        found.append(read(target))
        return isinstance(found[-1], Unread) and words in found[-1].why

    try:
        wait_until(is_said)
    except AssertionError:
        pytest.fail(f"{words}: {found[-1]}")


def test_the_server_says_what_the_service_says(world: World, read: Read) -> None:
    target = world.shop.target(world.server.url)
    for _ in range(7):
        world.shop.ask()
    world.shop.ask("/nowhere")
    world.shop.ask("/chaos", "POST", b'{"mode": "error", "rate": 1.0}')
    for _ in range(3):
        assert world.shop.ask() == 500
    itself = by_itself(target)
    found = has_read(read, target, lambda one: sum(one.requests.values()) >= sum(itself.requests.values()))
    assert (found.requests, found.errors, found.buckets) == (itself.requests, itself.errors, itself.buckets)
    assert sum(found.errors.values()) == 3
    assert (found.mode, found.chaos, found.began) == ("canary", "error", itself.began)
    assert 0.0 <= clock.now() - found.at <= 10.0
    assert abs((itself.at - itself.uptime_s) - (found.at - found.uptime_s)) < 2.0, "both know the same process"
    world.shop.ask("/chaos", "POST", b'{"mode": "recover"}')
    has_read(read, target, lambda one: one.chaos == "none" and one.at > found.at)


def test_a_container_is_found_by_other_labels_than_its_address(world: World, read: Read) -> None:
    match = (("container", "/{name}"), ("where", "b.c+d"))
    assert has_read(read, world.shop.target(world.server.url, match=match)).mode == "canary"
    for other in ((("container", "/{id}"), ("where", "b.c+d")), (("container", "/{name}"), ("where", "b?c+d"))):
        says(read, world.shop.target(world.server.url, match=other), "the server scrapes nothing with container=")


def test_a_container_that_two_jobs_scrape_is_not_counted_twice(world: World, read: Read) -> None:
    says(read, world.twice.target(world.server.url), "as several targets (jobs one, two)")
    one = world.twice.target(world.server.url, match=(("instance", "{address}:{port}"), ("job", "one")))
    assert has_read(read, one).mode == "canary"


def test_names_that_nothing_has_are_unknown_and_not_zero(world: World, read: Read) -> None:
    has_read(read, world.shop.target(world.server.url))
    names = (("duration", "took_seconds"), ("requests", "hits_total"))
    nameless = world.shop.target(world.server.url, names=names)
    says(read, nameless, "the server has no hits_total of it")
    assert not isinstance(read(nameless), Reading)


@pytest.mark.fault("H11")
def test_what_another_container_counted_at_the_same_address_is_not_counted(world: World, read: Read) -> None:
    for _ in range(50):
        world.shop.ask()
    before = world.shop.target(world.server.url)
    has_read(read, before, lambda one: sum(one.requests.values()) >= 50)
    world.shop.stop()
    says(read, before, "the server could not scrape it (up is 0)")
    world.shop.start(number=2)
    world.shop.ask()
    after, counted = world.shop.target(world.server.url), []

    def is_counted() -> bool:
        if isinstance(found := read(after), Reading):
            counted.append(sum(found.requests.values()))
        return counted[-1:] == [1]

    wait_until(is_counted)
    assert set(counted) <= {0, 1}


@pytest.mark.fault("H1", "H10")
def test_a_server_that_dies_is_unknown_and_comes_back(world: World, read: Read) -> None:
    target = world.shop.target(world.server.url)
    found = has_read(read, target)
    world.server.stop()
    says(read, target, "Prometheus could not be asked")
    world.server.start()
    assert has_read(read, target, lambda one: one.at > found.at).at > found.at
