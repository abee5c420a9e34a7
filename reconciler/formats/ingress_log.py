"""nginx's private log of what it asked of services: how a line is written, and how many say what.

A line holds nothing that a client chose. It begins with `~`, which is nowhere else in it, so that one cut short by a
full disk is told from a whole one even where the next follows without a break.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

FORMAT = "~$upstream_addr|$upstream_status|$upstream_header_time|$upstream_response_time"

_LINE = re.compile(rb"~([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)")
_NEXT = re.compile(r", | : ")
_ADDRESS = re.compile(r"[A-Za-z0-9_.:/\[\]-]{1,200}")
_STATUS = re.compile(r"-|[1-9][0-9]{2}")
_SECONDS = re.compile(r"-|[0-9]{1,9}\.[0-9]{3}")
_SWITCHING = "101"


@dataclass(frozen=True, slots=True)
class Tally:
    """What one address was asked for: requests, how many ended with 5xx, and how many took how many milliseconds."""

    requests: int = 0
    errors: int = 0
    took_ms: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Tallies:
    """By address, as nginx writes it without its port; a slot's name where nobody in the slot was left to ask.

    `damaged` lines of `lines` were not whole.
    """

    by_address: dict[str, Tally]
    lines: int
    damaged: int


@dataclass(frozen=True, slots=True)
class _Attempt:
    address: str
    is_error: bool
    took_ms: int


def tally(text: bytes) -> Tallies:
    """Counts of whole lines. Every attempt of a request counts for the address it was made at.

    A request whose client left first counts, with the time it had; a connection that became a tunnel does not. The time
    is that until the answer's head, since its body comes as slowly as the client takes it.
    """
    alike = Counter(text.split(b"\n"))
    alike.pop(b"", None)
    requests: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    took_ms: dict[str, Counter[int]] = {}
    damaged = 0
    for line, count in alike.items():
        attempts = _attempts(line)
        damaged += count if attempts is None else 0
        for attempt in attempts or ():
            requests[attempt.address] += count
            errors[attempt.address] += count if attempt.is_error else 0
            took_ms.setdefault(attempt.address, Counter())[attempt.took_ms] += count
    made = {address: Tally(requests[address], errors[address], took_ms[address]) for address in requests}
    return Tallies(made, alike.total(), damaged)


def _attempts(line: bytes) -> list[_Attempt] | None:
    """The attempts of one request; None where the line is damaged."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    try:
        addresses, *others = (_NEXT.split(part.decode("ascii")) for part in match.groups())
    except UnicodeDecodeError:
        return None
    patterns = (_STATUS, _SECONDS, _SECONDS)
    is_whole = all(map(_ADDRESS.fullmatch, addresses)) and all(
        len(part) == len(addresses) and all(map(pattern.fullmatch, part))
        for part, pattern in zip(others, patterns, strict=True)
    )
    return list(_made(addresses, *others)) if is_whole else None


def _made(addresses: list[str], statuses: list[str], heads: list[str], ends: list[str]) -> Iterator[_Attempt]:
    for address, status, head, end in zip(addresses, statuses, heads, ends, strict=True):
        took = head if head != "-" else end
        if address == "-" or took == "-" or status == _SWITCHING:
            continue
        host = address.rpartition(":")[0] or address
        yield _Attempt(host, status.startswith("5"), int(took.replace(".", "")))
