"""`history.jsonl`: a record to a chained line and back.

One line is one JSON object, and the chain is in its first 156 bytes, always in this shape and order:

    {"hash":"<64 hex>","prev":"<64 hex>","seq":812,"timestamp":"2026-11-23T01:02:03Z","kind":"cycle",...}

`hash` is SHA-256 over `DOMAIN` and the raw bytes of the line with the hash member cut out (`{"prev":...}`, no newline),
so a verifier never has to write JSON the way we do, and floats are no trouble. `prev` is the hash of the line before,
`seq` counts from 1. `docs/adr/0004-history-chain.md` says what this proves and what it does not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import NoReturn

from reconciler.core.desired import Json
from reconciler.core.errors import HistoryError

DOMAIN = b"swiftdeploy-history-v1\0"
MAX_LINE_BYTES = 65_536
MAX_IDLE_CYCLES = 60  # a quarter of an hour at the usual interval: what a kill can make us forget
MEASURED = ("req_per_sec", "p99_latency", "error_rate")
GUIDE_FIELDS = ("timestamp", "mode", *MEASURED, "policy")
RESERVED = frozenset({"hash", "prev", "seq", "odd"})

_HEADER = re.compile(rb'\{"hash":"([0-9a-f]{64})","prev":"([0-9a-f]{64})","seq":([1-9][0-9]{0,18})[,}]')
_HASH = slice(9, 73)
_CHAIN = 73  # where the part starts that the line before already knows: ","prev":"...","seq":N,
_HASHED = 75  # where the bytes start that are hashed, but for their "{"
_SALT = sha256(DOMAIN + b"{")


@dataclass(frozen=True, slots=True)
class Link:
    """One place in the chain: what the next line goes on from."""

    seq: int
    hash: str


ORIGIN = Link(0, "0" * 64)


@dataclass(frozen=True, slots=True)
class Break:
    """The first line that does not follow from the one before; lines count from 1, offsets from 0."""

    line: int
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line} (byte {self.offset}): {self.reason}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a walk along the chain found; torn bytes are what a crash leaves at the end, and no break."""

    lines: int
    size_bytes: int
    first: Link | None
    last: Link | None
    breaks: int
    first_break: Break | None
    torn_bytes: int

    @property
    def is_whole(self) -> bool:
        return self.breaks == 0 and self.torn_bytes == 0


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a file: `good` bytes of whole lines, then the `torn` rest; `last` is the last line's link.

    `broken` says why the last whole line cannot be trusted although no crash could have left it so.
    """

    good: int
    torn: bytes
    last: Link | None
    broken: str | None = None


def genesis(log_id: str, project: str, version: str) -> dict[str, Json]:
    """The first record of a log; `log_id` is random, so that no two logs share a chain."""
    return {"kind": "genesis", "log": log_id, "project": project, "version": version, "format": 1}


def seal(record: Mapping[str, Json], prev: Link) -> tuple[bytes, Link]:
    """The line (with its newline) that puts `record` after `prev`, and its own link.

    Never fails for what is in the record: what JSON cannot say becomes a readable marker, and a record beyond
    `MAX_LINE_BYTES` is shortened, always in the same way, and says so. ValueError for the chain's own names: a bug.
    """
    if taken := RESERVED & record.keys():
        raise ValueError(f"{', '.join(sorted(taken))}: the chain's own, not for records")
    body = b'"prev":"%b","seq":%d' % (prev.hash.encode(), prev.seq + 1)
    body += _members(record, MAX_LINE_BYTES - _HASHED - len(body) - 1)
    digest = _digest(body)
    return b'{"hash":"%b",%b\n' % (digest.encode(), body), Link(prev.seq + 1, digest)


def check(line: bytes, prev: Link | None, *, full: bool = False) -> Link:
    """The link of `line` (its newline may be there or not); HistoryError says why it does not follow `prev`.

    Without `prev` the line answers for itself only. `full` also parses the JSON, and refuses duplicate keys.
    """
    line = line.removesuffix(b"\n")
    header = _HEADER.match(line)
    if header is None or b"\n" in line or not line.endswith(b"}"):
        raise HistoryError(f"not a line of this log: {_glimpse(line)}")
    link = Link(int(header[3]), header[1].decode())
    if _digest(line[_HASHED:]) != link.hash:
        raise HistoryError(f"record {link.seq} is not what was written: its hash does not match its bytes")
    if prev is not None and link.seq != prev.seq + 1:
        raise HistoryError(f"record {link.seq} {f'follows record {prev.seq}' if prev.seq else 'begins the log'}")
    if prev is not None and header[2].decode() != prev.hash:
        raise HistoryError(f"record {link.seq} was written after another record {prev.seq} than this one")
    if full:
        _check_json(line, link)
    return link


def verify(
    lines: Iterable[bytes], prev: Link | None = None, *, full: bool = False, expected: Link | None = None
) -> Report:
    """Walk a chain of lines, each with its newline; a last one without is torn. Goes on behind a break.

    `prev` is what the first line must follow (`ORIGIN` for a whole log); without it the first line is believed.
    `expected` is a link seen earlier, kept elsewhere: a log that does not lead through it has been rewritten.
    """
    walk = _Walk(prev, full, expected)
    last = prev or ORIGIN
    seq, digest, count, offset = last.seq, last.hash.encode(), 0, 0
    for line in lines:
        count += 1
        if (
            walk.may_hurry(seq + 1)
            and line.startswith(b'","prev":"%b","seq":%d,' % (digest, seq + 1), _CHAIN)
            and _holds(line)
        ):
            seq, digest = seq + 1, line[_HASH]
        else:
            last = walk.look(line, count, offset, Link(seq, digest.decode()))
            seq, digest = last.seq, last.hash.encode()
        offset += len(line)
    return walk.report(count, offset, Link(seq, digest.decode()))


class _Walk:
    """The slow half of `verify`: the first line, every odd one, and the account of them."""

    def __init__(self, prev: Link | None, full: bool, expected: Link | None) -> None:
        self._prev, self._full, self._expected = prev, full, expected
        self._first: Link | None = None
        self._breaks = 0
        self._first_break: Break | None = None
        self._torn: Break | None = None
        self._torn_bytes = 0
        self._slow_at = expected.seq if expected else 0
        self.is_started = False

    def may_hurry(self, seq: int) -> bool:
        """Whether it is enough for the next line to be record `seq`, rightly chained and hashed."""
        return self.is_started and not self._full and self._torn is None and seq != self._slow_at

    def look(self, line: bytes, number: int, offset: int, last: Link) -> Link:
        """The link the next line must follow: this line's own, as it claims it, or the last one if it claims none."""
        if self._torn is not None:
            self._add(self._torn)
            self._torn, self._torn_bytes = None, 0
        if not line.endswith(b"\n"):
            self._torn = Break(number, offset, f"has no end: {_glimpse(line)}")
            self._torn_bytes = len(line)
            return last
        prev = last if self.is_started else self._prev
        try:
            link = check(line, prev, full=self._full)
            self._expect(link)
        except HistoryError as error:
            self._add(Break(number, offset, str(error)))
            link = _claimed(line) or last
        if not self.is_started and _claimed(line) is not None:
            self.is_started, self._first = True, link
        return link

    def report(self, lines: int, size_bytes: int, last: Link) -> Report:
        end = last if self.is_started else None
        if self._expected is not None and (end is None or end.seq < self._expected.seq):
            ends = f"the log ends with record {end.seq}" if end else "the log is empty"
            self._add(Break(lines, size_bytes, f"{ends}, but record {self._expected.seq} had been written"))
        return Report(
            lines=lines - (self._torn is not None),
            size_bytes=size_bytes - self._torn_bytes,
            first=self._first,
            last=end,
            breaks=self._breaks,
            first_break=self._first_break,
            torn_bytes=self._torn_bytes,
        )

    def _expect(self, link: Link) -> None:
        if self._expected is not None and link.seq == self._expected.seq and link != self._expected:
            raise HistoryError(f"record {link.seq} is another one than the one that had been written")

    def _add(self, found: Break) -> None:
        self._breaks += 1
        self._first_break = self._first_break or found


