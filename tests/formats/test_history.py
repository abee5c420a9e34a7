"""The chained line: what is written can be read by anybody, and nothing can be changed unseen."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.errors import HistoryError
from reconciler.formats.history import (
    GUIDE_FIELDS,
    MAX_IDLE_CYCLES,
    MAX_LINE_BYTES,
    ORIGIN,
    IdleRun,
    Link,
    check,
    genesis,
    parse,
    recover_tail,
    seal,
    sequence,
    verify,
)

CYCLE = {
    "timestamp": "2026-11-23T01:02:03Z",
    "kind": "cycle",
    "mode": "canary",
    "req_per_sec": 12.5,
    "p99_latency": 123.4,
    "error_rate": 0.001,
    "policy": "PASS",
    "decision": {"kind": "hold", "reason": "12 of 20 requests seen"},
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip
names = st.text().filter(lambda name: name not in {"hash", "prev", "seq", "odd"})
records = st.dictionaries(names, json_values, max_size=8)


def log(*more: dict, start: Link = ORIGIN) -> list[bytes]:
    lines, link = [], start
    for record in ({**genesis("id", "demo", "1"), "timestamp": "2026-11-23T01:00:00Z"}, *more):
        line, link = seal(record, link)
        lines.append(line)
    return lines


def numbered(count: int) -> list[bytes]:
    return log(*({**CYCLE, "number": number} for number in range(count - 1)))


def independent_links(lines: Iterable[bytes]) -> list[tuple[int, str]]:
    """The format once more, from its description only: the chain of these lines, or an AssertionError."""
    seen, prev = [], "0" * 64
    for line in lines:
        record = json.loads(line)
        cut = line.rstrip(b"\n").replace(b'"hash":"%b",' % record["hash"].encode(), b"", 1)
        assert hashlib.sha256(b"swiftdeploy-history-v1\0" + cut).hexdigest() == record["hash"]
        assert record["prev"] == prev
        assert record["seq"] == len(seen) + 1
        seen.append((record["seq"], prev := record["hash"]))
    return seen


# --- writing -------------------------------------------------------------------------------------------------------


def test_a_line_says_what_the_guide_asks_for_at_the_top_level() -> None:
    line, _ = seal(CYCLE, ORIGIN)
    record = json.loads(line)
    assert {name: record[name] for name in GUIDE_FIELDS} == {name: CYCLE[name] for name in GUIDE_FIELDS}
    assert list(record)[:3] == ["hash", "prev", "seq"]


def test_the_format_stays_what_it_was_on_the_first_day() -> None:
    line, link = seal(
        {"timestamp": "2026-11-23T01:02:03Z", "kind": "cycle", "p99_latency": 1.5, "why": "Zürich"}, ORIGIN
    )
    assert line == (
        b'{"hash":"' + link.hash.encode() + b'","prev":"' + b"0" * 64 + b'","seq":1,'
        b'"timestamp":"2026-11-23T01:02:03Z","kind":"cycle","p99_latency":1.5,"why":"Z\xc3\xbcrich"}\n'
    )
    assert link == Link(1, "175964245f9e4a403f33b5ea851e88830d9d5216266f760d0632cb5c56947c5e")


@settings(deadline=None)
@given(records)
def test_any_record_comes_back_as_it_was(record: dict) -> None:
    line, link = seal(record, ORIGIN)
    back = json.loads(line)
    assert (back.pop("hash"), back.pop("prev"), back.pop("seq")) == (link.hash, ORIGIN.hash, 1)
    assert back == record
    assert check(line, ORIGIN, full=True) == link
    assert independent_links([line]) == [(1, link.hash)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(names, st.text() | st.floats(allow_nan=False, allow_infinity=False)), max_size=5))
def test_any_log_verifies_and_so_says_an_independent_reading(written: list[dict]) -> None:
    lines = log(*written)
    for full in (False, True):
        report = verify(lines, ORIGIN, full=full)
        assert report.is_whole
        assert (report.lines, report.size_bytes) == (len(lines), len(b"".join(lines)))
    assert independent_links(lines)[-1] == (report.last.seq, report.last.hash)


def test_a_line_is_one_line_whatever_is_in_it() -> None:
    odd = "a\nb\r\u2028\u2029\x85\x1b[31m\x9b31m\u202e\x00\x7f"
    line, _ = seal({"logs": odd}, ORIGIN)
    assert line.count(b"\n") == 1
    assert not any(mark in line.decode() for mark in "\r\u2028\u2029\x85\x1b\x9b\u202e\x00\x7f")
    assert len(line.decode().splitlines()) == 1
    assert json.loads(line)["logs"] == odd


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (math.nan, {"unknown": "nan"}),
        (-math.inf, {"unknown": "-inf"}),
        ("bad\udc80name", "bad\\udc80name"),
        (b"bytes", "…[bytes]"),
        ({1, 2}, "…[set]"),
        (2**5000, "…[integer of 5001 bits]"),
        ((1, 2), [1, 2]),
        ({7: "seven"}, {"7": "seven"}),
    ],
)
def test_what_json_cannot_say_is_written_as_something_readable(value: object, written: object) -> None:
    line, _ = seal({"value": value}, ORIGIN)
    assert json.loads(line)["value"] == written
    check(line, ORIGIN, full=True)


def nested(depth: int) -> object:
    value: object = "deep"
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


@pytest.mark.parametrize(
    "record",
    [
        {"logs": "x" * 70_000},
        {"logs": "\x01" * 70_000},
        {"logs": "😀" * 70_000},
        {"plan": [{"action": "y" * 100}] * 5_000},
        {"plan": [["z" * 2000] * 100] * 100},
        {f"key {number}": "v" for number in range(20_000)},
        {"k" * 70_000: {"k" * 70_000: 1}},
        {"deep": nested(100_000)},
        {"wide": [nested(40)] * 2_000},
        {name: "\x01" * 70_000 for name in GUIDE_FIELDS},
        {name: [{"a" * 70_000: ["\x01" * 70_000] * 100}] * 100 for name in (*GUIDE_FIELDS, "kind", "b", "c", "d")},
    ],
    ids=lambda record: next(iter(record))[:10],
)
def test_a_record_that_is_too_long_is_shortened_and_says_so(record: dict) -> None:
    line, link = seal({**CYCLE, **record}, ORIGIN)
    assert len(line) <= MAX_LINE_BYTES
    assert check(line, ORIGIN, full=True) == link
    back = json.loads(line)
    assert set(CYCLE) - {"decision"} <= set(back)
    assert "…[" in line.decode() or "[+" in line.decode()
    assert seal({**CYCLE, **record}, ORIGIN) == (line, link)


def test_the_longest_record_that_fits_is_not_touched() -> None:
    room = MAX_LINE_BYTES - len(seal({"logs": ""}, ORIGIN)[0])
    line, _ = seal({"logs": "x" * room}, ORIGIN)
    assert len(line) == MAX_LINE_BYTES
    assert "truncated" not in json.loads(line)
    longer, _ = seal({"logs": "x" * (room + 1)}, ORIGIN)
    assert json.loads(longer)["truncated"] is True


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(names, json_values, max_size=4), st.integers(1, 3000))
def test_no_record_is_too_long(record: dict, times: int) -> None:
    line, _ = seal({"many": [record] * times, **record}, ORIGIN)
    assert len(line) <= MAX_LINE_BYTES
    check(line, ORIGIN, full=True)


@pytest.mark.parametrize("name", ["hash", "prev", "seq", "odd"])
def test_the_chain_s_own_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        seal({name: 1}, ORIGIN)


# --- verifying -----------------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_line_is_seen() -> None:
    line, _ = seal(CYCLE, ORIGIN)
    following, _ = seal(CYCLE, check(line, ORIGIN))
    for position in range(len(line) - 1):
        for bit in range(8):
            changed = bytearray(line)
            changed[position] ^= 1 << bit
            with pytest.raises(HistoryError):
                check(bytes(changed), ORIGIN)
            assert not verify([bytes(changed), following], ORIGIN).is_whole


def test_a_flipped_bit_in_the_middle_is_found_at_its_line() -> None:
    lines = numbered(5)
    for position in range(len(lines[2])):
        changed = bytearray(lines[2])
        changed[position] ^= 1
        report = verify([*lines[:2], bytes(changed), *lines[3:]], ORIGIN)
        assert report.breaks >= 1
        assert (report.first_break.line, report.first_break.offset) == (3, len(b"".join(lines[:2])))
        assert report.last.seq == 5


def test_an_edited_record_is_one_break_and_the_rest_still_counts() -> None:
    lines = numbered(6)
    lines[3] = lines[3].replace(b'"PASS"', b'"FAIL"')
    report = verify(lines, ORIGIN)
    assert (report.breaks, report.first_break.line, report.last.seq) == (1, 4, 6)
    assert "record 4 is not what was written" in str(report.first_break)


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (lambda lines: lines[:2] + lines[3:], 3, "record 4 follows record 2"),
        (lambda lines: lines[:3] + lines[2:], 4, "record 3 follows record 3"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 3, "record 4 follows record 2"),
        (lambda lines: lines[1:], 1, "record 2 begins the log"),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], 3, "not a line of this log"),
        (lambda lines: [*lines[:2], b"\0" * 40 + b"\n", *lines[2:]], 3, "not a line of this log"),
        (lambda lines: [*lines[:2], lines[2][:50], *lines[3:]], 3, "has no end"),
        (lambda lines: [*lines[:2], b'{"kind":"promote"}\n', *lines[2:]], 3, "not a line of this log"),
        (lambda lines: [*lines[:2], lines[2].replace(b"}\n", b"} \n"), *lines[3:]], 3, "not a line of this log"),
        (lambda lines: [*lines[:2], lines[2][:-1] + b"\r\n", *lines[3:]], 3, "not a line of this log"),
        (lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]], 1, "not a line of this log"),
    ],
    ids=["deleted", "duplicated", "swapped", "beheaded", "blank", "NULs", "cut", "foreign", "space", "CRLF", "BOM"],
)
def test_a_changed_log_is_broken_where_it_was_changed(change: object, line: int, says: str) -> None:
    report = verify(change(numbered(6)), ORIGIN)
    assert report.breaks >= 1
    assert report.first_break.line == line
    assert says in report.first_break.reason


def test_a_record_written_anew_breaks_the_chain_behind_it() -> None:
    lines = numbered(6)
    lines[3], _ = seal({**CYCLE, "policy": "FAIL"}, check(lines[2], None))
    report = verify(lines, ORIGIN)
    assert (report.breaks, report.first_break.line) == (1, 5)
    assert "after another record 4 than this one" in report.first_break.reason


def test_a_log_written_anew_is_seen_by_whoever_kept_a_link() -> None:
    lines = numbered(6)
    kept = check(lines[4], None)
    forged = log(*({**CYCLE, "number": -number} for number in range(9)))
    assert verify(forged, ORIGIN).is_whole
    assert verify(lines, ORIGIN, expected=kept).is_whole
    assert "another one than the one" in verify(forged, ORIGIN, expected=kept).first_break.reason
    assert "had been written" in verify(lines[:4], ORIGIN, expected=kept).first_break.reason
    assert "the log is empty" in verify([], ORIGIN, expected=kept).first_break.reason


def test_the_end_of_a_log_may_be_torn_which_is_no_break() -> None:
    lines = numbered(4)
    for cut in range(1, len(lines[3])):
        report = verify([*lines[:3], lines[3][:cut]], ORIGIN)
        assert (report.breaks, report.torn_bytes, report.lines, report.last.seq) == (0, cut, 3, 3)
        assert report.size_bytes == len(b"".join(lines[:3]))


def test_an_empty_log_is_whole() -> None:
    report = verify([])
    assert report.is_whole
    assert (report.lines, report.first, report.last) == (0, None, None)


def test_a_part_of_a_log_verifies_from_a_known_link() -> None:
    lines = numbered(6)
    assert verify(lines[3:], check(lines[2], None)).is_whole
    assert verify(lines[3:]).is_whole
    assert not verify(lines[3:], check(lines[1], None)).is_whole


def test_only_a_full_verification_reads_the_json() -> None:
    body = b'"prev":"' + b"0" * 64 + b'","seq":1,"policy":"PASS","policy":"FAIL"}'
    digest = hashlib.sha256(b"swiftdeploy-history-v1\0{" + body).hexdigest()
    line = b'{"hash":"' + digest.encode() + b'",' + body + b"\n"
    assert verify([line], ORIGIN).is_whole
    assert "a key is there twice" in verify([line], ORIGIN, full=True).first_break.reason


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_an_error_and_never_a_surprise(garbage: bytes) -> None:
    with pytest.raises(HistoryError):
        check(garbage, None)
    record = parse(garbage)
    assert record["odd"]
    assert json.dumps(record).isascii()
    recover_tail(garbage)
    verify(garbage.splitlines(keepends=True), full=True)


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("sha256sum")), reason="needs jq and sha256sum")
def test_a_shell_can_verify_it(tmp_path: Path) -> None:
    """The format's description in POSIX tools: cut the hash member out, hash the rest, compare with jq's reading."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(numbered(9)))
    script = r"""
        prev=$(printf '0%.0s' $(seq 64)); n=0
        while IFS= read -r line; do
            n=$((n + 1))
            rest=${line#'{"hash":"'}; hash=${rest%%'"'*}; rest=${rest#*'",'}
            sum=$(printf 'swiftdeploy-history-v1\0{%s' "$rest" | sha256sum | cut -d' ' -f1)
            [ "$sum" = "$(printf %s "$line" | jq -r .hash)" ] || { echo "line $n: hash"; exit 1; }
            [ "$prev" = "$(printf %s "$line" | jq -r .prev)" ] || { echo "line $n: prev"; exit 1; }
            [ "$n" = "$(printf %s "$line" | jq -r .seq)" ] || { echo "line $n: seq"; exit 1; }
            prev=$sum
        done < "$1"; echo "$n lines"
    """
    run = ["bash", "-c", script, "-", str(path)]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "9 lines\n"
    path.write_bytes(path.read_bytes().replace(b'"number":4', b'"number":5'))
    assert subprocess.run(run, capture_output=True, text=True, check=False).stdout == "line 6: hash\n"


