"""One line of the log: a record sealed into the chain, checked, and read back.

The chain is in the first 156 bytes of a line, always in this shape and order:

    {"hash":"<64 hex>","prev":"<64 hex>","seq":812,"timestamp":"2026-11-23T01:02:03Z","kind":"cycle",...}

`hash` is SHA-256 over `DOMAIN` and the raw bytes of the line with the hash member cut out (`{"prev":...}`, no newline),
so a verifier never has to write JSON the way we do, and floats are no trouble. `prev` is the hash of the line before,
`seq` counts from 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn

from reconciler.core.desired import Json
from reconciler.core.errors import HistoryError
from reconciler.formats.history_cut import MAX_LINE_BYTES, members, short

DOMAIN = b"swiftdeploy-history-v1\0"
RESERVED = frozenset({"hash", "prev", "seq", "odd"})
HASH = slice(9, 73)
CHAIN = 73  # where the part starts that the line before already knows: ","prev":"...","seq":N,
HASHED = 75  # where the bytes start that are hashed, but for their "{"

_HEADER = re.compile(rb'\{"hash":"([0-9a-f]{64})","prev":"([0-9a-f]{64})","seq":([1-9][0-9]{0,18})[,}]')
_SALT = sha256(DOMAIN + b"{")


@dataclass(frozen=True, slots=True)
class Link:
    """One place in the chain: what the next line goes on from."""

    seq: int
    hash: str


ORIGIN = Link(0, "0" * 64)


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
    body += members(record, MAX_LINE_BYTES - HASHED - len(body) - 1)
    digest = _digest(body)
    return b'{"hash":"%b",%b\n' % (digest.encode(), body), Link(prev.seq + 1, digest)


def check(line: bytes, prev: Link | None, *, full: bool = False) -> Link:
    """The link of `line` (its newline may be there or not); HistoryError says why it does not follow `prev`.

    Without `prev` the line answers for itself only. `full` also parses the JSON, and refuses duplicate keys.
    """
    line = line.removesuffix(b"\n")
    header = _HEADER.match(line)
    if header is None or b"\n" in line or not line.endswith(b"}"):
        raise HistoryError(f"not a line of this log: {glimpse(line)}")
    link = Link(int(header[3]), header[1].decode())
    if _digest(line[HASHED:]) != link.hash:
        raise HistoryError(f"record {link.seq} is not what was written: its hash does not match its bytes")
    if prev is not None and link.seq != prev.seq + 1:
        raise HistoryError(f"record {link.seq} {f'follows record {prev.seq}' if prev.seq else 'begins the log'}")
    if prev is not None and header[2].decode() != prev.hash:
        raise HistoryError(f"record {link.seq} was written after another record {prev.seq} than this one")
    if full:
        _check_json(line, link)
    return link


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


# --- small pieces ------------------------------------------------------------------------------------------------


def _digest(body: bytes) -> str:
    """Hash of a line whose hash member is cut out; `body` is what followed it."""
    salted = _SALT.copy()
    salted.update(body)
    return salted.hexdigest()


def holds(line: bytes) -> bool:
    """The cheap half of `check`: one whole line whose bytes have the hash it starts with."""
    if not line.startswith(b'{"hash":"') or not line.endswith(b"}\n") or line.find(b"\n") != len(line) - 1:
        return False
    salted = _SALT.copy()
    salted.update(line[HASHED:-1])
    return salted.hexdigest().encode() == line[HASH]


def claimed(line: bytes) -> Link | None:
    """What a line says it is, right or wrong: an edited line still tells where the next one belongs."""
    header = _HEADER.match(line)
    return Link(int(header[3]), header[1].decode()) if header else None


def claimed_before(line: bytes) -> Link | None:
    """What a line says it follows, right or wrong; ORIGIN for the first record."""
    header = _HEADER.match(line)
    return Link(int(header[3]) - 1, header[2].decode()) if header else None


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
    return {"kind": "odd", "odd": reason, "raw": glimpse(line)}


def glimpse(line: bytes) -> str:
    return short(line[:400].decode("utf-8", "backslashreplace").rstrip("\n"), 100)
