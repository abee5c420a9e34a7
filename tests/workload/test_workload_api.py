"""What / and /healthz answer, and what unfit requests get."""

import http.client
from datetime import UTC, datetime, timedelta

import pytest
from workload_client import GET, Workload, read_reply, wait_until

MIB = 1024 * 1024


def test_the_welcome_tells_mode_version_and_the_servers_time(start_workload):
    workload = start_workload(MODE="canary", APP_VERSION="2.3.4")
    reply = workload.request("GET", "/")
    welcome = reply.json()
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert (welcome["mode"], welcome["version"]) == ("canary", "2.3.4")
    assert "Welcome" in welcome["message"]
    told = datetime.fromisoformat(welcome["timestamp"])
    assert abs(datetime.now(UTC) - told) < timedelta(seconds=5)


def test_health_tells_status_uptime_mode_and_version(start_workload):
    workload = start_workload(MODE="canary", APP_VERSION="2.3.4")
    first = workload.request("GET", "/healthz").json()
    assert (first["status"], first["mode"], first["version"]) == ("ok", "canary", "2.3.4")
    assert 0 <= first["uptime_seconds"] < 60
    wait_until(lambda: workload.request("GET", "/healthz").json()["uptime_seconds"] > first["uptime_seconds"])


def test_without_an_environment_it_is_stable_1_0_0(stable: Workload):
    health = stable.request("GET", "/healthz").json()
    assert (health["mode"], health["version"]) == ("stable", "1.0.0")


@pytest.mark.parametrize("size_bytes", [0, 1, 10, 70_000, MIB])
def test_a_post_is_answered_with_the_bytes_received(stable: Workload, size_bytes: int):
    reply = stable.request("POST", "/", b"x" * size_bytes)
    assert (reply.status, reply.json()["bytes"]) == (200, size_bytes)


def test_a_chunked_body_is_counted_too(stable: Workload):
    reply = stable.request("POST", "/", iter([b"abc", b"defg"]))
    assert (reply.status, reply.json()["bytes"]) == (200, 7)


def test_a_body_over_the_limit_is_refused_and_the_connection_stays_usable(stable: Workload):
    connection = http.client.HTTPConnection("127.0.0.1", stable.port, timeout=10)
    connection.request("POST", "/", b"x" * (MIB + 1))
    refusal = connection.getresponse()
    refusal.read()
    connection.request("GET", "/")
    assert (refusal.status, connection.getresponse().status) == (413, 200)
    connection.close()


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(stable: Workload):
    with stable.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: workload\r\nContent-Length: 10\r\n\r\n01234")
        status, head = read_reply(connection)
    assert status == 408
    assert b"connection: close" in head


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics"])
def test_head_is_get_without_the_body(stable: Workload, path: str):
    reply = stable.request("HEAD", path)
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD, POST, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/chaos", "POST, OPTIONS"),
    ],
)
def test_each_path_says_which_methods_it_allows(canary: Workload, path: str, allowed: str):
    asked = canary.request("OPTIONS", path)
    refused = canary.request("DELETE", path)
    assert (asked.status, asked.body, asked.headers["allow"]) == (204, b"", allowed)
    assert (refused.status, refused.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/nowhere", "/healthz/", "/%2e%2e", "//"])
def test_an_unknown_path_is_not_found(stable: Workload, path: str):
    reply = stable.request("GET", path)
    assert (reply.status, reply.json()["error"]) == (404, "Not Found")


def test_a_query_changes_nothing(stable: Workload):
    assert stable.request("GET", "/healthz?verbose=1").status == 200


def test_a_request_that_is_not_http_gets_400_and_the_service_goes_on(stable: Workload):
    with stable.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert read_reply(connection)[0] == 400
    assert stable.request("GET", "/").status == 200


def test_a_connection_serves_many_requests(stable: Workload):
    with stable.connect() as connection:
        for _ in range(100):
            connection.sendall(GET)
            status, head = read_reply(connection)
            assert status == 200
            assert b"connection: close" not in head