# --- the end of a file ---------------------------------------------------------------------------------------------


@pytest.mark.fault("C7")
def test_a_crash_at_any_byte_of_the_last_records_leaves_the_whole_ones() -> None:
    lines = numbered(5)
    whole = b"".join(lines)
    ends = [len(b"".join(lines[:count])) for count in range(6)]
    for cut in range(ends[2], len(whole) + 1):
        tail = recover_tail(whole[:cut])
        count = max(index for index, end in enumerate(ends) if end <= cut)
        assert tail.good == ends[count]
        assert tail.torn == whole[ends[count] : cut]
        assert tail.last == check(lines[count - 1], None)
        assert tail.broken is None


@pytest.mark.fault("A16", "C7")
@pytest.mark.parametrize("zeros", [1, 511, 4096, 70_000])
def test_blocks_that_never_reached_the_disk_are_torn(zeros: int) -> None:
    lines = numbered(3)
    whole = b"".join(lines)
    tail = recover_tail(whole + b"\0" * zeros)
    assert (tail.good, len(tail.torn), tail.last.seq) == (len(whole), zeros, 3)


def test_a_record_with_a_hole_in_it_is_torn_although_its_end_is_there() -> None:
    lines = numbered(3)
    for start in range(0, len(lines[2]) - 1, 7):
        holed = lines[2][:start] + b"\0" * (len(lines[2]) - 1 - start) + b"\n"
        tail = recover_tail(b"".join(lines[:2]) + holed)
        assert (tail.torn, tail.last.seq) == (holed, 2)


