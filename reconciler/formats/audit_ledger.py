"""The rows of an audit as they grow: what happened once, and what lasted from one record to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

MAX_ENTRIES = 100_000  # of each list, the newest are kept
MAX_TEXT = 300
MAX_OPEN = 256
SAME_RUN_S = 900  # a state that is not heard of for so long has begun anew when it is heard of again

Key = tuple[str, ...]
"""Two records with the same key are about the same state; the first word is the kind of state."""


@dataclass(slots=True)
class Entry:
    """One row: something that happened, or a state that lasted from `first` to `last` over `count` records.

    Times are UTC, `2026-05-06 12:03:00`. `low` and `high` are the range of what was measured, in the unit that the
    violation's `id` names; None where it is no number, and `said` in its place.
    """

    first: str
    last: str
    what: str
    service: str = ""
    detail: str = ""
    count: int = 1
    id: str = ""
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    said: str = ""


@dataclass(slots=True)
class Ledger:
    """Both lists, the newest `MAX_ENTRIES` of each; `dropped` counts the older ones.

    `touched` are the rows of states that the record at hand was about, `is_news` says that it told anything else.
    """

    timeline: deque[Entry] = field(default_factory=lambda: deque(maxlen=MAX_ENTRIES))
    violations: deque[Entry] = field(default_factory=lambda: deque(maxlen=MAX_ENTRIES))
    dropped: int = 0
    touched: list[Entry] = field(default_factory=list)
    is_news: bool = False
    _open: dict[Key, Entry] = field(default_factory=dict)

    def begin(self, at: str) -> None:
        """A record of that moment comes; states that were not heard of for long are over."""
        self.touched, self.is_news = [], False
        for key, entry in [*self._open.items()]:
            if is_long_after(at, entry.last):
                del self._open[key]

    def tell(self, at: str, what: str, service: str = "", detail: str = "") -> None:
        """A row of the timeline."""
        self.is_news = True
        self._add(self.timeline, Entry(at, at, what, service, detail[:MAX_TEXT]))

    def tell_lasting(self, key: Key, entry: Entry) -> None:
        """A row of the timeline, or one record more of it."""
        self._last(self.timeline, key, entry, 1)

    def violate(self, key: Key, entry: Entry, count: int = 1) -> None:
        """A violation, or `count` records more of it."""
        self._last(self.violations, key, entry, count)

    def lasting(self, kind: str) -> list[Entry]:
        """The rows of `kind` that are not over."""
        return [entry for key, entry in self._open.items() if key[0] == kind]

    def close(self, start: Key, but: Collection[Key] = ()) -> None:
        """States whose key begins with `start` are over, but for `but`: the record at hand tells no more of them."""
        for key in [key for key in self._open if key[: len(start)] == start and key not in but]:
            del self._open[key]

    def repeat(self, at: str, observed: list[float | None]) -> bool:
        """One record more of all that was touched, with these numbers, if it is one more; else nothing is changed."""
        measured = [entry for entry in self.touched if entry.low is not None]
        if (measured and len(measured) != len(observed)) or (self.touched and is_long_after(at, self.touched[0].last)):
            return False
        for entry in self.touched:
            entry.last = at
            entry.count += 1
        for entry, value in zip(measured, observed, strict=False):
            _widen(entry, value)
        return True

    def _add(self, entries: deque[Entry], entry: Entry) -> Entry:
        if len(entries) == MAX_ENTRIES:
            self.dropped += 1
        entries.append(entry)
        return entry

    def _last(self, entries: deque[Entry], key: Key, entry: Entry, count: int) -> None:
        known = self._open.get(key)
        if known is None:
            if len(self._open) >= MAX_OPEN:
                del self._open[next(iter(self._open))]
            self._open[key] = self._add(entries, entry)
            entry.count = count
        else:
            known.last = entry.last
            known.count += count
            _widen(known, entry.low)
        self.touched.append(known or entry)


def is_long_after(later: str, earlier: str) -> bool:
    """More than `SAME_RUN_S` lie between two moments of one log, or they cannot be told apart."""
    if later[:13] == earlier[:13]:
        return abs(_seconds_of_hour(later) - _seconds_of_hour(earlier)) > SAME_RUN_S
    try:
        apart = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    except ValueError:
        return True
    return abs(apart.total_seconds()) > SAME_RUN_S


def _seconds_of_hour(moment: str) -> int:
    return int(moment[14:16]) * 60 + int(moment[17:19])


def _widen(entry: Entry, value: float | None) -> None:
    if value is not None:
        entry.low = value if entry.low is None else min(entry.low, value)
        entry.high = value if entry.high is None else max(entry.high, value)
