"""A walk along the chain: whether every line follows from the one before, and where not.

Goes on behind a break, so that one edited line is one break and the rest still counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.core.errors import HistoryError
from reconciler.formats.history_chain import CHAIN, HASH, ORIGIN, Link, check, claimed, glimpse, holds

MAX_FOUND = 20


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
    """What a walk along the chain found; torn bytes are what a crash leaves at the end, and no break.

    `found` are the breaks themselves, the first `MAX_FOUND` of them.
    """

    lines: int
    size_bytes: int
    first: Link | None
    last: Link | None
    breaks: int
    first_break: Break | None
    torn_bytes: int
    found: tuple[Break, ...] = ()

    @property
    def is_whole(self) -> bool:
        return self.breaks == 0 and self.torn_bytes == 0


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
            and line.startswith(b'","prev":"%b","seq":%d,' % (digest, seq + 1), CHAIN)
            and holds(line)
        ):
            seq, digest = seq + 1, line[HASH]
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
        self._found: list[Break] = []
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
            self._torn = Break(number, offset, f"has no end: {glimpse(line)}")
            self._torn_bytes = len(line)
            return last
        prev = last if self.is_started else self._prev
        try:
            link = check(line, prev, full=self._full)
            self._expect(link)
        except HistoryError as error:
            self._add(Break(number, offset, str(error)))
            link = claimed(line) or last
        if not self.is_started and claimed(line) is not None:
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
            first_break=self._found[0] if self._found else None,
            torn_bytes=self._torn_bytes,
            found=tuple(self._found),
        )

    def _expect(self, link: Link) -> None:
        if self._expected is not None and link.seq == self._expected.seq and link != self._expected:
            raise HistoryError(f"record {link.seq} is another one than the one that had been written")

    def _add(self, found: Break) -> None:
        self._breaks += 1
        if len(self._found) < MAX_FOUND:
            self._found.append(found)
