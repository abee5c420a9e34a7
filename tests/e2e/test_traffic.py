"""Traffic through a real nginx must go where the weights say, and none of it may get lost."""

from __future__ import annotations

import itertools
import json
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import docker
import pytest

from reconciler.adapters.rendered_files import RenderedFiles
from reconciler.core.containers import EVIDENCE_LOG
from reconciler.core.observed import Slot
from tests.e2e.stack import wait_for
from tests.e2e.traffic_world import CLOSED, PLAIN, STICKY, TESTED, Answer, TrafficWorld, asked

REQUESTS = 10_000
TOLERATED_POINTS = 2.0
"""Four standard deviations of a half of 10,000."""
MOVE_EVERY_S = 0.2
MOVES = 300
SET_AGAIN = 150
LEFT_ALONE_S = 3.5
"""Longer than nginx's `fail_timeout=2s`, which it counts in whole seconds."""
CLIENTS_OF_STICKY = 250
ASKED_BY_US = 50
"""More than the tests ask a container for, past nginx, until it serves."""
COOKIE = re.compile(r"swiftdeploy=([0-9a-f]{32}); Path=/; Max-Age=86400; HttpOnly; SameSite=Lax")


@pytest.fixture(scope="module")
def opened(engine: docker.DockerClient) -> Iterator[TrafficWorld]:
    octets = secrets.token_bytes(2)
    made = TrafficWorld(engine, f"traffic-{secrets.token_hex(4)}", f"10.{150 + octets[0] % 50}.{octets[1]}")
    try:
        made.open()
        yield made
    finally:
        made.close()


@pytest.fixture
def world(opened: TrafficWorld) -> TrafficWorld:
    """Everybody is well, and nobody gets canary traffic."""
    for service in (PLAIN, STICKY, CLOSED, TESTED):
        opened.set_weight(service, 0)
    for slot in Slot:
        for replica in (0, 1):
            wait_for(f"{slot} {replica}", partial(opened.answers, slot, replica))
    return opened


def stable(service: str = PLAIN) -> str:
    return f"200 {service}-blue -"


def canary(service: str = PLAIN) -> str:
    return f"200 {service}-green canary"


# ── weights ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("I13")
@pytest.mark.parametrize("weight", [0, 5, 25, 50, 75, 95, 100])
def test_a_canary_must_get_exactly_its_share(world: TrafficWorld, weight: int) -> None:
    """Who answered is said twice, by nginx and by the service; the two must agree in every single answer."""
    world.set_weight(PLAIN, weight)
    counts = world.swarm(PLAIN, REQUESTS)
    assert set(counts) <= {stable(), canary()}, counts
    assert sum(counts.values()) == REQUESTS
    share_pct = 100 * counts.get(canary(), 0) / REQUESTS
    assert abs(share_pct - weight) <= (TOLERATED_POINTS if 0 < weight < 100 else 0.0)


def test_a_weight_that_is_set_again_must_not_be_off_for_a_moment(world: TrafficWorld) -> None:
    """At 100 % the other slot may be about to be emptied: a single request that goes there can be lost."""
    world.set_weight(PLAIN, 100)
    with world.swarming(PLAIN) as counts:
        for _ in range(SET_AGAIN):
            world.set_weight(PLAIN, 100)
            world.prepare()
            time.sleep(0.01)
    assert set(counts) == {canary()}, counts


def test_one_services_weight_must_not_move_another(world: TrafficWorld) -> None:
    world.set_weight(PLAIN, 100)
    assert world.swarm(CLOSED, 200) == {stable(CLOSED): 200}
    assert world.swarm(PLAIN, 200) == {canary(): 200}


