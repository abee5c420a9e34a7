"""What nginx says of the services behind it: its private log, counted where it lies.

The log is in a small tmpfs of nginx's container and is read through /proc. What was read is given back by punching a
hole into the file's beginning: nginx goes on appending, is told nothing and loses no line, as it could by a rotation.
What was counted lies beside the log, so it lives as long as the log does, whatever becomes of the daemon.
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

import cattrs

from reconciler.adapters import clock
from reconciler.core.containers import EVIDENCE_LOG, PROXY_LOG
from reconciler.core.evidence.readings import Reading, Unread
from reconciler.core.observed import ObservedContainer
from reconciler.formats.ingress_log import Tally, tally
from reconciler.ports import MeasureTarget

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The workload's own, so that its histogram and this one can be laid side by side; the limit is one more."""

COUNTS = "counts.json"
COUNTS_MAX_BYTES = 1024 * 1024
CHUNK_BYTES = 1024 * 1024
READ_FOR_S = 1.0
FORGET_AFTER_S = 3600.0
DAMAGED_MAX_SHARE = 0.01

_PAGE_BYTES = 4096
_PUNCH_HOLE, _KEEP_SIZE = 0x02, 0x01
_NO_RIGHTS = (errno.EACCES, errno.EPERM)

Answer: TypeAlias = "Reading | Unread"


@dataclass(slots=True)
class _Entry:
    """What was asked of one address since `began`, while it was `owner`'s. `started_at` tells its restarts apart."""

    owner: str
    started_at: str
    began: float
    asked_for_at: float
    requests: int = 0
    errors: int = 0
    buckets: list[int] = field(default_factory=list)

    def add(self, found: Tally, bounds: Sequence[float]) -> None:
        self.requests += found.requests
        self.errors += found.errors
        for took_ms, count in found.took_ms.items():
            self.buckets[bisect_left(bounds, took_ms / 1000)] += count


@dataclass(slots=True)
class _Counts:
    """How far the log was read, and the entries by address."""

    log: int = 0
    offset: int = 0
    bounds: list[float] = field(default_factory=list)
    entries: dict[str, _Entry] = field(default_factory=dict)


class IngressMetrics:
    """Counts by container. It needs the right to look into nginx's process, and Linux.

    `latency_limit_s` is one more bound of the histogram, so that "how many were slower" has an exact answer. Where it
    changes, counts start afresh.
    """

    def __init__(
        self,
        *,
        latency_limit_s: Callable[[], float | None] = lambda: None,
        now: Callable[[], float] = clock.now,
        monotonic: Callable[[], float] = clock.monotonic,
        proc: Path = Path("/proc"),
    ) -> None:
        self._latency_limit_s = latency_limit_s
        self._now = now
        self._monotonic = monotonic
        self._proc = proc

    def read(self, targets: Sequence[MeasureTarget], proxy: ObservedContainer | None) -> Mapping[str, Answer]:
        """By container ID. Never raises."""
        if proxy is None or not proxy.is_running or not proxy.pid:
            return _all(targets, Unread("nginx does not run"))
        try:
            with _folder(self._proc, proxy.pid) as folder:
                return self._read(targets, folder)
        except _NotThereError as error:
            return _all(targets, Unread(str(error), is_absent=True))
        except OSError as error:
            return _all(targets, Unread(f"nginx's log cannot be read: {_words(error)}"))

    def _read(self, targets: Sequence[MeasureTarget], folder: int) -> Mapping[str, Answer]:
        bounds = _bounds(self._latency_limit_s())
        with _opened(folder, Path(EVIDENCE_LOG).name, os.O_RDWR) as log:
            counts = _current(_load(folder), os.fstat(log), bounds)
            before = {address: replace(entry, buckets=list(entry.buckets)) for address, entry in counts.entries.items()}
            is_whole, damage = self._count(log, counts)
            now = self._now()
            if is_whole:
                _settle_owners(counts, before, targets, now)
            _give_back(log, counts.offset)
        _save(folder, counts)
        if not is_whole:
            return _all(targets, Unread("nginx's log is longer than could be read at once"))
        if damage > DAMAGED_MAX_SHARE:
            return _all(targets, Unread(f"{damage:.0%} of nginx's log is damaged"))
        return {target.container.id: _reading(target, counts, now) for target in targets}

    def _count(self, log: int, counts: _Counts) -> tuple[bool, float]:
        """Read on to the last whole line. Whether it was reached in time, and which share of the lines was damaged.

        Addresses that are nobody's are not counted; where none is anybody's, reading begins at the end.
        """
        if not counts.entries:
            counts.offset = _end_of_lines(log)
            return True, 0.0
        deadline = self._monotonic() + READ_FOR_S
        lines = damaged = 0
        while self._monotonic() < deadline:
            chunk = os.pread(log, CHUNK_BYTES, counts.offset)
            text = chunk[: chunk.rfind(b"\n") + 1]
            if not text:
                is_stuck = len(chunk) == CHUNK_BYTES  # no line is that long: this is none of ours
                counts.offset += len(chunk) if is_stuck else 0
                return not is_stuck, damaged / lines if lines > _FEW else 0.0
            found = tally(text)
            lines, damaged = lines + found.lines, damaged + found.damaged
            for address, entry in counts.entries.items():
                if address in found.by_address:
                    entry.add(found.by_address[address], counts.bounds)
            counts.offset += len(text)
        return False, 0.0