def recover_tail(tail: bytes) -> Tail:
    """Tell the whole lines at the end of a file from what a crash left behind them.

    `tail` starts at a line's start and holds at least the last line. Torn is whatever has no newline, and a last line
    with NULs in it (blocks that never reached the disk): JSON never holds one. A last line that ends properly, has no
    NUL and does not hold is no crash's work: it counts as good bytes, and `broken` says what is wrong.
    """
    good = tail.rfind(b"\n") + 1
    start = tail.rfind(b"\n", 0, max(good - 1, 0)) + 1
    if b"\0" in tail[start:good]:
        good = start
        start = tail.rfind(b"\n", 0, max(good - 1, 0)) + 1
    torn = tail[good:]
    if good == 0:
        return Tail(0, torn, None)
    try:
        return Tail(good, torn, check(tail[start:good], None))
    except HistoryError as error:
        return Tail(good, torn, None, str(error))


def parse(line: bytes) -> dict[str, Json]:
    """The record in `line`, whatever it is: a line that is not as it was written carries `odd`, the reason."""
    try:
        record = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
        if not isinstance(record, dict):
            return _odd(line, "not a JSON object")
    except (ValueError, RecursionError):
        return _odd(line, "not JSON")
    try:
        check(line, None)
    except HistoryError as error:
        record["odd"] = str(error)
    return record