# ── sticky ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sticky_client_must_keep_its_side_and_change_it_only_with_the_weight(world: TrafficWorld) -> None:
    """More weight takes users over to the canary and nobody away from it; less weight the other way round."""
    with world.connection() as connection:
        first = [asked(connection, STICKY) for _ in range(CLIENTS_OF_STICKY)]
        cookies = [value_of(answer) for answer in first]
        assert len(set(cookies)) == CLIENTS_OF_STICKY

        def on_canary(weight: int) -> frozenset[str]:
            world.set_weight(STICKY, weight)
            answers = {cookie: asked(connection, STICKY, cookie=f"swiftdeploy={cookie}") for cookie in cookies}
            assert all(answer.status == 200 and answer.cookie is None for answer in answers.values())
            return frozenset(cookie for cookie, answer in answers.items() if answer.slot == "sticky-green")

        weights = (0, 5, 25, 50, 75, 95, 100)
        upwards = [on_canary(weight) for weight in weights]
        downwards = [on_canary(weight) for weight in reversed(weights)]
    assert upwards[0] == frozenset()
    assert upwards[-1] == frozenset(cookies)
    assert all(lower < higher for lower, higher in itertools.pairwise(upwards))
    assert downwards == upwards[::-1]


def test_a_first_answer_must_come_from_the_side_that_its_cookie_means(world: TrafficWorld) -> None:
    world.set_weight(STICKY, 50)
    for _ in range(40):
        first = world.ask(STICKY)
        again = world.ask(STICKY, cookie=f"other=1; swiftdeploy={value_of(first)}")
        assert (again.slot, again.mode, again.cookie) == (first.slot, first.mode, None)


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "0",
        "green",
        "0" * 31,
        "0" * 33,
        "A" * 32,
        "g" * 32,
        "%30" * 32,
        f'"{"0" * 32}"',
        f"{'0' * 32}/../../sets/100/0",
        f"{'0' * 31}\x80",
        f"{'0' * 32}, swiftdeploy=green",
        "$bucket",
    ],
)
def test_a_forged_cookie_must_be_replaced_and_decide_nothing(world: TrafficWorld, forged: str) -> None:
    world.set_weight(STICKY, 50)
    answers = [world.ask(STICKY, cookie=f"swiftdeploy={forged}") for _ in range(24)]
    assert len({value_of(answer) for answer in answers}) == len(answers)
    assert {answer.slot for answer in answers} == {"sticky-blue", "sticky-green"}


def value_of(answer: Answer) -> str:
    """The cookie that was set; a service's own answer sets exactly this one."""
    match = COOKIE.fullmatch(answer.cookie or "")
    assert match, answer
    return match[1]


# ── chaos ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SPELLINGS = (
    "/chaos",
    "/chaos/",
    "//chaos",
    "/./chaos",
    "/x/../chaos",
    "/%63haos",
    "/%43HAOS",
    "/chaos?mode=error",
    "/chaos;x",
    "/chaos.json",
    "/chaos%2f",
    "/chaos#x",
)
ALL_FAIL = {"mode": "error", "rate": 1}


def test_chaos_must_be_refused_where_the_service_does_not_allow_it(world: TrafficWorld) -> None:
    world.set_weight(CLOSED, 50)
    for path in SPELLINGS:
        for method in ("GET", "POST", "PUT"):
            answer = world.ask(CLOSED, path, method, ALL_FAIL)
            assert (answer.status, answer.slot, json.loads(answer.body).get("code")) == (403, "", "403"), path
    for slot in Slot:
        for replica in (0, 1):
            assert "chaos_active 0" in gauges(world, slot, replica)


def test_chaos_must_go_to_the_canary_while_there_is_one(world: TrafficWorld) -> None:
    calm = {"mode": "recover"}
    for service, weight in ((PLAIN, 1), (PLAIN, 50), (PLAIN, 100), (STICKY, 1), (STICKY, 50)):
        world.set_weight(service, weight)
        answers = {world.ask(service, "/chaos", "POST", calm) for _ in range(20)}
        assert {(answer.status, answer.slot) for answer in answers} == {(200, f"{service}-green")}
    world.set_weight(PLAIN, 0)
    refused = world.ask(PLAIN, "/chaos", "POST", calm)
    assert (refused.status, refused.slot) == (403, "plain-blue")