_FEW = 100
"""Of fewer lines than these, one damaged by a disk that was full says nothing."""


def _all(targets: Sequence[MeasureTarget], answer: Answer) -> dict[str, Answer]:
    return {target.container.id: answer for target in targets}


def _bounds(limit_s: float | None) -> list[float]:
    more = {limit_s} if limit_s is not None and 0 < limit_s < math.inf else set()
    return sorted({*BOUNDS_S, *more})


# ── whose address it is ────────────────────────────────────────────────────────────────────────────────────────────


def _current(counts: _Counts, log: os.stat_result, bounds: list[float]) -> _Counts:
    """`counts`, or none at all where they are of another log or another histogram."""
    is_ours = counts.log == log.st_ino and counts.offset <= log.st_size and counts.bounds == bounds
    is_sound = all(len(entry.buckets) == len(bounds) + 1 for entry in counts.entries.values())
    return counts if is_ours and is_sound else _Counts(log.st_ino, 0, bounds)


def _settle_owners(counts: _Counts, before: Mapping[str, _Entry], targets: Sequence[MeasureTarget], now: float) -> None:
    """Every target owns its address, and the first of a slot what nginx could ask nobody in that slot for.

    Who is new at an address starts with nothing. Who was started again starts with what was counted since the last
    look: the requests that its end failed are among them.
    """
    here = {target.container.id for target in targets}
    for address, container in _addresses(targets):
        entry = counts.entries.get(address)
        if entry is not None and (entry.owner == container.id or (_is_slot(address) and entry.owner in here)):
            if entry.started_at != container.started_at and entry.owner == container.id:
                _start_over(entry, before.get(address), container, now)
            entry.asked_for_at = now
            continue
        none = [0] * (len(counts.bounds) + 1)
        counts.entries[address] = _Entry(container.id, container.started_at, now, now, buckets=none)
    for address in [each for each, entry in counts.entries.items() if now - entry.asked_for_at > FORGET_AFTER_S]:
        del counts.entries[address]


def _start_over(entry: _Entry, before: _Entry | None, container: ObservedContainer, now: float) -> None:
    if before is not None:
        entry.requests -= before.requests
        entry.errors -= before.errors
        entry.buckets = [new - old for new, old in zip(entry.buckets, before.buckets, strict=True)]
    entry.started_at, entry.began = container.started_at, now


def _addresses(targets: Sequence[MeasureTarget]) -> Iterator[tuple[str, ObservedContainer]]:
    slots: set[str] = set()
    for target in sorted(targets, key=lambda target: (target.container.replica or 0, target.container.id)):
        container = target.container
        slot = f"{target.service.name}-{container.slot}"
        if container.address is not None:
            yield container.address, container
            if container.slot is not None and slot not in slots:
                slots.add(slot)
                yield slot, container


