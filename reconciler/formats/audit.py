"""What a history tells an auditor: its lines read once, in their order, and folded into two short lists.

Understands our own records (`formats.cycle_record`) and the plain snapshots of the guide. A line that is neither is
counted and left out; nothing in it can stop the reading. Most lines of a long history say what the line before said:
those are recognised by their bytes and not parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from reconciler.formats.audit_ledger import Entry
from reconciler.formats.audit_story import KINDS, Story
from reconciler.formats.audit_words import number_in
from reconciler.formats.history import Report as Chain
from reconciler.formats.history import verify


@dataclass(frozen=True, slots=True)
class Audit:
    """What a history told: how much of it there was, what happened, and which rules were broken.

    `odd` lines were not understood; `odd_lines` are the first of them with the reason. `waited` counts records in
    which policy held a canary for want of evidence only. `left_out` counts older rows beyond `MAX_ENTRIES`.
    """

    project: str
    first: str
    last: str
    since: str
    records: int
    odd: int
    odd_lines: tuple[tuple[int, str], ...]
    chain: Chain
    timeline: tuple[Entry, ...]
    violations: tuple[Entry, ...]
    waited: int
    left_out: int


def audit(lines: Iterable[bytes], since: str = "") -> Audit:
    """The account of a history, oldest line first; `since` (`2026-05-06T12:00:00`, UTC) leaves out what was before.

    What was before is read all the same: it tells which mode and which chaos were in force.
    """
    auditor = _Auditor(since.replace("T", " ")[:19])

    def sealed() -> Iterator[bytes]:
        for line in lines:
            auditor.hear(line)
            if line.startswith(b'{"hash":"') and line.endswith(b"\n"):
                yield line

    chain = verify(sealed(), None)
    return auditor.account(chain)


@dataclass(slots=True)
class _Auditor:
    """Hears every line; of the records before it keeps the story and the shape of the last."""

    since: str
    story: Story = field(default_factory=Story)
    lines: int = 0
    records: int = 0
    first: str = ""
    last: str = ""
    odd: int = 0
    odd_lines: list[tuple[int, str]] = field(default_factory=list)
    waited: int = 0
    shape: bytes = b""

    def hear(self, line: bytes) -> None:
        """One line, with or without its newline."""
        self.lines += 1
        stamped = _STAMPED.match(line)
        shape = line.translate(None, _VOLATILE) if stamped else b""
        if stamped and shape == self.shape and self._repeats(line, stamped[1].decode().replace("T", " ")):
            return
        self.shape = b""
        try:
            record = _parsed(line)
            at = _moment(record)
            self.story.hear(_kind(record), record, at)
        except _Odd as why:
            self.odd += 1
            if len(self.odd_lines) < 10:
                self.odd_lines.append((self.lines, str(why)))
        else:
            self._count(at)
            self.shape = shape if self.story.is_repeatable else b""

    def account(self, chain: Chain) -> Audit:
        """Everything heard; rows in the order in which they began."""
        ledger = self.story.ledger
        return Audit(
            project=self.story.project,
            first=self.first,
            last=self.last,
            since=self.since,
            records=self.records,
            odd=self.odd,
            odd_lines=tuple(self.odd_lines),
            chain=chain,
            timeline=tuple(entry for entry in ledger.timeline if entry.last >= self.since),
            violations=tuple(entry for entry in ledger.violations if entry.last >= self.since),
            waited=self.waited,
            left_out=ledger.dropped,
        )

    def _repeats(self, line: bytes, at: str) -> bool:
        """Whether it was enough to count `line`, which says what the line before it said, but for its numbers."""
        ledger = self.story.ledger
        if ledger.touched:
            observed = [number_in(text.decode()) for text in _OBSERVED.findall(line)]
            if not ledger.repeat(at, observed):
                return False
        self._count(at)
        return True

    def _count(self, at: str) -> None:
        if at >= self.since:
            self.records += 1
            self.waited += self.story.is_waiting
            self.first = self.first or at
            self.last = at


# --- lines -----------------------------------------------------------------------------------------------------------

_STAMPED = re.compile(
    rb'\{(?:"hash":"[0-9a-f]{64}","prev":"[0-9a-f]{64}","seq":[1-9][0-9]*,)?'
    rb'"timestamp": ?"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?Z",'
)
_VOLATILE = b"0123456789abcdef.-"  # numbers, times, hashes and IDs: what differs in lines that say the same
_OBSERVED = re.compile(rb'"observed":"?(-?[0-9][0-9.eE+-]*)')
_UTC = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?Z")


class _Odd(Exception):
    """Why a line is not understood."""


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise _Odd("not JSON" if line.endswith(b"\n") else "not finished") from None
    if not isinstance(record, dict):
        raise _Odd("not a JSON object")
    return record


def _moment(record: Mapping[str, Any]) -> str:
    """When it was, UTC, as `2026-05-06 12:03:00`: this form sorts as time does."""
    text = record.get("timestamp")
    if isinstance(text, str):
        if found := _UTC.fullmatch(text):
            return f"{found[1]} {found[2]}"
        try:
            moment = datetime.fromisoformat(text)
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
            return moment.isoformat(" ", "seconds")[:19]
        except (ValueError, OverflowError):
            pass
    raise _Odd("no time in it")


def _kind(record: Mapping[str, Any]) -> str | None:
    """Which record it is; None for a snapshot of the guide's."""
    kind = record.get("kind")
    if kind is None and not ("mode" in record or "policy" in record):
        raise _Odd("nothing that we know in it")
    if not (kind is None or isinstance(kind, str)) or kind not in KINDS:
        raise _Odd("of a kind that we do not know")
    return kind
