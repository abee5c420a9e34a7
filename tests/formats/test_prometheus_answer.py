"""What a Prometheus server answers, from servers that mean well and servers that do not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.desired import Metrics, Service
from reconciler.core.observed import ObservedContainer, Status
from reconciler.formats.exposition import ExpositionError, Names
from reconciler.formats.prometheus_answer import (
    RANGE_S,
    AnswerError,
    Scraped,
    complaint,
    labels_of,
    query,
    scraped,
    series_of,
)

NOW = 1_800_000_000.0
SINCE = NOW - 100.0
AT = NOW - 4.0
BEFORE = AT - 15.0
NAMES = Names()
TARGET = {"instance": "10.0.0.2:3000", "job": "shop"}
WANTED = {"instance": "10.0.0.2:3000"}
BUCKETS = (("0.1", "6"), ("0.5", "8"), ("+Inf", "10"))

Answer = list[dict[str, Any]]


def line(name: str, *values: tuple[float, str], **labels: str) -> dict[str, Any]:
    return {"metric": {"__name__": name, **TARGET, **labels}, "values": [[at, value] for at, value in values]}


def answer() -> Answer:
    """Two scrapes of a container that answered ten requests, one of them with 503, until the second."""
    counted = ((BEFORE, "4"), (AT, "9"))
    return [
        line("up", (BEFORE, "1"), (AT, "1")),
        line("http_requests_total", *counted, path="/", status_code="200", method="GET"),
        line("http_requests_total", (AT, "1"), path="/", status_code="503", method="GET"),
        *(line("http_request_duration_seconds_bucket", (AT, count), le=bound) for bound, count in BUCKETS),
        line("http_request_duration_seconds_count", (AT, "10")),
        line("app_uptime_seconds", (AT, "90.5")),
        line("app_mode", (AT, "1")),
        line("chaos_active", (AT, "2")),
    ]


def body(result: object, **more: object) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more}).encode()


def read(result: Answer, wanted: dict[str, str] = WANTED, since: float = SINCE, now: float = NOW) -> Scraped:
    return scraped(series_of(body(result), NAMES), wanted, NAMES, frozenset({"/healthz"}), since=since, now=now)


def why(result: Answer, **options: Any) -> str:
    with pytest.raises((AnswerError, ExpositionError)) as caught:
        read(result, **options)
    return str(caught.value)


# --- the question ---------------------------------------------------------------------------------------------


def container(number: int = 1, address: str = "10.0.0.2") -> ObservedContainer:
    return ObservedContainer(f"id{number}", f"shop-{number}", "app", "r", Status.RUNNING, address=address)


def test_one_question_is_about_all_families_of_all_containers():
    service = Service("app", "i", 3000)
    wanted = [labels_of(container(number, f"10.0.0.{number}"), service) for number in (3, 2)]
    assert query(wanted, Names(requests="hits_total")) == (
        '{__name__=~"app_mode|app_uptime_seconds|chaos_active|hits_total|http_request_duration_seconds_bucket'
        '|http_request_duration_seconds_count|up",instance=~"10\\\\.0\\\\.0\\\\.2:3000|10\\\\.0\\\\.0\\\\.3:3000"}[130s]'
    )


def test_labels_are_the_containers_own():
    match = (("a", "{name}/{id}"), ("b", "{address}:{port}"), ("c", "x{y}"))
    service = Service("app", "i", 80, metrics=Metrics("prometheus", match=match))
    assert labels_of(container(), service) == {"a": "shop-1/id1", "b": "10.0.0.2:80", "c": "x{y}"}
    assert labels_of(container(address="fd00::2"), service)["b"] == "[fd00::2]:80"


def test_a_value_cannot_end_its_string():
    assert query([{"job": 'a"b\\c|d'}], NAMES).endswith(',job=~"a\\"b\\\\\\\\c\\\\|d"}[130s]')


# --- a good answer --------------------------------------------------------------------------------------------


def test_the_last_scrape_is_a_page():
    found = read(answer())
    assert found.at == AT
    assert (found.exposed.requests, found.exposed.errors) == ({"/": 10}, {"/": 1})
    assert found.exposed.buckets == ((0.1, 6), (0.5, 8), (float("inf"), 10))
    assert (found.exposed.uptime_s, found.exposed.mode, found.exposed.chaos) == (90.5, "canary", "error")


def test_others_in_the_same_answer_are_not_mixed_in():
    other = [{**each, "metric": {**each["metric"], "instance": "10.0.0.3:3000"}} for each in answer()]
    assert read([*other, *answer()]) == read(answer())


def test_paths_that_do_not_count_are_left_out():
    health = line("http_requests_total", (AT, "99"), path="/healthz", status_code="200", method="GET")
    assert read([*answer(), health]) == read(answer())


def test_text_of_clients_stays_in_its_label():
    wild = line("http_requests_total", (AT, "1"), path='/"\n\\\r{}# ', status_code="200", method="GET")
    assert read([*answer(), wild]).exposed.requests == {"/": 10, "(other)": 1}


def test_a_counter_without_any_series_has_counted_nothing_where_the_histogram_agrees():
    idle = [each for each in answer() if not each["metric"]["__name__"].startswith("http_")]
    zero = [line("http_request_duration_seconds_bucket", (AT, "0"), le=bound) for bound, _ in BUCKETS]
    assert read([*idle, *zero]).exposed.requests == {}
    assert why(idle).startswith("the server has no http_requests_total of it")
    busy = [each for each in answer() if each["metric"]["__name__"] != "http_requests_total"]
    assert why(busy) == "http_request_duration_seconds has counted and http_requests_total has not"


# --- whose, and when ------------------------------------------------------------------------------------------


@pytest.mark.fault("H11")
def test_what_was_scraped_before_the_container_began_is_another_ones():
    assert why(answer(), since=AT + 1.0) == "the server has not scraped it since it started"
    assert why(answer(), since=AT - 1.0) == "the server has not scraped it since it started", "clocks differ a little"
    old = line("http_requests_total", (SINCE - 5.0, "1000"), path="/old", status_code="200", method="GET")
    gone = line("up", (SINCE - 5.0, "1"), job="before")
    assert read([*answer(), old, gone]) == read(answer())


def test_an_unknown_container_is_said_to_be():
    assert why([]) == 'the server scrapes nothing with instance="10.0.0.2:3000"'
    assert why(answer(), wanted={"instance": "x"}) == 'the server scrapes nothing with instance="x"'


def test_two_targets_of_one_container_are_not_added_up():
    twice = [{**each, "metric": {**each["metric"], "job": "other"}} for each in answer()]
    assert "as several targets (jobs other, shop). Add a label under metrics.match" in why([*answer(), *twice])
    assert read([*answer(), *twice], wanted={**WANTED, "job": "shop"}) == read(answer())


def test_a_scrape_that_failed_is_unknown():
    result = answer()
    result[0]["values"].append([AT + 2.0, "0"])
    assert why(result) == "the server could not scrape it (up is 0)"
    result[0]["values"][-1][1] = "NaN"
    assert why(result) == "the server could not scrape it (up is NaN)"


def test_scrapes_may_be_as_old_as_two_of_them_are_apart():
    assert read(answer(), now=AT + 35.0) == read(answer())
    assert why(answer(), now=AT + 35.5) == "the server's last scrape of it is 36 s old"
    seldom = answer()
    seldom[0]["values"] = [[AT, "1"]]
    assert read(seldom, now=AT + RANGE_S - 1.0) == read(answer())
    assert why(seldom, now=AT + RANGE_S + 1.0).endswith("131 s old")


def test_a_scrape_in_the_future_is_unknown():
    assert read(answer(), now=AT - 1.5) == read(answer())
    assert why(answer(), now=AT - 10.0) == "the server's last scrape of it is 10 s in the future"


def test_half_a_scrape_is_unknown():
    """A series that comes back a scrape later would look like a thousand new requests."""
    result = answer()
    del result[1]["values"][-1]
    assert why(result) == "http_requests_total had a series that is missing from the last scrape"


def test_what_an_earlier_process_in_the_container_counted_is_gone_for_a_reason():
    result = answer()
    result.append(line("http_requests_total", (BEFORE, "4"), path="/old", status_code="200", method="GET"))
    assert "missing" in why(result)
    result[-2 - 2]["values"] = [[BEFORE, "500"], [AT, "3.5"]]
    assert result[-4]["metric"]["__name__"] == "app_uptime_seconds"
    assert read(result).exposed.requests == {"/": 10}


# --- hostile --------------------------------------------------------------------------------------------------

WHOLE: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"<html>", "its answer is no JSON"),
    "NaN as JSON": (b'{"status": NaN}', "its answer is no JSON"),
    "deep": (b"[" * 100_000, "its answer is no JSON"),
    "no text": (b"\xff\xfe{}", "its answer is no JSON"),
    "half": (body([])[:-4], "its answer is no JSON"),
    "a list": (b"[]", "it reports an error: without a reason"),
    "an error with status 200": (
        b'{"status":"error","errorType":"execution","error":"too many\\n\\u001b[31msamples"}',
        "it reports an error: too many??[31msamples",
    ),
    "no status": (b'{"data": {}}', "it reports an error: without a reason"),
    "a partial answer": (body([], warnings=["store 3 is down"]), "may be incomplete; it warns: ['store 3 is down']"),
    "warnings that are none": (body([], warnings={"a": 1}), "may be incomplete"),
    "no data": (b'{"status": "success"}', "something else than series"),
    "a vector": (body([]).replace(b"matrix", b"vector"), "something else than series"),
    "no result": (body(None), "something else than series"),
    "too many series": (body([{}] * 20_001), "it answers 20001 series, more than 20000"),
    "a series that is none": (body([5]), "a series without labels"),
    "labels that are none": (body([{"metric": {"__name__": 5}, "values": []}]), "a series without labels"),
    "another family": (body([line("secret", (AT, "1"))]), "a series that was not asked for"),
    "no name": (body([{"metric": {}, "values": [[AT, "1"]]}]), "a series that was not asked for"),
    "a wild label": (body([line("up", (AT, "1"), **{'a"b': "c"})]), "up has a label whose name is no plain one"),
    "no samples": (body([line("up")]), "up has no plain samples"),
    "a native histogram": (body([{"metric": {"__name__": "up"}, "histograms": []}]), "up has no plain samples"),
    "two samples of one time": (body([line("up", (AT, "1"), (AT, "0"))]), "up has two samples of one time"),
    "a time that is none": (body([line("up", (True, "1"))]), "up has a sample that is none"),
    "an endless time": (body([line("up", (1e300, "1"))]), "up has a sample that is none"),
    "a bare number": (body([line("up", (AT, 1))]), "up has a sample that is none"),  # type: ignore[arg-type]
    "a hexadecimal value": (body([line("up", (AT, "0x1p3"))]), "up has a sample that is none"),
    "an empty value": (body([line("up", (AT, ""))]), "up has a sample that is none"),
    "other digits": (body([line("up", (AT, "١"))]), "up has a sample that is none"),
    "a line in a value": (body([line("up", (AT, "1\nup 2"))]), "up has a sample that is none"),
    "a sample of three": (
        body([{"metric": {"__name__": "up"}, "values": [[AT, "1", "2"]]}]),
        "up has a sample that is none",
    ),
}  # fmt: skip


@pytest.mark.fault("H3", "H10")
@pytest.mark.parametrize("what", WHOLE)
def test_an_answer_that_is_not_wholly_right_is_refused(what: str):
    text, said = WHOLE[what]
    with pytest.raises(AnswerError) as caught:
        series_of(text, NAMES)
    assert said in str(caught.value)


def spoiled(index: int, value: str) -> Callable[[Answer], None]:
    def spoil(result: Answer) -> None:
        result[index]["values"][-1][1] = value

    return spoil


def duplicated(result: Answer) -> None:
    result.append(result[1])


def duplicated_in_its_labels(result: Answer) -> None:
    copy = json.loads(json.dumps(result[1]))
    del copy["metric"]["job"]
    result.append(copy)


def without_infinity(result: Answer) -> None:
    result[:] = [each for each in result if each["metric"].get("le") != "+Inf"]


COUNTS: dict[str, tuple[Callable[[Answer], None], str]] = {
    "NaN": (spoiled(1, "NaN"), "http_requests_total has the value nan"),
    "infinity": (spoiled(1, "+Inf"), "http_requests_total has the value inf"),
    "more than there is": (spoiled(1, "1e309"), "http_requests_total has the value inf"),
    "below zero": (spoiled(1, "-5"), "http_requests_total has the value -5"),
    "a fraction": (spoiled(1, "4.5"), "http_requests_total has the value 4.5, which is no count"),
    "a bucket that falls": (spoiled(4, "5"), "http_request_duration_seconds has buckets that fall"),
    "another count": (spoiled(6, "11"), "http_request_duration_seconds has a count that is not its last bucket"),
    "a mode that is none": (spoiled(8, "7"), "app_mode has the value 7.0, not 0 to 1"),
    "a series twice": (duplicated, "http_requests_total has one series twice"),
    "a series twice but for a job": (duplicated_in_its_labels, "http_requests_total has one series twice"),
    "no infinite bucket": (without_infinity, "http_request_duration_seconds has no bucket le=+Inf"),
}  # fmt: skip


@pytest.mark.fault("H3")
@pytest.mark.parametrize("what", COUNTS)
def test_counts_that_are_none_are_unknown_and_never_zero(what: str):
    spoil, said = COUNTS[what]
    result = answer()
    spoil(result)
    assert why(result).startswith(said)


def test_a_whole_number_may_be_written_in_any_way():
    result = answer()
    result[1]["values"][-1][1] = "9e+00"
    assert read(result) == read(answer())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["up", "success"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["metric", "values", "x"]), below),
    max_leaves=10,
)


@given(JSON)
def test_whatever_is_answered_is_an_answer_or_an_error_of_ours(result: Any):
    for text in (
        json.dumps(result).encode(),
        body(result),
        body([result]),
        body([{"metric": result, "values": result}]),
    ):
        complaint(text)
        with contextlib.suppress(AnswerError):
            series_of(text, NAMES)
