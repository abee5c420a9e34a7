"""`X-Mode: canary` is on every answer of a canary, and on none of a stable."""

import pytest
from workload_client import Workload, read_reply

JSON = {"Content-Type": "application/json"}
REQUESTS = [
    ("GET", "/", None, {}, 200),
    ("POST", "/", "hello", {}, 200),
    ("HEAD", "/", None, {}, 200),
    ("OPTIONS", "/", None, {}, 204),
    ("GET", "/healthz", None, {}, 200),
    ("GET", "/metrics", None, {}, 200),
    ("GET", "/nowhere", None, {}, 404),
    ("PUT", "/", None, {}, 405),
    ("POST", "/", "x" * (1024 * 1024 + 1), {}, 413),
]
CHAOS_REQUESTS = [
    ("POST", "/chaos", '{"mode": "recover"}', JSON, 200),
    ("POST", "/chaos", "{", JSON, 400),
    ("GET", "/chaos", None, {}, 405),
    ("POST", "/chaos", "x" * 5000, JSON, 413),
    ("POST", "/chaos", "<chaos/>", {"Content-Type": "application/xml"}, 415),
    ("POST", "/chaos", "{}", JSON, 422),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), REQUESTS + CHAOS_REQUESTS)
def test_a_canary_says_so_on_every_answer(canary: Workload, method, path, body, headers, status):
    reply = canary.request(method, path, body, headers)
    assert (reply.status, reply.headers.get("x-mode")) == (status, "canary")


@pytest.mark.parametrize("path", ["/", "/nowhere"])
def test_a_canary_says_so_on_injected_errors(canary: Workload, path: str):
    canary.inject({"mode": "error", "rate": 1})
    reply = canary.request("GET", path)
    assert (reply.status, reply.headers.get("x-mode")) == (500, "canary")


def test_a_canary_says_so_to_a_request_that_is_not_http(canary: Workload):
    with canary.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        status, head = read_reply(connection)
    assert status == 400
    assert b"\r\nx-mode: canary" in head


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), REQUESTS)
def test_a_stable_has_no_such_header(stable: Workload, method, path, body, headers, status):
    reply = stable.request(method, path, body, headers)
    assert (reply.status, reply.headers.get("x-mode")) == (status, None)


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), CHAOS_REQUESTS)
def test_a_stable_forbids_chaos_whatever_is_asked(stable: Workload, method, path, body, headers, status):
    reply = stable.request(method, path, body, headers)
    assert (reply.status, reply.headers.get("x-mode")) == (403, None)
    assert "canary" in reply.json()["message"]