def test_an_edited_last_record_is_no_crash() -> None:
    lines = numbered(3)
    edited = b"".join(lines).replace(b'"number":1', b'"number":2')
    tail = recover_tail(edited)
    assert (tail.good, tail.torn, tail.last) == (len(edited), b"", None)
    assert "record 3 is not what was written" in tail.broken


@pytest.mark.parametrize("tail", [b"", b"\0" * 100, b"{", numbered(1)[0][:-1]], ids=["none", "NULs", "brace", "line"])
def test_nothing_whole_is_no_link(tail: bytes) -> None:
    assert (recover_tail(tail).good, recover_tail(tail).torn, recover_tail(tail).last) == (0, tail, None)


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_reader_gets_every_record_and_is_told_of_odd_ones() -> None:
    line = numbered(2)[1]
    assert "odd" not in parse(line)
    assert parse(line)["number"] == 0
    edited = parse(line.replace(b"PASS", b"FAIL"))
    assert (edited["policy"], edited["odd"]) == (
        "FAIL",
        "record 2 is not what was written: its hash does not match its bytes",
    )
    assert parse(b"\0\0\0\n")["odd"] == "not JSON"
    assert parse(b"[1]\n")["odd"] == "not a JSON object"
    assert parse(b'{"p99_latency":NaN}')["odd"] == "not JSON"
    assert parse(b"[" * 200_000)["odd"] == "not JSON"
    assert parse(b"\xff\xfe{}\n") == {"kind": "odd", "odd": "not JSON", "raw": "\\xff\\xfe{}"}


