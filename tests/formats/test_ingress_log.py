"""nginx's private log: every attempt counts where it was made, and a damaged line nowhere."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.formats.ingress_log import Tally, tally


def one(line: str) -> dict[str, Tally]:
    found = tally(f"{line}\n".encode())
    assert (found.lines, found.damaged) == (1, 0)
    return found.by_address


def test_an_answer_counts_for_its_address_with_the_time_of_its_head():
    assert one("~10.0.0.2:3000|200|0.012|9.500") == {"10.0.0.2": Tally(1, 0, Counter({12: 1}))}


def test_every_attempt_counts_for_its_own_address():
    found = one("~10.0.0.2:80, 10.0.0.3:80, 10.0.0.2:80|502, 504, 200|-, -, 0.010|0.001, 30.000, 0.020")
    assert found == {"10.0.0.2": Tally(2, 1, Counter({1: 1, 10: 1})), "10.0.0.3": Tally(1, 1, Counter({30_000: 1}))}


def test_an_internal_redirect_separates_attempts_too():
    assert set(one("~10.0.0.2:80 : 10.0.0.3:80|500 : 200|0.001 : 0.002|0.001 : 0.002")) == {"10.0.0.2", "10.0.0.3"}


@pytest.mark.parametrize(("status", "errors"), [("200", 0), ("404", 0), ("499", 0), ("500", 1), ("599", 1), ("-", 0)])
def test_5xx_is_an_error_and_a_client_that_left_is_none(status, errors):
    assert one(f"~10.0.0.2:80|{status}|-|0.250") == {"10.0.0.2": Tally(1, errors, Counter({250: 1}))}


@pytest.mark.parametrize("line", ["~-|-|-|-", "~10.0.0.2:80|101|0.001|7200.000", "~10.0.0.2:80|-|-|-"])
def test_a_request_without_service_a_tunnel_and_one_never_asked_count_for_nothing(line):
    assert one(line) == {}


@pytest.mark.fault("I7")
def test_where_nobody_was_left_to_ask_the_slot_is_named():
    assert one("~app-green|502|-|0.000") == {"app-green": Tally(1, 1, Counter({0: 1}))}


def test_sockets_and_ipv6_are_addresses():
    assert set(one("~unix:/tmp/nobody.sock|503|0.000|0.000")) == {"unix"}
    assert set(one("~[fd00::2]:80|200|0.000|0.000")) == {"[fd00::2]"}


WHOLE = "~10.0.0.2:3000, 10.0.0.3:80|502, 200|-, 0.010|0.001, 0.020"


@pytest.mark.parametrize(
    "line",
    [
        "~10.0.0.2:80|200|0.001",
        "10.0.0.2:80|200|0.001|0.001",
        "~10.0.0.2:80|200|0.001|0.001|1",
        "~10.0.0.2:80|2000|0.001|0.001",
        "~10.0.0.2:80|200|0.01|0.001",
        "~10.0.0.2:80|200|-0.001|0.001",
        "~10.0.0.2:80, 10.0.0.3:80|200|0.001|0.001",
        "~10.0.0.2:80|200, 200|0.001|0.001",
        "~|200|0.001|0.001",
        "~<script>|200|0.001|0.001",
        "\0\0~10.0.0.2:80|200|0.001|0.001",
        "~10.0.0.2:80|２00|0.001|0.001",
        "~10.0.0.2:80|200|0.001|0.001 ",
        "nonsense",
    ],
)
def test_a_line_that_is_not_whole_is_damage(line):
    assert tally(f"{line}\n".encode()).by_address == {}
    assert tally(f"{line}\n".encode()).damaged == 1


@given(cut=st.integers(1, len(WHOLE) - 1))
def test_a_line_cut_short_takes_the_next_one_with_it_and_no_more(cut):
    found = tally(f"{WHOLE[:cut]}{WHOLE}\n{WHOLE}\n".encode())
    assert (found.lines, found.damaged) == (2, 1)
    assert found.by_address == one(WHOLE)


ATTEMPTS = st.tuples(
    st.sampled_from(["10.0.0.2:80", "10.0.0.3:8080", "app-blue"]),
    st.sampled_from(["200", "302", "404", "500", "503"]),
    st.integers(0, 99_999),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ATTEMPTS, min_size=1, max_size=3), max_size=30))
def test_counts_are_those_of_counting_one_by_one(requests):
    lines, counts, errors, took = [], Counter(), Counter(), Counter()
    for attempts in requests:
        times = ", ".join(f"{ms // 1000}.{ms % 1000:03}" for _, _, ms in attempts)
        addresses, statuses = (", ".join(column) for column in list(zip(*attempts, strict=True))[:2])
        lines.append(f"~{addresses}|{statuses}|{times}|{times}\n")
        for address, status, ms in attempts:
            host = address.split(":")[0]
            counts[host] += 1
            errors[host] += status >= "500"
            took[host, ms] += 1
    found = tally("".join(lines).encode())
    assert (found.lines, found.damaged) == (len(requests), 0)
    assert {address: each.requests for address, each in found.by_address.items()} == dict(counts)
    assert {address: each.errors for address, each in found.by_address.items() if each.errors} == +errors
    assert {(address, ms): n for address, each in found.by_address.items() for ms, n in each.took_ms.items()} == took


@given(st.binary(max_size=200))
def test_any_bytes_are_lines_whole_or_damaged(text):
    found = tally(text)
    assert 0 <= found.damaged <= found.lines