def sequence(line: bytes) -> int | None:
    """The number of the record in `line`, None where it does not look like one of ours; does not hash."""
    header = _HEADER.match(line)
    return int(header[3]) if header else None


@dataclass(frozen=True, slots=True)
class IdleRun:
    """Cycles in a row in which nothing happened, on their way to becoming one record."""

    count: int
    first: str
    latest: Mapping[str, Json]
    ranges: Mapping[str, tuple[float, float]]

    @staticmethod
    def start(cycle: Mapping[str, Json]) -> IdleRun:
        """A run of one; the cycle's record carries the guide's fields, its timestamp among them."""
        return IdleRun(1, str(cycle["timestamp"]), cycle, _widened({}, cycle))

    def fits(self, cycle: Mapping[str, Json]) -> bool:
        """Whether the merged record would still tell the truth about this cycle, and is not too long in coming."""
        return self.count < MAX_IDLE_CYCLES and all(
            self.latest.get(name) == cycle.get(name) for name in ("mode", "policy", "revision", "phase")
        )

    def add(self, cycle: Mapping[str, Json]) -> IdleRun:
        return replace(self, count=self.count + 1, latest=cycle, ranges=_widened(self.ranges, cycle))

    def record(self) -> dict[str, Json]:
        """One record for all: the guide's fields as last seen, the lowest and highest of what was measured."""
        kept = {name: self.latest.get(name) for name in GUIDE_FIELDS}
        also = {name: self.latest[name] for name in ("revision", "phase") if name in self.latest}
        ranges: dict[str, Json] = {name: list(pair) for name, pair in self.ranges.items()}
        span: dict[str, Json] = {"count": self.count, "first": self.first, "last": self.latest["timestamp"]}
        return {"kind": "idle", **kept, **also, **span, "ranges": ranges}


# --- a record as JSON that always fits ---------------------------------------------------------------------------

# Inside JSON text these are always within a string: C1 controls, line separators and bidi marks are escaped, so that a
# log can be shown on a terminal; lone surrogates have no UTF-8 and are spelled out.
_UNSHOWABLE = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_KEPT = frozenset({"kind", *GUIDE_FIELDS})


def _members(record: Mapping[str, Json], room: int) -> bytes:
    """`,"key":value,...}` in at most `room` bytes."""
    for text, entries, depth in _CUTS:
        said: dict[str, Json] = {} if entries == MAX_LINE_BYTES else {"truncated": True}
        with suppress(_TooLong):
            members = _dump({**_Cut(text, entries, depth).record(record), **said})
            if len(members) <= room:
                return members
    raise AssertionError("the smallest cut of a record did not fit")


