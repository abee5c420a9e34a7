"""Metrics pages: what a sound one counts, and that nothing else ever counts as zero."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as ClientCounter
from prometheus_client import Histogram as ClientHistogram
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from reconciler.core.desired import Metrics
from reconciler.formats.exposition import (
    LINE_MAX_CHARS,
    OTHER_PATHS,
    SERIES_MAX,
    Exposed,
    ExpositionError,
    Names,
    names_of,
    read,
    shown_path,
)
from workload.metrics import BUCKETS_S
from workload.metrics import Metrics as Workload

NAMES = Names()
GOOD = """\
# HELP http_requests_total Requests answered.
# TYPE http_requests_total counter
http_requests_total{method="GET",path="/",status_code="200"} 7
http_requests_total{method="GET",path="/",status_code="503"} 2
http_requests_total{method="POST",path="/",status_code="200"} 1
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.1"} 6
http_request_duration_seconds_bucket{le="1"} 9
http_request_duration_seconds_bucket{le="+Inf"} 10
http_request_duration_seconds_sum 3.5
http_request_duration_seconds_count 10
# TYPE app_uptime_seconds gauge
app_uptime_seconds 12.5
app_mode 1
chaos_active 2
"""


def page(text: str, names: Names = NAMES, uncounted: frozenset[str] = frozenset()) -> Exposed:
    return read(text.encode(), names, uncounted)


def refusal(text: str, names: Names = NAMES) -> ExpositionError:
    with pytest.raises(ExpositionError) as caught:
        page(text, names)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 200
    return caught.value


def test_a_sound_page_is_counted():
    assert page(GOOD) == Exposed(
        {"/": 10}, {"/": 2}, ((0.1, 6), (1.0, 9), (math.inf, 10)), 12.5, mode="canary", chaos="error"
    )


def test_the_workloads_own_page_is_counted():
    served = Workload()
    for duration in (0.001, 0.005, 0.0051, 99.0):
        served.record("GET", "/", 200, duration)
    served.record("POST", "/elsewhere", 500, 0.3)
    found = page(served.exposition(3.25, False, 0))
    assert found.requests == {"/": 4, shown_path("other"): 1}
    assert found.errors == {"/": 0, shown_path("other"): 1}
    assert [bound for bound, _ in found.buckets] == [*BUCKETS_S, math.inf]
    assert (found.buckets[0][1], found.buckets[-1][1]) == (2, 5)
    assert (found.uptime_s, found.mode, found.chaos) == (3.25, "stable", "none")


@pytest.mark.parametrize("generate", [generate_latest, generate_openmetrics])
def test_what_the_client_library_writes_is_counted_in_either_format(generate):
    registry = CollectorRegistry()
    requests = ClientCounter("http_requests", "x", ["path", "status"], registry=registry)
    durations = ClientHistogram("http_request_duration_seconds", "x", ["path"], registry=registry)
    empty = read(generate(registry), NAMES)
    assert empty == Exposed()
    requests.labels("/a", "200").inc(3)
    requests.labels("/b", "5xx").inc(2)
    for path, duration in (("/a", 0.2), ("/a", 0.2), ("/a", 20), ("/b", 0.001), ("/b", 0.001)):
        durations.labels(path).observe(duration)
    found = read(generate(registry), NAMES)
    assert sum(found.requests.values()) == 5
    assert sum(found.errors.values()) == 2
    assert dict(found.buckets)[math.inf] == 5
    assert dict(found.buckets)[0.25] == 4


def test_names_and_labels_are_the_manifests():
    names = names_of(
        Metrics(names=(("requests", "hits"), ("duration", "took_seconds"), ("status", "code"), ("path", "p")))
    )
    text = 'hits{code="500",p="/x"} 4\ntook_seconds_bucket{le="1",p="/x"} 4\ntook_seconds_bucket{le="+Inf",p="/x"} 4\n'
    assert page(text, names).errors == {shown_path("/x"): 4}
    assert page(text, names, frozenset({"/x"})) == Exposed({}, {}, ((1.0, 0), (math.inf, 0)))


def test_uncounted_paths_count_for_nothing():
    text = GOOD + 'http_requests_total{method="GET",path="/metrics",status_code="500"} 99\n'
    assert page(text, uncounted=frozenset({"/metrics"})).requests == {"/": 10}
    assert page(text).errors != {"/": 2}


@pytest.mark.parametrize("path", ["", "/", "/users/{id}", "/a/<int:n>/*", "other", "/~user"])
def test_a_plain_path_counts_under_its_name(path):
    assert list(page(GOOD.replace('path="/"', f'path="{path}"')).requests) == [path]


@pytest.mark.parametrize("path", ["/" + "x" * 64, "/a b", "/\u001b[31m", "/\u00e9", "/?x", "\u202e", "/a,b"])
def test_a_path_that_somebody_made_up_is_one_of_many(path):
    assert list(page(GOOD.replace('path="/"', f'path="{path}"')).requests) == [OTHER_PATHS]


@pytest.mark.fault("H7")
def test_a_page_without_the_families_is_absent_and_not_bad():
    without_requests = "\n".join(line for line in GOOD.splitlines() if "requests" not in line)
    without_histogram = "\n".join(line for line in GOOD.splitlines() if "duration" not in line)
    summary = GOOD.replace("histogram", "summary")
    gauge = GOOD.replace("http_requests_total counter", "http_requests_total gauge")
    no_status = GOOD.replace("status_code=", "result=")
    for text in ("", "go_goroutines 5\n", "<!doctype html>\n", without_requests, without_histogram):
        assert refusal(text).is_absent, text
    for text in (summary, gauge, no_status, "# TYPE http_requests_total counter\n"):
        assert refusal(text).is_absent, text


BROKEN = {
    "NaN": ("} 7", "} NaN"),
    "infinite": ("} 7", "} +Inf"),
    "too large for a float": ("} 7", "} 1e400"),
    "a very long number": ("} 7", "} " + "9" * 4000),
    "more than can be counted": ("} 7", "} 9007199254740994"),
    "negative": ("} 7", "} -7"),
    "a fraction": ("} 7", "} 7.5"),
    "hexadecimal": ("} 7", "} 0x7"),
    "another script's digits": ("} 7", "} ７"),
    "a name with more in it": ("http_requests_total{", "http_requests_total\x00{"),
    "two names": ("http_requests_total{", "http_requests_total http_requests_total{"),
    "no value": ("} 7", "}"),
    "words after the value": ("} 7", "} 7 seven"),
    "an open label": ('path="/",status_code="200"} 7', 'path="/,status_code="200"} 7'),
    "an open brace": ('status_code="200"} 7', 'status_code="200" 7'),
    "a label twice": ('{method="GET",path="/",status_code="200"} 7', '{path="/",path="/",status_code="200"} 7'),
    "an empty label name": ('{method="GET"', '{ ="GET"'),
    "a series twice": (
        '# TYPE http_request_d',
        'http_requests_total{path="/",method="GET",status_code="200"} 7\n# TYPE http_request_d',
    ),
    "a status that is none": ('status_code="503"', 'status_code="boom\\u001b"'),
    "no status on one": ('method="GET",path="/",status_code="503"', 'method="GET",path="/"'),
    "two types": (
        '# TYPE http_requests_total counter',
        '# TYPE http_requests_total counter\n# TYPE http_requests_total gauge',
    ),
    "no last bucket": ('DUR_bucket{le="+Inf"} 10\n', ""),
    "only a last bucket": ('DUR_bucket{le="0.1"} 6\nDUR_bucket{le="1"} 9\n', ""),
    "falling buckets": ('{le="1"} 9', '{le="1"} 5'),
    "a bucket above the last": ('{le="1"} 9', '{le="1"} 11'),
    "a bound twice": ('{le="1"} 9', '{le="0.10"} 6\nDUR_bucket{le="1"} 9'),
    "a bound that is NaN": ('{le="1"}', '{le="NaN"}'),
    "a bound that is none": ('{le="1"}', '{le="1_0"}'),
    "a negative bound": ('{le="0.1"}', '{le="-0.1"}'),
    "no bound": ('{le="1"}', '{gt="1"}'),
    "a count that is not the last bucket": ("_count 10", "_count 11"),
    "different bounds": (
        'DUR_sum',
        'DUR_bucket{le="+Inf",path="/x"} 1\nDUR_bucket{le="3",path="/x"} 1\nDUR_sum',
    ),
    "milliseconds by their bounds": ('le="0.1"} 6\nDUR_bucket{le="1"', 'le="5"} 6\nDUR_bucket{le="1000"'),
    "milliseconds by their unit": ("# TYPE app_u", "# UNIT DUR milliseconds\n# TYPE app_u"),
    "requests without durations": (
        'DUR_bucket{le="0.1"} 6\nDUR_bucket{le="1"} 9\nDUR_bucket{le="+Inf"} 10\n',
        '',
    ),
    "a mode that is none": ("app_mode 1", "app_mode 2"),
    "half a mode": ("app_mode 1", "app_mode 0.5"),
    "a negative chaos": ("chaos_active 2", "chaos_active -1"),
    "two uptimes": (
        'app_uptime_seconds 12.5',
        'app_uptime_seconds{worker="1"} 12.5\napp_uptime_seconds{worker="2"} 12.5',
    ),
    "an endless uptime": ("app_uptime_seconds 12.5", "app_uptime_seconds inf"),
    "a line too long": ("} 7", "} 7" + " " * LINE_MAX_CHARS),
}  # fmt: skip


@pytest.mark.fault("H3")
@pytest.mark.parametrize("what", BROKEN)
def test_a_page_with_one_thing_wrong_is_unknown_and_never_a_number(what):
    before, after = (part.replace("DUR", "http_request_duration_seconds") for part in BROKEN[what])
    assert before in GOOD
    assert not refusal(GOOD.replace(before, after, 1)).is_absent


def test_a_histogram_named_in_milliseconds_is_unknown():
    names = Names(duration="took_ms")
    assert "not in seconds" in str(refusal(GOOD.replace("http_request_duration_seconds", "took_ms"), names))


@pytest.mark.fault("H5")
def test_bytes_that_are_no_text_and_pages_without_end_are_unknown():
    with pytest.raises(ExpositionError, match="UTF-8"):
        read(GOOD.encode() + b"\xff", NAMES)
    series = "".join(f'http_requests_total{{path="/{n}",status="200"}} 1\n' for n in range(SERIES_MAX + 1))
    assert "too many" in str(refusal(series))
    long = "".join(f'http_requests_total{{path="{n}{"x" * 10_000}",status="200"}} 1\n' for n in range(110))
    assert "too many" in str(refusal(long))


def test_the_longest_path_that_a_stranger_can_ask_for_does_no_harm():
    path = "/" + '\\"' * 8100
    text = GOOD.replace('path="/",status_code="503"', f'path="{path}",status_code="503"')
    assert page(text).errors == {"/": 0, OTHER_PATHS: 2}


def test_other_families_may_be_as_broken_as_they_like():
    assert page("x{ NaN\nhttp_requests 1 1 1 1\n" + "y" * 100_000 + "\n\x00\n" + GOOD + "# EOF\n") == page(GOOD)


def test_created_and_exemplars_and_timestamps_are_no_counts():
    text = GOOD.replace('{le="1"} 9', '{le="1"} 9 # {trace_id="abc"} 0.67 1700000000.1').replace(
        "} 7", "} 7 1700000000000"
    )
    text += 'http_requests_created{path="/"} 1.7e9\nhttp_request_duration_seconds_created 1.7e9\n'
    assert page(text) == page(GOOD)


# ── properties ─────────────────────────────────────────────────────────────────────────────────────────────────────

LABEL_VALUES = st.text(max_size=12)


@st.composite
def counted(draw: st.DrawFn) -> tuple[str, dict[str, int], dict[str, int], list[tuple[float, int]]]:
    """A page, and what it must come to by another way of counting."""
    series = draw(st.dictionaries(st.tuples(LABEL_VALUES, st.integers(100, 599)), st.integers(0, 10**9), max_size=8))
    bounds = [*sorted(draw(st.sets(st.floats(0, 50), min_size=1, max_size=6))), math.inf]
    falls = draw(st.lists(st.integers(0, 10**6), min_size=len(bounds), max_size=len(bounds)))
    total = 0
    lines, buckets = [], []
    requests: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for (path, status), count in series.items():
        escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines.append(f'http_requests_total{{path="{escaped}",status_code="{status}"}} {count}')
        requests[shown_path(path)] += count
        errors[shown_path(path)] += count if status >= 500 else 0
    for bound, fall in zip(bounds, falls, strict=True):
        total += fall
        buckets.append((bound, total))
        shown = "+Inf" if bound == math.inf else repr(bound)
        lines.append(f'http_request_duration_seconds_bucket{{le="{shown}"}} {total}')
    lines.append("# TYPE http_requests_total counter")
    return "\n".join(draw(st.permutations(lines))), dict(requests), dict(errors), buckets


@settings(max_examples=80, deadline=None)
@given(counted())
def test_any_sound_page_is_counted_whatever_its_order(made):
    text, requests, errors, buckets = made
    finite = [bound for bound, _ in buckets[:-1]]
    if finite[0] >= 1 and finite[-1] >= 1000:
        return
    found = page(text)
    assert (found.requests, found.errors, list(found.buckets)) == (requests, errors, buckets)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_page_is_refused_or_read_and_nothing_else_happens(data):
    text = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"\\", b"{", b"}", b"=", b",", b" ", b"\n"])
        )
    try:
        found = read(bytes(text), NAMES)
    except ExpositionError:
        return
    assert all(type(count) is int and count >= 0 for count in (*found.requests.values(), *found.errors.values()))
    assert all(low[1] <= high[1] for low, high in pairwise(found.buckets))


@settings(max_examples=100, deadline=None)
@given(st.text('{}="\\, #1eN_\n\tab', max_size=60))
def test_any_line_of_a_wanted_family_is_refused_or_read(text):
    with contextlib.suppress(ExpositionError):
        page(f"{GOOD}http_requests_total{text}\n")