def test_chaos_must_hurt_nobody_but_the_canary(world: TrafficWorld) -> None:
    world.set_weight(PLAIN, 50)
    try:
        for _ in range(4):  # one after the other reaches both replicas
            assert world.ask(PLAIN, "/chaos", "POST", ALL_FAIL).slot == "plain-green"
        assert ["chaos_active 2" in gauges(world, Slot.GREEN, replica) for replica in (0, 1)] == [True, True]
        counts = world.swarm(PLAIN, 400)
    finally:
        for replica in (0, 1):
            world.ask_member(Slot.GREEN, replica, "/chaos", "POST", {"mode": "recover"})
    assert set(counts) == {stable(), "500 plain-green canary"}, counts


def gauges(world: TrafficWorld, slot: Slot, replica: int) -> str:
    return world.ask_member(slot, replica, "/metrics").body.decode()


# ── nothing lost ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("I14")
def test_no_request_must_get_lost_while_weights_move(world: TrafficWorld) -> None:
    """Sixteen clients that keep their connections and never retry, half of what they send POST, for a minute."""
    order = random.Random(5)
    with world.swarming(PLAIN) as counts:
        for _ in range(MOVES):
            world.set_weight(PLAIN, order.choice((0, 5, 25, 50, 75, 95, 100)))
            time.sleep(MOVE_EVERY_S)
    assert set(counts) == {stable(), canary()}, counts
    assert min(counts.values()) > 1000


def test_killed_containers_must_cost_no_request_that_may_be_repeated(world: TrafficWorld) -> None:
    """A request that nginx may send twice goes to the other replica of the same slot, and back when there are two.

    Not while the other one is still left alone by one of nginx's workers, each of which finds out for itself.
    """
    world.set_weight(PLAIN, 50)
    with world.swarming(PLAIN, methods="GET") as counts:
        for slot, replica in ((Slot.BLUE, 0), (Slot.GREEN, 1), (Slot.BLUE, 1)):
            began = world.container(slot, replica).attrs["State"]["StartedAt"]
            world.kill(slot, replica)
            wait_for("it came back", partial(came_back, world, slot, replica, began))
            time.sleep(LEFT_ALONE_S)
            wait_for("nginx asks it again", partial(is_asked, world, slot, replica))
    assert set(counts) == {stable(), canary()}, counts


@pytest.mark.fault("I14")
def test_stopped_containers_must_cost_no_request_at_all(world: TrafficWorld) -> None:
    """They finish what they have begun, and whoever finds nobody there asks the next: true for POST as well."""
    world.set_weight(PLAIN, 50)
    with world.swarming(PLAIN) as counts:
        for slot in Slot:
            container = world.container(slot, 0)
            container.stop()
            container.start()
            wait_for("it came back", partial(world.answers, slot, 0))
            wait_for("nginx asks it again", partial(is_asked, world, slot, 0))
    assert set(counts) == {stable(), canary()}, counts


def came_back(world: TrafficWorld, slot: Slot, replica: int, began: str) -> bool:
    state = world.container(slot, replica).attrs["State"]
    return state["StartedAt"] != began and state["Running"] and world.answers(slot, replica)


def is_asked(world: TrafficWorld, slot: Slot, replica: int) -> bool:
    """Whether work has come to the container through nginx since it started. One that failed is left alone for 2 s."""
    answered = re.findall(r'^http_requests_total{.*path="/".*} (\d+)$', gauges(world, slot, replica), re.M)
    return sum(map(int, answered)) > ASKED_BY_US


# ── testers ────────────────────────────────────────────────────────────────────────────────────────────────────────

TRIES = 60
"""At 50 %, so many ordinary requests all go to one side once in 10^17 times."""


def sides(world: TrafficWorld, tries: int, secret: str | None, wish: str | None) -> set[str]:
    """Who answered requests with these two headers."""
    more = {name: value for name, value in (("X-Canary-Secret", secret), ("X-Canary", wish)) if value is not None}
    with world.connection() as connection:
        return {asked(connection, TESTED, more=more).slot for _ in range(tries)}