def test_a_record_s_number_is_read_without_hashing() -> None:
    lines = numbered(3)
    assert [sequence(line) for line in lines] == [1, 2, 3]
    assert sequence(b"{}\n") is None
    assert sequence(b"") is None


# --- idle cycles ---------------------------------------------------------------------------------------------------


def idle(second: int, **more: object) -> dict:
    return {**CYCLE, "timestamp": f"2026-11-23T01:02:{second:02}Z", **more}


def test_idle_cycles_become_one_record() -> None:
    run = IdleRun.start(idle(0, p99_latency=80.0, revision="a1"))
    run = run.add(idle(15, p99_latency=120.0, revision="a1")).add(idle(30, p99_latency=None, revision="a1"))
    assert run.record() == {
        "kind": "idle",
        "timestamp": "2026-11-23T01:02:30Z",
        "mode": "canary",
        "req_per_sec": 12.5,
        "p99_latency": None,
        "error_rate": 0.001,
        "policy": "PASS",
        "revision": "a1",
        "count": 3,
        "first": "2026-11-23T01:02:00Z",
        "last": "2026-11-23T01:02:30Z",
        "ranges": {"req_per_sec": [12.5, 12.5], "p99_latency": [80.0, 120.0], "error_rate": [0.001, 0.001]},
    }


def test_a_number_that_is_not_known_has_no_range() -> None:
    run = IdleRun.start(idle(0, p99_latency={"unknown": "no traffic"}, req_per_sec=None, error_rate=None))
    assert run.record()["ranges"] == {}
    assert run.record()["p99_latency"] == {"unknown": "no traffic"}


def test_an_idle_run_ends_some_day() -> None:
    run = IdleRun.start(idle(0))
    while run.fits(idle(15)):
        run = run.add(idle(15))
    assert run.record()["count"] == MAX_IDLE_CYCLES


@pytest.mark.parametrize("name", ["mode", "policy", "revision", "phase"])
def test_a_cycle_that_differs_does_not_fit_into_the_run(name: str) -> None:
    run = IdleRun.start(idle(0))
    assert run.fits(idle(15, p99_latency=9.0))
    assert not run.fits(idle(15, **{name: "other"}))
