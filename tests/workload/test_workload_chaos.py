"""Chaos strikes the work and nothing else, ends at once, and refuses what it does not understand."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from workload_client import GET, Workload, wait_until

LONG_S = 60


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 200), ("POST", "/", 200), ("GET", "/nowhere", 404)]
)
def test_slow_delays_every_later_request(canary: Workload, method: str, path: str, status: int):
    assert canary.inject({"mode": "slow", "duration": 0.3}).status == 200
    reply = canary.request(method, path)
    assert reply.status == status
    assert 0.3 <= reply.elapsed_s < 3


def test_slow_requests_wait_side_by_side(canary: Workload):
    canary.inject({"mode": "slow", "duration": 0.5})
    with ThreadPoolExecutor(20) as clients:
        replies = list(clients.map(lambda _: canary.request("GET", "/"), range(20)))
    assert all(reply.status == 200 for reply in replies)
    assert max(reply.elapsed_s for reply in replies) < 5


@pytest.mark.parametrize(
    ("rate", "least", "most"),
    # Half of 400 is 200 with a standard deviation of 10: outside of 130 to 270 once in 10^11 runs.
    [(1.0, 400, 400), (1, 400, 400), (0.0, 0, 0), (0.5, 130, 270)],
)
def test_error_fails_about_its_share_of_requests(canary: Workload, rate: float, least: int, most: int):
    assert canary.inject({"mode": "error", "rate": rate}).status == 200
    statuses = [canary.request("GET", "/").status for _ in range(400)]
    assert set(statuses) <= {200, 500}
    assert least <= statuses.count(500) <= most


def test_an_injected_error_says_that_it_was_injected(canary: Workload):
    canary.inject({"mode": "error", "rate": 1})
    assert "chaos" in canary.request("GET", "/").json()["message"]


def test_recover_ends_errors(canary: Workload):
    canary.inject({"mode": "error", "rate": 1})
    assert canary.request("GET", "/").status == 500
    assert canary.inject({"mode": "recover"}).status == 200
    assert {canary.request("GET", "/").status for _ in range(50)} == {200}


def test_recover_frees_who_is_held_back(canary: Workload):
    canary.inject({"mode": "slow", "duration": LONG_S})
    with ThreadPoolExecutor(1) as clients, canary.connect() as held_back:
        reply = clients.submit(canary.request, "GET", "/")
        held_back.sendall(GET)
        assert canary.inject({"mode": "recover"}).status == 200
        assert reply.result(timeout=10).status == 200
        assert held_back.recv(12) == b"HTTP/1.1 200"


def test_one_chaos_replaces_another(canary: Workload):
    canary.inject({"mode": "slow", "duration": LONG_S})
    canary.inject({"mode": "error", "rate": 1})
    reply = canary.request("GET", "/")
    assert (reply.status, canary.sample("chaos_active")) == (500, 2)
    assert reply.elapsed_s < 5


@pytest.mark.parametrize("chaos", [{"mode": "slow", "duration": LONG_S}, {"mode": "error", "rate": 1}])
def test_health_metrics_and_chaos_itself_are_spared(canary: Workload, chaos: object):
    canary.inject(chaos)
    replies = [canary.request("GET", "/healthz"), canary.request("GET", "/metrics"), canary.inject(chaos)]
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert max(reply.elapsed_s for reply in replies) < 5


def test_a_client_that_leaves_is_not_kept_and_counts_as_499(start_workload):
    canary = start_workload(MODE="canary")
    canary.inject({"mode": "slow", "duration": LONG_S})
    with canary.connect() as impatient:
        impatient.sendall(GET)
        wait_until(lambda: canary.sample("chaos_active") == 1)
    labels = frozenset({"method": "GET", "path": "/", "status_code": "499"}.items())
    wait_until(lambda: canary.samples().get(("http_requests_total", labels)) == 1)


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ("", 400, "JSON"),
        ("slow", 400, "JSON"),
        ("{", 400, "JSON"),
        ("\xff", 400, "JSON"),
        ("[" * 4000, 400, "JSON"),
        ('{"mode": "slow", "duration": NaN}', 400, "JSON"),
        ('{"mode": "slow", "duration": Infinity}', 400, "JSON"),
        ('{"mode": "slow", "duration": ' + "9" * 4000 + "}", 422, "duration"),
        ("null", 422, "object"),
        ("[]", 422, "object"),
        ('"slow"', 422, "object"),
        ("{}", 422, "mode"),
        ('{"mode": "fast"}', 422, "mode"),
        ('{"mode": ["slow"]}', 422, "mode"),
        ('{"mode": "SLOW", "duration": 1}', 422, "mode"),
        ('{"mode": "slow"}', 422, "duration"),
        ('{"mode": "slow", "duration": "3"}', 422, "duration"),
        ('{"mode": "slow", "duration": null}', 422, "duration"),
        ('{"mode": "slow", "duration": true}', 422, "duration"),
        ('{"mode": "slow", "duration": -1}', 422, "duration"),
        ('{"mode": "slow", "duration": 301}', 422, "duration"),
        ('{"mode": "slow", "duration": 1e999}', 422, "duration"),
        ('{"mode": "slow", "rate": 0.5}', 422, "rate"),
        ('{"mode": "error"}', 422, "rate"),
        ('{"mode": "error", "rate": 1.01}', 422, "rate"),
        ('{"mode": "error", "rate": -0.01}', 422, "rate"),
        ('{"mode": "error", "rate": "0.5"}', 422, "rate"),
        ('{"mode": "error", "rate": 0.5, "duration": 1}', 422, "duration"),
        ('{"mode": "recover", "rate": 0.5}', 422, "rate"),
    ],
)
def test_a_wrong_body_is_refused_with_a_reason_and_changes_nothing(canary: Workload, body, status, named):
    canary.inject({"mode": "error", "rate": 0})
    reply = canary.request("POST", "/chaos", body.encode("latin-1"), {"Content-Type": "application/json"})
    assert (reply.status, canary.sample("chaos_active")) == (status, 2)
    assert named in reply.json()["message"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x"])
def test_other_content_types_are_refused(canary: Workload, content_type: str):
    reply = canary.request("POST", "/chaos", '{"mode": "recover"}', {"Content-Type": content_type})
    assert reply.status == 415


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "Application/JSON"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
def test_json_is_taken_from_clients_that_name_it_carelessly(canary: Workload, headers: dict[str, str]):
    assert canary.request("POST", "/chaos", b'{"mode": "recover"}', headers).status == 200


def test_the_answer_repeats_what_is_in_force(canary: Workload):
    assert canary.inject({"mode": "slow", "duration": 0.1}).json() == {"chaos": {"mode": "slow", "duration": 0.1}}
    assert canary.inject({"mode": "error", "rate": 0.5}).json() == {"chaos": {"mode": "error", "rate": 0.5}}
    assert canary.inject({"mode": "recover"}).json() == {"chaos": {"mode": "recover"}}