@pytest.mark.parametrize(
    ("weight", "always", "never"), [(0, "blue", "blue"), (5, "green", "blue"), (99, "green", "blue")]
)
def test_a_tester_must_get_the_side_that_it_asks_for(world: TrafficWorld, weight: int, always: str, never: str) -> None:
    world.set_weight(TESTED, weight)
    assert sides(world, TRIES, world.secret, "always") == {f"tested-{always}"}
    assert sides(world, TRIES, world.secret, "never") == {f"tested-{never}"}


def test_a_tester_must_not_keep_a_slot_busy_that_is_about_to_be_emptied(world: TrafficWorld) -> None:
    world.set_weight(TESTED, 100)
    assert sides(world, TRIES, world.secret, "never") == {"tested-green"}


@pytest.mark.parametrize("wish", ["always", "never"])
@pytest.mark.parametrize("change", ["none", "wrong", "empty", "upper", "shorter", "longer", "twice", "one", "regex"])
def test_a_stranger_must_not_steer(world: TrafficWorld, change: str, wish: str) -> None:
    """Ordinary requests at 50 % go to both sides."""
    secret = {
        "none": None,
        "wrong": "f" * 64,
        "empty": "",
        "upper": world.secret.upper(),
        "shorter": world.secret[:-1],
        "longer": f"{world.secret}0",
        "twice": f"{world.secret}, {world.secret}",
        "one": "1",
        "regex": ".*",
    }[change]
    world.set_weight(TESTED, 50)
    assert sides(world, TRIES, secret, wish) == {"tested-blue", "tested-green"}


@pytest.mark.parametrize("wish", [None, "", "sometimes", "0", "always, never", "1 always", "green"])
def test_a_tester_who_says_nothing_sensible_must_get_the_ordinary_share(world: TrafficWorld, wish: str | None) -> None:
    world.set_weight(TESTED, 50)
    assert sides(world, TRIES, world.secret, wish) == {"tested-blue", "tested-green"}


def test_other_services_must_not_know_the_secret(world: TrafficWorld) -> None:
    world.set_weight(PLAIN, 50)
    more = {"X-Canary-Secret": world.secret, "X-Canary": "always"}
    assert {world.ask(PLAIN, more=more).slot for _ in range(TRIES)} == {"plain-blue", "plain-green"}


def test_the_secret_must_be_nowhere_but_in_its_file(world: TrafficWorld) -> None:
    world.set_weight(TESTED, 5)
    assert sides(world, 3, world.secret, "always") == {"tested-green"}
    nginx = world.client.containers.get(f"{world.project}-nginx")
    logs = nginx.logs()
    assert b"GET / HTTP" in logs
    assert world.secret.encode() not in logs
    assert world.secret not in json.dumps(nginx.attrs)
    holders = [path for path in world.folder.rglob("*") if path.is_file() and world.secret in path.read_text()]
    (holder,) = holders
    assert holder == world.folder / f"rendered/nginx/live/testers/{TESTED}.{world.digest}.map"
    assert (holder.stat().st_mode & 0o777, holder.stat().st_uid) == (0o600, 65534)
    seen = RenderedFiles(world.folder / "rendered").digests()
    assert list(seen) == ["nginx/live/nginx.conf"]


def test_a_testers_requests_must_be_no_evidence(world: TrafficWorld) -> None:
    def lines() -> int:
        return Path(f"/proc/{pid}/root{EVIDENCE_LOG}").read_bytes().count(b"\n")

    pid = world.client.containers.get(f"{world.project}-nginx").attrs["State"]["Pid"]
    world.set_weight(TESTED, 5)
    sides(world, 1, None, None)
    before = settled(lines)
    sides(world, 20, world.secret, "always")
    sides(world, 20, world.secret, "never")
    sides(world, 20, "f" * 64, "always")
    sides(world, 20, world.secret, None)
    wait_for("ordinary requests are counted", lambda: lines() >= before + 40)
    assert settled(lines) == before + 40


def settled(count: Callable[[], int]) -> int:
    """A number once it has been the same for longer than nginx keeps lines to itself (200 ms)."""
    found = -1
    while found != (found := count()):
        time.sleep(0.5)
    return found
