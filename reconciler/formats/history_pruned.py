"""Records that say which segments were removed to keep the log small, so that what is left can still be checked.

A log that begins with record 4,813 holds only if a record further on names `4812:<hash>` as the end of a segment that
was removed, and if a signature vouches for that record: whoever cuts off the beginning of a log cannot sign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.core.desired import Json
from reconciler.formats.history_chain import Link, parse

PRUNED, KEPT = "history_pruned", "history_kept"
MAX_NAMED = 20
"""Segments named in one record, and removed at once behind it; the rest goes when the next segment is finished."""

_MARK = b'"kind":"history_pruned"'
_LINK = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Removal:
    """A record that says that everything up to `last` was removed: its number and its timestamp."""

    last: Link
    said_by: int
    said_at: str


def pruned(segments: Sequence[tuple[str, Link]], reason: str) -> dict[str, Json]:
    """The record, but for its timestamp: each segment that goes, with its last link, oldest first."""
    removed: list[Json] = [{"file": name, "last": f"{link.seq}:{link.hash}"} for name, link in segments]
    return {"kind": PRUNED, "reason": reason, "removed": removed}


def kept(reason: str) -> dict[str, Json]:
    """The record that says why nothing was removed although the log is over its limit."""
    return {"kind": KEPT, "reason": reason}


def removals(line: bytes) -> list[Removal]:
    """What a line of the log says was removed; nothing for every other record, and for one that was changed."""
    if _MARK not in line:
        return []
    record = parse(line)
    seq, removed = record.get("seq"), record.get("removed")
    if record.get("kind") != PRUNED or "odd" in record or not isinstance(seq, int) or not isinstance(removed, list):
        return []
    links = [_LINK.fullmatch(str(one.get("last"))) for one in removed if isinstance(one, dict)]
    at = str(record.get("timestamp") or "")
    return [Removal(Link(int(found[1]), found[2]), seq, at) for found in links if found]
