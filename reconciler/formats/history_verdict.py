"""The verdict over a whole log: its records, its breaks by file and line, and who vouches for what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain as joined

from reconciler.core.desired import Json
from reconciler.formats.history_chain import ORIGIN, Link, claimed_before, parse
from reconciler.formats.history_checkpoint import Notary, Signer, Vouched, fingerprint, public_line
from reconciler.formats.history_pruned import Removal, removals
from reconciler.formats.history_walk import Break, Report, verify

MAX_TOLD = 20
DAMAGE = frozenset({"history_tampered", "history_corrupt"})


@dataclass(frozen=True, slots=True)
class Broken:
    """A break: the file, the line in it (from 1), and what is wrong there; line 0 is the end of the log."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}" if self.line else f"the end: {self.reason}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`trusted` are the keys that were to be believed; `must_be_signed` where somebody named them.

    `first_at` and `last_at` are the timestamps of the first and the last record, empty where they have none. `told`
    are records in which the writer said that somebody else had changed the log, the first few. `removal` is the one
    that accounts for records that are not there any more.
    """

    chain: Report
    files: tuple[tuple[str, int], ...]
    broken: tuple[Broken, ...]
    first_at: str
    last_at: str
    told: tuple[dict[str, Json], ...]
    vouched: Vouched
    trusted: frozenset[bytes]
    must_be_signed: bool
    removal: Removal | None = None

    @property
    def vouched_up_to(self) -> int:
        """The last record that a trusted key vouches for, 0 where there is none."""
        return max((signer.last for signer in self.vouched.signers if signer.key in self.trusted), default=0)

    @property
    def strangers(self) -> tuple[Signer, ...]:
        """Signers that are not to be believed."""
        return tuple(signer for signer in self.vouched.signers if signer.key not in self.trusted)

    @property
    def is_whole(self) -> bool:
        """Nothing is wrong. A line that is still being written, or that a crash tore, is not wrong."""
        lacks_signature = self.must_be_signed and (not self.vouched_up_to or bool(self.strangers))
        return not (self.chain.breaks or self.vouched.bad_count or lacks_signature or not self.chain.lines)


def judge(
    segments: Iterable[tuple[str, Iterable[bytes]]],
    prev: Link | None = None,
    *,
    expected: Link | None = None,
    full: bool = False,
    trusted: frozenset[bytes] = frozenset(),
    must_be_signed: bool = False,
) -> Verdict:
    """Read every line once; `expected` and `full` as in `history_walk.verify`.

    `prev` is what the first line must follow. Without it a log begins with its first record, or behind what a signed
    record in it says was removed.
    """
    reading = _Reading(segments)
    lines = reading.lines()
    first = next(lines, b"")
    start = prev or claimed_before(first) or ORIGIN
    chain = verify(joined([first] if first else [], lines), start, full=full, expected=expected)
    vouched = reading.notary.vouched()
    removal = None
    if prev is None and start.seq:
        believed = [one for one in vouched.signers if one.key in trusted or not must_be_signed]
        removal = reading.accounted(start, max((one.last for one in believed), default=0))
        chain = chain if removal else _with_break(chain, start)
    return Verdict(
        chain=chain,
        files=tuple(reading.files),
        broken=tuple(_placed(found.line, found.reason, reading.files) for found in chain.found),
        first_at=_timestamp(reading.first),
        last_at=_timestamp(reading.last),
        told=tuple(reading.told),
        vouched=vouched,
        trusted=trusted,
        must_be_signed=must_be_signed,
        removal=removal,
    )


def _with_break(chain: Report, start: Link) -> Report:
    """The report of a log whose beginning is missing, and nobody who can be believed says why."""
    reason = f"record {start.seq + 1} begins the log, and no signed record says that those before it were removed"
    missing = Break(1, 0, reason)
    return replace(chain, breaks=chain.breaks + 1, first_break=missing, found=(missing, *chain.found))


class _Reading:
    """The lines of all segments on their way to the walk, and what is noted as they pass."""

    def __init__(self, segments: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        self._segments = segments
        self.notary = Notary()
        self.files: list[tuple[str, int]] = []
        self.told: list[dict[str, Json]] = []
        self.first = self.last = b""
        self._removals: list[Removal] = []
        self._lacks_beginning = False

    def lines(self) -> Iterator[bytes]:
        for name, lines in self._segments:
            count = 0
            line = b""
            for count, line in enumerate(self.notary.passing(lines), 1):
                if count == 1:
                    self._begin(line)
                if self._lacks_beginning:
                    self._removals += removals(line)
                yield line
            self.files.append((name, count))
            self.last = line if line.endswith(b"\n") else self.last

    def accounted(self, start: Link, vouched_up_to: int) -> Removal | None:
        """The record that says that everything up to `start` was removed, if somebody vouches for it."""
        return next((one for one in self._removals if one.last == start and one.said_by <= vouched_up_to), None)

    def _begin(self, line: bytes) -> None:
        if not self.first:
            self.first = line
            self._lacks_beginning = (claimed_before(line) or ORIGIN).seq > 0
        record = parse(line)
        if record.get("kind") in DAMAGE and len(self.told) < MAX_TOLD:
            self.told.append(record)


def _placed(line: int, reason: str, files: list[tuple[str, int]]) -> Broken:
    for name, count in files:
        if 0 < line <= count:
            return Broken(name, line, reason)
        line -= count
    return Broken("", 0, reason)


def _timestamp(line: bytes) -> str:
    return str(parse(line).get("timestamp") or "") if line else ""


def as_json(verdict: Verdict) -> dict[str, Json]:
    """All of it, for programs."""
    chain, vouched = verdict.chain, verdict.vouched
    last: Json = {"seq": chain.last.seq, "hash": chain.last.hash, "timestamp": verdict.last_at} if chain.last else None
    return {
        "whole": verdict.is_whole,
        "records": chain.lines,
        "removed": _removal(verdict.removal),
        "first": {"seq": chain.first.seq, "timestamp": verdict.first_at} if chain.first else None,
        "last": last,
        "files": [{"file": name, "lines": count} for name, count in verdict.files],
        "breaks": chain.breaks,
        "broken": [{"file": one.file, "line": one.line, "reason": one.reason} for one in verdict.broken],
        "torn_bytes": chain.torn_bytes,
        "told": [dict(record) for record in verdict.told],
        "signers": [_signer(signer, verdict) for signer in vouched.signers],
        "unsigned": vouched.unsigned,
        "unsigned_reason": vouched.unsigned_reason,
        "bad_signatures": vouched.bad_count,
        "bad": [{"seq": seq, "reason": reason} for seq, reason in vouched.bad],
        "vouched_up_to": verdict.vouched_up_to,
    }


def _removal(removal: Removal | None) -> Json:
    if removal is None:
        return None
    return {"up_to": removal.last.seq, "hash": removal.last.hash, "said_by": removal.said_by, "at": removal.said_at}


def _signer(signer: Signer, verdict: Verdict) -> dict[str, Json]:
    return {
        "fingerprint": fingerprint(signer.key),
        "key": public_line(signer.key),
        "trusted": signer.key in verdict.trusted,
        "checkpoints": signer.count,
        "first": signer.first,
        "last": signer.last,
    }
