"""Prometheus servers over real sockets, and scrapes that are given out together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from reconciler.adapters import clock
from reconciler.adapters.app_metrics import AppMetrics
from reconciler.adapters.http_client import Failure, HttpError, Tcp
from reconciler.adapters.metrics import CountedTwice, InStep
from reconciler.adapters.prometheus import ANSWER_MAX_BYTES, PrometheusMetrics, resolved
from reconciler.core.desired import Metrics, Service
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.observed import ObservedContainer, Status
from reconciler.ports import MeasureTarget
from tests.adapters.test_app_metrics import NoProxy, Serve, answer, drip, endless, page, server, target

NOW = 1_800_000_000.0
STARTED = "2027-01-15T07:59:00.5Z"
AT = NOW - 4.0
BUCKETS = (("0.1", "6"), ("+Inf", "10"))


def date(at: float = NOW) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)


def said(result: Any, status: str = "200 OK", at: float = NOW, **more: Any) -> bytes:
    body = {"status": "success", "data": {"resultType": "matrix", "result": result}, **more}
    return answer(json.dumps(body).encode(), status, "application/json", f"Date: {date(at)}\r\n")


def series(name: str, value: str, address: str = "10.0.0.1", at: float = AT, **labels: str) -> dict[str, Any]:
    metric = {"__name__": name, "instance": f"{address}:3000", "job": "shop", **labels}
    return {"metric": metric, "values": [[at, value]]}


def scrape(address: str = "10.0.0.1", requests: int = 10) -> list[dict[str, Any]]:
    return [
        series("up", "1", address),
        series("http_requests_total", str(requests), address, path="/", status_code="200"),
        *(series("http_request_duration_seconds_bucket", count, address, le=bound) for bound, count in BUCKETS),
    ]


def box(url: str, number: int = 1, **changes: Any) -> MeasureTarget:
    container = ObservedContainer(
        *(f"c{number}", f"shop-{number}", "app", "r", Status.RUNNING),
        address=f"10.0.0.{number}",
        started_at=STARTED,
    )
    service = Service("app", "demo:1", 3000, metrics=Metrics("prometheus", server=url))
    return MeasureTarget(dataclasses.replace(container, **changes), service)


@pytest.fixture
def metrics() -> Iterator[PrometheusMetrics]:
    made = PrometheusMetrics(now=lambda: NOW)
    yield made
    made.close()


def read(metrics: PrometheusMetrics, *targets: MeasureTarget, seconds: float = 10.0) -> dict[str, Reading | Unread]:
    deadline = clock.monotonic() + seconds
    return metrics.answers(metrics.ask(targets, deadline), deadline)


def why(found: Reading | Unread) -> str:
    assert isinstance(found, Unread), found
    assert not found.is_absent
    return found.why


# --- one question ---------------------------------------------------------------------------------------------


def test_one_question_reads_all_containers(metrics: PrometheusMetrics):
    asked: list[bytes] = []
    with server(said([*scrape(), *scrape("10.0.0.2", 11)]), asked) as port:
        found = read(metrics, *(box(f"http://127.0.0.1:{port}/prom/", number) for number in (1, 2, 3)))
    assert len(asked) == 1
    head, _, form = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /prom/api/v1/query HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)
    (text,) = parse_qs(form.decode())["query"]
    assert 'instance=~"10\\\\.0\\\\.0\\\\.1:3000|10\\\\.0\\\\.0\\\\.2:3000|' in text
    first, second, third = (found[f"c{number}"] for number in (1, 2, 3))
    assert isinstance(first, Reading)
    assert (first.at, first.began, first.requests, first.uptime_s) == (AT, NOW - 59.5, {"/": 10}, 55.5)
    assert isinstance(second, Reading)
    assert second.requests == {"/": 11}
    assert why(third) == 'the server scrapes nothing with instance="10.0.0.3:3000"'


def test_a_container_that_does_not_run_is_not_asked_about(metrics: PrometheusMetrics):
    asked: list[bytes] = []
    with server(said(scrape()), asked) as port:
        url = f"http://127.0.0.1:{port}"
        gone = box(url, 2, status=Status.EXITED)
        homeless, ageless = box(url, 3, address=None), box(url, 4, started_at="0001-01-01T00:00:00Z")
        found = read(metrics, box(url), gone, homeless, ageless)
        assert read(metrics, gone) == {"c2": Unread("it is exited")}
    assert isinstance(found["c1"], Reading)
    assert [why(found[f"c{number}"]) for number in (2, 3, 4)] == ["it is exited", *["it has no address or no age"] * 2]
    assert len(asked) == 1
    assert b"10.0.0.2" not in asked[0]


HOSTILE: dict[str, Serve | bytes] = {
    "a drip": drip,
    "an answer without end": endless,
    "an answer that says how large it is": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (ANSWER_MAX_BYTES + 1),
    "a redirect": answer(b"", "302 Found", more="Location: http://127.0.0.1:1/\r\n"),
    "a page of text": answer(page(), more=f"Date: {date()}\r\n"),
    "gzip that was not asked for": answer(b"x", more="Content-Encoding: gzip\r\n"),
    "not HTTP": b"SSH-2.0-OpenSSH\r\n",
    "half an answer": said(scrape())[:-20],
    "nothing": b"",
    "a server error": said(scrape(), "503 Busy"),
    "an error with status 200": said(scrape(), status_="x").replace(b'"success"', b'"failed!"'),
    "part of it": said(scrape(), warnings=["a store is down"]),
    "nobody": said([]),
}  # fmt: skip


@pytest.mark.fault("H1", "H2", "H10")
@pytest.mark.parametrize("what", HOSTILE)
def test_an_answer_that_is_none_is_unknown_in_time(metrics: PrometheusMetrics, what: str):
    with server(HOSTILE[what]) as port:
        found = read(metrics, *(box(f"http://127.0.0.1:{port}", number) for number in (1, 2)), seconds=1.0)
    assert sorted(found) == ["c1", "c2"]
    assert all(why(each) for each in found.values())


def test_what_a_server_says_of_its_refusal_is_told(metrics: PrometheusMetrics):
    body = json.dumps({"status": "error", "error": "query processing\u2028would load too many samples"}).encode()
    with server(answer(body, "422 No", "application/json")) as port:
        (found,) = read(metrics, box(f"http://127.0.0.1:{port}")).values()
    expected = f"http://127.0.0.1:{port}: it answers 422: query processing?would load too many samples"
    assert why(found) == expected


@pytest.mark.fault("D3")
@pytest.mark.parametrize(
    ("off_s", "words"),
    [(0, ""), (-2, ""), (2, ""), (9, "its clock is 9 s ahead"), (-9, "its clock is 8 s behind")],
)
def test_a_server_with_another_clock_is_not_believed(metrics: PrometheusMetrics, off_s: int, words: str):
    with server(said(scrape(), at=NOW + off_s)) as port:
        (found,) = read(metrics, box(f"http://127.0.0.1:{port}")).values()
    assert isinstance(found, Reading) if not words else words in why(found)


@pytest.mark.parametrize("line", [b"Date: x\r\n", b""])
def test_a_server_without_a_clock_is_not_believed(metrics: PrometheusMetrics, line: bytes):
    with server(said(scrape()).replace(f"Date: {date()}\r\n".encode(), line)) as port:
        (found,) = read(metrics, box(f"http://127.0.0.1:{port}")).values()
    assert "no Date header" in why(found)


# --- finding it -----------------------------------------------------------------------------------------------


def test_a_name_with_two_addresses_is_tried_at_both():
    with server(said(scrape())) as port, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        both = [Tcp("127.0.0.1", deaf.getsockname()[1]), Tcp("127.0.0.1", port)]
        metrics = PrometheusMetrics(now=lambda: NOW, resolve=lambda *_: both)
        with contextlib.closing(metrics):
            (found,) = read(metrics, box("http://prometheus.example:9090")).values()
    assert isinstance(found, Reading)


def test_an_address_is_itself_and_nonsense_is_nobody():
    assert resolved("127.0.0.1", 9090) == [Tcp("127.0.0.1", 9090)]
    assert resolved("::1", 9090) == [Tcp("::1", 9090)]
    with pytest.raises(HttpError, match="is not known here"):
        resolved("x" * 70, 9090)


def test_a_name_that_is_looked_up_for_ever_is_asked_for_once():
    looked_up: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def resolve(host: str, port: int) -> Sequence[Tcp]:
        looked_up.append(host)
        begun.set()
        go_on.wait()
        raise HttpError(Failure.UNREACHABLE, "nobody knows")

    metrics = PrometheusMetrics(now=lambda: NOW, resolve=resolve)
    try:
        for _ in range(8):
            (found,) = read(metrics, box("http://slow.example:9090"), seconds=0.01).values()
            assert why(found) == "http://slow.example:9090 did not answer in time"
            assert begun.wait(10.0)
        assert looked_up == ["slow.example"]
    finally:
        go_on.set()
        metrics.close()


def test_a_server_is_asked_again_once_the_last_question_has_ended():
    known: list[Tcp] = []

    def resolve(host: str, port: int) -> Sequence[Tcp]:
        if not known:
            raise HttpError(Failure.UNREACHABLE, "nobody knows")
        return known

    with contextlib.closing(PrometheusMetrics(now=lambda: NOW, resolve=resolve)) as metrics:
        (found,) = read(metrics, box("http://late.example:9090")).values()
        assert why(found) == "Prometheus could not be asked: nobody knows"
        with server(said(scrape())) as port:
            known.append(Tcp("127.0.0.1", port))
            (found,) = read(metrics, box("http://late.example:9090")).values()
    assert isinstance(found, Reading)


# --- beside pages and nginx's count ---------------------------------------------------------------------------


def test_pages_and_servers_are_asked_in_one_look():
    metrics = CountedTwice(AppMetrics(now=lambda: NOW), NoProxy(), PrometheusMetrics(now=lambda: NOW))
    with contextlib.closing(metrics), server(answer(page())) as app, server(said(scrape())) as port:
        found = metrics.read([target(app, 7), box(f"http://127.0.0.1:{port}")], None)
    by_page, by_server = found["c7"].service, found["c1"].service
    assert isinstance(by_page, Reading)
    assert isinstance(by_server, Reading)
    assert (by_page.at, by_server.at) == (NOW, AT)
    assert {each.proxy for each in found.values()} == {Unread("nginx does not run")}


class Steps:
    """Looks at two containers of one service; a look is given what was scraped last of each, and when."""

    def __init__(self) -> None:
        self.in_step, self.now = InStep(), 0.0

    def look(self, now: float, **scraped: float | Reading | Unread) -> dict[str, Counted]:
        fresh = {
            name: Reading(each, 1.0, {"/": int(each)}) if isinstance(each, int | float) else each
            for name, each in scraped.items()
        }
        targets = [box("http://x", int(name[1:])) for name in scraped]
        return self.in_step.counted(targets, fresh, {name: Reading(now, 0.5, {"": int(now)}) for name in scraped})


def ats(found: dict[str, Counted]) -> list[float | str]:
    return [each.service.at if isinstance(each.service, Reading) else each.service.why for each in found.values()]


def test_a_new_scrape_waits_until_all_have_one():
    steps = Steps()
    assert ats(steps.look(10, c1=3, c2=9)) == [3, 9]
    assert ats(steps.look(19, c1=18, c2=9)) == [3, 9], "one of them alone would be compared with nothing"
    assert ats(steps.look(24, c1=18, c2=24)) == [18, 24]
    assert ats(steps.look(26, c1=18, c2=24)) == [18, 24], "the same scrape again adds nothing"


def test_who_cannot_be_read_keeps_nobody_waiting():
    steps = Steps()
    steps.look(10, c1=3, c2=9)
    assert ats(steps.look(19, c1=18, c2=Unread("it is gone"))) == [18, "it is gone"]
    assert ats(steps.look(21, c1=18, c2=20)) == [18, 9], "until both have a new one"
    assert ats(steps.look(35, c1=33, c2=35)) == [33, 35]


def test_a_new_container_and_a_new_life_do_not_wait():
    steps = Steps()
    steps.look(10, c1=3)
    assert ats(steps.look(12, c1=3, c2=11)) == [3, 11]
    restarted = Reading(13.0, 12.5, {"/": 1})
    assert ats(steps.look(14, c1=3, c2=restarted)) == [3, 13]


def test_a_scrape_has_nginxs_count_of_the_same_moment_beside_it():
    steps = Steps()
    for now in (10.0, 12.5, 15.0, 17.5):
        steps.look(now, c1=3, c2=9)
    found = steps.look(20, c1=12, c2=19)
    assert [each.proxy.at for each in found.values() if isinstance(each.proxy, Reading)] == [12.5, 20.0]
    assert steps.look(22.5, c1=12, c2=19) == found


def test_no_count_of_that_moment_is_no_count():
    found = Steps().look(20, c1=12)
    assert found["c1"].proxy == Unread("it was not read at the moment of the scrape")