def _dump(members: Mapping[str, Json]) -> bytes:
    text = json.dumps(members, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = _UNSHOWABLE.sub(_escape, text)
    return ("," + text[1:] if members else text[1:]).encode()


def _escape(found: re.Match[str]) -> str:
    code = f"\\u{ord(found[0]):04x}"
    return "\\" + code if "\ud800" <= found[0] <= "\udfff" else code


class _TooLong(Exception):
    """No use going on: what was kept of the record is longer than a line already."""


# Characters of a text, entries of a list or mapping, levels: the first that fits is taken, the first cuts nothing.
_CUTS = (
    (MAX_LINE_BYTES, MAX_LINE_BYTES, 32),
    (8192, 512, 16),
    (2048, 128, 12),
    (512, 64, 8),
    (128, 16, 6),
    (32, 8, 4),
    (16, 2, 2),
)


class _Cut:
    """A value with only what JSON can say, and no more of it than is to be kept."""

    def __init__(self, text: int, entries: int, depth: int) -> None:
        self._text, self._entries, self._depth = text, entries, depth
        self._left = MAX_LINE_BYTES

    def record(self, record: Mapping[str, Json]) -> dict[str, Json]:
        """The top level: the kind and the guide's fields are kept whatever is cut."""
        kept = {name: self.value(record[name], 1) for name in record if name in _KEPT}
        return {**kept, **self._mapping({name: value for name, value in record.items() if name not in _KEPT}, 0)}

    def value(self, value: object, depth: int) -> Json:
        self._take(1)
        match value:
            case None | bool():
                return value
            case str():
                return self._short(value)
            case int():
                return value if value.bit_length() <= 1024 else f"…[integer of {value.bit_length()} bits]"
            case float():
                return value if math.isfinite(value) else {"unknown": repr(float(value))}
            case Mapping() | list() | tuple() if value and depth >= self._depth:
                return f"…[{len(value)} entries]"
            case Mapping():
                return self._mapping(value, depth)
            case list() | tuple():
                return self._list(value, depth)
            case _:
                return f"…[{type(value).__name__}]"

    def _mapping(self, value: Mapping[object, object], depth: int) -> dict[str, Json]:
        first = islice(value.items(), self._entries)
        plain = {self._short(str(key)): self.value(member, depth + 1) for key, member in first}
        return {**plain, "…": self._rest(value)} if len(value) > self._entries else plain

    def _list(self, value: Sequence[object], depth: int) -> list[Json]:
        plain = [self.value(entry, depth + 1) for entry in value[: self._entries]]
        return [*plain, self._rest(value)] if len(value) > self._entries else plain

    def _rest(self, value: Sized) -> str:
        return f"…[+{len(value) - self._entries} entries]"

    def _short(self, text: str) -> str:
        self._take(min(len(text), self._text))
        return _short(text, self._text)

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _TooLong


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…[+{len(text) - limit} characters]"


# --- small pieces ------------------------------------------------------------------------------------------------


def _digest(body: bytes) -> str:
    """Hash of a line whose hash member is cut out; `body` is what followed it."""
    salted = _SALT.copy()
    salted.update(body)
    return salted.hexdigest()


def _holds(line: bytes) -> bool:
    """The cheap half of `check`: one whole line whose bytes have the hash it starts with."""
    if not line.startswith(b'{"hash":"') or not line.endswith(b"}\n") or line.find(b"\n") != len(line) - 1:
        return False
    salted = _SALT.copy()
    salted.update(line[_HASHED:-1])
    return salted.hexdigest().encode() == line[_HASH]


def _claimed(line: bytes) -> Link | None:
    """What a line says it is, right or wrong: an edited line still tells where the next one belongs."""
    header = _HEADER.match(line)
    return Link(int(header[3]), header[1].decode()) if header else None


def _check_json(line: bytes, link: Link) -> None:
    try:
        record = json.loads(line.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"record {link.seq} is not JSON: {error}") from error
    assert record["seq"] == link.seq


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is there twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _odd(line: bytes, reason: str) -> dict[str, Json]:
    return {"kind": "odd", "odd": reason, "raw": _glimpse(line)}


def _glimpse(line: bytes) -> str:
    return _short(line[:400].decode("utf-8", "backslashreplace").rstrip("\n"), 100)


def _widened(ranges: Mapping[str, tuple[float, float]], cycle: Mapping[str, Json]) -> dict[str, tuple[float, float]]:
    """`ranges` with this cycle's numbers in; an unknown number widens nothing."""
    wider = dict(ranges)
    for name in MEASURED:
        value = cycle.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = wider.get(name, (value, value))
            wider[name] = (min(low, value), max(high, value))
    return wider