def _is_slot(address: str) -> bool:
    return address.endswith(("-blue", "-green"))


def _reading(target: MeasureTarget, counts: _Counts, now: float) -> Answer:
    container = target.container
    main = counts.entries.get(container.address or "")
    if main is None or main.owner != container.id:
        return Unread("it has no address of its own")
    own = [entry for entry in counts.entries.values() if entry.owner == container.id]
    by_bound = [sum(column) for column in zip(*(entry.buckets for entry in own), strict=True)]
    return Reading(
        at=now,
        began=main.began,
        requests={"": sum(entry.requests for entry in own)},
        errors={"": sum(entry.errors for entry in own)},
        buckets=tuple(zip((*counts.bounds, math.inf), accumulate(by_bound), strict=True)),
        uptime_s=container.uptime_s(now),
    )


# ── files in nginx's container ─────────────────────────────────────────────────────────────────────────────────────


class _NotThereError(Exception):
    """nginx does not keep this log: it runs an older configuration, or another's."""


@contextmanager
def _folder(proc: Path, pid: int) -> Iterator[int]:
    """The log's folder, which is the very tmpfs that is mounted there: no link can lead it anywhere else."""
    device = _device(proc, pid)
    folder = os.open(f"{proc}/{pid}/root{PROXY_LOG}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.fstat(folder).st_dev != device:
            raise _NotThereError(f"{PROXY_LOG} of nginx's container is not what is mounted there")
        yield folder
    finally:
        os.close(folder)


def _device(proc: Path, pid: int) -> int:
    with (proc / str(pid) / "mountinfo").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            mount, _, kind = line.partition(" - ")
            words = mount.split()
            if words[4] == PROXY_LOG and kind.startswith("tmpfs "):
                major, _, minor = words[2].partition(":")
                return os.makedev(int(major), int(minor))
    raise _NotThereError("nginx's container has no place for this log: it was made by an older version")


@contextmanager
def _opened(folder: int, name: str, flags: int) -> Iterator[int]:
    try:
        file = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except FileNotFoundError:
        raise _NotThereError("nginx does not keep this log yet") from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_dev != os.fstat(folder).st_dev:
            raise _NotThereError(f"{name} in nginx's container is no file")
        yield file
    finally:
        os.close(file)


def _end_of_lines(log: int) -> int:
    """Where the next line begins, as far as written."""
    size = os.fstat(log).st_size
    start = max(0, size - _PAGE_BYTES)
    last = os.pread(log, size - start, start)
    return start + last.rfind(b"\n") + 1 if b"\n" in last else size


def _give_back(log: int, offset: int) -> None:
    """The memory of whole pages before `offset`. Raises OSError."""
    length = offset // _PAGE_BYTES * _PAGE_BYTES
    if length and _libc().fallocate(log, _PUNCH_HOLE | _KEEP_SIZE, 0, length) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return libc


def _load(folder: int) -> _Counts:
    """What was counted before; nothing where that cannot be read."""
    try:
        with _opened(folder, COUNTS, os.O_RDONLY) as file:
            return cattrs.structure(json.loads(os.read(file, COUNTS_MAX_BYTES)), _Counts)
    except (_NotThereError, OSError, ValueError, TypeError, RecursionError, cattrs.BaseValidationError):
        return _Counts()


def _save(folder: int, counts: _Counts) -> None:
    """Whole or not at all. It lies in memory, as the log does: it need not be durable."""
    temporary = f".{COUNTS}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    with _opened(folder, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
        os.write(file, json.dumps(cattrs.unstructure(counts)).encode("ascii"))
    os.rename(temporary, COUNTS, src_dir_fd=folder, dst_dir_fd=folder)


def _words(error: OSError) -> str:
    if error.errno in _NO_RIGHTS:
        return "no right to look into its process; run the daemon as root or as nginx's user"
    return (error.strerror or str(error)).lower()
